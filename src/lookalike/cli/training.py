"""The command train."""

from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli import output
from lookalike.cli.collections import Json
from lookalike.errors import MissingExtraError, UsageError

commands = typer.Typer()


@commands.command()
def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE|RUN", help="A recipe in YAML, or a run's folder to continue.")
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder.", show_default="runs/ and the recipe's name")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Override a value, as -o train.epochs=5.")
    ] = None,
    json: Json = False,
) -> None:
    """Train an encoder by a recipe, or continue a run.

    The run's folder gets the recipe with all its values, metrics.jsonl with a line an epoch, a checkpoint after each,
    and in the end encoder/, which index --encoder takes. Stop it at any time; to go on, give the folder.

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
        encoder = training.resume(recipe, output.stderr)
    else:
        read = recipes.read(recipe, override or [])
        encoder = training.start(read, to or Path("runs") / read.name, output.stderr)
    if json:
        output.write_json({"encoder": str(encoder)})
    else:
        output.stdout.print(
            f"The encoder is in {encoder}. Use it: lookalike index PICTURES --to NAME --encoder {encoder}"
        )
