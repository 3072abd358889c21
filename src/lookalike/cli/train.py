"""The command train: train an encoder by a recipe or from an encoder and labelled images, or resume a run."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike import datasets
from lookalike.cli import output
from lookalike.cli.options import Json, options
from lookalike.cli.sketches_for import fit_sketches
from lookalike.errors import MissingExtraError, NotFoundError, RecipeError, UsageError

if TYPE_CHECKING:
    from lookalike.datasets import Source
    from lookalike.learn.distributed import Devices
    from lookalike.learn.head_run import HeadRun
    from lookalike.learn.recipe import HeadRecipe, Recipe, SketchRecipe

commands = typer.Typer()


@dataclass(frozen=True)
class Options:
    """Options of train."""

    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECIPE|RUN|IMAGES",
            help="A recipe in YAML, or the folder of a run to resume; with --from labelled images, such as a folder for each class.",
        ),
    ] = None
    sketches_for: Annotated[
        str | None,
        typer.Option(
            "--sketches-for",
            metavar="NAME",
            help="Fit a sketch branch to this collection's own images; no sketches are needed.",
        ),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="ENCODER",
            help="Fit a head to this encoder, without a recipe: a bundled name, a folder, or hf://org/repo.",
        ),
    ] = None
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="With --from: labels of the images in a folder, as path,label.")
    ] = None
    whole: Annotated[
        bool,
        typer.Option("--whole", help="With --from: train the network, too; from a run, or from ImageNet weights."),
    ] = False
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
    """Train an encoder by a recipe, or from an encoder and labelled images; or resume a run.

    With --from, the command embeds the images once, chooses and fits a head in seconds, says what it gains on images that
    it held out, and writes the recipe that it used. --whole trains the network, too.

    The run's folder gets the recipe with all defaults, and encoder/, which index and reindex --encoder take; a run that trains a
    network also gets metrics.jsonl with a line per epoch, a checkpoint after each epoch, and report.html. You can stop the
    command at any time; to resume the run of a network, give its folder.

    With --sketches-for, the command traces pseudo-sketches from the images of a collection, and fits the sketch branch of its
    encoder to them. It takes minutes, and needs no sketch by a person. The vectors of the collection stay. To resume, give the run's folder.

    Example: lookalike train --from general photos --to runs/mine
    """
    try:
        # Importing torch takes a second, and other commands do not need it.
        from lookalike.learn.distributed import Devices, is_first  # noqa: PLC0415
    except ImportError as e:
        raise MissingExtraError("learn", f"Training ({e})") from e
    devices = Devices(given.devices, given.nodes)
    _check(given)
    if given.recipe is not None and given.recipe.is_dir() and given.start is None:
        encoder = _resume(given, given.recipe, devices)
    else:
        encoder = _begin(given, devices)
    if encoder is None or not is_first():
        return
    if given.json:
        output.write_json({"encoder": str(encoder)})
    else:
        output.stdout.print(
            f"The encoder is in {encoder}. Use it: lookalike index IMAGES --to NAME --encoder {encoder}"
        )


def _check(given: Options) -> None:
    """Check that the options belong together."""
    others = given.recipe or given.start or given.labels or given.whole
    if given.sketches_for is not None and others:
        raise UsageError(
            "--sketches-for NAME takes its images from the collection: give only --to, -o and --json with it."
        )
    if given.start is None and (given.labels or given.whole):
        raise UsageError("--labels and --whole go with --from: lookalike train --from ENCODER IMAGES")
    if given.recipe is None and given.sketches_for is None:
        raise UsageError("Give a recipe, the folder of a run, or --from ENCODER and images, or --sketches-for NAME.")


def _resume(given: Options, path: Path, devices: "Devices") -> Path | None:
    """Resume a run; return its encoder, unless its result is printed already."""
    from lookalike.learn import recipe as recipes  # noqa: PLC0415 -- as above
    from lookalike.learn import train as training  # noqa: PLC0415 -- as above
    from lookalike.learn.run_folder import RECIPE  # noqa: PLC0415 -- as above

    if given.to or given.override or given.stage:
        raise UsageError("A run resumes as it began: leave out --to, --stage and -o.")
    if (path / RECIPE).is_file():
        recipe = recipes.read_any(path / RECIPE)
        if isinstance(recipe, recipes.SketchRecipe):
            _check_at_once(given)
            fit_sketches(recipe, path, resume=True, json=given.json)
            return None
    with output.stoppable(f"Resume with: lookalike train {quote(str(path))}"), output.progress_bar() as progress:
        return training.resume(path, progress, devices)


def _begin(given: Options, devices: "Devices") -> Path | None:
    """Begin a run; return its encoder, unless its result is printed already."""
    from lookalike.learn import recipe as recipes  # noqa: PLC0415 -- as above
    from lookalike.learn import train as training  # noqa: PLC0415 -- as above

    recipe = _make_recipe(given)
    folder = given.to or Path("runs") / recipe.name
    if isinstance(recipe, recipes.Recipe):
        advice = f"After the first epoch, resume with: lookalike train {quote(str(folder))}"
        with output.stoppable(advice), output.progress_bar() as progress:
            return training.train(recipe, folder, progress, stages=given.stage or [], devices=devices)
    _check_at_once(given)
    if isinstance(recipe, recipes.SketchRecipe):
        fit_sketches(recipe, folder, resume=False, json=given.json)
    else:
        _fit_head(recipe, folder, json=given.json)
    return None


def _make_recipe(given: Options) -> "Recipe | HeadRecipe | SketchRecipe":
    """Make the recipe for a collection, or for labelled images and an encoder; or read it."""
    from lookalike.learn import recipe as recipes  # noqa: PLC0415 -- as above
    from lookalike.learn.sketch_run import recipe_of_collection  # noqa: PLC0415 -- as above

    path, overrides = given.recipe, given.override or []
    if path is None:
        return recipe_of_collection(Path(given.sketches_for or ""), given.to, overrides)
    return _recipe_of_images(given, path) if given.start else recipes.read_any(path, overrides)


def _check_at_once(given: Options) -> None:
    if given.stage or (given.devices, given.nodes) != (1, 1):
        raise UsageError(
            "A head or a sketch branch is fitted at once, on one device: leave out --stage, --devices and --nodes."
        )


def _recipe_of_images(given: Options, path: Path) -> "Recipe | HeadRecipe":
    """Make the recipe for labelled images and the encoder of --from."""
    from lookalike.learn.own_labels import recipe_of_images  # noqa: PLC0415 -- as above

    to = given.to or Path(path.resolve().stem)
    source = _source(path, given.labels)
    return recipe_of_images(given.start or "", source, to, given.override or [], whole=given.whole)


def _source(path: Path, labels: Path | None) -> "Source":
    if not path.exists():
        raise NotFoundError(f"There is no folder and no file {path}. Check the path.")
    if path.suffix in (".yaml", ".yml"):
        raise RecipeError(f"{path} is a recipe; --from takes labelled images. Leave out --from, or give a folder.")
    if labels is None:
        return datasets.infer_source(path)
    if not path.is_dir():
        raise UsageError(f"--labels goes with a folder of images; {path} is a file, which has its own labels.")
    return datasets.table_of_folder(labels, path)


def _fit_head(recipe: "HeadRecipe", folder: Path, *, json: bool) -> None:
    from lookalike.learn.head_run import train_head  # noqa: PLC0415 -- as above

    with output.stoppable("Nothing was written; run the command again."), output.progress_bar() as progress:
        run = train_head(recipe, folder, progress)
    if json:
        output.write_json(run.to_dict())
    else:
        _print_head(run)


def _print_head(run: "HeadRun") -> None:
    if run.trials:
        rows = [(t.name, _score(t.classes), _score(t.images)) for t in run.trials]
        output.print_table(rows, ("head", "mAP, new classes", "mAP, new images"))
    if run.top_1 is None or run.map is None:
        output.stdout.print("There are too few images to hold some out, so the gain is unknown.")
    else:
        output.stdout.print(f"{run.held_out}: top-1 {run.top_1}; mAP {run.map}")
    if run.better_for_images is not None:
        output.stderr.print(
            f"A collection that will have only these classes gains more from “{run.better_for_images.name}”, at the cost of new classes:"
            " -o choose_by=images",
            style="yellow",
        )
    known = "calibrated on the held-out images" if run.calibrated else "not calibrated: too few images were held out"
    what = (
        f"has the head “{run.head_name}”"
        if run.improved
        else f"equals “{run.recipe.encoder}”, since no head was better"
    )
    output.stdout.print(f"The encoder in {run.encoder} {what}; it is {known}.")
    output.stdout.print(
        f"Use it: lookalike index IMAGES --to NAME --encoder {run.encoder}; for a collection that exists: lookalike reindex NAME"
        f" --encoder {run.encoder}"
    )


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
