"""Labels as classes: which rows belong together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from lookalike.errors import UsageError


@dataclass(frozen=True, eq=False)
class Classes:
    """The rows of each class.

    Attributes:
        names: the labels, sorted, each once.
        codes: for each row the place of its label among them.
        order: the rows, sorted by class and then by row.
        offsets: those of class ``c`` stand at ``offsets[c]:offsets[c + 1]`` of ``order``.
    """

    names: Shaped[np.ndarray, " c"]
    codes: Int64[np.ndarray, " n"]
    order: Int64[np.ndarray, " n"]
    offsets: Int64[np.ndarray, " offsets"]

    @classmethod
    def of(cls, labels: Shaped[np.ndarray, "..."], rows: int) -> "Classes":
        """The classes of so many rows.

        Raises:
            UsageError: not one label a row, or labels that are neither whole numbers nor strings.
        """
        labels = np.asarray(labels)
        if labels.shape != (rows,):
            raise UsageError(f"{rows} rows take {rows} labels, not an array of shape {labels.shape}.")
        if labels.dtype.kind not in "biuU" and rows:
            raise UsageError(f"Labels are whole numbers or strings, not {labels.dtype}; numpy.unique numbers others.")
        names, codes = np.unique(labels, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        return cls(names, codes.astype(np.int64), order, np.searchsorted(codes[order], np.arange(len(names) + 1)))

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.names)

    def members(self, code: int) -> Int64[np.ndarray, " m"]:
        """The rows of a class, ascending."""
        return self.order[self.offsets[code] : self.offsets[code + 1]]

    @property
    def sizes(self) -> Int64[np.ndarray, " c"]:
        """The number of rows of each class."""
        return np.diff(self.offsets)
