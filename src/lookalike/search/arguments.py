"""Checks of the arguments of a search."""

import operator
from typing import SupportsIndex

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import DistanceRange, check_count
from lookalike.search.coded import CodedVectors
from lookalike.search.gallery import Gallery
from lookalike.search.preparation import prepare
from lookalike.shapes import Int64, Shaped

Vectors = Shaped[np.ndarray, "..."] | CodedVectors | Gallery


def check_sides(left: Vectors, right: Vectors, metric: Metric) -> tuple[Gallery, Gallery]:
    """Prepare both sides of a search, or once if they are the same array, and check that they can be compared.

    Raises:
        UsageError: `prepare` refuses the vectors, or they are of another metric or of different dimensions.
    """
    a = left if isinstance(left, Gallery) else prepare(left, metric)
    b = a if right is left else right if isinstance(right, Gallery) else prepare(right, metric)
    for side in (a, b):
        if side.vectors.dtype != metric.dtype:
            raise UsageError(
                f"A gallery of {side.vectors.dtype} was not prepared for the {metric} metric; prepare it for that."
            )
    d, e = a.vectors.shape[1], b.vectors.shape[1]
    if d != e:
        raise UsageError(f"Vectors of dimension {d} and {e} cannot be compared; make both with the same encoder.")
    return a, b


def check_rows(rows: Shaped[np.ndarray, "..."] | None, length: int) -> Int64[np.ndarray, " m"] | None:
    """Check the rows to search, and convert them to int64.

    Raises:
        UsageError: they are not a flat array of ascending row numbers below ``length``.
    """
    if rows is None:
        return None
    rows = np.asarray(rows)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and len(rows)):
        raise UsageError("Rows to search must be a flat array of row numbers; numpy.flatnonzero makes one of a mask.")
    rows = rows.astype(np.int64, copy=False)
    if len(rows) and (rows[0] < 0 or rows[-1] >= length or np.any(rows[1:] <= rows[:-1])):
        raise UsageError(f"Rows to search must ascend, each once, between 0 and {length - 1}; numpy.unique sorts them.")
    return rows


def check_k(k: SupportsIndex) -> int:
    """Check the number of neighbours.

    Raises:
        UsageError: it is less than 1.
    """
    return check_count("k", k)


def check_begin(begin: SupportsIndex, length: int) -> int:
    """Check the left row at which a join begins.

    Raises:
        UsageError: it is below 0, or above the number of rows.
    """
    number = operator.index(begin)
    if not 0 <= number <= length:
        raise UsageError(f"A join of {length} left rows must begin between 0 and {length}, not at {number}.")
    return number


def check_range(within: DistanceRange) -> DistanceRange:
    """Check the type of a distance range.

    Raises:
        UsageError: it is not a `DistanceRange`.
    """
    if not isinstance(within, DistanceRange):
        raise UsageError(f"Pass the distance range as DistanceRange(min, max), not as {within!r}.")
    return within


def check_k_or_range(k: SupportsIndex | None, within: DistanceRange | None) -> None:
    """Check that a join has either a number of neighbours or a distance range.

    Raises:
        UsageError: it has both or neither.
    """
    if (k is None) == (within is None):
        raise UsageError("A join takes either k or a distance range: give one of them.")
