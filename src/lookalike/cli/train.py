"""The commands train and study."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json
from lookalike.errors import MissingExtraError, UsageError

commands = typer.Typer()


@commands.command()
def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE|RUN", help="A recipe in YAML, or a run's folder to continue.")
    ],
    *,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder.", show_default="runs/ and the recipe's name")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Override a value, as -o train.epochs=5.")
    ] = None,
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs, or processes where there is none, that train together.")
    ] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Hosts that train together; start the command on each.")] = 1,
    json: Json = False,
) -> None:
    """Train an encoder by a recipe, or continue a run.

    The run's folder gets the recipe with all its values, metrics.jsonl with a line an epoch, a checkpoint after each,
    and in the end encoder/, which index --encoder takes, and report.html. Stop it at any time; to go on, give the folder.

    Example: lookalike train recipes/cifar10-triplet.yaml -o data.sources.0.path=cifar10/train
    """
    try:
        # Here, since torch takes a second to import, which no other command should wait for.
        from lookalike.learn import recipe as recipes  # noqa: PLC0415
        from lookalike.learn import train as training  # noqa: PLC0415
    except ImportError as e:
        raise MissingExtraError("learn", f"Training ({e})") from e
    if recipe.is_dir():
        if to or override:
            raise UsageError("A run is continued as it was begun, without --to and -o.")
        with output.stoppable(f"Go on with: lookalike train {recipe}"):
            encoder = training.resume(recipe, output.rich_console(), devices=devices, nodes=nodes)
    else:
        read = recipes.read(recipe, override or [])
        folder = to or Path("runs") / read.name
        with output.stoppable(f"After the first epoch, go on with: lookalike train {folder}"):
            encoder = training.start(read, folder, output.rich_console(), devices=devices, nodes=nodes)
    if not training.leads():
        return
    if json:
        output.write_json({"encoder": str(encoder)})
    else:
        output.stdout.print(
            f"The encoder is in {encoder}. Use it: lookalike index PICTURES --to NAME --encoder {encoder}"
        )


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
            "-o", metavar="KEY=VALUE", help="Override a value of every cell's recipe, or of the study: measure.…=…"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train a recipe in many variants, measure each, and put the figures into one table.

    The folder gets each cell's run, results.json and table.md, both up to date after every cell. Stop it at any time; the
    same command goes on where it was.

    Example: lookalike study recipes/r1-grid.yaml -o train.epochs=2
    """
    try:
        from lookalike.learn import study as studies  # noqa: PLC0415 -- as in train
    except ImportError as e:
        raise MissingExtraError("learn", f"Training ({e})") from e
    read, cells = studies.read(study, override or [])
    folder = to or Path("studies") / read.name
    with output.stoppable("The same command goes on from there."):
        results = studies.run(read, cells, folder, output.rich_console())
    if json:
        output.write_json({"folder": str(folder), "cells": [asdict(result) for result in results]})
        return
    header, rows = studies.table(read, results)
    output.print_table(rows, header)
    output.stdout.print(f"All figures are in {folder / studies.RESULTS}.")
