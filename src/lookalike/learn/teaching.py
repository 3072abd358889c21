"""What public weights teach: features of the clean training images, and ImageNet's classes of the photos that were drawn."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from lookalike.datasets import LabelledImages
from lookalike.learn import data, soft_labels, validating
from lookalike.learn.heads import whitening
from lookalike.learn.losses import SelfDistillationTerm
from lookalike.learn.losses.targets import SoftLabels, Targets, Teacher
from lookalike.learn.networks import Siamese, weights
from lookalike.learn.recipe import PublicNetwork
from lookalike.learn.sampling import Batch
from lookalike.learn.stage_run import StageRun

# Images that are embedded between two reports of progress.
_CHUNK = 64


@dataclass(frozen=True)
class Lessons:
    """What public weights say of the training images.

    Attributes:
        features: to reproduce; None if no term of the loss needs them.
        classes: of the photos; None if no term of the loss needs them.
    """

    features: Teacher | None = None
    classes: SoftLabels | None = None


def make(run: StageRun) -> Lessons:
    """Make the lessons of a stage, as far as the terms of its loss need them.

    Reading and embedding the images takes about as long as an epoch. A resumed run makes the same lessons again.

    Raises:
        LookalikeError: the images cannot be read, or the weights cannot be used.
    """
    return Lessons(_make_teacher(run), soft_labels.make(run))


def _make_teacher(run: StageRun) -> Teacher | None:
    """Make the teacher of self-distillation; None without that loss."""
    network, device = run.recipe.network, run.fabric.device
    term = next((term for term in run.stage.losses if isinstance(term, SelfDistillationTerm)), None)
    if term is None:
        return None
    assert isinstance(network, PublicNetwork)  # noqa: S101 -- the recipe is checked
    images, _ = data.read(run.recipe, run.index, term.size, run.progress)
    teacher = Siamese(network, ("photo",), features=True).eval().to(device)
    parts = []
    for start in range(0, len(images), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(images)))
        parts.append(validating.embed(teacher, images.take(rows), run.stage))
        run.progress.advance("teacher", int(rows[-1]) + 1, len(images))
    features = np.concatenate(parts)
    matrix = whitening.inverse_square_root(whitening.within_class_covariance(features, images.labels), term.shrinkage)
    weight, bias = weights.classifier(network)
    arrays = (features, features.mean(axis=0), matrix, weight, bias)
    tensors = (torch.from_numpy(np.asarray(array, np.float32)).to(device) for array in arrays)
    return Teacher(*tensors)


def make_targets(samples: LabelledImages, batch: Batch, device: torch.device, lessons: Lessons) -> Targets:
    """Gather the labels of a batch and its part of the lessons, for the loss."""
    targets, rows = validating.make_targets(samples, batch, device), torch.from_numpy(batch.rows).to(device)
    return replace(
        targets,
        teacher=lessons.features.take(rows) if lessons.features else None,
        soft_labels=lessons.classes.take(rows) if lessons.classes else None,
    )
