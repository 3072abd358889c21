"""The command train: train an encoder by a recipe, or resume a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.options import Json, options
from lookalike.errors import MissingExtraError, UsageError

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of train."""

    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE|RUN", help="A recipe in YAML, or the folder of a run to resume.")
    ]
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder.", show_default="runs/ and the recipe's name")
    ] = None
    override: Annotated[
        list[str] | None,
        typer.Option("-o", metavar="KEY=VALUE", help="Override a value of the recipe, such as -o train.epochs=5."),
    ] = None
    stage: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train only this stage; repeat for several.")
    ] = None
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs that train together, or processes on a host without GPUs.")
    ] = 1
    nodes: Annotated[int, typer.Option(min=1, help="Hosts that train together; start the command on each.")] = 1
    json: Json = False


@commands.command()
@options(Options)
def train(given: Options) -> None:
    """Train an encoder by a recipe, or resume a run.

    The run's folder gets the recipe with all defaults, metrics.jsonl with a line per epoch, a checkpoint after each epoch,
    and at the end report.html and encoder/, which index --encoder takes. You can stop the command at any time; to resume
    the run, give its folder.

    Example: lookalike train recipes/cifar10-triplet.yaml -o data.sources.0.path=cifar10/train
    """
    try:
        # Importing torch takes a second, and other commands do not need it.
        from lookalike.learn import recipe as recipes  # noqa: PLC0415
        from lookalike.learn import train as training  # noqa: PLC0415
        from lookalike.learn.distributed import Devices, is_first  # noqa: PLC0415
    except ImportError as e:
        raise MissingExtraError("learn", f"Training ({e})") from e
    devices = Devices(given.devices, given.nodes)
    if given.recipe.is_dir():
        if given.to or given.override or given.stage:
            raise UsageError("A run resumes as it began: leave out --to, --stage and -o.")
        with output.stoppable(f"Resume with: lookalike train {given.recipe}"), output.progress_bar() as progress:
            encoder = training.resume(given.recipe, progress, devices)
    else:
        recipe = recipes.read(given.recipe, given.override or [])
        folder = given.to or Path("runs") / recipe.name
        advice = f"After the first epoch, resume with: lookalike train {folder}"
        with output.stoppable(advice), output.progress_bar() as progress:
            encoder = training.train(recipe, folder, progress, stages=given.stage or [], devices=devices)
    if not is_first():
        return
    if given.json:
        output.write_json({"encoder": str(encoder)})
    else:
        output.stdout.print(
            f"The encoder is in {encoder}. Use it: lookalike index IMAGES --to NAME --encoder {encoder}"
        )
