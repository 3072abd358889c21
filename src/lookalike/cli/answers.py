"""Print the answer of a search as a table, with images in a terminal, or as JSON."""

import sys
from collections.abc import Iterable
from pathlib import Path

from lookalike.cli import output
from lookalike.errors import NotFoundError
from lookalike.folder import Folder
from lookalike.metric import Metric, format_distance, format_probability
from lookalike.stores import Answer, Item


def write_json_stream(parts: Iterable[Answer], metric: Metric) -> None:
    """Write the parts of an exact answer as one JSON document, with one part in memory at a time."""
    sys.stdout.write('{"hits": [')
    comma, no_match = "", None
    for part in parts:
        no_match = part.no_match if no_match is None else no_match  # the first part has the nearest hit
        for hit in part.hits:
            sys.stdout.write(comma + output.to_json(hit.to_dict()))
            comma = ", "
    rest = Answer((), metric, no_match=no_match).to_dict()
    del rest["hits"]
    sys.stdout.write("], " + output.to_json(rest)[1:] + "\n")


def print_answer(answer: Answer, folder: Folder, query: Path | None = None) -> None:
    """Print a table of the hits; in a terminal with 24-bit colour, also the query and the first hits as images."""
    print_stream([answer], folder, query)
    if answer.recall is not None and answer.hits:
        rest = "" if answer.complete else "; more items are in the range"
        output.stdout.print(f"approximate (recall {answer.recall:.2f}){rest}", style="dim")


def print_stream(parts: Iterable[Answer], folder: Folder, query: Path | None = None) -> None:
    """Print the parts of an answer as one table, with one part in memory at a time."""
    empty = True
    for part in parts:
        if not part.hits:
            continue
        if empty and output.stdout.is_terminal:
            # Importing Rich takes longer than a search in a small collection.
            from lookalike.cli import terminal_images  # noqa: PLC0415

            files = [(_file(folder, h.item), format_distance(h.distance, part.metric)) for h in part.hits]
            images = [(file, title) for file, title in files if file is not None]
            terminal_images.print_row(([(query, "query")] if query else []) + images)
        _print_hits(part, folder, show_header=empty)
        empty = False
    if empty:
        output.stdout.print("Nothing found.")


def _print_hits(answer: Answer, folder: Folder, *, show_header: bool) -> None:
    calibrated = answer.hits[0].probability is not None
    rows = [
        (
            format_distance(hit.distance, answer.metric),
            f"{hit.similarity:.1%}",
            *((format_probability(hit.probability),) if calibrated else ()),
            hit.item.label or "",
            str(_file(folder, hit.item) or hit.item.uri),
        )
        for hit in answer.hits
    ]
    header = ("distance", "similarity", *(("same",) if calibrated else ()), "label", "image")
    output.print_table(rows, header, show_header=show_header)


def _file(folder: Folder, item: Item) -> Path | None:
    """Return the path of an item's image; none if its uri leads outside of the folder."""
    try:
        return folder.file(item)
    except NotFoundError:
        return None
