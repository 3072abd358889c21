"""The command tune: set a collection's query budget and index, and build the index."""

import math
from threading import Event, Thread
from typing import Annotated

import typer

from lookalike.ann import MIN_VECTORS
from lookalike.cli import output
from lookalike.cli.info import describe_index
from lookalike.cli.options import Json, Name
from lookalike.collection import Collection
from lookalike.errors import StorageError, UsageError
from lookalike.progress import Progress
from lookalike.stores.settings import IndexKind, IndexSettings

commands = typer.Typer()


@commands.command()
def tune(
    name: Name,
    *,
    index: Annotated[
        IndexKind | None,
        typer.Option(
            help="Kind of index: hnsw is fastest, ivf-pq smallest, none searches exactly.", show_default="hnsw"
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="MS", help="Search exactly while a query takes at most this long, in ms.", show_default="50"
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, metavar="R", help="Share of the 10 nearest items to find.", show_default="0.95"),
    ] = None,
    json: Json = False,
) -> None:
    """Build an index for approximate search, if exact search takes too long.

    A search uses the index if an exact search would take longer than the budget; each answer says whether it is exact. You
    can stop the command at any time; the collection then keeps its previous index. Options that you leave out keep their
    settings.

    Example: lookalike tune shop --recall 0.98
    """
    if budget == math.inf:
        raise UsageError("--budget takes milliseconds, not infinity. To search exactly always, give --index none.")
    settings = {"index": index, "budget": budget, "recall": recall}
    with Collection.open(name) as collection:
        status = collection.status()
        current = status.settings if status else IndexSettings()
        changed = {key: value for key, value in settings.items() if value is not None}
        collection.tune(IndexSettings(**current.model_dump() | changed))  # validates, as model_copy would not
        if collection.indexable:
            advice = "The collection keeps its previous index; the same command starts over."
            with output.stoppable(advice), output.progress_bar() as progress:
                _build(collection, progress)
        _report(collection, json=json)


def _build(collection: Collection, progress: Progress) -> None:
    """Build the index in a thread, since Ctrl-C in the main thread would wait until FAISS returns."""
    stop, errors = Event(), list[BaseException]()

    def work() -> None:
        try:
            collection.build_index(progress, stop.is_set)
        except BaseException as e:  # noqa: BLE001 -- raised again below
            errors.append(e)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
    finally:
        stop.set()
    if errors:
        raise errors[0]


def _report(collection: Collection, *, json: bool) -> None:
    exact, approximate = collection.measure_latency()
    status = collection.status()
    if status is None:  # pragma: no cover -- `Collection.tune` refused it
        raise StorageError(f"{collection.path} has no settings.")
    index, budget = status.index, status.settings.budget
    if json:
        output.write_json(
            {
                "index": index.kind if index else None,
                "budget": budget,
                "exact_ms": exact,
                "approximate_ms": approximate,
                "recall": index.recall if index else None,
                "bytes": index.bytes if index else 0,
                "seconds": index.seconds if index else 0,
            }
        )
        return
    rows = [("exact", f"{exact:.1f} ms a query")]
    if approximate is not None:
        rows.append(("approximate", f"{approximate:.1f} ms a query"))
    rows.append(("budget", f"{budget:g} ms: {_how_searched(exact, budget, approximate)}"))
    if index is None and status.settings.index != "none":
        rows.append(
            ("index", f"none: collections of bits, or of fewer than {MIN_VECTORS:,} items, are searched exactly")
        )
    else:
        rows.append(("index", describe_index(status)))
    if index:
        rows.append(("built in", f"{index.seconds:.1f} s"))
    output.print_facts(rows)


def _how_searched(exact: float, budget: float, approximate: float | None) -> str:
    if exact <= budget:
        return "searches are exact"
    return "searches are exact, since there is no index" if approximate is None else "searches are approximate"
