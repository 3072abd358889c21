"""RaBitQ: one or a few bits for each number of a randomly rotated vector, and a factor for each vector."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.codecs import packing
from lookalike.codecs.linear import Affine
from lookalike.codecs.protocol import (
    SEED,
    Codec,
    Codes,
    Embeddings,
    check_floats,
    check_range,
    directions,
    random_rotation,
    sample,
)
from lookalike.codecs.saved import Arrays, Reader
from lookalike.metric import VectorSpace
from lookalike.query import Vectors
from lookalike.search.chunks import chunks
from lookalike.shapes import Float32, Float64, UInt8

MAX_BITS = 4

_FACTORS = 256

_FACTOR_STEP = 2.0 ** (1 / 24)
"""Ratio of two neighbouring factors: they span from 1/39 to 39 times the median, with an error of 1.5%."""

_SAMPLE = 2**14

_CHUNK = 2**18
"""Events of a chunk; see `_best_levels`."""


@dataclass(frozen=True, eq=False)
class RaBitQ(Codec):
    """Replace a rotated vector r = (x - μ) R by f·c, the grid point c with the largest cosine to r, and a factor f.

    With b bits, the numbers of c are ±½, ±1½, … ±(2ᵇ - 1)/2: one bit keeps the signs (Gao and Long, "RaBitQ", SIGMOD 2024),
    more bits search the best of all scales of the grid (Gao et al., "Practical and asymptotically optimal quantization",
    SIGMOD 2025). The factor is ⟨r, c⟩ / ‖c‖², which makes the squared error least, in one byte. The papers store
    ‖r‖² / ⟨r, c⟩ and ‖r‖ instead; for all vectors with the same cosine to their grid point, both rank alike.

    Attributes:
        bits: of a number, 1 to 4; the factor takes one byte more.
        map: the rotation, once the codec is fitted.
        centre: μ R.
        factors: the factors in ascending order, the first of them 0.
    """

    name: ClassVar[str] = "rabitq"

    bits: int = 1
    map: Affine | None = None
    centre: Float32[np.ndarray, " d"] | None = None
    factors: Float32[np.ndarray, " 256"] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.name, self.embeddings)
        check_range("The bits of “rabitq”", self.bits, 1, MAX_BITS)

    def __str__(self) -> str:
        """Name the codec and its settings."""
        return f"rabitq of {self.bits} bit{'s' * (self.bits > 1)}"

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return np.dtype(np.uint8)

    @property
    def code_columns(self) -> int:
        """The packed numbers, and the factor."""
        return packing.columns(self.embeddings.dimension, self.bits) + 1

    @property
    def stretch(self) -> float:
        """See `Codec.stretch`."""
        return self.fitted(self.map).stretch

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- needs no labels
        """Draw the rotation, and find the centre and the range of the factors; see `Codec.fit`."""
        rows = directions(self.check_sample(embeddings), self.embeddings)
        rotation = random_rotation(rows.shape[1], np.random.default_rng(SEED))
        turn = Affine.of(rotation, np.zeros(rows.shape[1]))
        centre = turn(rows.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32))[0]
        residuals = turn(sample(rows, _SAMPLE)).astype(np.float64) - centre
        factors = self._levels(residuals)[1]
        middle = float(np.median(factors[factors > 0])) if (factors > 0).any() else 1.0
        spread = _FACTOR_STEP ** (np.arange(_FACTORS) - _FACTORS / 2)
        spread[0] = 0
        return replace(self, map=turn, centre=centre, factors=(middle * spread).astype(np.float32))

    def _levels(
        self, residuals: Float64[np.ndarray, "n d"]
    ) -> tuple[UInt8[np.ndarray, "n d"], Float64[np.ndarray, " n"]]:
        """Return the grid points, as numbers from 0 on, and the best factor of each."""
        levels = np.empty(residuals.shape, np.uint8)
        factors = np.empty(len(residuals))
        half = 2 ** (self.bits - 1)
        for chunk in chunks(len(residuals), _CHUNK // (residuals.shape[1] * half)):
            part = residuals[chunk]
            steps = _best_levels(np.abs(part), half - 1)
            levels[chunk] = np.where(part >= 0, half + steps, half - 1 - steps)
            sizes = steps + 0.5
            factors[chunk] = (np.abs(part) * sizes).sum(axis=1) / (sizes * sizes).sum(axis=1)
        return levels, factors

    def _encode(self, embeddings: Embeddings) -> Codes:
        levels, factors = self._levels(self._project(embeddings).astype(np.float64) - self.fitted(self.centre))
        table = self.fitted(self.factors).astype(np.float64)
        factor = np.searchsorted((table[1:] + table[:-1]) / 2, factors).astype(np.uint8)
        return np.concatenate([packing.pack(levels, self.bits), factor[:, None]], axis=1)

    def _decode(self, codes: Codes) -> Vectors:
        levels = packing.unpack(np.ascontiguousarray(codes[:, :-1]), self.bits, self.embeddings.dimension)
        points = levels.astype(np.float32) - np.float32((2**self.bits - 1) / 2)
        return np.asarray(self.fitted(self.factors)[codes[:, -1], None] * points + self.fitted(self.centre))

    def _project(self, embeddings: Embeddings) -> Vectors:
        return self.fitted(self.map)(directions(embeddings, self.embeddings))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`."""
        own = {"centre": self.fitted(self.centre), "factors": self.fitted(self.factors)}
        return {"bits": self.bits}, self.fitted(self.map).arrays() | own

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        bits = state.integer("bits", 1, MAX_BITS)
        turn = Affine.restore(state, embeddings.dimension, embeddings.dimension)
        centre = state.array("centre", np.float32, (embeddings.dimension,))
        factors = state.array("factors", np.float32, (_FACTORS,))
        state.check_size("centre", centre)
        state.check_size("factors", factors)
        if (np.diff(factors) < 0).any() or factors[0] < 0:
            raise state.damaged("its factors are not in ascending order")
        return cls(embeddings, bits, turn, centre, factors)


def _best_levels(sizes: Float64[np.ndarray, "n d"], most: int) -> UInt8[np.ndarray, "n d"]:
    """Return m with the largest cosine of m + ½ to the sizes, each number of m from 0 to ``most``.

    The best m is floor(t · sizes) for some t, limited to ``most``. Number i of m becomes k at the event t = k / sizes[i].
    From one event to the next, ⟨m + ½, sizes⟩ grows by sizes[i], and ‖m + ½‖² by 2k. All events are tried in order.
    """
    count, dimension = sizes.shape
    if most == 0:
        return np.zeros(sizes.shape, np.uint8)
    steps = np.arange(1, most + 1)
    with np.errstate(divide="ignore", over="ignore"):
        events = (steps / sizes[:, :, None]).reshape(count, -1)
    order = np.argsort(events, axis=1, kind="stable")
    gains = np.take_along_axis(np.repeat(sizes, most, axis=1), order, axis=1)
    growth = np.tile(2.0 * steps, dimension)[order]
    products = sizes.sum(axis=1, keepdims=True) / 2 + np.cumsum(gains, axis=1)
    squares = dimension / 4 + np.cumsum(growth, axis=1)
    before = (sizes.sum(axis=1) / 2) ** 2 / (dimension / 4)
    ratios = np.concatenate([before[:, None], products**2 / squares], axis=1)
    best = ratios.argmax(axis=1)
    happened = np.zeros(events.shape, bool)
    np.put_along_axis(happened, order, np.arange(dimension * most) < best[:, None], axis=1)
    return np.asarray(happened.reshape(count, dimension, most).sum(axis=2, dtype=np.uint8))
