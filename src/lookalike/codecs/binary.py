"""Bits: the side of each of many planes that an embedding lies on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np

from lookalike.codecs import packing
from lookalike.codecs.linear import Affine
from lookalike.codecs.pca import Pca
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
    sample,
)
from lookalike.codecs.saved import Arrays, Reader
from lookalike.metric import Metric, VectorSpace
from lookalike.shapes import Float64

Method = Literal["itq", "sign"]

MAX_BITS = 2**14

_ROUNDS = 50

_SAMPLE = 2**16


@dataclass(frozen=True, eq=False)
class Binary(Codec):
    """Keep the sign of (x - μ) W in each of several directions; bits are compared by the Hamming distance.

    ``itq`` turns principal components so that their signs lose least (Gong and Lazebnik, "Iterative quantization", CVPR
    2011); it makes at most as many bits as an embedding has numbers. ``sign`` draws directions at random, orthogonal to
    each other as far as possible (Ji et al., "Super-bit locality-sensitive hashing", NIPS 2012), and makes any number of
    bits. A query is quantised, too. For cosine, unit vectors are encoded.

    Attributes:
        bits: of a code.
        method: ``itq`` or ``sign``.
        map: the directions, once the codec is fitted.
    """

    name: ClassVar[str] = "binary"

    bits: int = 128
    method: Method = "itq"
    map: Affine | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.name, self.embeddings)
        check_choice("The method of “binary”", self.method, get_args(Method))
        most = self.embeddings.dimension if self.method == "itq" else MAX_BITS
        check_range(f"The bits of “binary” by {self.method}", self.bits, 1, most)

    def __str__(self) -> str:
        """Name the codec and its settings."""
        return f"binary of {self.bits} bits by {self.method}"

    @property
    def space(self) -> VectorSpace:
        """Bits, compared by the Hamming distance."""
        return VectorSpace(Metric.HAMMING, self.bits)

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return np.dtype(np.uint8)

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.space.columns

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- needs no labels
        """Find the directions; see `Codec.fit`."""
        rows = sample(directions(self.check_sample(embeddings), self.embeddings), _SAMPLE)
        euclidean = VectorSpace(Metric.EUCLIDEAN, self.embeddings.dimension)
        if self.method == "itq":
            components = Pca(euclidean, self.bits).fit(rows)
            to_components = components.fitted(components.map)
            return replace(self, map=to_components.then(_itq(components.project(rows).astype(np.float64))))
        random = np.random.default_rng(SEED)
        blocks = -(-self.bits // euclidean.dimension)
        matrix = np.concatenate([random_rotation(euclidean.dimension, random) for _ in range(blocks)], axis=1)
        matrix = matrix[:, : self.bits]
        return replace(self, map=Affine.of(matrix, -rows.mean(axis=0, dtype=np.float64) @ matrix))

    def _encode(self, embeddings: Embeddings) -> Codes:
        sides = self.fitted(self.map)(directions(embeddings, self.embeddings))
        return packing.pack((sides > 0).astype(np.uint8), 1)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`."""
        return {"bits": self.bits, "method": self.method}, self.fitted(self.map).arrays()

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        method: Method = state.choice("method", get_args(Method))
        bits = state.integer("bits", 1, embeddings.dimension if method == "itq" else MAX_BITS)
        return cls(embeddings, bits, method, Affine.restore(state, embeddings.dimension, bits))


def _itq(rows: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "k k"]:
    """Find the rotation R with the least ‖sign(rows R) - rows R‖, from a random one on."""
    rotation = random_rotation(rows.shape[1], np.random.default_rng(SEED))
    for _ in range(_ROUNDS):
        left, _, right = np.linalg.svd(rows.T @ np.where(rows @ rotation > 0, 1.0, -1.0))
        rotation = left @ right
    return np.asarray(rotation)
