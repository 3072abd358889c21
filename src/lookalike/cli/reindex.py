"""The command reindex: embed the images of a collection again with another encoder."""

import os
from dataclasses import dataclass
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Crops, Json, Name, options
from lookalike.collection import Collection
from lookalike.folder import load_encoder
from lookalike.metric import Metric
from lookalike.tables import plural

commands = typer.Typer()

# Searches of other processes have a higher priority.
_NICENESS = 10


@dataclass(frozen=True)
class Options:
    """Options of reindex."""

    name: Name
    encoder: Annotated[str, typer.Option(help="The new encoder: a bundled name, a folder, or hf://org/repo.")]
    metric: Annotated[Metric | None, typer.Option(help="Default: the new encoder's own.")] = None
    crops: Crops = None
    prune: Annotated[bool, typer.Option("--prune", help="Remove items whose images are missing or cannot be used.")] = (
        False
    )
    json: Json = False


@commands.command()
@options(Options)
def reindex(given: Options) -> None:
    """Embed the images of a collection again with another encoder, and swap encoder and vectors at the end.

    If the new encoder has the same network for photos, the vectors stay.

    The collection answers with its old encoder until then, also on a running server, and other commands may add images. Items
    keep their ids, labels and attributes. You can stop the command at any time; the same command continues.

    Example: lookalike reindex shop --encoder runs/mine/encoder
    """
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    encoder = load_encoder(given.encoder)
    if given.crops is not None:
        encoder = encoder.with_crops(given.crops)
    with Collection.open(given.name) as collection:
        advice = "The collection keeps its encoder; run the same command to continue."
        with output.stoppable(advice), output.progress_bar() as progress:
            done = collection.reindex(encoder, given.metric, prune=given.prune, progress=progress)
        for item in done.removed:
            output.stderr.print(f"removed: {item.uri}", style="yellow")
        if given.json:
            output.write_json(
                {
                    "collection": str(collection.path),
                    "encoder": collection.embedder.name,
                    "metric": collection.metric,
                    "dimension": collection.embedder.space.dimension,
                    "items": done.items,
                    "embedded": done.embedded,
                    "removed": [item.uri for item in done.removed],
                    "scope": collection.embedder.scope,
                }
            )
            return
        removed = f", {len(done.removed):,} removed" if done.removed else ""
        output.stdout.print(
            f"{done.embedded:,} embedded{removed}. {collection.path} has {plural(done.items, 'item')} by"
            f" “{collection.embedder.name}”."
        )
        output.print_scope(collection.embedder)
