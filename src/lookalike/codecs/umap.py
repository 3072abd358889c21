"""UMAP: coordinates in which classes gather, with a projection of queries that needs NumPy alone."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.codecs.linear import Affine, multiply
from lookalike.codecs.pca import Pca
from lookalike.codecs.protocol import (
    SEED,
    Codec,
    Codes,
    Embeddings,
    check_floats,
    check_range,
    directions,
    sample,
)
from lookalike.codecs.saved import Arrays, Reader
from lookalike.errors import MissingExtraError, UsageError
from lookalike.metric import Metric, VectorSpace, squared_norms
from lookalike.search.chunks import chunks
from lookalike.shapes import Float16, Float32, Float64, Shaped

MAX_DIMENSION = 256

MAX_NEIGHBOURS = 256

MAX_ANCHORS = 2**15
"""A larger gallery is sampled."""

_COMPONENTS = 128
"""Principal components of the copy of the embeddings, in 8 bits each."""

_STEPS = 127

_HALVINGS = 40

_SQUARINGS = 10

_MOVES = 20

_ATTRACTION = 10.0

_CHUNK = 2**22


@dataclass(frozen=True, eq=False)
class Umap(Codec):
    """Lay embeddings out by their neighbours (McInnes, Healy and Melville, "UMAP", 2018).

    umap-learn lays out a gallery once. The codec keeps the coordinates of each item, and a copy of its embedding of at most
    128 bytes: the first principal components in 8 bits. A vector is placed among its K nearest anchors: first at their
    mean with the weights of UMAP, exp(-d / σ), where σ makes their sum log₂ K. Then it moves 20 times to their mean with
    the weights exp(-d / σ) / (1 + 10 ‖z - zᵢ‖²), as attraction in UMAP is stronger between points that are near in the
    layout; so it ends within a cluster, and not between two. umap-learn moves new points by gradient steps that draw at
    random.

    Attributes:
        dimension: floats of a code.
        neighbours: K of the layout and of the projection.
        min_dist: the smallest distance of two points in the layout.
        map: the principal components, once the codec is fitted.
        step: the size of a step of 8 bits.
        anchors: the components of each anchor, in steps.
        places: the coordinates of each anchor.
    """

    name: ClassVar[str] = "umap"

    dimension: int = 16
    neighbours: int = 15
    min_dist: float = 0.1
    map: Affine | None = None
    step: float = 1.0
    anchors: Shaped[np.ndarray, "m k"] | None = None
    places: Float16[np.ndarray, "m c"] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.name, self.embeddings)
        check_range("The dimension of “umap”", self.dimension, 1, MAX_DIMENSION)
        check_range("The neighbours of “umap”", self.neighbours, 2, MAX_NEIGHBOURS)
        if not 0 <= self.min_dist <= 1:
            raise UsageError(f"The smallest distance of “umap” lies between 0 and 1, not {self.min_dist}.")

    def __str__(self) -> str:
        """Name the codec and its settings."""
        return f"umap to {self.dimension} by {self.neighbours} neighbours at {self.min_dist:g}"

    @property
    def space(self) -> VectorSpace:
        """The layout, which is Euclidean."""
        return VectorSpace(Metric.EUCLIDEAN, self.dimension)

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return np.dtype(np.float32)

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.dimension

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- needs no labels
        """Lay out embeddings, at most 32,768 of them; see `Codec.fit`.

        Raises:
            MissingExtraError: umap-learn is not installed.
        """
        rows = sample(directions(self.check_sample(embeddings), self.embeddings), MAX_ANCHORS)
        if len(rows) <= max(self.neighbours, self.dimension + 1):
            raise UsageError(
                f"“umap” by {self.neighbours} neighbours to {self.dimension} dimensions needs more than {len(rows)}"
                " embeddings. Add images, or choose smaller numbers."
            )
        places = self._lay_out(rows)
        euclidean = VectorSpace(Metric.EUCLIDEAN, rows.shape[1])
        components = Pca(euclidean, min(_COMPONENTS, rows.shape[1])).fit(rows)
        projected = components.project(rows)
        step = float(np.abs(projected).max()) / _STEPS or 1.0
        anchors = np.rint(projected / step).astype(np.int8)
        return replace(self, map=components.map, step=step, anchors=anchors, places=places.astype(np.float16))

    def _lay_out(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n c"]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its parametric part, which needs TensorFlow
                import umap  # noqa: PLC0415 -- numba takes seconds to load

                layout = umap.UMAP(
                    n_components=self.dimension,
                    n_neighbors=self.neighbours,
                    min_dist=self.min_dist,
                    random_state=SEED,
                    n_jobs=1,
                )
                return np.asarray(layout.fit_transform(rows), np.float32)
        except ImportError as e:
            raise MissingExtraError("umap", "The codec “umap”") from e

    def _encode(self, embeddings: Embeddings) -> Codes:
        anchors, places = self.fitted(self.anchors), self.fitted(self.places).astype(np.float64)
        rows = self.fitted(self.map)(directions(embeddings, self.embeddings))
        count = min(self.neighbours, len(anchors))
        units = anchors.T.astype(np.float64)
        lengths = squared_norms(anchors) * self.step**2
        result = np.empty((len(rows), self.dimension), np.float32)
        for chunk in chunks(len(rows), _CHUNK // max(len(anchors), count * self.dimension)):
            part = rows[chunk]
            squares = squared_norms(part)[:, None] - 2 * self.step * multiply(part, units) + lengths
            nearest = np.argpartition(squares, count - 1, axis=1)[:, :count]
            nearest.sort(axis=1)
            distances = np.sqrt(np.maximum(np.take_along_axis(squares, nearest, axis=1), 0))
            result[chunk] = _settle(_weights(distances), places[nearest])
        return result

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`."""
        own = {"anchors": self.fitted(self.anchors), "places": self.fitted(self.places)}
        settings = {
            "dimension": self.dimension,
            "neighbours": self.neighbours,
            "min_dist": float(self.min_dist),
            "step": self.step,
        }
        return settings, self.fitted(self.map).arrays() | own

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        dimension = state.integer("dimension", 1, MAX_DIMENSION)
        neighbours = state.integer("neighbours", 2, MAX_NEIGHBOURS)
        min_dist, step = state.number("min_dist", 0, 1), state.number("step", 2.0**-60, 2.0**60)
        components = min(_COMPONENTS, embeddings.dimension)
        anchors = state.array("anchors", np.int8, (None, components))
        if not 1 <= len(anchors) <= MAX_ANCHORS:
            raise state.damaged(f"it does not have 1 to {MAX_ANCHORS:,} anchors")
        places = state.array("places", np.float16, (len(anchors), dimension))
        to_components = Affine.restore(state, embeddings.dimension, components)
        return cls(embeddings, dimension, neighbours, min_dist, to_components, step, anchors, places)


def _settle(weights: Float64[np.ndarray, "n k"], places: Float64[np.ndarray, "n k c"]) -> Float64[np.ndarray, "n c"]:
    """Move each of n points to a mean of its k anchors at which near ones count most."""
    point = _mean(weights, places)
    for _ in range(_MOVES):
        point = _mean(weights / (1 + _ATTRACTION * squared_norms(places - point[:, None])), places)
    return point


def _mean(weights: Float64[np.ndarray, "n k"], places: Float64[np.ndarray, "n k c"]) -> Float64[np.ndarray, "n c"]:
    total = np.zeros((len(places), places.shape[2]))
    for rank in range(places.shape[1]):  # in a fixed order
        total += weights[:, rank, None] * places[:, rank]
    return np.asarray(total / weights.sum(axis=1, keepdims=True))


def _weights(distances: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Compute UMAP's weights exp(-d / σ) of neighbours, with σ by bisection so that they sum to log₂ K."""
    target = np.log2(distances.shape[1])
    largest = np.maximum(distances.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    ratios = distances / largest
    low, high = np.zeros((len(distances), 1)), np.full((len(distances), 1), 2.0**10)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        smaller = _decay(ratios / middle).sum(axis=1, keepdims=True) < target
        low, high = np.where(smaller, middle, low), np.where(smaller, high, middle)
    return _decay(ratios / high)


def _decay(numbers: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Compute (1 - x / 1024)¹⁰²⁴, which is exp(-x) to 1 in 1,000 where it matters, with the same bits on any machine."""
    result = np.maximum(1 - numbers / 2**_SQUARINGS, 0)
    for _ in range(_SQUARINGS):
        result = result * result
    return np.asarray(result)
