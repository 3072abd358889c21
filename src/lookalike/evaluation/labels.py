"""Labels of vectors, and the rows of each class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.errors import UsageError
from lookalike.shapes import Int64, Shaped


@dataclass(frozen=True, eq=False)
class LabelledVectors:
    """Vectors and the class of each.

    Attributes:
        vectors: ``(n, d)`` float32, or codes ``(n, bits / 8)`` packed into uint8 for Hamming.
        labels: n whole numbers or strings.
    """

    vectors: Shaped[np.ndarray, "..."]
    labels: Sequence[str] | Shaped[np.ndarray, "..."]

    def __len__(self) -> int:
        """Count the vectors."""
        return len(self.vectors)


@dataclass(frozen=True, eq=False)
class Classes:
    """The rows of each class.

    Attributes:
        names: the labels, sorted, each once.
        codes: for each row the position of its label in ``names``.
        order: the rows, sorted by class and then by row.
        offsets: the rows of class ``c`` are ``order[offsets[c]:offsets[c + 1]]``.
    """

    names: Shaped[np.ndarray, " c"]
    codes: Int64[np.ndarray, " n"]
    order: Int64[np.ndarray, " n"]
    offsets: Int64[np.ndarray, " offsets"]

    @classmethod
    def of(cls, labels: Sequence[str] | Shaped[np.ndarray, "..."], rows: int) -> "Classes":
        """Group rows by their labels.

        Args:
            labels: one for each row.
            rows: their number.

        Raises:
            UsageError: the number of labels is wrong, or the labels are neither whole numbers nor strings.
        """
        labels = np.asarray(labels)
        if labels.shape != (rows,):
            raise UsageError(f"{rows} rows need {rows} labels, not an array of shape {labels.shape}.")
        if labels.dtype.kind not in "biuU" and rows:
            raise UsageError(
                f"Labels are whole numbers or strings, not {labels.dtype}; numpy.unique turns others into numbers."
            )
        names, codes = np.unique(labels, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        return cls(names, codes.astype(np.int64), order, np.searchsorted(codes[order], np.arange(len(names) + 1)))

    def __len__(self) -> int:
        """Count the classes."""
        return len(self.names)

    def members(self, code: int) -> Int64[np.ndarray, " m"]:
        """Return the rows of a class, ascending."""
        return self.order[self.offsets[code] : self.offsets[code + 1]]

    @property
    def sizes(self) -> Int64[np.ndarray, " c"]:
        """The number of rows of each class."""
        return np.diff(self.offsets)
