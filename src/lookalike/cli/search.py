"""The command search: find the images of a collection that look like an image."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import answers, output
from lookalike.cli.options import (
    Far,
    Id,
    Json,
    K,
    Label,
    MetricOfCollection,
    Name,
    Sketch,
    Where,
    Within,
    branch,
    collection_path,
    options,
    parse_filter,
    parse_range,
)
from lookalike.collection import Collection
from lookalike.query import DEFAULT_K, DistanceRange, Vectors
from lookalike.stores import Answer

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of search."""

    name: Name
    images: Annotated[list[str], typer.Argument(metavar="IMAGE…", help="Image files; - is standard input.")]
    k: K = None
    within: Within = None
    far: Far = None
    metric: MetricOfCollection = None
    sketch: Sketch = False
    label: Label = None
    where: Where = None
    id: Id = None
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="Search exactly, or by the index. Default: exactly within the collection's budget of time.",
            show_default=False,
        ),
    ] = None
    json: Json = False


@commands.command()
@options(Options)
def search(given: Options) -> None:
    """Find the images of a collection that look like an image.

    Example: lookalike search shop mug.jpg -k 5
    """
    sources = [sys.stdin.buffer.read() if image == "-" else Path(image) for image in given.images]
    paths = [source if isinstance(source, Path) else None for source in sources]
    with Collection.open(collection_path(given.name)) as collection:
        embedder = collection.embedder.compared_by(given.metric)
        within = parse_range(embedder, given.k, given.within, given.far, branch(given.sketch))
        vectors = collection.embed(sources, branch(given.sketch))
        if within is not None and len(sources) == 1 and _is_exact(collection, given.exact):
            _suggest_index(collection, given)
            _stream(collection, vectors, within, given, paths[0])
            return
        found = _search(collection, vectors, within, given)
        if all(answer.exact for answer in found):
            _suggest_index(collection, given)
        if given.json:
            dicts = [answer.to_dict() for answer in found]
            output.write_json(dicts[0] if len(dicts) == 1 else dicts)
            return
        for path, answer in zip(paths, found, strict=True):
            if len(sources) > 1:
                output.stdout.print(f"\n{path or 'standard input'}", style="bold")
            answers.print_answer(answer, collection, path)


def _search(collection: Collection, vectors: Vectors, within: DistanceRange | None, given: Options) -> list[Answer]:
    where = parse_filter(given.label, given.where, given.id)
    if within is None:
        return collection.knn(
            vectors,
            DEFAULT_K if given.k is None else given.k,
            where,
            metric=given.metric,
            branch=branch(given.sketch),
            exact=given.exact,
        )
    return collection.within(
        vectors,
        within.max,
        where,
        least=within.min,
        metric=given.metric,
        branch=branch(given.sketch),
        exact=given.exact,
    )


def _stream(
    collection: Collection, vectors: Vectors, within: DistanceRange, given: Options, query: Path | None
) -> None:
    """Print an exact answer of any size in the memory of a part of it."""
    parts = collection.stream(
        vectors,
        within.max,
        parse_filter(given.label, given.where, given.id),
        least=within.min,
        metric=given.metric,
        branch=branch(given.sketch),
    )
    if given.json:
        answers.write_json_stream(parts, given.metric or collection.store.space.metric)
    else:
        answers.print_stream(parts, collection, query)


def _is_exact(collection: Collection, exact: bool | None) -> bool:
    """Whether a query will be answered exactly: on request, within the budget, or because there is no index."""
    if exact or (exact is None and not collection.over_budget()):
        return True
    status = collection.status()
    return status is None or status.index is None


def _suggest_index(collection: Collection, given: Options) -> None:
    """Suggest an index on stderr if a query was exact only because there is none."""
    if given.exact or (given.exact is None and not collection.over_budget()):
        return
    status = collection.status()
    if status is None or status.index is not None:
        return
    if given.exact is False and collection.indexable:
        output.stderr.print(
            f"Searched exactly because there is no index. Build one: lookalike tune {given.name}", style="yellow"
        )
    elif given.exact is None and status.due:
        output.stderr.print(
            f"Searched exactly: about {status.estimate:,.0f} ms a query, over the budget of"
            f" {status.settings.budget:g} ms. An index is faster: lookalike tune {given.name}",
            style="yellow",
        )
