"""Scalar quantisation: each number of an embedding in 16, 8, 4 or 2 bits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.codecs import packing
from lookalike.codecs.protocol import Codec, Codes, Embeddings, check_choice, check_floats, directions, sample
from lookalike.codecs.saved import Arrays, Reader
from lookalike.metric import VectorSpace
from lookalike.query import Vectors
from lookalike.search.chunks import chunks
from lookalike.shapes import Float32, UInt8

BITS = 16, 8, 4, 2

_STEPS = 254
"""Steps between the smallest and the largest number of a dimension, in 8 bits: codes lie in -127…127."""

_FLOAT16 = float(np.finfo(np.float16).min), float(np.finfo(np.float16).max)

_SAMPLE = 2**14
"""Embeddings that levels are fitted to."""

_ROUNDS = 50

_CHUNK = 2**14


@dataclass(frozen=True, eq=False)
class Scalar(Codec):
    """Round each number by itself.

    16 bits are float16. 8 bits are steps of equal size from the smallest to the largest number of each dimension in the
    sample. 4 and 2 bits are the 16 or 4 levels of each dimension that have the least squared error (Lloyd, "Least squares
    quantization in PCM", 1982). For cosine, numbers of unit vectors are rounded.

    Attributes:
        bits: of a number: 16, 8, 4 or 2.
        levels: what each code of each dimension stands for, once the codec is fitted; none for 16 bits. For 8 bits, the
            smallest and the largest number.
    """

    name: ClassVar[str] = "scalar"

    bits: int = 8
    levels: Float32[np.ndarray, "l d"] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.name, self.embeddings)
        check_choice("The bits of “scalar”", self.bits, BITS)

    def __str__(self) -> str:
        """Name the codec and its settings."""
        return f"scalar of {self.bits} bits"

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return np.dtype({16: np.float16, 8: np.int8}.get(self.bits, np.uint8))

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.embeddings.dimension if self.bits >= 8 else packing.columns(self.embeddings.dimension, self.bits)  # noqa: PLR2004 -- bits of a byte

    @property
    def stretch(self) -> float:
        """See `Codec.stretch`: queries are not changed."""
        return 1.0

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- needs no labels
        """Find the levels of each dimension; see `Codec.fit`."""
        rows = directions(self.check_sample(embeddings), self.embeddings)
        if self.bits == 16:  # noqa: PLR2004 -- float16 has nothing to fit
            return self
        if self.bits == 8:  # noqa: PLR2004 -- bits of a byte
            return replace(self, levels=np.stack([rows.min(axis=0), rows.max(axis=0)]))
        columns = [lloyd(column, 2**self.bits) for column in sample(rows, _SAMPLE).T]
        return replace(self, levels=np.stack(columns, axis=1))

    def _encode(self, embeddings: Embeddings) -> Codes:
        rows = directions(embeddings, self.embeddings)
        if self.bits == 16:  # noqa: PLR2004 -- as in `fit`
            return np.asarray(np.clip(rows, *_FLOAT16), np.float16)
        if self.bits == 8:  # noqa: PLR2004 -- as in `fit`
            centre, step = self._steps
            return np.asarray(np.clip(np.rint((rows - centre) / step), -_STEPS // 2, _STEPS // 2), np.int8)
        return packing.pack(self._nearest(rows), self.bits)

    def _nearest(self, rows: Float32[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n d"]:
        """Return the nearest level of each number: as many borders between levels lie below it."""
        levels = self.fitted(self.levels).astype(np.float64)
        codes = np.zeros(rows.shape, np.uint8)
        for chunk in chunks(len(rows), _CHUNK):
            for border in (levels[1:] + levels[:-1]) / 2:
                codes[chunk] += rows[chunk] > border
        return codes

    def _decode(self, codes: Codes) -> Vectors:
        if self.bits == 16:  # noqa: PLR2004 -- as in `fit`
            return codes.astype(np.float32)
        if self.bits == 8:  # noqa: PLR2004 -- as in `fit`
            centre, step = self._steps
            numbers = codes.astype(np.float32)
            numbers *= step
            numbers += centre
            return numbers
        rows = np.arange(codes.shape[1]) * 256 + codes
        vectors = self._levels_by_byte.take(rows, axis=0).reshape(len(codes), codes.shape[1] * 8 // self.bits)
        return np.ascontiguousarray(vectors[:, : self.embeddings.dimension])

    @cached_property
    def _levels_by_byte(self) -> Float32[np.ndarray, "r m"]:
        """The levels of the numbers in each byte of a code, by 256 times its place plus its value; of m numbers.

        Taking a row of levels for a byte is ten times as fast as a level for each number.
        """
        levels, per_byte = self.fitted(self.levels), 8 // self.bits
        values = packing.unpack(np.arange(256, dtype=np.uint8)[:, None], self.bits, per_byte)
        padded = np.pad(levels, ((0, 0), (0, -levels.shape[1] % per_byte)))
        by_place = padded.reshape(len(levels), -1, per_byte).transpose(1, 0, 2)
        return np.asarray(by_place[:, values, np.arange(per_byte)].reshape(-1, per_byte))

    def _project(self, embeddings: Embeddings) -> Vectors:
        return directions(embeddings, self.embeddings)

    @property
    def _steps(self) -> tuple[Float32[np.ndarray, " d"], Float32[np.ndarray, " d"]]:
        """The number of code 0 in each dimension, and the difference between two codes."""
        smallest, largest = self.fitted(self.levels)
        step = (largest - smallest) / np.float32(_STEPS)
        return (smallest + largest) / 2, np.where(step > 0, step, np.float32(1))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`."""
        return {"bits": self.bits}, {} if self.bits == 16 else {"levels": self.fitted(self.levels)}  # noqa: PLR2004 -- as in `fit`

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        bits = state.choice("bits", BITS)
        if bits == 16:  # noqa: PLR2004 -- as in `fit`
            return cls(embeddings, bits)
        levels = state.array("levels", np.float32, (2 if bits == 8 else 2**bits, embeddings.dimension))  # noqa: PLR2004 -- as in `fit`
        state.check_size("levels", levels)
        if (np.diff(levels, axis=0) < 0).any():
            raise state.damaged("the levels of a number are not in ascending order")
        return cls(embeddings, bits, levels)


def lloyd(numbers: Float32[np.ndarray, " n"], count: int) -> Float32[np.ndarray, " l"]:
    """Find the levels with the least squared error, from quantiles on, in ascending order."""
    numbers = np.sort(numbers).astype(np.float64)
    totals = np.concatenate([[0], np.cumsum(numbers)])
    levels = numbers[((np.arange(count) + 0.5) / count * len(numbers)).astype(np.intp)]
    for _ in range(_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(numbers, (levels[1:] + levels[:-1]) / 2), [len(numbers)]])
        sums, counts = np.diff(totals[ends]), np.diff(ends)
        levels = np.where(counts > 0, sums / np.maximum(counts, 1), levels)
    return np.sort(levels).astype(np.float32)
