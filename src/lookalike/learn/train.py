"""Training runs: from a recipe to an encoder."""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from lookalike.errors import MismatchError, RecipeError
from lookalike.learn import checkpoint, loop, result, stage_run
from lookalike.learn import recipe as recipes
from lookalike.learn.distributed import ONE_DEVICE, Devices, connect, fail_together, first_reports, is_first, on_first
from lookalike.learn.recipe import Recipe
from lookalike.learn.run_folder import CHECKPOINT, RunFolder, read_weights
from lookalike.learn.stage_run import StageRun
from lookalike.progress import SILENT, Progress
from lookalike.untrusted import parsing


def train(
    recipe: Recipe | str | PathLike[str],
    to: str | PathLike[str],
    progress: Progress = SILENT,
    overrides: Sequence[str] = (),
    *,
    stages: Sequence[str] = (),
    devices: Devices = ONE_DEVICE,
) -> Path:
    """Train an encoder by a recipe.

    Args:
        recipe: the recipe, or its YAML file.
        to: the run's folder, which must be empty or not exist; see `RunFolder` for its files.
        progress: receives each batch, and the figures of each epoch.
        overrides: of single values of the recipe: ``"train.epochs=3"``.
        stages: names of the recipe's stages to train; by default all. With the override ``start=RUN`` they start from the
            weights of another run.
        devices: the processes that train together.

    Returns:
        The folder of the encoder artefact. Processes other than the first return before it is complete.

    Raises:
        AlreadyExistsError: the folder is not empty.
        DataError: the images cannot be trained on.
        NotFoundError: the recipe, or the weights to start from, do not exist.
        RecipeError: the recipe is invalid or does not suit the data, or the run diverges.
        StorageError: the folder cannot be written.
    """
    if not isinstance(recipe, Recipe):
        recipe = recipes.read(Path(recipe), overrides)
    elif overrides:
        recipe = recipes.parse(recipe.to_tree(), overrides)
    if stages:
        recipe = recipe.select(tuple(stages))
    recipe = recipe.absolute()
    folder = RunFolder(Path(to))
    if is_first():  # before the other processes start: they find the folder that this one makes
        folder.check_new()
    with first_reports():
        fabric = connect(devices)
        progress = progress if is_first() else SILENT
        with fail_together(fabric):
            stage_run.check(recipe)
        run = _prepare_first(recipe, fabric, progress)
        with folder.writing():
            on_first(fabric, lambda: folder.begin(recipe))
            return _train(run, folder)


def resume(folder: str | PathLike[str], progress: Progress = SILENT, devices: Devices = ONE_DEVICE) -> Path:
    """Resume a run after its last complete epoch. The result equals that of an uninterrupted run.

    A finished run is exported again.

    Args:
        folder: the run's folder.
        progress: as for `train`.
        devices: as for `train`; they may differ from those that began the run.

    Returns:
        The folder of the encoder artefact.

    Raises:
        NotFoundError: there is no run in the folder.
        MismatchError: its checkpoint belongs to another recipe or to other images, or is damaged.
    """
    files = RunFolder(Path(folder))
    recipe = files.read_recipe()
    with first_reports():
        fabric = connect(devices)
        progress = progress if is_first() else SILENT
        with files.writing():
            if on_first(fabric, files.has_checkpoint):
                run = _restore(recipe, files, fabric, progress)
            else:
                run = _prepare_first(recipe, fabric, progress)
            return _train(run, files)


def _prepare_first(recipe: Recipe, fabric: Fabric, progress: Progress) -> StageRun:
    """Prepare the first stage, with the weights that the recipe starts from."""
    with fail_together(fabric):
        weights = read_weights(recipe.start) if recipe.start else None
    return stage_run.prepare(recipe, 0, fabric, progress, weights)


def _train(run: StageRun, folder: RunFolder) -> Path:
    """Train the remaining stages, each from the weights of the previous one, and export the encoder."""
    _train_stage(run, folder)
    while run.index + 1 < len(run.recipe.stages):
        weights, earlier, before = run.state.result_weights(), run.log(), run.state
        run = stage_run.prepare(run.recipe, run.index + 1, run.fabric, run.progress, weights)
        run.state.earlier, run.state.seconds, run.state.precision = earlier, before.seconds, before.precision
        _train_stage(run, folder)
    # The other processes do not wait for the export, because it can take longer than their timeout.
    if is_first():
        result.write(run, folder)
    return folder.encoder


def _train_stage(run: StageRun, folder: RunFolder) -> None:
    loop.train_stage(run, lambda: _save(run, folder))
    if len(run.recipe.stages) > 1:
        on_first(run.fabric, lambda: folder.write_stage(run.stage.name, run.state.result_weights()))


def _save(run: StageRun, folder: RunFolder) -> None:
    folder.write_checkpoint({"identity": _identity(run), "state": run.state.tree() | {"stage": run.index}})
    folder.write_log(run.log())


def _restore(recipe: Recipe, folder: RunFolder, fabric: Fabric, progress: Progress) -> StageRun:
    """Prepare the stage that a run has reached, with the state of its checkpoint."""
    with fail_together(fabric):
        saved = folder.read_checkpoint()
        _check_recipe(recipe, saved, folder)
        state = saved.get("state")
        index = state.get("stage", 0) if isinstance(state, dict) else None  # absent in early checkpoints
        if not isinstance(state, dict) or not isinstance(index, int) or not 0 <= index < len(recipe.stages):
            raise MismatchError(f"{folder.path} cannot be resumed: its checkpoint is damaged. Begin another run.")
        weights = checkpoint.tensors_of(state.get("network"), folder.path / CHECKPOINT)
    run = stage_run.prepare(recipe, index, fabric, progress, weights)
    with fail_together(fabric):
        if saved["identity"].get(_IMAGES) != run.data.digest:
            raise MismatchError(
                f"{folder.path} cannot be resumed: the images changed since it began. Begin another run."
            )
        try:
            run.state.restore(state)
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            RuntimeError,
        ) as e:  # torch's are of any kind
            raise MismatchError(
                f"{folder.path} cannot be resumed: its checkpoint does not fit the recipe. Begin another run."
            ) from e
    on_first(fabric, lambda: folder.write_log(run.log()))
    progress.note(f"resuming after epoch {len(run.log())}")
    return run


# The key of the images' digest in checkpoints.
_IMAGES = "pictures"


def _identity(run: StageRun) -> dict[str, str]:
    """Return the identity of a run: a run resumes only from a checkpoint with the same recipe and images."""
    return {"recipe": json.dumps(run.recipe.to_tree()), _IMAGES: run.data.digest}


def _check_recipe(recipe: Recipe, saved: dict[str, Any], folder: RunFolder) -> None:
    """Check that a checkpoint belongs to a recipe, also if an earlier release with fewer settings wrote it."""
    try:
        same = recipes.parse(parsing.parse_json(saved["identity"]["recipe"])) == recipe
    except (KeyError, TypeError, ValueError, AttributeError, RecipeError):
        same = False
    if not same:
        raise MismatchError(f"{folder.path} cannot be resumed: the recipe changed since it began. Begin another run.")
