"""The command compress: turn the vectors of a collection into codes, or back."""

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, Name, options
from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.evaluation import report
from lookalike.measured_codecs import CodecChoice
from lookalike.tables import plural

if TYPE_CHECKING:
    from lookalike.codecs import Codec

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
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="Measure codecs, and take the best one of at most this many bytes an item, such as 16B.",
        ),
    ] = None
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Measure codecs, and take the smallest one that keeps this share of the quality, such as 99%.",
        ),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="With --budget or --keep: write the table and a chart of quality against bytes here.",
        ),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", help="Compress by the chosen codec without asking.")] = False
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

    The codec is fitted to the collection. With --budget or --keep, the command measures codecs on the collection, shows quality
    against bytes as a table and a chart, and asks; with --json it only measures, unless you give --yes. The original vectors stay
    beside the codes, so that you can undo it, unless you drop them. New images get codes, too.

    Other processes search and add images until the swap, and afterwards use the codes. You can stop the command at any time:
    the collection then has its old vectors.

    Example: lookalike compress shop --codec scalar:int8
    """
    measures = _check(given)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with Collection.open(given.name) as collection:
        facts: dict[str, object] = {"collection": str(collection.path)}
        codec: str | Codec | None = given.codec
        if measures:
            choice = _choose(collection, given)
            facts |= choice.to_dict()
            if not (given.yes or (not given.json and _ask(choice))):
                if given.json:
                    output.write_json(facts | {"compressed": False})
                return
            codec = choice.codec
        with output.stoppable("The collection keeps its vectors."), output.progress_bar() as progress:
            done = None
            if codec is None:
                collection.decompress(progress)
            else:
                done = collection.compress(codec, drop_originals=given.drop_original, progress=progress)
        if given.json:
            plain = {"items": len(collection), "codec": collection.embedder.codec.name}
            output.write_json(facts | {"compressed": done is not None} | (asdict(done) if done else plain))
        elif done:
            output.stdout.print(f"{collection.path}: {done}")
        else:
            output.stdout.print(f"{collection.path} has the original vectors of {plural(len(collection), 'item')}.")


def _check(given: Options) -> bool:
    """Check that options go together; return whether codecs are measured."""
    measures = given.budget is not None or given.keep is not None
    if sum((given.codec is not None, measures, given.undo)) != 1:
        raise UsageError("Give a codec with --codec, such as pca:64; or --budget or --keep; or --undo.")
    if given.undo and given.drop_original:
        raise UsageError("--undo needs the original vectors. Leave out --drop-original.")
    if given.report is not None:
        if not measures:
            raise UsageError("--report shows measured codecs. Give --budget or --keep with it.")
        report.require()
        output.check_folder(given.report.parent)
    return measures


def _choose(collection: Collection, given: Options) -> CodecChoice:
    with output.stoppable("The collection keeps its vectors."), output.progress_bar() as progress:
        choice = collection.choose_codec(budget=given.budget, keep=given.keep, progress=progress)
    if not given.json:
        output.stdout.print_lines(str(choice))
    if given.report is not None:
        choice.write(given.report)
        output.stderr.print(f"The report is in {given.report}.")
    return choice


def _ask(choice: CodecChoice) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        output.stderr.print("Nothing has changed. To compress, add --yes.")
        return False
    return typer.confirm(f"Compress by {choice.chosen.name}?", err=True)
