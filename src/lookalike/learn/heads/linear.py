"""A head that is trained by a loss on embeddings that stay as they are."""

import numpy as np
import torch
from torch import nn

from lookalike.learn.heads.head import Head
from lookalike.learn.heads.whitening import fit_whitening
from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.total import Loss
from lookalike.learn.recipe.head_recipe import LinearMetric
from lookalike.shapes import Float32, Int64

# A proxy is the mean direction of its class at first, and moves as fast again as the projection.
_PROXIES = 10

# Smaller batches say little about a class.
_LEAST = 8


def fit_linear(
    features: Float32[np.ndarray, "n f"], labels: Int64[np.ndarray, " n"], settings: LinearMetric, seed: int
) -> Head:
    """Train a projection by a loss, beginning with whitening within classes.

    Args:
        features: of labelled images.
        labels: the class of each.
        settings: the loss and its minimisation.
        seed: of the order of the images.

    Raises:
        DataError: as `fit_whitening`.
    """
    start = fit_whitening(features, labels, shrinkage=settings.shrinkage, dimension=settings.dimension)
    projected = (features - start.centre) @ start.projection
    x = torch.from_numpy(projected / np.linalg.norm(projected, axis=1).mean())
    targets = torch.from_numpy(np.unique(labels, return_inverse=True)[1].astype(np.int64))
    classes, dimension = int(targets.max()) + 1, x.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss = Loss((settings.loss,), dimension, classes)
    learned = dict(loss.named_parameters())
    with torch.no_grad():
        for proxies in learned.values():
            means = torch.zeros(classes, dimension).index_add_(0, targets, x / x.norm(dim=1, keepdim=True).clamp(1e-12))
            proxies.copy_(means / means.norm(dim=1, keepdim=True).clamp(1e-12))
    weight = nn.Parameter(torch.eye(dimension))
    rate = settings.learning_rate
    optimiser = torch.optim.Adam(
        [{"params": [weight], "lr": rate}, {"params": [*learned.values()], "lr": _PROXIES * rate}]
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(x), generator=generator), settings.batch):
            if len(rows) < min(_LEAST, len(x)):
                continue
            no_sketch = torch.zeros(len(rows), dtype=torch.bool)
            value, _ = loss(x[rows] @ weight, Targets(targets[rows], rows, no_sketch))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    return Head(start.centre, start.projection @ weight.detach().numpy())
