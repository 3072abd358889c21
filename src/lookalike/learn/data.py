"""The training and validation images of a stage."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lookalike import datasets
from lookalike.datasets import LabelledImages
from lookalike.learn import augment
from lookalike.learn.recipe import Recipe
from lookalike.learn.sampling import Batches, batches
from lookalike.progress import Progress


@dataclass(frozen=True)
class StageData:
    """The images of a stage.

    Attributes:
        training: images to train on.
        validation: images that are held out.
        batches: the batches of the training images.
    """

    training: LabelledImages
    validation: LabelledImages
    batches: Batches

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
        DataError: the images cannot be trained on.
        RecipeError: they have fewer classes than the sampler needs.
    """
    stage = recipe.stages[index]
    data = stage.data
    holdout = datasets.Holdout(data.validation, data.held_out, recipe.seed, data.class_per_image)
    training, validation = datasets.split_for_training(data.sources, holdout, data.size, data.fit, progress)
    if data.quarter_turns:
        training = quarter_turns(training)
    if data.class_per_image:
        # Two views of each image take the place of the pairs of a class.
        validation = augment.views(validation, stage.augment, 2, recipe.seed)
    classes = "each a class of its own" if data.class_per_image else f"{len(training.classes)} classes"
    progress.note(f"{len(training):,} images to train on, {len(validation):,} to validate, {classes}")
    return StageData(training, validation, batches(training, stage.sampler, recipe.stage_seed(index)))


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
