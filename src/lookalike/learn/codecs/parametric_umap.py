"""Parametric UMAP: a network of two layers that places vectors in a layout of umap-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.codecs import Learned, Umap
from lookalike.codecs.learned import MAX_WIDTH
from lookalike.codecs.protocol import Embeddings, directions, sample
from lookalike.learn.codecs.trainable import Trainable, reproducible
from lookalike.metric import Metric
from lookalike.shapes import Float, Float32

# The units of an anchor: rectifiers from these similarities on, with weights that begin as exp(4 i). Their sum is about exponential.
_KNOTS = 0.0, 0.08, 0.16, 0.24
_STEEPNESS = 4.0

_REACH = 60
"""An anchor is active for this many of the anchors, itself included."""

_COPIES = 2
"""Embeddings beside each one to learn from: as many mixed with a neighbour, and as many with the noise of another one."""

_NEIGHBOURS, _MOST_MIXED, _NOISE = 15, 0.5, 0.7

_BATCH = 256

_LEAST = 20
"""Batches of an epoch at least."""

# Learning rates of the places, of the thresholds and of the logarithms of the units' weights.
_RATES = 1e-2, 2e-4, 2e-3


@dataclass(frozen=True, eq=False)
class ParametricUMAP(Trainable):
    """UMAP by a network (compare Sainburg, McInnes and Gentner 2021), which needs no items to place a vector.

    umap-learn lays the embeddings out, see `lookalike.codecs.Umap`. The hidden layer has four rectifiers for each of at most 4,096
    anchors; together they are about exponential in the similarity of a vector to the anchor. The last layer adds the anchors'
    places with these weights. Codes are compared by cosine, so the sum needs no division. The network begins
    with the places at which `Umap` encodes the anchors. Adam then fits it to where `Umap` encodes embeddings, embeddings mixed with
    their neighbours and embeddings with noise.

    Attributes:
        neighbours: K of the layout.
        min_dist: the smallest distance of two points in the layout.
    """

    method: ClassVar[str] = "parametric-umap"
    output: ClassVar[Metric] = Metric.COSINE

    dimension: int = 16
    neighbours: int = 15
    min_dist: float = 0.1

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self._layout()

    def _layout(self) -> Umap:
        return Umap(self.embeddings, self.dimension, self.neighbours, self.min_dist)

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Learned:  # noqa: ARG002 -- needs no labels
        """Lay the embeddings out, and train the network; see `Codec.fit`.

        Raises:
            MissingExtraError: umap-learn is not installed.
        """
        umap = self._layout().fit(embeddings)
        return self.imitate(umap, embeddings)

    def imitate(self, umap: Umap, embeddings: Embeddings) -> Learned:
        """Train the network to encode as a fitted codec does, on the embeddings that it was fitted to."""
        rows = directions(self.check_sample(embeddings), self.embeddings)
        anchors = sample(rows, MAX_WIDTH // len(_KNOTS))
        mean = rows.mean(axis=0)
        scale = float(np.square(rows - mean).sum(axis=1).mean()) or 1.0
        directed = torch.from_numpy((anchors - mean) / scale)
        network = _Network(torch.from_numpy(anchors), directed.T, torch.from_numpy(mean), umap.encode(anchors))
        with reproducible(self.seed):
            self._train(network, umap, rows)
        return Learned.of(self.embeddings, self.output, network.layers(), self.method)

    def _train(self, network: "_Network", umap: Umap, rows: Float32[np.ndarray, "n d"]) -> None:
        seen = _around(torch.from_numpy(rows))
        wanted = torch.from_numpy(umap.encode(seen.numpy())) - network.centre
        parameters = network.places, network.thresholds, network.weights
        optimiser = torch.optim.Adam([{"params": [p], "lr": r} for p, r in zip(parameters, _RATES, strict=True)])
        steps = max(_LEAST, len(rows) // _BATCH) * self.epochs
        for step in range(steps):
            drawn = torch.randint(len(seen), (_BATCH,))
            codes, targets = functional.normalize(network(seen[drawn])), functional.normalize(wanted[drawn])
            # The logarithm gives less weight to vectors between two clusters, whose place is uncertain.
            value = torch.log1p(10 * (codes - targets).square().sum(dim=1)).mean()
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            self.progress.advance("training", step + 1, steps)


class _Network(nn.Module):
    """The two layers: their parameters, and the sum of an anchor's units before the last one."""

    def __init__(self, anchors: Tensor, directed: Tensor, mean: Tensor, places: Float32[np.ndarray, "m k"]) -> None:
        super().__init__()
        # (x - mean) · (a - mean) - ‖a - mean‖² / 2 is greatest for the nearest anchor a.
        self.directed, self.mean = directed, mean
        self.lengths = ((anchors - mean) * directed.T).sum(dim=1) / 2
        at = torch.from_numpy(places)
        self.centre, self.size = at.mean(dim=0), float(at.std()) or 1.0
        self.places = nn.Parameter((at - self.centre) / self.size)
        near = self._similar(anchors)
        reach = min(_REACH, len(places))
        self.thresholds = nn.Parameter(near.topk(reach, dim=0).values[-1].clone())
        self.weights = nn.Parameter(_STEEPNESS * torch.arange(len(_KNOTS), dtype=torch.float32))

    def _similar(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        result: Tensor = (rows - self.mean) @ self.directed - self.lengths
        return result

    def forward(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Return codes of any length."""
        above = self._similar(rows) - self.thresholds
        units = sum(w * torch.relu(above - knot) for w, knot in zip(self.weights.exp(), _KNOTS, strict=True))
        result: Tensor = units @ self.places
        return result

    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return matrix and bias of each layer."""
        directed, knots = self.directed.double(), torch.tensor(_KNOTS, dtype=torch.float64)
        bias = -(self.mean.double() @ directed + self.lengths + self.thresholds.detach().double())
        weights, places = self.weights.detach().double().exp(), self.places.detach().double()
        hidden = directed.repeat(1, len(_KNOTS)), (bias[None] - knots[:, None]).flatten()
        last = (weights[:, None, None] * places).flatten(0, 1)
        return [(hidden[0].numpy(), hidden[1].numpy()), (last.numpy(), np.zeros(last.shape[1]))]


def _around(rows: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """Return rows, rows mixed with their neighbours, and rows with the differences of other neighbours."""
    count = min(_NEIGHBOURS, len(rows) - 1)
    parts = torch.split(rows, _BATCH)
    near = torch.cat([torch.cdist(part, rows).topk(count + 1, largest=False).indices for part in parts])
    copied = torch.arange(len(rows)).repeat(_COPIES)

    def neighbour(of: Tensor) -> Tensor:
        return rows[near[of, torch.randint(1, count + 1, of.shape)]]

    share = _MOST_MIXED * torch.rand(len(copied), 1)
    mixed = rows[copied] * (1 - share) + neighbour(copied) * share
    other = torch.randint(len(rows), copied.shape)
    return torch.cat([rows, mixed, rows[copied] + _NOISE * (rows[other] - neighbour(other))])
