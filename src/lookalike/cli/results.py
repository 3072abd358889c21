"""The files of `search --out`: CSV, JSON lines and Parquet for programs, HTML for people."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lookalike import atomic, images, tables
from lookalike.cli import answers
from lookalike.cli.queries import Answered, Source
from lookalike.collection import Collection
from lookalike.errors import LookalikeError, StorageError, UsageError, reason_of
from lookalike.progress import Progress
from lookalike.stores.answer import NO_MATCH, Answer, Hit, describe_distance

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
    "missing": "boolean",
    "id": "text",
    "attributes": "attributes",
    "error": "text",
}

_SIDE = 192

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 82rem; padding: 0 1rem }
section { border-top: 1px solid #8885; padding: 1rem 0 }
h2 { font-size: 1rem; overflow-wrap: anywhere }
.row { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0; width: 160px } figure.query { border-inline-end: 3px solid #8888; padding-inline-end: 12px }
img, .none { width: 160px; height: 160px; object-fit: contain; background: #8881 }
.none { display: grid; place-items: center }
figcaption { overflow-wrap: anywhere; font-size: .85rem }
.bar { height: 5px; background: #8883; margin: 4px 0 } .bar i { display: block; height: 100%; background: #2a7 }
.note { font-weight: 600 }
"""


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


def _write_page(part: Path, collection: Collection, found: Sequence[Answered], progress: Progress) -> None:
    with part.open("w", encoding="utf-8") as file:
        title = f"Search in {tables.escape(collection.name)}"
        file.write(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
            f"<p>{tables.plural(len(found), 'image')}. {tables.escape(collection.embedder.name)}:"
            f" {tables.escape(collection.embedder.scope)}</p>\n"
        )
        for done, one in enumerate(found, 1):
            _write_section(file, collection, one)
            progress.advance("writing", done, len(found))


def _write_section(file: TextIO, collection: Collection, one: Answered) -> None:
    file.write(f"<section><h2>{tables.escape(one.name)}</h2>")
    if one.answer is None:
        file.write(f'<p class="note">{tables.escape(one.error)}</p></section>\n')
        return
    if one.answer.no_match or not one.answer:
        file.write(f'<p class="note">{tables.escape(NO_MATCH if one.answer else "Nothing found.")}</p>')
    file.write('<div class="row">' + _query_figure(one.source))
    file.writelines(_hit_figure(collection, one.answer, hit) for hit in one.answer)
    file.write("</div></section>\n")


def _query_figure(source: Source) -> str:
    name = source.path.name if source.path else "standard input"
    return _figure(lambda: images.thumbnail(source.image, _SIDE), name, ["query"], "query")


def _hit_figure(collection: Collection, answer: Answer, hit: Hit) -> str:
    lines = describe_distance(hit, answer.metric)
    if hit.item.label:
        lines.append(hit.item.label)
    if answers.is_missing(collection, hit.item):
        lines.append("The file is gone.")
    width = (
        ""
        if hit.closeness is None or hit.probability is not None
        else f'<div class="bar"><i style="width:{hit.closeness:.0%}"></i></div>'
    )
    return _figure(lambda: collection.folder.thumbnail(hit.item), hit.item.name, lines, "hit", width)


def _figure(jpeg: Callable[[], bytes], name: str, lines: Sequence[str], kind: str, bar: str = "") -> str:
    try:
        image = f'<img alt="{tables.escape(name)}" loading="lazy" src="{tables.jpeg_uri(jpeg())}">'
    except (LookalikeError, OSError):
        image = '<div class="none">no image</div>'
    text = "<br>".join(tables.escape(line) for line in [*lines, name])
    return f'<figure class="{kind}">{image}{bar}<figcaption>{text}</figcaption></figure>'
