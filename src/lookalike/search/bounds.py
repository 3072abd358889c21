"""Lower bounds of distances at the speed of BLAS, and distances by definition."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike.metric import Metric, paired
from lookalike.search.chunks import chunks
from lookalike.search.coded import CodedVectors
from lookalike.search.gallery import FLOAT32, Gallery, Rows, inverse, slack
from lookalike.shapes import Float, Float32, Int32, Int64, Shaped, UInt8

BUDGET = 64 * 2**20
"""Maximum bytes of a tile without its pairs."""

DECODED = 2**21
"""Maximum bytes of codes that are decoded at a time: their vectors stay in the processor's cache until they are compared."""

CACHED = 2**16
"""Numbers measured at a time: a float64 array of this size stays in the processor's cache."""

_SPARSE = 3
"""For one query, a span of rows is compared in place if it has at most this many unwanted rows for each wanted one: copying
the wanted rows would take longer."""

_WIDE = 16
"""Bounds in a group from which reading them takes longer than selecting from the minima."""

_WITHOUT_FAISS = 2**21
"""Bytes of codes from which FAISS is loaded to compare them."""

_BATCH = 8
"""Queries for which it pays to copy codes into a size that FAISS compares faster."""


@dataclass(eq=False)
class BoundMatrix:
    """The candidates of a tile as a matrix of lower bounds; see `lookalike.search.gallery.Candidates`.

    Attributes:
        bounds: for each query and row.
        limit: computes `limits`.
        complete: see `Candidates`.
    """

    bounds: Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"]
    limit: Callable[[Float32[np.ndarray, " #q"]], Float[np.ndarray, " #q"] | Int32[np.ndarray, " #q"]]
    complete: bool = False
    _ceilings: Float[np.ndarray, " q"] | Int32[np.ndarray, " q"] | None = None

    def lowest(self, k: int, reach: Float32[np.ndarray, " #q"]) -> Int64[np.ndarray, " n"]:
        """See `Candidates.lowest`."""
        self._ceilings = kth = None if np.isfinite(reach).any() else kth_bound(self.bounds, k)
        if kth is None:
            limits = self.limit(reach)
            near = np.asarray(self.bounds <= limits[:, None])
            if np.count_nonzero(near) <= k * len(self.bounds):
                self.complete = True
                return np.flatnonzero(near)
            self._ceilings = kth = np.minimum(kth_bound(self.bounds, k), limits)
        return np.flatnonzero(self.bounds <= kth[:, None])

    def remaining(self, reach: Float32[np.ndarray, " #q"]) -> Int64[np.ndarray, " n"]:
        """See `Candidates.remaining`."""
        if self.complete:
            return np.empty(0, np.int64)
        limits = self.limit(reach)
        if self._ceilings is None:
            return np.flatnonzero(self.bounds <= limits[:, None])
        if (limits <= self._ceilings).all():
            return np.empty(0, np.int64)
        return np.flatnonzero((self.bounds <= limits[:, None]) & (self.bounds > self._ceilings[:, None]))

    def bounds_at(self, places: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"] | Int32[np.ndarray, " n"]:
        """See `Candidates.bounds_at`."""
        return np.asarray(self.bounds.reshape(-1)[places])

    def limits(self, reach: Float32[np.ndarray, " #q"]) -> Float[np.ndarray, " #q"] | Int32[np.ndarray, " #q"]:
        """See `Candidates.limits`."""
        return self.limit(reach)


class VectorBounds:
    """Lower bounds from the vectors themselves, by BLAS: the `BoundPrefilter` of a gallery without prefilters."""

    max_open = 1.0

    def __init__(self, queries: Gallery, gallery: Gallery, metric: Metric) -> None:
        self.queries, self.gallery, self.metric = queries, gallery, metric
        self.row_bytes = gallery.vectors.itemsize * gallery.vectors.shape[1]
        self._dtype = FLOAT32 if queries.dtype == gallery.dtype == FLOAT32 else np.dtype(np.float64)
        # The memory is reused: allocating it for each tile would take a sixth of the time of a batch.
        self._memory: Shaped[np.ndarray, " cells"] | None = None

    def compare(self, rows: Rows) -> BoundMatrix:
        """See `BoundPrefilter.compare`."""
        return BoundMatrix(self._bounds(rows), self._limits)

    def _bounds(self, rows: Rows) -> Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"]:
        vectors = self.gallery.vectors
        if not isinstance(vectors, CodedVectors) or not vectors.decodes_each_pass:
            return self._compute(rows)
        length = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        bounds = np.empty((len(self.queries), length), np.int32 if self.metric == Metric.HAMMING else self._dtype)
        for part in chunks(length, DECODED // max(1, self.row_bytes)):
            bounds[:, part] = self._compute(_select(rows, part))
        return bounds

    def _compute(self, rows: Rows) -> Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"]:
        if isinstance(rows, np.ndarray) and len(rows):
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            unwanted = span.stop - span.start - len(rows)
            if unwanted * len(self.queries) <= _SPARSE * len(rows):
                bounds = self._compute(span)
                return bounds[:, rows - span.start] if unwanted else bounds
        selected = self.gallery.take(rows)
        terms = None if self.metric == Metric.HAMMING else self.gallery.terms(self.metric, self._dtype)[rows]
        out = None
        cells = len(self.queries) * len(selected)
        if self._memory is not None and cells <= self._memory.size:
            out = self._memory[:cells].reshape(len(self.queries), len(selected))
        bounds = lower_bounds(self.queries, selected, self.metric, terms, out=out)
        if self._memory is None and len(self.queries) > 1:
            self._memory = bounds.reshape(-1)
        return bounds

    def _limits(self, reach: Float32[np.ndarray, " #q"]) -> Float[np.ndarray, " #q"] | Int32[np.ndarray, " #q"]:
        return limits(reach, self.queries, self.metric, self._dtype)


def _select(rows: Rows, part: slice) -> Rows:
    return slice(rows.start + part.start, rows.start + part.stop) if isinstance(rows, slice) else rows[part]


def kth_bound(
    bounds: Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"], k: int
) -> Float[np.ndarray, " q"] | Int32[np.ndarray, " q"]:
    """Find for each query a limit that at least k of its bounds, and few more, do not exceed.

    If a query has k bounds or fewer, the limit is the largest of them. If it has many, the limit is the k-th smallest
    minimum of groups of bounds, which is much faster to find than the k-th smallest bound.
    """
    queries, rows = bounds.shape
    groups = 8 * k + 248
    if rows < _WIDE * groups:  # smaller groups leave fewer minima to select from
        groups = 4 * k + 24
    if rows >= 2 * groups:
        bounds = bounds[:, : rows // groups * groups].reshape(queries, -1, groups).min(axis=1)
    elif rows <= k:
        return np.asarray(bounds.max(axis=1))
    return np.asarray(np.partition(bounds, k - 1, axis=1)[:, k - 1])


def measure(
    left: Gallery,
    right: Gallery,
    left_rows: Int64[np.ndarray, " n"],
    right_rows: Int64[np.ndarray, " n"],
    metric: Metric,
) -> Float32[np.ndarray, " n"]:
    """Compute the distances of pairs of rows by definition, rounded to float32."""
    distances, d = np.empty(len(left_rows), np.float32), left.vectors.shape[1]
    size = min(len(left_rows), max(1, CACHED // (d + 1)))
    # Memory is allocated once: otherwise the system would reclaim and clear it for each part.
    a, b, workspace = (np.empty((size, d), t) for t in (left.vectors.dtype, right.vectors.dtype, np.float64))
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        for part in chunks(len(left_rows), size):
            n = len(left_rows[part])
            x, y = _take(left.vectors, left_rows[part], a[:n]), _take(right.vectors, right_rows[part], b[:n])
            distances[part] = paired(x, y, metric, workspace=workspace[:n])
    return distances


def _take(
    vectors: Shaped[np.ndarray, "n d"] | CodedVectors, rows: Int64[np.ndarray, " m"], out: Shaped[np.ndarray, "m d"]
) -> Shaped[np.ndarray, "m d"]:
    """Select rows, into existing memory if possible."""
    # Of another array, `take` would copy the whole.
    if isinstance(vectors, CodedVectors) or not vectors.flags.c_contiguous:
        return np.asarray(vectors[rows])
    np.take(vectors, rows, axis=0, out=out, mode="clip")  # in other modes NumPy makes a copy first
    return out


def lower_bounds(
    queries: Gallery,
    gallery: Gallery,
    metric: Metric,
    terms: Float[np.ndarray, " m"] | None = None,
    *,
    out: Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"] | None = None,
) -> Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"]:
    """Compute a lower bound of each distance, less a constant of its query, which `limits` subtracts too.

    With s from `slack`, a query x and a row y, as BLAS computes them:

    - Euclidean, of the square: ‖x‖²(1 - s) + ‖y‖²(1 - s) - 2xy; here without its first term.
    - Cosine: 1 - s - xy / ‖x‖‖y‖; here without 1 - s.
    - Hamming: the distance itself.

    Args:
        queries: the left side.
        gallery: the right side.
        metric: of the distances.
        terms: `Gallery.terms` of the rows; computed by default.
        out: memory for the result.
    """
    if metric == Metric.HAMMING:
        return count_differing_bits(queries.array, gallery.array, out)
    dtype = np.promote_types(queries.dtype, gallery.dtype)
    if terms is None:
        terms = gallery.terms(metric, dtype)
    factors = -2 if metric == Metric.EUCLIDEAN else -inverse(np.sqrt(queries.squared_norms))[:, None]
    scaled = (queries.array * factors).astype(dtype, copy=False)
    vectors = gallery.array.astype(dtype, copy=False)
    bounds: Float[np.ndarray, "q m"]
    bounds = (vectors @ scaled[0])[None] if len(scaled) == 1 else np.matmul(scaled, vectors.T, out=out)
    if metric == Metric.EUCLIDEAN:
        bounds += terms
    else:
        bounds *= terms
    return bounds


def limits(
    reach: Float32[np.ndarray, " #q"], queries: Gallery, metric: Metric, dtype: "np.dtype[Any]" = FLOAT32
) -> Float[np.ndarray, " q"] | Int32[np.ndarray, " q"]:
    """Compute the largest lower bound of each query that a pair within ``reach``, rounded to float32, can have."""
    if metric == Metric.HAMMING:
        return np.asarray(np.minimum(reach, np.float32(2**30)), np.int32)
    with np.errstate(over="ignore", under="ignore"):
        # A distance that rounds to the reach is smaller than the next float32.
        limit = np.nextafter(reach, np.float32(np.inf)).astype(np.float64)
        error = slack(queries.vectors.shape[1], dtype)
        constant = queries.squared_norms * (1 - error) if metric == Metric.EUCLIDEAN else 1 - error
        limit = (limit**2 if metric == Metric.EUCLIDEAN else limit) - constant
        return np.asarray(np.nextafter(limit.astype(dtype), dtype.type(np.inf)))


def count_differing_bits(
    a: UInt8[np.ndarray, "q bytes"], b: UInt8[np.ndarray, "m bytes"], out: Int32[np.ndarray, "q m"] | None = None
) -> Int32[np.ndarray, "q m"]:
    """Count the differing bits of all pairs of codes.

    Args:
        a: codes.
        b: other codes.
        out: memory for the result.
    """
    counts = np.empty((len(a), len(b)), np.int32) if out is None else out
    if not counts.size or not a.shape[1]:
        counts[:] = 0
        return counts
    loaded = load_faiss(len(a) * b.size)
    width = _padded(a.shape[1], len(a)) if loaded else -(-a.shape[1] // 8) * 8
    a, b = _pad(a, width), _pad(b, width)
    if loaded:
        import faiss  # noqa: PLC0415 -- see `load_faiss`

        pointers = (faiss.swig_ptr(a), faiss.swig_ptr(b), len(a), len(b), width, faiss.swig_ptr(counts))
        faiss.hammings(*pointers)  # type: ignore[attr-defined]
    else:
        counts[:] = 0
        for x, y in zip(a.view(np.uint64).T, b.view(np.uint64).T, strict=True):
            counts += np.bitwise_count(x[:, None] ^ y)
    return counts


def load_faiss(size: int) -> bool:
    """Load FAISS if it is worth its time to compare this many bytes of codes, and return whether it is loaded.

    It takes 0.15 s, so a command that searches a small collection once goes without it. NumPy then takes half a millisecond
    longer at most.
    """
    if size >= _WITHOUT_FAISS:
        import faiss  # noqa: F401, PLC0415 -- as above
    return "faiss" in sys.modules


def _padded(width: int, queries: int) -> int:
    """Choose the bytes to which codes are padded: whole words, and for a batch a size that FAISS compares faster."""
    if queries < _BATCH:
        return -(-width // 8) * 8
    return next((size for size in (8, 16, 32, 64) if width <= size), -(-width // 64) * 64)


def _pad(codes: UInt8[np.ndarray, "n bytes"], width: int) -> UInt8[np.ndarray, "n width"]:
    """Pad codes with zeros."""
    if codes.shape[1] == width:
        return np.ascontiguousarray(codes)
    padded = np.zeros((len(codes), width), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded
