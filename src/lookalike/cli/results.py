"""The files of `search --out`: CSV, JSON lines and Parquet for programs, HTML for people."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike import atomic, images, tables
from lookalike.cli import answers
from lookalike.cli.queries import Answered, Source
from lookalike.collection import Collection
from lookalike.errors import LookalikeError, StorageError, UsageError, reason_of
from lookalike.progress import Progress
from lookalike.stores.answer import Answer, Hit

Writer = Callable[[Path, Collection, Sequence[Answered], Progress], None]

_COLUMNS = {
    "query": "text",
    "rank": "integer",
    "name": "text",
    "label": "text",
    "path": "text",
    "distance": "number",
    "similarity": "number",
    "probability": "number",
    "closeness": "number",
    "no_match": "boolean",
    "blank": "boolean",
    "missing": "boolean",
    "id": "text",
    "attributes": "attributes",
    "error": "text",
}

_SIDE = 192


@dataclass(frozen=True)
class Written:
    """A written file: the number of queries and of hits, and name and reason of each query that failed."""

    queries: int
    hits: int
    failures: tuple[tuple[str, str], ...]


def find_writer(out: Path) -> Writer:
    """Find the writer for the suffix of a file, and check that the file can be written.

    Raises:
        UsageError: the suffix is unknown, or the path is a folder.
        StorageError: the folder does not exist.
        MissingExtraError: Parquet needs pyarrow.
    """
    writers: dict[str, Writer] = {
        ".csv": _write_csv,
        ".jsonl": _write_lines,
        ".parquet": _write_parquet,
        ".html": _write_page,
    }
    if out == Path():
        raise UsageError(f"--out names no file. Give it a name that ends in {', '.join(writers)}.")
    writer = writers.get(out.suffix.lower())
    if writer is None:
        raise UsageError(f"The format of {out} is unknown. Its name must end in {', '.join(writers)}.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder. Give --out the name of a file.")
    if not out.absolute().parent.is_dir():
        raise StorageError(f"The folder {out.absolute().parent} does not exist. Make it, or give another path.")
    if writer is _write_parquet:
        tables.to_arrow([], {})  # raises now, and not after the search
    return writer


def write(writer: Writer, out: Path, collection: Collection, found: Sequence[Answered], progress: Progress) -> Written:
    """Write answers to a file, which appears complete or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        with atomic.atomic_write(out) as part:
            writer(part, collection, found, progress)
    except OSError as e:
        raise StorageError(f"{out} cannot be written: {reason_of(e)}. Give another path.") from e
    failures = tuple((one.name, one.error) for one in found if one.answer is None)
    return Written(len(found), sum(len(one.answer or ()) for one in found), failures)


# ---- for programs


def _rows(collection: Collection, found: Sequence[Answered]) -> Iterator[dict[str, Any]]:
    """Yield a row for each hit, and one for each query without hits."""
    for one in found:
        empty: dict[str, Any] = dict.fromkeys(_COLUMNS) | {"query": one.name}
        if not one.answer:
            yield empty | {"error": one.error or None}
        for rank, hit in enumerate(one.answer or (), 1):
            facts = hit.to_dict() | {"rank": rank, "no_match": one.answer and one.answer.no_match}
            facts["blank"] = one.answer and one.answer.blank
            facts["path"] = str(answers.image_path(collection, hit.item))
            facts["missing"] = answers.is_missing(collection, hit.item)
            yield empty | {name: facts[name] for name in _COLUMNS if name in facts}


def _write_csv(part: Path, collection: Collection, found: Sequence[Answered], _: Progress) -> None:
    with part.open("wb") as file:
        file.write(tables.to_csv([tuple(_COLUMNS)]))
        for one in found:
            rows = _rows(collection, [one])
            file.write(tables.to_csv([[_to_cell(value) for value in row.values()] for row in rows]))


def _to_cell(value: Any) -> Any:  # noqa: ANN401 -- any value of a cell
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else None
    return str(value).lower() if isinstance(value, bool) else value


def _write_lines(part: Path, collection: Collection, found: Sequence[Answered], _: Progress) -> None:
    with part.open("wb") as file:
        file.writelines(tables.to_json_lines([answers.to_dict(collection, one)]) for one in found)


def _write_parquet(part: Path, collection: Collection, found: Sequence[Answered], _: Progress) -> None:
    rows = [
        {name: tables.to_unicode(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in _rows(collection, found)
    ]
    tables.write_parquet(part, rows, _COLUMNS)


# ---- for people


@dataclass(frozen=True)
class _Figure:
    """An image with its caption: its name, a data URI if it can be shown, lines above the name, the width of a bar."""

    name: str
    uri: str | None
    lines: Sequence[str]
    bar: str | None = None


def _write_page(part: Path, collection: Collection, found: Sequence[Answered], progress: Progress) -> None:
    import jinja2  # noqa: PLC0415 -- a page is rare, and a search is not

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: Path(__file__).with_name(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: tables.printable(value) if type(value) is str else value,  # Markup is escaped already
    )
    page = environment.get_template("results.html").generate(
        title=f"Search in {collection.name}",
        count=tables.plural(len(found), "text" if any(one.source.image is None for one in found) else "image"),
        encoder=collection.embedder,
        sections=_sections(collection, found, progress),
    )
    with part.open("w", encoding="utf-8") as file:
        file.writelines(page)


def _sections(collection: Collection, found: Sequence[Answered], progress: Progress) -> Iterator[dict[str, Any]]:
    """Yield the values of a section for each query."""
    for done, one in enumerate(found, 1):
        answer = one.answer
        if answer is None:
            yield {"name": one.name, "note": one.error, "query": None, "hits": []}
        else:
            note = " ".join([*answer.warnings(), *([] if answer else ["Nothing found."])]) or None
            hits = [_hit_figure(collection, answer, hit) for hit in answer]
            yield {"name": one.name, "note": note, "query": _query_figure(one.source), "hits": hits}
        progress.advance("writing", done, len(found))


def _query_figure(source: Source) -> _Figure | None:
    image, name = source.image, source.path.name if source.path else "standard input"
    return None if image is None else _Figure(name, _image_uri(lambda: images.thumbnail(image, _SIDE)), ["query"])


def _hit_figure(collection: Collection, answer: Answer, hit: Hit) -> _Figure:
    lines = [answer.describe_distance(hit)]
    if hit.item.label:
        lines.append(hit.item.label)
    if answers.is_missing(collection, hit.item):
        lines.append("The file is missing.")
    bar = None if hit.closeness is None else f"{hit.closeness:.0%}"
    return _Figure(hit.item.name, _image_uri(lambda: collection.folder.thumbnail(hit.item)), lines, bar)


def _image_uri(jpeg: Callable[[], bytes]) -> str | None:
    try:
        return tables.jpeg_uri(jpeg())
    except (LookalikeError, OSError):
        return None
