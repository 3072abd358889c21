"""Codecs of one trained layer, as R4 compares them: CRS to fewer floats; CBS, DSH and DTSH to bits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lookalike.codecs import Binary, Learned, Pca
from lookalike.codecs.protocol import Embeddings, directions
from lookalike.errors import UsageError
from lookalike.learn.codecs.trainable import Trainable, reproducible
from lookalike.learn.losses import CrossEntropyTerm, DSHTerm, DTSHTerm, TripletTerm
from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.total import Loss
from lookalike.metric import Metric, VectorSpace
from lookalike.shapes import Float, Float32, Float64, Int64

# A batch has this many classes, with this many embeddings each, and each embedding is the anchor of this many triplets.
_CLASSES, _ITEMS, _TRIPLETS = 32, 4, 8

_LEAST = 20
"""Batches of an epoch at least, so that few embeddings are seen often enough."""

# Learning rate of the directions of classes, which begin at random.
_CLASS_RATE = 0.01


@dataclass(frozen=True, eq=False)
class Layer(Trainable):
    """One fully connected layer, trained on embeddings and their labels: w · metric loss + (1 - w) · cross-entropy.

    The layer begins as principal components (floats), as ITQ (at most as many bits as an embedding has numbers) or as random
    directions (more bits). Adam takes the steps, on batches of 32 classes with four embeddings each, and triplets of them.
    Embeddings may be of several branches, such as photos and sketches of the same classes: give all in one array.

    Attributes:
        balance: w, the weight of the metric loss in 0…1; None for that of R4.
    """

    weight: ClassVar[float] = 0.5
    """The default of `balance`."""

    rate: ClassVar[float] = 0.02
    """Learning rate, as a share of the mean size of the layer's weights."""

    balance: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.balance is not None and not 0 <= self.balance <= 1:
            raise UsageError(f"The balance of “{self.method}” lies between 0 and 1, not {self.balance}.")

    def metric_loss(self, weight: float) -> TripletTerm | DSHTerm | DTSHTerm:
        """Return the metric loss, which compares triplets."""
        return TripletTerm(kind="triplet", margin=0.2, weight=weight)

    def centre(self, rows: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, " d"]:
        """Return what training subtracts from embeddings."""
        return np.asarray(rows.mean(axis=0, dtype=np.float64))

    def start(self, rows: Float32[np.ndarray, "n d"]) -> tuple[Float64[np.ndarray, "d k"], Float64[np.ndarray, " k"]]:
        """Return matrix and bias before training; the outputs are centred and have a mean square of 1."""
        space = VectorSpace(Metric.EUCLIDEAN, rows.shape[1])
        if self.output is Metric.HAMMING:
            found = Binary(space, self.dimension, "itq" if self.dimension <= space.dimension else "sign").fit(rows)
            first = found.fitted(found.map)
        elif self.dimension > space.dimension:
            raise UsageError(
                f"“{self.method}” makes at most as many floats as an embedding has, {space.dimension}, not {self.dimension}."
            )
        else:
            components = Pca(space, self.dimension).fit(rows)
            first = components.fitted(components.map)
        scale = float(np.sqrt(np.square(first(rows)).mean())) or 1.0
        return first.matrix * (first.scale / scale).astype(np.float64), first.offset.astype(np.float64) / scale

    def activate(self, outputs: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Return what the losses see of the layer's outputs; here of length about 1, so that margins fit all dimensions."""
        result: Tensor = outputs / outputs.shape[1] ** 0.5
        return result

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Learned:
        """Train the layer; see `Codec.fit`. Embeddings whose label no other one has are left out.

        Raises:
            UsageError: labels are missing, or fewer than two labels have two embeddings.
        """
        rows = directions(self.check_sample(embeddings), self.embeddings)
        classes = _group(self.method, labels, len(rows))
        mean = self.centre(rows)
        unit = float(np.sqrt(np.square(rows - mean).mean())) or 1.0
        matrix, bias = self.start(rows)
        matrix, bias = matrix * unit, bias + mean @ matrix
        x = torch.from_numpy(((rows - mean) / unit).astype(np.float32))
        with reproducible(self.seed):
            weights, offset = self._train(x, classes, torch.from_numpy(matrix).float(), torch.from_numpy(bias).float())
        matrix = weights.double().numpy() / unit
        layers = [(matrix, offset.double().numpy() - mean @ matrix)]
        return Learned.of(self.embeddings, self.output, layers, self.method)

    def _train(
        self, x: Float[Tensor, "n d"], classes: list[Int64[np.ndarray, " m"]], matrix: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        number = torch.full((len(x),), -1)
        for label, members in enumerate(classes):
            number[torch.from_numpy(members)] = label
        weight = self.weight if self.balance is None else self.balance
        terms = [self.metric_loss(weight)] if weight else []
        ce = [CrossEntropyTerm(kind="cross_entropy", weight=1 - weight)] if weight < 1 else []
        loss = Loss((*terms, *ce), matrix.shape[1], len(classes))
        layer = [nn.Parameter(matrix), nn.Parameter(bias)]
        groups = [{"params": layer, "lr": self.rate * float(matrix.abs().mean())}]
        groups += [{"params": list(loss.parameters()), "lr": _CLASS_RATE}] if ce else []
        random = np.random.default_rng(self.seed)
        steps = max(_LEAST, sum(map(len, classes)) // (_CLASSES * _ITEMS)) * self.epochs
        optimiser = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step, (drawn, triplets) in enumerate(_batches(classes, steps, random)):
            outputs = self.activate(x[drawn] @ layer[0] + layer[1])
            no_sketch = torch.zeros(len(drawn), dtype=torch.bool)
            value, _ = loss(outputs, Targets(number[drawn], drawn, no_sketch, triplets))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            self.progress.advance("training", step + 1, steps)
        return layer[0].detach(), layer[1].detach()


@dataclass(frozen=True, eq=False)
class CRS(Layer):
    """A smaller layer of floats, by triplets and cross-entropy (R4's CRS)."""

    method: ClassVar[str] = "crs"


@dataclass(frozen=True, eq=False)
class CBS(Layer):
    """Bits of a sigmoid that is cut at ½, by triplets and cross-entropy (R4's CBS). Losses see 2 sigmoid(x) - 1."""

    method: ClassVar[str] = "cbs"
    output: ClassVar[Metric] = Metric.HAMMING

    def activate(self, outputs: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """See `Layer.activate`."""
        return super().activate(2 * torch.sigmoid(outputs) - 1)


@dataclass(frozen=True, eq=False)
class DSH(Layer):
    """Bits by deep supervised hashing: 0.4 · L_DSH / D + 0.6 · cross-entropy (R4)."""

    method: ClassVar[str] = "dsh"
    output: ClassVar[Metric] = Metric.HAMMING
    weight: ClassVar[float] = 0.4

    def metric_loss(self, weight: float) -> TripletTerm | DSHTerm | DTSHTerm:
        """See `Layer.metric_loss`."""
        return DSHTerm(kind="dsh", weight=weight)

    def activate(self, outputs: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """Return the outputs, which the loss draws to -1 and 1."""
        return outputs


@dataclass(frozen=True, eq=False)
class DTSH(DSH):
    """Bits by deep triplet supervised hashing: 0.02 · L_DTSH / D + 0.98 · cross-entropy (R4)."""

    method: ClassVar[str] = "dtsh"
    weight: ClassVar[float] = 0.02

    def metric_loss(self, weight: float) -> TripletTerm | DSHTerm | DTSHTerm:
        """See `Layer.metric_loss`."""
        return DTSHTerm(kind="dtsh", weight=weight)


def _group(method: str, labels: Sequence[str] | None, count: int) -> list[Int64[np.ndarray, " m"]]:
    """Return the rows of each class that has several."""
    if labels is None:
        raise UsageError(f"The codec “{method}” learns from labels. Label the images, or use a codec such as pca.")
    if len(labels) != count:
        raise UsageError(f"There are {len(labels)} labels for {count} embeddings. Give one label for each.")
    _, numbers = np.unique(np.asarray(labels), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    classes = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    several = [members for members in classes if len(members) > 1]
    if len(several) < 2:  # noqa: PLR2004
        raise UsageError(
            f"The codec “{method}” needs two labels with at least two images each, and finds {len(several)}. Label more"
            " images, or use a codec such as pca."
        )
    return several


def _batches(
    classes: list[Int64[np.ndarray, " m"]], count: int, random: np.random.Generator
) -> Iterator[tuple[Int64[Tensor, " b"], Int64[Tensor, "t 3"]]]:
    """Yield batches: rows, class by class, and triplets of positions in them."""
    some = min(_CLASSES, len(classes))
    anchors = np.repeat(np.arange(some * _ITEMS), _TRIPLETS)
    own, place = anchors // _ITEMS, anchors % _ITEMS
    for _ in range(count):
        chosen = random.choice(len(classes), some, replace=False)
        rows = [random.choice(classes[i], _ITEMS, replace=len(classes[i]) < _ITEMS) for i in chosen]
        positives = own * _ITEMS + (place + random.integers(1, _ITEMS, len(anchors))) % _ITEMS
        others = (own + random.integers(1, some, len(anchors))) % some
        negatives = others * _ITEMS + random.integers(0, _ITEMS, len(anchors))
        triplets = np.stack([anchors, positives, negatives], axis=1)
        yield torch.from_numpy(np.concatenate(rows)), torch.from_numpy(triplets)
