"""What a network in training makes of the pictures that were held out."""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from lookalike.datasets import LabelledImages
from lookalike.errors import DataError
from lookalike.evaluation import retrieval, verification
from lookalike.evaluation.roc import Roc
from lookalike.learn import pixels
from lookalike.learn import recipe as recipes
from lookalike.learn.losses import Loss, Targets
from lookalike.learn.sampling import Batch, batches
from lookalike.metric import Metric

# Values that are pushed through a network at once, of its pictures: 500 of 32 × 32.
_CHUNK = 500 * 32 * 32 * 3

# Pairs drawn for the area under the ROC curve: its error is then some 0.003.
_PAIRS = 8000

# What a recipe may stop by, and whether less of it is better.
_LESS_IS_BETTER = {"loss"}


def figures(
    recipe: recipes.Recipe, loss: Loss, samples: LabelledImages, embeddings: Float32[np.ndarray, "n d"]
) -> dict[str, float]:
    """How good embeddings of held-out pictures are.

    Returns:
        ``validation.loss``, where a term of the loss knows what to make of these classes; top-1 among the photos and the
        area under the ROC curve of pairs of them; with sketches, how many find their class and their photo.
    """
    photos = np.flatnonzero(~samples.sketch)
    gallery, labels = embeddings[photos], samples.labels[photos]
    out = _loss(recipe, loss, samples, embeddings)
    out["validation.top_1"] = retrieval.top_1(gallery, labels, Metric.EUCLIDEAN)
    out |= _auc(gallery, labels, recipe.seed)
    if samples.sketch.any():
        drawn = embeddings[samples.sketch]
        same_class = samples.labels[samples.sketch][:, None] == labels
        same_item = samples.items[samples.sketch][:, None] == samples.items[photos]
        for name, relevant in (("class", same_class), ("item", same_item)):
            for k, v in retrieval.hit_rates(drawn, gallery, relevant, (1, 10), Metric.EUCLIDEAN).items():
                out[f"validation.sketch_{name}_at_{k}"] = v
    return out


def is_better(figure: str, new: float, old: float) -> bool:
    """Whether a figure of `recipe.EarlyStopping` has become better."""
    return new < old if figure in _LESS_IS_BETTER else new > old


@torch.inference_mode()
def embed(network: nn.Module, samples: LabelledImages, recipe: recipes.Recipe) -> Float32[np.ndarray, "n d"]:
    """Embeddings of samples by a network in training, in the recipe's precision."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    count = max(1, _CHUNK // samples.images[0].size)
    parts = []
    for start in range(0, len(samples), count):
        rows = slice(start, start + count)
        x = pixels.normalise(pixels.tensor(samples.images[rows], device), recipe.data)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.train.precision == "bf16-mixed"):
            parts.append(network(x, torch.from_numpy(samples.sketch[rows]).to(device)).float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(parts)


def targets(samples: LabelledImages, batch: Batch, device: torch.device) -> Targets:
    """What is known of a batch's pictures."""
    labels, items, sketch = (
        torch.from_numpy(a[batch.rows]).to(device) for a in (samples.labels, samples.items, samples.sketch)
    )
    return Targets(labels, items, sketch, None if batch.tuples is None else torch.from_numpy(batch.tuples).to(device))


@torch.inference_mode()
def _loss(
    recipe: recipes.Recipe, loss: Loss, samples: LabelledImages, embeddings: Float32[np.ndarray, "n d"]
) -> dict[str, float]:
    """The mean loss over batches drawn as in training, always the same ones."""
    new_classes = recipe.data.held_out == "class"
    if new_classes and all(loss.closed):
        return {}
    sampler = recipe.sampler
    if isinstance(sampler, recipes.PKSampler):
        sampler = sampler.model_copy(update={"classes": min(sampler.classes, len(np.unique(samples.labels)))})
    try:
        drawn = batches(samples, sampler, recipe.seed)
    except DataError:  # no class has two pictures here
        return {}
    device = next((p.device for p in loss.parameters()), torch.device("cpu"))
    values: list[Tensor] = []
    for batch in drawn.epoch(0):
        x = torch.from_numpy(embeddings[batch.rows]).to(device)
        values.append(loss(x, targets(samples, batch, device), open_only=new_classes)[0])
    return {"validation.loss": float(torch.stack(values).mean())}


def _auc(embeddings: Float32[np.ndarray, "n d"], labels: np.ndarray, seed: int) -> dict[str, float]:
    try:
        pairs = verification.draw_pairs(labels, _PAIRS, seed)
    except DataError:  # no class has two pictures here
        return {}
    distances = pairs.distances(embeddings, Metric.EUCLIDEAN)
    return {"validation.auc": Roc.of_pairs(distances, pairs.same).auc}
