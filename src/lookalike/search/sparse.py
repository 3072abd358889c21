"""Exact k-NN and range search over sparse vectors, in SciPy's CSR arrays.

The descriptors of a convolution's map after ReLU are mostly zeros. Sparse products skip the zeros, and give lower bounds of the distances; the pairs
that these do not rule out are measured by definition. So the answers are those of `lookalike.search` over the dense arrays, to the last bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from lookalike.errors import MissingExtraError, UsageError
from lookalike.metric import Metric, paired
from lookalike.query import DistanceRange
from lookalike.search import bounds
from lookalike.search.answers import NO_PAIRS, Hits, Pairs, concatenate, round_range
from lookalike.search.arguments import check_k, check_range
from lookalike.search.chunks import chunks
from lookalike.search.engine import PAIR, first_k, kth_distances
from lookalike.search.gallery import is_safe, slack
from lookalike.shapes import Float32, Float64, Int64

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Queries in a tile: their columns are dense, and should stay in the cache of a core.
_QUERIES = 32

# Bytes of a cell of a tile: its product, its bound and whether it is near.
_CELL = 32

# Rounding to float32 makes ties of distances that differ by less than this share of their size.
_TIE = 1e-6


@dataclass(frozen=True, eq=False)
class SparseGallery:
    """Sparse vectors, prepared for search.

    Attributes:
        vectors: float32 ``(n, d)``, with each entry once.
        squared_norms: ‖v‖² of each row.
        error: the largest rounding error of a bound, relative to ‖x‖² + ‖y‖² (Euclidean) or 1 (cosine).
        dtype: of the products.
    """

    vectors: "csr_array"
    squared_norms: Float64[np.ndarray, " n"]
    error: float
    dtype: "np.dtype[Any]"

    def __len__(self) -> int:
        """Count the rows."""
        return int(self.vectors.shape[0])


Vectors = Any
"""A sparse matrix or array of SciPy, a dense array ``(n, d)``, or a `SparseGallery`."""


def prepare(vectors: Vectors) -> SparseGallery:
    """Prepare sparse vectors for search by Euclidean or cosine distance: convert them to CSR, check them, compute their norms.

    Args:
        vectors: ``(n, d)`` real numbers, sparse or dense, which are converted to float32.

    Raises:
        UsageError: they have another shape or type, or values that are infinite or NaN in float32.
        MissingExtraError: SciPy is not installed.
    """
    if isinstance(vectors, SparseGallery):
        return vectors
    try:
        from scipy.sparse import csr_array  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("sparse", "Search of sparse vectors") from e
    shape, kind = np.shape(vectors), np.dtype(getattr(vectors, "dtype", float)).kind
    if len(shape) != 2 or kind not in "fiu":  # noqa: PLR2004
        raise UsageError(f"Sparse vectors are real numbers of shape (n, d), not {kind} of shape {shape}.")
    with np.errstate(over="ignore"):  # infinite numbers are refused below
        csr = csr_array(vectors, dtype=np.float32)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    squares = csr_array((csr.data.astype(np.float64) ** 2, csr.indices, csr.indptr), shape=csr.shape)
    norms = np.asarray(squares @ np.ones(csr.shape[1]))
    if not np.isfinite(norms).all():
        bad = np.flatnonzero(~np.isfinite(norms))
        raise UsageError(f"Row {bad[0]} ({len(bad)} in all) holds NaN or infinite values; leave such vectors out.")
    # A product has as many terms as a row has entries; the difference of two rows has up to twice as many.
    terms = 2 * int(np.diff(csr.indptr).max(initial=0))
    dtype = np.dtype(np.float32 if is_safe(norms, terms) else np.float64)
    return SparseGallery(csr, norms, slack(terms, dtype), dtype)


def knn(queries: Vectors, gallery: Vectors, k: SupportsIndex, metric: Metric) -> Hits:
    """Find the k nearest gallery rows of each query, as `lookalike.search.knn` does.

    Args:
        queries: ``(q, d)``, as for `prepare`.
        gallery: ``(n, d)``; prepare it to search it more than once.
        k: at least 1.
        metric: Euclidean or cosine.

    Raises:
        UsageError: k is below 1, `prepare` refuses the vectors, their dimensions differ, or the metric is Hamming.

    Example:
        >>> from scipy.sparse import csr_array
        >>> descriptors = csr_array([[0, 0, 2.0], [0, 1.0, 0], [0, 0, 3.0]])
        >>> knn(descriptors[:1], descriptors, 2, Metric.EUCLIDEAN).rows.tolist()
        [0, 2]
    """
    left, right = _check(queries, gallery, metric)
    count, parts = min(check_k(k), max(1, len(right))), []
    for part in chunks(len(left), min(_QUERIES, bounds.BUDGET // (PAIR * count))):
        best = NO_PAIRS
        for tile in _tiles(left, right, part, metric):
            farthest = kth_distances(best, count, tile.queries).astype(np.float64)
            found = tile.measure(tile.lower <= np.minimum(tile.to_bound(farthest), tile.kth_upper(count)))
            best = first_k(concatenate([best, *found]), count, tile.queries)
        parts.append(best.shifted(part.start))
    return Hits.from_pairs(parts, len(left))


def within(queries: Vectors, gallery: Vectors, within: DistanceRange, metric: Metric) -> Hits:
    """Find all gallery rows whose distance from the query lies in a range, as `lookalike.search.within` does.

    Args:
        queries: ``(q, d)``, as for `prepare`.
        gallery: ``(n, d)``; prepare it to search it more than once.
        within: the range, rounded to float32.
        metric: Euclidean or cosine.

    Raises:
        UsageError: as in `knn`.
    """
    left, right = _check(queries, gallery, metric)
    _, farthest = round_range(check_range(within))
    parts = [
        pairs.within(within).shifted(part.start)
        for part in chunks(len(left), _QUERIES)
        for tile in _tiles(left, right, part, metric)
        for pairs in tile.measure(tile.lower <= tile.to_bound(np.full(tile.queries, float(farthest))))
    ]
    return Hits.from_pairs(parts, len(left))


def _check(queries: Vectors, gallery: Vectors, metric: Metric) -> tuple[SparseGallery, SparseGallery]:
    if metric is Metric.HAMMING:
        raise UsageError("Sparse vectors are compared by Euclidean or cosine distance, not by Hamming distance.")
    left, right = prepare(queries), prepare(gallery)
    if left.vectors.shape[1] != right.vectors.shape[1]:
        raise UsageError(
            f"Vectors of dimension {left.vectors.shape[1]} and {right.vectors.shape[1]} cannot be compared; make both with"
            " the same encoder."
        )
    return left, right


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some queries against some rows of a gallery.

    Attributes:
        lower: lower bounds ``(rows, queries)`` of squared Euclidean, or of cosine distances.
        upper: upper bounds.
    """

    left: SparseGallery
    right: SparseGallery
    part: slice
    rows: slice
    metric: Metric
    lower: Float64[np.ndarray, "n q"]
    upper: Float64[np.ndarray, "n q"]

    @property
    def queries(self) -> int:
        """Number of queries."""
        return int(self.lower.shape[1])

    def to_bound(self, distances: Float64[np.ndarray, " q"]) -> Float64[np.ndarray, " q"]:
        """Return what the lower bounds of pairs at these distances, rounded to float32, cannot exceed."""
        if self.metric is Metric.COSINE:
            return distances + _TIE
        return (distances * (1 + _TIE)) ** 2

    def kth_upper(self, k: int) -> Float64[np.ndarray, " q"]:
        """Return what the lower bounds of the k nearest rows of the tile cannot exceed; infinity if it has fewer."""
        if len(self.upper) < k:
            return np.full(self.queries, np.inf)
        kth = np.maximum(np.partition(self.upper, k - 1, axis=0)[k - 1], 0)
        return self.to_bound(kth if self.metric is Metric.COSINE else np.sqrt(kth))

    def measure(self, near: np.ndarray) -> Iterator[Pairs]:
        """Measure pairs by definition, in parts of bounded size."""
        rows, left = np.nonzero(near)
        width = 3 * 8 * self.right.vectors.shape[1]
        for part in chunks(len(rows), bounds.BUDGET // max(PAIR, width)):
            right = rows[part] + self.rows.start
            a = self.left.vectors[left[part] + self.part.start].toarray()
            distances = paired(a, self.right.vectors[right].toarray(), self.metric)
            yield Pairs(left[part].astype(np.int64), right.astype(np.int64), _to_float32(distances))


def _to_float32(distances: Float64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        return distances.astype(np.float32)


def _tiles(left: SparseGallery, right: SparseGallery, part: slice, metric: Metric) -> Iterator[_Tile]:
    dtype = np.promote_types(left.dtype, right.dtype)
    error = max(left.error, right.error)
    norms = left.squared_norms[part]
    columns = np.ascontiguousarray(left.vectors[part].toarray().astype(dtype).T)
    for rows in chunks(len(right), bounds.BUDGET // (_CELL * (len(norms) + 1))):
        products = (_rows(right.vectors, rows).astype(dtype, copy=False) @ columns).astype(np.float64)
        others = right.squared_norms[rows, None]
        if metric is Metric.COSINE:
            lengths = np.sqrt(others * norms)
            middle = 1 - np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
            yield _Tile(left, right, part, rows, metric, middle - error, middle + error)
        else:
            sums = others + norms
            middle = sums - 2 * products
            yield _Tile(left, right, part, rows, metric, middle - error * sums, middle + error * sums)


def _rows(vectors: "csr_array", rows: slice) -> "csr_array":
    """Return consecutive rows without a copy."""
    ends: Int64[np.ndarray, " n"] = vectors.indptr[rows.start : rows.stop + 1]
    entries = slice(ends[0], ends[-1])
    return type(vectors)(
        (vectors.data[entries], vectors.indices[entries], ends - ends[0]),
        shape=(rows.stop - rows.start, vectors.shape[1]),
        copy=False,
    )
