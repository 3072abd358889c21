"""The training and validation images of a stage."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lookalike import datasets
from lookalike.datasets import LabelledImages
from lookalike.errors import DataError
from lookalike.learn import augment
from lookalike.learn.pseudo_sketches import with_pseudo_sketches
from lookalike.learn.recipe import Recipe, Stage
from lookalike.learn.sampling import Batches, batches, check_comparisons
from lookalike.progress import Progress
from lookalike.shapes import Bool


@dataclass(frozen=True)
class StageData:
    """The images of a stage.

    Attributes:
        training: images to train on.
        validation: images that are held out.
        batches: the batches of the training images.
        traced: whether each training image is a pseudo-sketch, bool (n,).
    """

    training: LabelledImages
    validation: LabelledImages
    batches: Batches
    traced: Bool[np.ndarray, " n"]

    @cached_property
    def digest(self) -> str:
        """A hash of all images and labels."""
        digest = hashlib.sha256()
        for part in (self.training, self.validation):
            for array in (part.images, part.labels, part.items):
                digest.update(array.data)
        return digest.hexdigest()


def load(recipe: Recipe, index: int, progress: Progress) -> StageData:
    """Read the images of a stage.

    The split depends on the recipe's seed and not on the stage, so no stage trains on images that another stage holds out
    of the same sources.

    Raises:
        DataError: the images cannot be trained on, or cannot measure what early stopping needs.
        RecipeError: they have fewer classes than the sampler needs, or a loss finds nothing to compare in the batches.
    """
    stage = recipe.stages[index]
    data = stage.data
    training, validation = read(recipe, index, data.size, progress)
    given = len(training)
    if style := data.pseudo_sketches:
        training = with_pseudo_sketches(training, style, recipe.seed)
        validation = trace_held_out(validation, recipe, index)
    traced = np.arange(len(training)) >= given
    if data.quarter_turns:
        training, traced = quarter_turns(training), np.tile(traced, 4)
    if data.class_per_image:
        # Two views of each image take the place of the pairs of a class.
        validation = augment.views(validation, stage.augment, 2, recipe.seed)
    classes = "each a class of its own" if data.class_per_image else f"{len(training.classes)} classes"
    progress.note(f"{len(training):,} images to train on, {len(validation):,} to validate, {classes}")
    _check_validation(validation, stage, progress)
    drawn = batches(training, stage.sampler, recipe.stage_seed(index))
    for term in stage.losses:
        check_comparisons(drawn, training, term)
    return StageData(training, validation, drawn, traced)


def read(recipe: Recipe, index: int, size: int, progress: Progress) -> tuple[LabelledImages, LabelledImages]:
    """Read the training and the validation images of a stage, fitted to squares of ``size`` pixels.

    Raises:
        DataError: a source cannot be read or is empty.
    """
    data = recipe.stages[index].data
    holdout = datasets.Holdout(data.validation, data.held_out, recipe.seed, data.class_per_image)
    return datasets.split_for_training(data.sources, holdout, size, data.fit, progress)


def trace_held_out(validation: LabelledImages, recipe: Recipe, index: int) -> LabelledImages:
    """Add a pseudo-sketch of each held-out photo if the stage trains on pseudo-sketches and no real sketch is held out."""
    style = recipe.stages[index].data.pseudo_sketches
    if style is None or validation.sketch.any():
        return validation
    return with_pseudo_sketches(validation, style.model_copy(update={"count": 1}), recipe.seed)


def _check_validation(validation: LabelledImages, stage: Stage, progress: Progress) -> None:
    """Check that figures of pairs can be measured if the stage needs them; else note that they cannot."""
    labels = validation.labels[~validation.sketch]
    if len(np.unique(labels)) < len(labels):
        return
    problem = (
        f"No class has two photos to validate with, so top_1 is 0; raise data.validation ({stage.data.validation})."
    )
    stopping = stage.train.early_stopping
    if stopping and stopping.figure in ("top_1", "auc", "loss"):
        raise DataError(f"{problem} train.early_stopping needs {stopping.figure}.")
    progress.note(problem)


def check_sources(recipe: Recipe) -> None:
    """Check that the images of the stages after the first exist; call it before the first stage, which can take hours.

    Raises:
        DataError: a source cannot be read or is empty.
    """
    for stage in recipe.stages[1:]:
        for source in stage.data.sources:
            datasets.open_dataset(source, labelled=not stage.data.class_per_image)


def quarter_turns(samples: LabelledImages) -> LabelledImages:
    """Return each class unturned, and as other classes turned by 90°, 180° and 270°."""
    turns = range(4)
    return LabelledImages(
        images=np.concatenate([np.rot90(samples.images, turn, axes=(1, 2)) for turn in turns]),
        labels=np.concatenate([samples.labels + turn * len(samples.classes) for turn in turns]),
        items=np.concatenate([samples.items + turn * (samples.items.max() + 1) for turn in turns]),
        sketch=np.tile(samples.sketch, 4),
        classes=tuple(f"{name} turned by {90 * turn}°" if turn else name for turn in turns for name in samples.classes),
    )
