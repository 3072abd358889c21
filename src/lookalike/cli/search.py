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
    check_range,
    options,
    parse_filter,
)
from lookalike.collection import Collection
from lookalike.query import Query, to_branch

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
            help="Search exactly, or by the index. Default: exactly, unless it takes longer than the collection's budget.",
            show_default=False,
        ),
    ] = None
    json: Json = False

    def __post_init__(self) -> None:
        """Refuse contradictory options."""
        check_range(self.k, self.within, self.far)


@commands.command()
@options(Options)
def search(given: Options) -> None:
    """Find the images of a collection that look like an image.

    Example: lookalike search shop mug.jpg -k 5
    """
    sources = [sys.stdin.buffer.read() if image == "-" else Path(image) for image in given.images]
    with Collection.open(given.name) as collection:
        embedder, branch = collection.embedder.with_metric(given.metric), to_branch(given.sketch)
        query = Query(
            images=sources,
            branch=branch,
            metric=given.metric,
            k=given.k,
            within=embedder.distance_range(given.within, given.far, branch),
            where=parse_filter(given.label, given.where, given.id),
            exact=given.exact,
        )
        if query.within is not None and len(query) == 1 and collection.searches_exactly(query.exact):
            parts = collection.stream(query)
            _suggest_index(collection, given)
            if given.json:
                answers.write_json_stream(parts, query.metric or collection.metric)
            else:
                answers.print_stream(parts, collection.folder, _path(sources[0]))
            return
        found = collection.answer(query)
        if all(answer.exact for answer in found):
            _suggest_index(collection, given)
        if given.json:
            dicts = [answer.to_dict() for answer in found]
            output.write_json(dicts[0] if len(dicts) == 1 else dicts)
            return
        for source, answer in zip(sources, found, strict=True):
            if len(sources) > 1:
                output.stdout.print()
                output.stdout.print(str(_path(source) or "standard input"), style="bold")
            answers.print_answer(answer, collection.folder, _path(source))


def _path(source: bytes | Path) -> Path | None:
    return source if isinstance(source, Path) else None


def _suggest_index(collection: Collection, given: Options) -> None:
    """Suggest an index on stderr if the search was exact only for lack of one."""
    if not collection.misses_index(given.exact):
        return
    status = collection.status()
    if given.exact is False or status is None:
        reason = "because there is no index. Build one"
    else:
        reason = (
            f"in about {status.estimate:,.0f} ms a query, over the budget of {status.settings.budget:g} ms. An index is"
            " faster"
        )
    output.stderr.print(f"Searched exactly {reason}: lookalike tune {given.name}", style="yellow")
