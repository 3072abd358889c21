"""The teacher of self-distillation: the features that public weights give to the clean training images."""

from dataclasses import replace

import numpy as np
import torch

from lookalike.datasets import LabelledImages
from lookalike.learn import data, validating
from lookalike.learn.heads import whitening
from lookalike.learn.losses import SelfDistillationTerm
from lookalike.learn.losses.targets import Targets, Teacher
from lookalike.learn.networks import Siamese, weights
from lookalike.learn.recipe import PublicNetwork
from lookalike.learn.sampling import Batch
from lookalike.learn.stage_run import StageRun

# Images that are embedded between two reports of progress.
_CHUNK = 64


def make(run: StageRun) -> Teacher | None:
    """Make the teacher of a stage, from the public weights; None if no term of its loss needs one.

    Reading and embedding the images takes about as long as an epoch. A resumed run makes the same teacher again.

    Raises:
        LookalikeError: the images cannot be read, or the weights cannot be used.
    """
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


def make_targets(samples: LabelledImages, batch: Batch, device: torch.device, teacher: Teacher | None) -> Targets:
    """Gather the labels of a batch and the features to reproduce, for the loss."""
    targets = validating.make_targets(samples, batch, device)
    if teacher is None:
        return targets
    return replace(targets, teacher=teacher.take(torch.from_numpy(batch.rows).to(device)))
