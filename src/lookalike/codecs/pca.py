"""Principal components: fewer floats that keep most of the distances."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.codecs.linear import Affine
from lookalike.codecs.protocol import (
    SEED,
    Codec,
    Codes,
    Embeddings,
    check_choice,
    check_floats,
    check_range,
    directions,
    random_rotation,
)
from lookalike.codecs.saved import Arrays, Reader
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.search.chunks import chunks
from lookalike.shapes import Float32, Float64

_CHUNK = 2**16
"""Embeddings of a chunk of the covariance."""

_SMALLEST_SPREAD = 1e-6
"""Whitening divides by no standard deviation below this part of the largest one."""


@dataclass(frozen=True, eq=False)
class Pca(Codec):
    """Project embeddings to their first principal components, as float32 (Pearson 1901; Hotelling 1933).

    For the Euclidean metric: y = (x - μ) V. For cosine: y = x / ‖x‖ V, without a centre, so that angles stay angles. The
    columns of V are the eigenvectors of the covariance, or of the mean of x xᵀ / ‖x‖², with the largest eigenvalues λ.
    Without a centre, μ = 0, and equally long vectors stay about equally long, which `Product` makes use of.

    Attributes:
        dimension: floats of a code.
        whiten: divide each component by √λ (Jegou and Chum, ECCV 2012).
        rotate: turn the components by a random rotation, so that each has about the same variance.
        centre: subtract the mean, for the Euclidean metric.
        map: the projection, once the codec is fitted.
    """

    name: ClassVar[str] = "pca"

    dimension: int = 64
    whiten: bool = False
    rotate: bool = False
    centre: bool = True
    map: Affine | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.name, self.embeddings)
        check_range("The dimension of “pca”", self.dimension, 1, self.embeddings.dimension)
        check_choice("Whitening", self.whiten, [False, True])
        check_choice("Rotation", self.rotate, [False, True])
        check_choice("Centring", self.centre, [False, True])

    def __str__(self) -> str:
        """Name the codec and its settings."""
        words = (" whitened" * self.whiten, " rotated" * self.rotate, " uncentred" * (not self.centre))
        return f"pca to {self.dimension}{''.join(words)}"

    @property
    def space(self) -> VectorSpace:
        """Fewer floats, of the same metric."""
        return VectorSpace(self.embeddings.metric, self.dimension)

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return np.dtype(np.float32)

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.dimension

    @property
    def stretch(self) -> float:
        """See `Codec.stretch`."""
        return self.fitted(self.map).stretch

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- needs no labels
        """Find the principal components; see `Codec.fit`."""
        rows = directions(self.check_sample(embeddings), self.embeddings)
        centre = np.zeros(rows.shape[1])
        if self.embeddings.metric is Metric.EUCLIDEAN and self.centre:
            centre = rows.mean(axis=0, dtype=np.float64)
        values, vectors = np.linalg.eigh(_covariance(rows, centre))
        values, vectors = values[::-1][: self.dimension], vectors[:, ::-1][:, : self.dimension]
        # The sign of an eigenvector is arbitrary; its largest number is positive here.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(self.dimension)])
        if self.whiten:
            spread = np.sqrt(np.maximum(values, 0))
            vectors = vectors / np.maximum(spread, spread[0] * _SMALLEST_SPREAD or 1)
        if self.rotate:
            vectors = vectors @ random_rotation(self.dimension, np.random.default_rng(SEED))
        return replace(self, map=Affine.of(vectors, -centre @ vectors))

    def first(self, dimension: int) -> "Pca":
        """Return the codec of fewer components, as if it were fitted to the same embeddings.

        Raises:
            UsageError: there are not that many components, or they are rotated, or the codec is not fitted.
        """
        check_range("The dimension of “pca”", dimension, 1, self.dimension)
        if self.rotate:
            raise UsageError("Rotated components have no first ones. Fit the codec again with fewer components.")
        whole = self.fitted(self.map)
        part = Affine(whole.matrix[:, :dimension].copy(), whole.scale[:dimension], whole.offset[:dimension])
        return replace(self, dimension=dimension, map=part)

    def _encode(self, embeddings: Embeddings) -> Codes:
        return self.fitted(self.map)(directions(embeddings, self.embeddings))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`."""
        settings = {"whiten": self.whiten, "rotate": self.rotate, "centre": self.centre}
        return {"dimension": self.dimension} | settings, self.fitted(self.map).arrays()

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        dimension = state.integer("dimension", 1, embeddings.dimension)
        whiten, rotate, centre = (state.choice(name, [False, True]) for name in ("whiten", "rotate", "centre"))
        to_components = Affine.restore(state, embeddings.dimension, dimension)
        return cls(embeddings, dimension, whiten, rotate, centre, to_components)


def _covariance(rows: Float32[np.ndarray, "n d"], centre: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, "d d"]:
    total = np.zeros((len(centre), len(centre)))
    for chunk in chunks(len(rows), _CHUNK):
        centred = rows[chunk] - centre
        total += centred.T @ centred
    return total / len(rows)
