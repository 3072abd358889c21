"""Vectors in codes, which are decoded where a search reads them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lookalike.metric import VectorSpace
from lookalike.shapes import Bool, Float32, Int64, Shaped, UInt8

_KEPT = 2**26
"""Maximum bytes of vectors that are decoded once and kept. More of them are decoded again in each pass."""

Rows = slice | Int64[np.ndarray, " m"] | Bool[np.ndarray, " n"] | Sequence[int]


@dataclass(frozen=True, eq=False)
class CodedVectors:
    """Vectors in codes, in place of an array of vectors.

    Attributes:
        codes: of each vector. A memory-mapped array stays memory-mapped.
        decode: converts codes to vectors, each code by itself.
        space: of the vectors.
    """

    codes: Shaped[np.ndarray, "n b"]
    decode: Callable[[np.ndarray], np.ndarray]
    space: VectorSpace

    @property
    def shape(self) -> tuple[int, int]:
        """Number of vectors, and columns of a vector."""
        return len(self.codes), self.space.columns

    @property
    def dtype(self) -> "np.dtype[np.float32] | np.dtype[np.uint8]":
        """The dtype of the vectors."""
        return self.space.dtype

    @property
    def itemsize(self) -> int:
        """Bytes of a number of a vector."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return len(self) * self.space.columns * self.itemsize

    def __len__(self) -> int:
        """Count the vectors."""
        return len(self.codes)

    def __getitem__(self, rows: Rows) -> Float32[np.ndarray, "m d"] | UInt8[np.ndarray, "m d"]:
        """Decode some rows."""
        return self.decode(self.codes[rows]) if self.decodes_each_pass else self._all[rows]

    @property
    def decodes_each_pass(self) -> bool:
        """Whether the vectors are too many to be kept."""
        return self.nbytes > _KEPT

    @cached_property
    def _all(self) -> Float32[np.ndarray, "n d"] | UInt8[np.ndarray, "n d"]:
        return self.decode(self.codes)
