"""The commands `lookalike study variants|compression`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lookalike import compression_study
from lookalike.cli import output
from lookalike.cli.options import Json, options
from lookalike.compress import TRAINABLE
from lookalike.compression_study import EXTRAS, METHODS, parse_methods
from lookalike.compression_study.tables import is_usual
from lookalike.errors import MissingExtraError, UsageError
from lookalike.evaluation import report

_DEFAULT_COMMAND = "variants"

_RESUMED = "The same command resumes it."


class DefaultToVariants(TyperGroup):
    """A group of commands in which ``study STUDY.yaml`` means ``study variants STUDY.yaml``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 -- Typer does not export click's types
        """Insert the default command unless the first argument is a command or asks for help."""
        if not ctx.resilient_parsing and (not args or args[0] not in {*self.commands, *ctx.help_option_names}):
            args = [_DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(cls=DefaultToVariants, context_settings={"help_option_names": ["-h", "--help"]})


@commands.callback()
def explain() -> None:
    """Compare variants of a recipe, or codecs that compress a collection, in tables.

    `lookalike study STUDY.yaml` is short for `lookalike study variants STUDY.yaml`.
    """


@commands.command()
def variants(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study in YAML.")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The study's folder.", show_default="studies/ and the study's name"),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "-o", metavar="KEY=VALUE", help="Override a value in the recipe of every cell, or of the study: measure.…=…"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train variants of a recipe, evaluate each, and put the scores into one table.

    The folder gets a run for each cell (a variant), and results.json and table.md, which are rewritten after every cell.
    You can stop the command at any time; the same command resumes it.

    Example: lookalike study recipes/r1-grid.yaml -o train.epochs=2
    """
    try:
        from lookalike.learn import study as studies  # noqa: PLC0415 -- as in train
    except ImportError as e:
        raise MissingExtraError("learn", f"Training ({e})") from e
    read, cells = studies.read(study, override or [])
    folder = to or Path("studies") / read.name
    with output.stoppable(_RESUMED), output.progress_bar() as progress:
        results = studies.run(read, cells, folder, progress)
    if json:
        output.write_json({"folder": str(folder), "cells": [asdict(result) for result in results]})
        return
    header, rows = studies.table(read, results)
    output.print_table(rows, header)
    output.stdout.print(f"All scores are in {folder / studies.RESULTS}.")


@dataclass(frozen=True)
class Options:
    """Options of study compression."""

    name: Annotated[
        Path,
        typer.Argument(
            metavar="NAME|X.npz",
            help="A collection with labels, or an .npz file with the arrays `embeddings` and `labels`.",
        ),
    ]
    to: Annotated[Path, typer.Option(metavar="DIR", help="The study's folder.")]
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|NAME|X.npz",
            help="Labelled images, a collection with the same encoder, or for an .npz file another one.",
            show_default="each item, with itself left out",
        ),
    ] = None
    sketch: Annotated[bool, typer.Option("--sketch", help="The labelled images of --queries are sketches.")] = False
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAME,…", help=f"Methods: {', '.join(METHODS)}; and more measurements of UMAP: {', '.join(EXTRAS)}."
        ),
    ] = ",".join(name for name in METHODS if name not in TRAINABLE)
    jobs: Annotated[
        int, typer.Option(min=1, help="Codecs to measure at a time. With more than one, times are less exact.")
    ] = 1
    json: Json = False


@commands.command()
@options(Options)
def compression(given: Options) -> None:
    """Compare codecs that compress a collection: quality, bytes and time of each method at each size.

    Each codec is fitted to two thirds of the items and searches the last third, in three folds. The folder gets tables
    (.csv), figures (.png) and report.html. You can stop the command at any time; the same command resumes it.

    Example: lookalike study compression shop --to studies/shop-codes
    """
    methods = parse_methods(name.strip() for name in given.methods.split(","))
    if given.sketch and given.queries is None:
        raise UsageError("--sketch says what the images of --queries are. Give --queries.")
    report.require()
    output.check_folder(given.to)
    with output.stoppable(_RESUMED), output.progress_bar() as progress:
        data = compression_study.read(given.name, given.queries, sketch=given.sketch, progress=progress)
        results = compression_study.run(data, methods, given.to, jobs=given.jobs, progress=progress)
        page = compression_study.write(data, results, given.to)
    if given.json:
        output.write_json({"report": str(page), "cells": [result.to_dict() for result in results]})
        return
    header = ("method", "bytes", "with codec", "mAP", "MRR", "top-1", "recall@10", "ms")
    rows = [
        (
            *(r.cell.method, f"{r.code_bytes:,}", f"{r.bytes_per_item:,.1f}"),
            *(f"{score:.3f}" for score in (r.map, r.mrr, r.top_1, r.recall)),
            f"{r.query_ms:.2f}",
        )
        for r in results
        if is_usual(r)
    ]
    output.print_table(rows, header)
    output.stdout.print(f"Tables and figures are in {page}.")
