"""The command join: find all pairs of images of two collections that look alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike import joins
from lookalike.ann.joins import ApproximateJoin
from lookalike.cli import output
from lookalike.cli.options import Far, Name, Within, check_range, note_distance, options
from lookalike.collection import Collection
from lookalike.joins import JoinPairs, formats

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of join."""

    left: Name
    right: Annotated[
        Path | None,
        typer.Argument(metavar="[NAME]", help="Another collection. Without it, the first one is joined with itself."),
    ] = None
    k: Annotated[int | None, typer.Option("-k", help="Number of nearest items of each item.")] = None
    within: Within = None
    far: Far = None
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write to pairs.parquet, .csv or .jsonl; default: CSV to the terminal."),
    ] = None
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use an index, for millions of items; the recall is measured.")
    ] = False
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON: one line per pair, or a summary of the file of --out.")
    ] = False

    def __post_init__(self) -> None:
        """Refuse contradictory options, and a file format that cannot be written, before long work."""
        check_range(self.k, self.within, self.far, required=True)
        if self.out is not None:
            formats.find_format(self.out)


@commands.command()
@options(Options)
def join(given: Options) -> None:
    """Find all pairs of images of two collections, or of one with itself, that look alike.

    With -k, the command pairs each image of the left collection with its k nearest images in the right one. With --within
    or --far, it finds all pairs within a distance. A self-join gives each pair once, and no image with itself. If you stop
    the command before the file of --out is complete, the same command continues.

    Example: lookalike join shop --within 0.2 --out pairs.csv
    """
    if given.out is None:
        _join(given)
        return
    with output.stoppable("The same command continues; a folder next to the file of --out keeps the finished parts."):
        _join(given)


def _join(given: Options) -> None:
    with Collection.open(given.left) as left, Collection.open(given.right or given.left) as right:
        note_distance(given.within, left.embedder.space)
        pairs = left.join(right, k=given.k, within=given.within, far=given.far, approximate=given.approximate)
        if pairs.join.approximate is not None:
            _print_recall(pairs.join.approximate)
        if given.out is None:
            form = formats.LINES if given.json else formats.CSV
            joins.stream(pairs.join, form, output.write_data)
        else:
            _write(pairs, given.out, left.embedder.codec_in_words, json=given.json)


def _write(pairs: JoinPairs, out: Path, codec: str | None, *, json: bool) -> None:
    with output.progress_bar() as progress:
        written = pairs.write(out, progress)
    if json:
        summary = {"pairs": written.pairs, "removed": written.removed, "out": str(out)}
        output.write_json(summary | {"exact": pairs.join.approximate is None, "recall": pairs.recall, "codec": codec})
        return
    output.stdout.print(f"{written.pairs:,} pairs in {out}.")
    if written.removed:
        output.stderr.print(f"{written.removed:,} pairs skipped: one of their items was removed during the join.")


def _print_recall(approximate: ApproximateJoin) -> None:
    recall = approximate.recall
    text = "is unknown: no item of the sample has a pair" if recall is None else f"is {recall:.3f}"
    output.stderr.print(
        f"Approximate: the recall {text} (measured on {approximate.sample_rows:,} items with"
        f" {approximate.sample_pairs:,} pairs).",
        style="yellow",
    )
