"""The command study: train variants of a recipe and compare them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.errors import MissingExtraError

commands = typer.Typer()


@commands.command()
def study(
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
    with output.stoppable("The same command resumes it."), output.progress_bar() as progress:
        results = studies.run(read, cells, folder, progress)
    if json:
        output.write_json({"folder": str(folder), "cells": [asdict(result) for result in results]})
        return
    header, rows = studies.table(read, results)
    output.print_table(rows, header)
    output.stdout.print(f"All scores are in {folder / studies.RESULTS}.")
