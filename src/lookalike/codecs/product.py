"""Product quantisation: a byte for each part of an embedding."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.codecs.linear import Affine
from lookalike.codecs.protocol import (
    Codec,
    Codes,
    Embeddings,
    check_choice,
    check_floats,
    check_range,
    directions,
    sample,
)
from lookalike.codecs.saved import LARGEST, Arrays, Reader
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace, squared_norms
from lookalike.query import Vectors
from lookalike.search.chunks import chunks
from lookalike.shapes import Float16, Float32, Float64

CENTROIDS = 256

MAX_PARTS = 256

_SAMPLE = 2**16

_ROUNDS = 25

_FLOOR = 0.01
"""Smaller variances count as this part of their mean, so that numbers without variance do not outweigh the others."""

_CHUNK = 2**10

_SPREAD = 0.1
"""Maximum standard deviation of lengths, relative to their mean, at which vectors count as equally long."""

_SMALLEST = 2.0**-126
"""The smallest unit of centroids, and of numbers of float32 with all their bits."""


@dataclass(frozen=True, eq=False)
class Product(Codec):
    """Cut a vector into parts, and replace each part by the nearest of 256 centroids of its own.

    Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", PAMI 2011; with a rotation that lowers the
    error, Ge et al., "Optimized product quantization", PAMI 2014. FAISS finds both. A query is only rotated, so distances
    are the asymmetric ones of the first paper. For cosine, unit vectors are encoded.

    A centroid is a mean, so it is shorter than the vectors that it stands for, and the shortest are those with the largest
    error. If the vectors are equally long, as unit vectors are, decoding restores their length, which costs no bytes.

    Attributes:
        parts: of a vector, each of the same width; a code has as many bytes.
        rotate: rotate vectors before they are cut (OPQ).
        centroids: 256 of each part, once the codec is fitted; each is a float16 times the largest number of all.
        map: the rotation, once the codec is fitted.
        length: that of each decoded vector, for equally long embeddings and the Euclidean metric; otherwise 0.
    """

    name: ClassVar[str] = "product"

    parts: int = 8
    rotate: bool = True
    centroids: Float32[np.ndarray, "m 256 w"] | None = None
    map: Affine | None = None
    length: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.name, self.embeddings)
        check_range("The parts of “product”", self.parts, 1, min(MAX_PARTS, self.embeddings.dimension))
        check_choice("Rotation", self.rotate, [False, True])
        if self.embeddings.dimension % self.parts:
            raise UsageError(
                f"{self.embeddings.dimension} numbers cannot be cut into {self.parts} equal parts. Choose a divisor, or use"
                " pca first."
            )

    def __str__(self) -> str:
        """Name the codec and its settings."""
        return f"product of {self.parts} parts{' rotated' * self.rotate}"

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return np.dtype(np.uint8)

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.parts

    @property
    def stretch(self) -> float:
        """See `Codec.stretch`: queries are rotated, if at all."""
        return self.fitted(self.map).stretch if self.rotate else 1.0

    @property
    def _width(self) -> int:
        return self.embeddings.dimension // self.parts

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- needs no labels
        """Find rotation and centroids by FAISS, in one thread; see `Codec.fit`."""
        rows = sample(directions(self.check_sample(embeddings), self.embeddings), _SAMPLE)
        dimension = self.embeddings.dimension
        rotation = Affine.of(np.eye(dimension), np.zeros(dimension)) if self.rotate else None
        if len(rows) < CENTROIDS:  # each row is a centroid
            repeated = self._project_by(rotation, rows)[np.arange(CENTROIDS) % len(rows)]
            cut = repeated.reshape(CENTROIDS, self.parts, self._width).swapaxes(0, 1)
            return replace(self, centroids=_restored(*_rounded(cut)), map=rotation, length=self._length_of(rows))
        with _one_thread():
            return self._trained(rows)

    def _trained(self, rows: Float32[np.ndarray, "n d"]) -> Self:
        import faiss  # noqa: PLC0415 -- encoding needs NumPy alone

        dimension, rotation = self.embeddings.dimension, None
        if self.rotate:
            opq = faiss.OPQMatrix(dimension, self.parts)
            opq.niter = _ROUNDS
            opq.pq = inner = _quantizer(dimension, self.parts)
            faiss.copy_array_to_vector(_balanced(rows, self.parts).T.astype(np.float32).ravel(), opq.A)
            opq.train(rows)
            opq.pq = None
            del inner
            matrix = faiss.vector_to_array(opq.A).reshape(dimension, dimension).T.astype(np.float64)
            rotation = Affine.of(matrix, np.zeros(dimension))
        quantizer = _quantizer(dimension, self.parts)
        quantizer.train(self._project_by(rotation, rows))
        centroids = faiss.vector_to_array(quantizer.centroids).reshape(self.parts, CENTROIDS, self._width)
        return replace(self, centroids=_restored(*_rounded(centroids)), map=rotation, length=self._length_of(rows))

    def _length_of(self, rows: Float32[np.ndarray, "n d"]) -> float:
        lengths = np.sqrt(squared_norms(rows))
        equal = self.embeddings.metric is Metric.EUCLIDEAN and lengths.std() <= _SPREAD * lengths.mean()
        return float(lengths.mean()) if equal else 0.0

    def _encode(self, embeddings: Embeddings) -> Codes:
        centroids, rows = self.fitted(self.centroids), self._project(embeddings)
        codes = np.empty((len(rows), self.parts), np.uint8)
        for chunk in chunks(len(rows), _CHUNK):
            parts = rows[chunk].reshape(-1, self.parts, self._width)
            for part in range(self.parts):
                # Summed in a fixed order, number by number, so that ties and near ties do not depend on the batch.
                squares = np.zeros((len(parts), CENTROIDS), np.float32)
                for number in range(self._width):
                    squares += (parts[:, part, number, None] - centroids[part, :, number]) ** 2
                codes[chunk, part] = squares.argmin(axis=1)
        return codes

    def _decode(self, codes: Codes) -> Vectors:
        centroids = self.fitted(self.centroids).reshape(self.parts * CENTROIDS, self._width)
        parts = centroids.take(np.arange(self.parts) * CENTROIDS + codes, axis=0)  # faster than two indices
        vectors = np.asarray(parts.reshape(len(codes), self.embeddings.dimension))
        return rescaled(vectors, self.length) if self.length else vectors

    def _project(self, embeddings: Embeddings) -> Vectors:
        return self._project_by(self.fitted(self.map) if self.rotate else None, directions(embeddings, self.embeddings))

    @staticmethod
    def _project_by(rotation: Affine | None, rows: Embeddings) -> Vectors:
        return np.ascontiguousarray(rows) if rotation is None else rotation(rows)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`."""
        rotation = self.fitted(self.map).arrays() if self.rotate else {}
        centroids, unit = _rounded(self.fitted(self.centroids))
        settings = {"parts": self.parts, "rotate": self.rotate, "unit": unit, "length": self.length}
        return settings, {"centroids": centroids} | rotation

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        parts = state.integer("parts", 1, min(MAX_PARTS, embeddings.dimension))
        if embeddings.dimension % parts:
            raise state.damaged("its parts do not divide a vector")
        rotate = state.choice("rotate", [False, True])
        unit, length = state.number("unit", _SMALLEST, LARGEST), state.number("length", 0, LARGEST)
        centroids = state.array("centroids", np.float16, (parts, CENTROIDS, embeddings.dimension // parts))
        if (np.abs(centroids) > 1).any():
            raise state.damaged("the array centroids has numbers beyond its unit")
        rotation = Affine.restore(state, embeddings.dimension, embeddings.dimension) if rotate else None
        return cls(embeddings, parts, rotate, _restored(centroids, unit), rotation, length)


def _balanced(rows: Float32[np.ndarray, "n d"], parts: int) -> Float64[np.ndarray, "d d"]:
    """Rotate to principal components, dealt out so that the parts have about the same product of variances.

    The rotation that training begins with (Ge et al., "Optimized product quantization", PAMI 2014, section 3.2). From
    a random one, which FAISS begins with, training ends with larger errors.
    """
    variances, components = np.linalg.eigh(np.cov(rows.astype(np.float64), rowvar=False).reshape(rows.shape[1], -1))
    variances = np.maximum(variances, _FLOOR * variances.mean()) + np.finfo(np.float64).tiny
    width, logarithms = rows.shape[1] // parts, np.log(variances / variances.min())
    dealt: list[list[int]] = [[] for _ in range(parts)]
    for component in reversed(range(len(variances))):  # eigenvalues ascend
        free = [part for part in dealt if len(part) < width]
        min(free, key=lambda part: (logarithms[part].sum(), len(part))).append(component)
    return np.asarray(components[:, [component for part in dealt for component in part]])


def rescaled(vectors: Float32[np.ndarray, "n d"], length: float) -> Float32[np.ndarray, "n d"]:
    """Scale vectors to a length; a zero vector stays zero."""
    lengths = np.sqrt(squared_norms(vectors))
    factors = np.divide(length, lengths, out=np.zeros(len(vectors)), where=lengths > 0)
    return np.asarray((vectors * factors[:, None]).astype(np.float32))


def _rounded(centroids: Float32[np.ndarray, "m 256 w"]) -> tuple[Float16[np.ndarray, "m 256 w"], float]:
    """Return centroids as float16, in units of their largest number; `_restored` reverses it, but for the rounding."""
    unit = max(float(np.abs(centroids).max()), _SMALLEST) if centroids.any() else 1.0
    return (centroids / np.float32(unit)).astype(np.float16), unit


def _restored(rounded: Float16[np.ndarray, "m 256 w"], unit: float) -> Float32[np.ndarray, "m 256 w"]:
    return np.asarray(rounded * np.float32(unit))


def _quantizer(dimension: int, parts: int) -> Any:  # noqa: ANN401 -- FAISS has no types
    import faiss  # noqa: PLC0415 -- as in `_trained`

    quantizer = faiss.ProductQuantizer(dimension, parts, 8)
    quantizer.cp.min_points_per_centroid = 1  # FAISS would print a warning
    return quantizer


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let FAISS use one thread: the order of sums, and so the codec, depends on the number of threads."""
    import faiss  # noqa: PLC0415 -- as in `_trained`

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
