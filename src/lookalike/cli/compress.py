"""The command compress: turn the vectors of a collection into codes, or back."""

import os
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, Name, options
from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.tables import plural

commands = typer.Typer()

# Searches of other processes have a higher priority.
_NICENESS = 10


@dataclass(frozen=True)
class Options:
    """Options of compress."""

    name: Name
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="CODEC|NAME",
            help="A codec with its settings, such as pca:64, scalar:int8, scalar:4 or pca:64+scalar:int8; or another"
            " compressed collection, to use its codec.",
        ),
    ] = None
    drop_original: Annotated[
        bool,
        typer.Option("--drop-original", help="Do not keep the original vectors. The compression cannot be undone."),
    ] = False
    undo: Annotated[bool, typer.Option("--undo", help="Restore the original vectors, bit for bit.")] = False
    json: Json = False


@commands.command()
@options(Options)
def compress(given: Options) -> None:
    """Replace the vectors of a collection by codes, which take fewer bytes, and swap them at the end.

    The codec is fitted to the collection. The original vectors stay beside the codes, so that you can undo it, unless you
    drop them. New images get codes, too.

    Other processes search and add images until the swap, and afterwards use the codes. You can stop the command at any time:
    the collection then has its old vectors.

    Example: lookalike compress shop --codec scalar:int8
    """
    if (given.codec is None) != given.undo:
        raise UsageError("Give a codec with --codec, such as pca:64, or --undo.")
    if given.undo and given.drop_original:
        raise UsageError("--undo needs the original vectors. Leave out --drop-original.")
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with Collection.open(given.name) as collection:
        with output.stoppable("The collection keeps its vectors."), output.progress_bar() as progress:
            done = None
            if given.codec is None:
                collection.decompress(progress)
            else:
                done = collection.compress(given.codec, drop_originals=given.drop_original, progress=progress)
        if given.json:
            facts = {"items": len(collection), "codec": collection.embedder.codec.name}
            output.write_json({"collection": str(collection.path)} | (asdict(done) if done else facts))
        elif done:
            output.stdout.print(f"{collection.path}: {done}")
        else:
            output.stdout.print(f"{collection.path} has the original vectors of {plural(len(collection), 'item')}.")
