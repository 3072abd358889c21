"""Validation: the figures of a network in training on held-out images."""

import numpy as np
import torch
from torch import Tensor, nn

from lookalike.datasets import LabelledImages
from lookalike.errors import DataError
from lookalike.evaluation import retrieval, verification
from lookalike.evaluation.roc import Roc
from lookalike.learn import pixels, recipe
from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.total import Loss
from lookalike.learn.sampling import Batch, batches
from lookalike.metric import Metric
from lookalike.shapes import Float32

# Values that a network embeds at once: those of 500 images of 32 × 32 pixels.
_CHUNK = 500 * 32 * 32 * 3

# Pairs drawn for the area under the ROC curve: its standard error is then about 0.003.
_PAIRS = 8000


def measure(
    stage: recipe.Stage, seed: int, loss: Loss, samples: LabelledImages, embeddings: Float32[np.ndarray, "n d"]
) -> dict[str, float]:
    """Measure embeddings of held-out images.

    Args:
        stage: the stage in training.
        seed: of pairs and batches; the same for all epochs.
        loss: the loss of the stage.
        samples: the images.
        embeddings: of the images.

    Returns:
        ``validation.loss``, if a term of the loss has a value for these classes; top-1 among the photos, and the area under
        the ROC curve of their pairs; with sketches, the shares that find their class and their photo.
    """
    return _loss(stage, seed, loss, samples, embeddings) | figures(samples, embeddings, seed)


def figures(samples: LabelledImages, embeddings: Float32[np.ndarray, "n d"], seed: int) -> dict[str, float]:
    """Measure what `measure` does but for the loss."""
    photos = np.flatnonzero(~samples.sketch)
    gallery, labels = embeddings[photos], samples.labels[photos]
    out: dict[str, float] = {}
    out["validation.top_1"] = retrieval.top_1(gallery, labels, Metric.EUCLIDEAN)
    out |= _auc(gallery, labels, seed)
    if samples.sketch.any():
        queries = embeddings[samples.sketch]
        same_class = samples.labels[samples.sketch][:, None] == labels
        same_item = samples.items[samples.sketch][:, None] == samples.items[photos]
        for name, relevant in (("class", same_class), ("item", same_item)):
            for k, v in retrieval.hit_rates(queries, gallery, relevant, (1, 10), Metric.EUCLIDEAN).items():
                out[f"validation.sketch_{name}_at_{k}"] = v
    return out


@torch.inference_mode()
def embed(
    network: nn.Module, samples: LabelledImages, stage: recipe.Stage, precision: recipe.Precision | None = None
) -> Float32[np.ndarray, "n d"]:
    """Embed samples by a network in training, in its precision."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    count = max(1, _CHUNK // samples.images[0].size)
    parts = []
    for start in range(0, len(samples), count):
        rows = slice(start, start + count)
        x = pixels.normalise(pixels.to_tensor(samples.images[rows], device), stage.data)
        sketch = torch.from_numpy(samples.sketch[rows]).to(device) if stage.data.has_sketches else None
        with pixels.autocast(precision, device):
            parts.append(network(x, sketch).float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(parts)


def make_targets(samples: LabelledImages, batch: Batch, device: torch.device) -> Targets:
    """Gather the labels of a batch, for the loss."""
    labels, items, sketch = (
        torch.from_numpy(a[batch.rows]).to(device) for a in (samples.labels, samples.items, samples.sketch)
    )
    return Targets(labels, items, sketch, None if batch.tuples is None else torch.from_numpy(batch.tuples).to(device))


@torch.inference_mode()
def _loss(
    stage: recipe.Stage, seed: int, loss: Loss, samples: LabelledImages, embeddings: Float32[np.ndarray, "n d"]
) -> dict[str, float]:
    """Average the loss over batches drawn as in training; the batches are the same for all epochs."""
    new_classes = stage.data.held_out == "class"
    if new_classes and all(term.per_class for term in stage.losses):
        return {}
    sampler = stage.sampler
    if isinstance(sampler, recipe.PKSampler):
        drawn = samples.labels[samples.sketch] if sampler.draw == "sketches" else samples.labels
        sampler = sampler.model_copy(update={"classes": min(sampler.classes, len(np.unique(drawn)))})
    try:
        drawn = batches(samples, sampler, seed)
    except DataError:  # no class has two images here
        return {}
    device = next((p.device for p in loss.parameters()), torch.device("cpu"))
    values: list[Tensor] = []
    for batch in drawn.epoch(0):
        x = torch.from_numpy(embeddings[batch.rows]).to(device)
        values.append(loss(x, make_targets(samples, batch, device), new_classes=new_classes)[0])
    return {"validation.loss": float(torch.stack(values).mean())}


def _auc(embeddings: Float32[np.ndarray, "n d"], labels: np.ndarray, seed: int) -> dict[str, float]:
    try:
        pairs = verification.draw_pairs(labels, _PAIRS, seed)
    except DataError:  # no class has two images here
        return {}
    distances = pairs.distances(embeddings, Metric.EUCLIDEAN)
    return {"validation.auc": Roc.of_pairs(distances, pairs.same).auc}
