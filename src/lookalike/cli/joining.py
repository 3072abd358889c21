"""The command that joins collections."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lookalike import joins
from lookalike.ann.joins import ApproximateJoin
from lookalike.cli import output
from lookalike.cli.collections import Far, Name, Within, find, reach
from lookalike.collection import Collection, Join
from lookalike.errors import UsageError
from lookalike.joins import formats
from lookalike.query import DistanceRange

commands = typer.Typer()


@commands.command()
def join(
    left: Name,
    right: Annotated[
        Path | None, typer.Argument(metavar="[NAME]", help="Another collection, or none: a self-join.")
    ] = None,
    *,
    k: Annotated[int | None, typer.Option("-k", help="How many of the nearest.")] = None,
    within: Within = None,
    far: Far = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="pairs.parquet, .csv or .jsonl; CSV on the terminal if not given."),
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="By an index, for millions; the recall is measured and told.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON: a line for each pair, or what --out's file got.")
    ] = False,
) -> None:
    """Find all pairs of pictures of two collections that look alike, or of one with itself.

    Each picture of the left one with its -k nearest in the right one, or all pairs --within a distance. A self-join
    gives each pair once, and none of a picture with itself. Stopped in any way before --out is whole, the same command
    goes on where it was.

    Example: lookalike join shop --within 0.2 --out pairs.csv
    """
    if [k, within, far].count(None) != 2:  # noqa: PLR2004 -- all but one
        raise UsageError("Give -k, --within or --far, one of them.")
    if out is not None:
        formats.of(out)  # a wrong ending is told before an approximate join is prepared
    with Collection.open(find(left)) as one, Collection.open(find(right or left)) as other:
        ends = None if k is not None else DistanceRange(*reach(one, within, far, one.store.metric, "photo"))
        itself = right is None or one.path.samefile(other.path)
        asked = one.join(None if itself else other, k=k, within=ends, approximate=approximate)
        if asked.approximate is not None:
            _tell_recall(asked.approximate)
        if out is None:
            joins.stream(asked, formats.LINES if json else formats.CSV, lambda data: sys.stdout.write(data.decode()))
            return
        written = _write(asked, out)
    if json:
        recall = asked.approximate and asked.approximate.recall
        told = {"exact": not approximate, "recall": 1.0 if not approximate else recall}
        output.write_json({"pairs": written.pairs, "removed": written.removed, "out": str(out), **told})
    else:
        output.stdout.print(f"{written.pairs:,} pairs in {out}.")
        if written.removed:
            output.stderr.print(f"{written.removed:,} pairs left out: one of their items was removed meanwhile.")


def _tell_recall(way: ApproximateJoin) -> None:
    said = "cannot be told: no item of the sample has a pair" if way.recall is None else f"is {way.recall:.3f}"
    output.stderr.print(
        f"Approximate: the recall {said} (measured on {way.sample_rows:,} items with {way.sample_pairs:,} pairs).",
        style="yellow",
    )


def _write(asked: Join, out: Path) -> joins.WrittenJoin:
    kept = "What is done stays beside it; the same command goes on there."
    with output.stoppable(kept), output.progress_bar() as bar:
        return joins.write(asked, out, bar)
