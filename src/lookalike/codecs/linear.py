"""Affine maps whose matrix products are exact, and therefore the same for any batch, number of threads and machine.

BLAS sums the products of a row in an order that depends on the number of rows, so the last bits of a sum differ. Here both
factors are fixed-point numbers: rows of length < 1 are rounded to multiples of 2⁻²⁸, and columns of length ≤ 1 to float16,
whose numbers are all multiples of 2⁻²⁴. Each product is then a multiple of 2⁻⁵², and each partial sum is less than 2
(Cauchy-Schwarz). Such numbers fit into the 53 bits of float64, so no sum is rounded, in whatever order it is computed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lookalike.codecs.saved import Arrays, Reader
from lookalike.metric import squared_norms
from lookalike.search.chunks import chunks
from lookalike.shapes import Float16, Float32, Float64

_ROW_BITS = 28
_COLUMN_BITS = 24

_LONGEST = 1.001
"""The limit of a column's length; rounding makes columns of length 1 a little longer."""

_SINGULAR = 2.0**-30
"""Relative error of the largest singular value, with a wide margin."""

_CHUNK = 2**22
"""Numbers of a chunk of rows."""


@dataclass(frozen=True, eq=False)
class Affine:
    """The map x ↦ scale · (x @ matrix) + offset, with an exact product.

    Attributes:
        matrix: columns have length 1 or 0.
        scale: factor of each column.
        offset: added to each column.
    """

    matrix: Float16[np.ndarray, "d k"]
    scale: Float32[np.ndarray, " k"]
    offset: Float32[np.ndarray, " k"]

    @classmethod
    def of(cls, matrix: Float64[np.ndarray, "d k"], offset: Float64[np.ndarray, " k"]) -> "Affine":
        """Make the map x ↦ x @ matrix + offset, rounded so that its products are exact."""
        lengths = np.sqrt(squared_norms(matrix.T))
        columns = np.divide(matrix, lengths, out=np.zeros(matrix.shape), where=lengths > 0)
        return cls(columns.astype(np.float16), lengths.astype(np.float32), offset.astype(np.float32))

    @classmethod
    def restore(cls, state: Reader, rows: int, columns: int) -> "Affine":
        """Take the map of a saved codec.

        Raises:
            StorageError: a part is missing, or products would not be exact.
        """
        matrix = state.array("matrix", np.float16, (rows, columns))
        if (squared_norms(matrix.T) > _LONGEST**2).any():
            raise state.damaged("the array matrix has columns longer than 1")
        scale, offset = (state.array(name, np.float32, (columns,)) for name in ("scale", "offset"))
        state.check_size("scale", scale)
        state.check_size("offset", offset)
        return cls(matrix, scale, offset)

    @property
    def stretch(self) -> float:
        """The largest ratio of the distance of two results to that of their rows: the largest singular value."""
        return float(np.linalg.norm(self.matrix * self.scale.astype(np.float64), 2)) * (1 + _SINGULAR)

    def then(self, matrix: Float64[np.ndarray, "k m"]) -> "Affine":
        """Return this map followed by a matrix."""
        return Affine.of(
            (self.matrix * self.scale.astype(np.float64)) @ matrix, self.offset.astype(np.float64) @ matrix
        )

    def arrays(self) -> Arrays:
        """Return the arrays that `restore` takes."""
        return {"matrix": self.matrix, "scale": self.scale, "offset": self.offset}

    @cached_property
    def _units(self) -> Float64[np.ndarray, "d k"]:
        return np.ldexp(self.matrix.astype(np.float64), _COLUMN_BITS)

    def __call__(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n k"]:
        """Map rows; each is rounded to 2⁻²⁸ of its length."""
        result = np.empty((len(rows), self.matrix.shape[1]), np.float32)
        for chunk in chunks(len(rows), _CHUNK // max(self.matrix.shape)):
            result[chunk] = np.ldexp(multiply(rows[chunk], self._units), -_COLUMN_BITS) * self.scale + self.offset
        return result


def multiply(rows: Float32[np.ndarray, "n d"], columns: Float64[np.ndarray, "d k"]) -> Float64[np.ndarray, "n k"]:
    """Multiply rows, each rounded to 2⁻²⁸ of its length, by columns of whole numbers whose length is at most 2²⁴."""
    exponents = np.frexp(np.sqrt(squared_norms(rows)))[1][:, None]
    units = np.rint(np.ldexp(rows.astype(np.float64), _ROW_BITS - exponents))
    return np.asarray(np.ldexp(units @ columns, exponents - _ROW_BITS))
