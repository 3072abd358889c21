"""The command tune."""

import math
from threading import Event, Thread
from typing import Annotated

import typer
from rich.text import Text

from lookalike.ann import MIN_VECTORS
from lookalike.cli import output
from lookalike.cli.collections import Json, Name, describe, find
from lookalike.collection import Collection
from lookalike.errors import StorageError, UsageError
from lookalike.progress import Progress
from lookalike.stores.tuning import IndexKind, Tuning

commands = typer.Typer()


@commands.command()
def tune(
    name: Name,
    *,
    index: Annotated[
        IndexKind | None,
        typer.Option(help="hnsw is the fastest, ivf-pq the smallest; none: always exact.", show_default="hnsw"),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, metavar="MS", help="Exact while a query takes no longer, in ms.", show_default="50"),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, metavar="R", help="Share of the 10 nearest to find.", show_default="0.95"),
    ] = None,
    json: Json = False,
) -> None:
    """Make an index that answers approximately, for collections where exact searches take too long.

    It is used where an exact query is estimated to take longer than the budget, and every answer says so. Stop it at any
    time: what was there before stays. What is not given stays as it was set.

    Example: lookalike tune shop --recall 0.98
    """
    if budget == math.inf:
        raise UsageError("--budget takes milliseconds, not infinity. To search exactly always: --index none.")
    with Collection.open(find(name)) as collection:
        status = collection.status()
        now = status.tuning if status else Tuning()
        given = {"index": index, "budget": budget, "recall": recall}
        # Checked anew, which model_copy would not.
        collection.tune(Tuning(**now.model_dump() | {key: value for key, value in given.items() if value is not None}))
        if collection.indexable:
            kept = "What was there before stays; the same command begins anew."
            with output.stoppable(kept), output.progress_bar() as bar:
                _build(collection, bar)
        _report(collection, json=json)


def _build(collection: Collection, bar: Progress) -> None:
    """In a thread: Ctrl-C would wait for FAISS to come back."""
    stop, failed = Event(), list[BaseException]()

    def work() -> None:
        try:
            collection.build_index(bar, stop.is_set)
        except BaseException as e:  # noqa: BLE001 -- raised again below
            failed.append(e)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
    finally:
        stop.set()
    if failed:
        raise failed[0]


def _report(collection: Collection, *, json: bool) -> None:
    exact, approximate = collection.pace()
    status = collection.status()
    if status is None:  # pragma: no cover -- `Collection.tune` refused it
        raise StorageError(f"{collection.path} has no settings.")
    facts = {
        "index": status.index.kind if status.index else None,
        "budget": status.tuning.budget,
        "exact_ms": exact,
        "approximate_ms": approximate,
        "recall": status.index.recall if status.index else None,
        "bytes": status.index.bytes if status.index else 0,
        "seconds": status.index.seconds if status.index else 0,
    }
    if json:
        output.write_json(facts)
        return
    rows = [("exact", f"{exact:.1f} ms a query")]
    if approximate is not None:
        rows.append(("approximate", f"{approximate:.1f} ms a query"))
    rows.append(("budget", f"{status.tuning.budget:g} ms: {_used(exact, status.tuning.budget, approximate)}"))
    rows.append(("index", describe(status)))
    if status.index:
        rows.append(("built in", f"{status.index.seconds:.1f} s"))
    elif status.tuning.index != "none":
        rows[-1] = ("index", f"none: fewer than {MIN_VECTORS:,} items, and bits, are searched exactly")
    for key, value in rows:
        output.stdout.print(Text.assemble((f"{key:<12}", "bold"), value))


def _used(exact: float, budget: float, approximate: float | None) -> str:
    if exact <= budget:
        return "queries are exact"
    return "queries are exact all the same, as there is no index" if approximate is None else "queries are approximate"
