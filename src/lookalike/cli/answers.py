"""Print the answer of a search as a table, with images in a terminal, or as JSON."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lookalike.cli import output
from lookalike.cli.queries import Answered
from lookalike.collection import Collection
from lookalike.errors import NotFoundError
from lookalike.metric import format_distance
from lookalike.stores import Answer, Hit, Item
from lookalike.tables import plural


def to_dict(collection: Collection, answered: Answered) -> dict[str, Any]:
    """Convert an answered query, or one that failed, to a dictionary for JSON."""
    if answered.answer is None:
        return {"query": answered.name, "error": answered.error}
    hits = [_hit_to_dict(collection, hit) for hit in answered.answer]
    return {"query": answered.name, **answered.answer.to_dict(), "hits": hits}


def write_json_stream(collection: Collection, parts: Iterable[Answer], empty: Answer, query: str) -> None:
    """Write the parts of an exact answer, or an empty one, as one JSON document, with one part in memory at a time."""
    sys.stdout.write(f'{{"query": {output.to_json(query)}, "hits": [')
    comma, rest = "", empty
    for part in parts:
        if rest.no_match is None:  # the first part has the nearest hit
            rest = replace(part, hits=())
        for hit in part:
            sys.stdout.write(comma + output.to_json(_hit_to_dict(collection, hit)))
            comma = ", "
    tree = rest.to_dict()
    del tree["hits"]
    sys.stdout.write("], " + output.to_json(tree)[1:] + "\n")


def print_answer(collection: Collection, answer: Answer, query: Path | None = None) -> None:
    """Print a table of the hits; in a terminal with 24-bit colour, also the query and the first hits as images."""
    print_stream(collection, [answer], query)
    if answer.recall is not None and answer.hits:
        rest = "" if answer.complete else "; more items are in the range"
        output.stdout.print(f"approximate (recall {answer.recall:.2f}){rest}", style="dim")


def print_stream(collection: Collection, parts: Iterable[Answer], query: Path | None = None) -> None:
    """Print the parts of an answer as one table, with one part in memory at a time."""
    empty, missing_files, codec = True, 0, None
    for part in parts:
        if not part.hits:
            continue
        if empty:
            _print_images(collection, part, query)
            for warning in part.warnings():
                output.stdout.print(warning, style="yellow")
        missing = {hit.item.id for hit in part if is_missing(collection, hit.item)}
        header, rows = part.table(lambda hit: _describe(collection, hit, missing=hit.item.id in missing), limit=None)  # noqa: B023 -- called at once
        output.print_table(rows, header, show_header=empty)
        empty, missing_files = False, missing_files + len(missing)
        codec = part.codec
    if empty:
        output.stdout.print("Nothing found.")
    elif codec is not None:
        output.stdout.print(f"distances by codes: {codec}", style="dim")
    if missing_files:
        name = collection.path
        output.stderr.print(
            f"{plural(missing_files, 'file')} of these {'is' if missing_files == 1 else 'are'} missing. If a folder has moved: lookalike relocate"
            f" {name} OLD NEW. To remove such items: lookalike index DIR --to {name} --prune",
            style="yellow",
        )


def is_missing(collection: Collection, item: Item) -> bool:
    """Return whether the file of an item is missing, or its uri leads nowhere."""
    try:
        return collection.is_missing(item)
    except NotFoundError:
        return True


def image_path(collection: Collection, item: Item) -> Path:
    """Return the path of an item's image; its uri if that leads nowhere."""
    try:
        return collection.folder.file(item)
    except NotFoundError:
        return Path(item.uri)


def _hit_to_dict(collection: Collection, hit: Hit) -> dict[str, Any]:
    return hit.to_dict() | {"missing": is_missing(collection, hit.item)}


def _describe(collection: Collection, hit: Hit, *, missing: bool) -> str:
    path = output.shown_path(image_path(collection, hit.item))
    return f"{path}  (missing)" if missing else path


def _print_images(collection: Collection, answer: Answer, query: Path | None) -> None:
    if not output.stdout.is_terminal:
        return
    # Importing Rich takes longer than a search in a small collection.
    from lookalike.cli import terminal_images  # noqa: PLC0415

    images = [(image_path(collection, hit.item), format_distance(hit.distance, answer.metric)) for hit in answer]
    terminal_images.print_row(([(query, "query")] if query else []) + images)
