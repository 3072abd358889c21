"""A quantised gallery: 8 or 16 bits a number, which a single query reads in place of the vectors.

A vector y is approximated by ŷ = scale·c + centre, with codes c of 8 or 16 bits. By the triangle inequality ‖x - y‖
differs from ‖x̂ - ŷ‖ by at most ‖x - x̂‖ + ‖y - ŷ‖. The first term is known for each query, and the second is bounded by
its maximum over the gallery. FAISS compares the codes. Rows that their distances do not rule out are measured by
definition.

One query over 1,000,000 vectors of 128 numbers: 23.5 ms without, 6.6 ms with codes of 8 bits (``benchmarks/scans.py``).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np

from lookalike.metric import Metric, squared_norms
from lookalike.search.chunks import chunks
from lookalike.search.gallery import Arrays, Gallery, Rows
from lookalike.search.prefilters.directions import unit_vectors
from lookalike.shapes import Bool, Float16, Float32, Int64, Shaped, UInt8

Precision = Literal["float32", "float16", "int8"]

_LARGEST_CODE = 127
"""Codes of 8 bits lie in -127…127; FAISS stores them as bytes, plus 128."""

_LARGEST_QUERY = 2.0**40
"""Queries are clipped to this many steps of 16 bits, so that no square overflows."""

_OUTLIERS = 1000, 64
"""One vector in 1,000, and at most 64, may lie outside the range of 8 bits; they are measured for every query."""

_SAMPLE = 4096
"""Vectors whose medians are the centre; one huge vector would distort a mean."""

_ROUNDING = 2.0**-40
"""Relative bound of all rounding errors in float64 together."""

_EXTRA = 64
"""Candidates beyond four times k: they take little time, and mostly prove that no other row is nearer."""

_NEW = 100
"""One row in 100 may be new since the codes were made; new rows are measured for every query. More need new codes."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """A gallery in 8 or 16 bits a number. Its arrays may be memory-mapped; FAISS reads them in place.

    Attributes:
        codes: float16, or uint8 (a signed number plus 128).
        centre: the vector of a code of zeros.
        scale: the distance between two codes.
        residual: the largest ‖y - ŷ‖ without exceptions.
        exceptions: rows without valid codes, which are always candidates.
        metric: euclidean or cosine. For cosine, the codes are of unit vectors.
    """

    kind: ClassVar[str] = "quantised"

    codes: UInt8[np.ndarray, "n d"] | Float16[np.ndarray, "n d"]
    centre: Float32[np.ndarray, " d"]
    scale: float
    residual: float
    exceptions: Int64[np.ndarray, " e"]
    metric: Metric

    @property
    def precision(self) -> Precision:
        """See `Prefilter.precision`."""
        return "int8" if self.codes.dtype == np.uint8 else "float16"

    @property
    def nbytes(self) -> int:
        """See `Prefilter.nbytes`."""
        return self.codes.nbytes

    def serves(self, metric: Metric, queries: int, *, subset: bool) -> bool:
        """See `Prefilter.serves`: single queries of its metric over all rows. A matrix product is faster for batches."""
        return metric == self.metric and queries == 1 and not subset

    def bind(self, queries: Gallery, own: Rows | None = None) -> "_Query | None":  # noqa: ARG002 -- a query's code is finer
        """See `Prefilter.bind`; none for a zero vector by cosine, which has no direction."""
        if len(queries) != 1 or (self.metric == Metric.COSINE and not queries.squared_norms[0]):
            return None
        vector = unit_vectors(queries.array, self.metric)[0]
        steps = (vector - self.centre) / self.scale
        # FAISS truncates the query to integers if codes are bytes, so it is rounded before.
        limit = _LARGEST_CODE if self.precision == "int8" else _LARGEST_QUERY
        code = np.clip(np.rint(steps) if self.precision == "int8" else steps, -limit, limit).astype(np.float32)
        error = vector - (self.scale * code.astype(np.float64) + self.centre)
        lengths = math.sqrt(vector @ vector) + self._centre_length
        margin = (math.sqrt(error @ error) + self.residual) * (1 + _ROUNDING) + _ROUNDING * lengths
        return _Query(self, code, margin)

    @cached_property
    def _centre_length(self) -> float:
        return float(np.linalg.norm(self.centre.astype(np.float64)))

    def update(
        self, vectors: Float32[np.ndarray, "n d"], rows: Int64[np.ndarray, " k"], known: Bool[np.ndarray, " n"]
    ) -> Self | None:
        """See `Prefilter.update`; new vectors become exceptions, unless there are too many."""
        if np.count_nonzero(~known) > max(16, len(known) // _NEW):
            return None
        codes = np.zeros(vectors.shape, self.codes.dtype)
        codes[known] = self.codes[rows]
        exceptions = ~known
        exceptions[known] = np.isin(rows, self.exceptions)
        return replace(self, codes=codes, exceptions=np.flatnonzero(exceptions))

    def save(self) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]]:
        """See `Prefilter.save`."""
        metadata = {"scale": self.scale, "residual": self.residual, "metric": self.metric}
        return metadata, {"codes": self.codes, "centre": self.centre, "exceptions": self.exceptions}

    @classmethod
    def load(cls, metadata: Mapping[str, Any], arrays: Arrays, shape: tuple[int, int]) -> Self:
        """See `Prefilter.load`."""
        codes, centre, exceptions = arrays["codes"], arrays["centre"], arrays["exceptions"]
        types = codes.dtype in (np.uint8, np.float16) and centre.dtype == np.float32 and exceptions.dtype == np.int64
        shapes = codes.shape == shape and centre.shape == shape[1:] and exceptions.ndim == 1
        if not types or not shapes or (len(exceptions) and not 0 <= exceptions.min() <= exceptions.max() < shape[0]):
            raise ValueError("the codes are for other vectors")
        scale, residual = float(metadata["scale"]), float(metadata["residual"])
        return cls(codes, centre, scale, residual, exceptions, Metric(metadata["metric"]))

    @contextmanager
    def scanner(self, code: Float32[np.ndarray, " d"]) -> Iterator[Any]:
        """Take a FAISS scanner, which compares a query with codes. Scanners are reused, since FAISS does not free them."""
        import faiss  # noqa: PLC0415 -- the import takes 0.15 s, which other commands need not wait for

        try:
            scanner = self._scanners.pop()
        except IndexError:
            kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
            kind = kind if self.precision == "int8" else faiss.ScalarQuantizer.QT_fp16
            quantizer: Any = faiss.ScalarQuantizer(len(code), kind)
            scanner = quantizer.select_InvertedListScanner(faiss.METRIC_L2, None, True, None, False)
            scanner.list_no, scanner.code_size = 0, quantizer.code_size
            scanner.quantizer = quantizer  # FAISS keeps a pointer to it, so Python must not free it
        scanner.set_query(faiss.swig_ptr(code))
        try:
            yield scanner
        finally:
            self._scanners.append(scanner)

    @cached_property
    def _scanners(self) -> list[Any]:
        return []


@dataclass(frozen=True, eq=False)
class _Query:
    """One query as codes; see `BoundPrefilter`."""

    quantised: Quantised
    code: Float32[np.ndarray, " d"]
    margin: float
    """The largest difference between the distance of codes and the Euclidean distance."""

    max_open: ClassVar[float] = 1 / 32
    row_bytes: ClassVar[int] = 0

    def compare(self, rows: Rows) -> "_Codes":
        """See `BoundPrefilter.compare`; rows are a slice, since `Quantised.serves` excludes subsets."""
        if not isinstance(rows, slice):
            raise TypeError("codes are compared in slices")
        in_tile = self.quantised.exceptions
        if len(in_tile):
            in_tile = in_tile[np.searchsorted(in_tile, rows.start) : np.searchsorted(in_tile, rows.stop)]
        return _Codes(self, self.quantised.codes[rows].view(np.uint8), in_tile - rows.start)

    def lower_bound(self, square: float) -> float:
        """Compute a lower bound of a distance, in the metric's unit, from the squared distance of its codes."""
        if not np.isfinite(square):
            return np.inf
        distance = max(0.0, self.quantised.scale * np.sqrt(square * (1 - self._slack)) - self.margin)
        return float(distance**2 / 2 - self._slack if self.quantised.metric == Metric.COSINE else distance)

    def square_limit(self, reach: float) -> float:
        """Compute a number above all squared distances of codes of rows within ``reach``."""
        with np.errstate(over="ignore"):
            cosine = self.quantised.metric == Metric.COSINE
            distance = float(np.sqrt(2 * (reach + self._slack))) if cosine else reach
            square = np.square((np.float64(distance) + self.margin) / self.quantised.scale) * (1 + 2 * self._slack)
            return float(np.nextafter(np.float32(square), np.float32(np.inf)))

    @cached_property
    def _slack(self) -> float:
        # A sum of d squares in float32 has d + 2 roundings (Higham, section 3.1), which exceed those in float64 by far.
        return (len(self.code) + 8) * 2.0**-23


@dataclass(eq=False)
class _Codes:
    """Candidates among the codes of a tile; see `Candidates`."""

    query: _Query
    codes: UInt8[np.ndarray, "m bytes"]
    exceptions: Int64[np.ndarray, " e"]
    complete: bool = False
    _proven: float = -np.inf
    """All rows that `lowest` did not return are farther than this."""
    _returned: Int64[np.ndarray, " g"] | None = None
    _near: tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]] | None = None

    def lowest(self, k: int, reach: Float32[np.ndarray, " 1"]) -> Int64[np.ndarray, " n"] | None:
        """See `Candidates.lowest`."""
        import faiss  # noqa: PLC0415

        count = 4 * k + _EXTRA
        if count >= len(self.codes) // 4:
            return None
        squares, rows = np.full(count, np.inf, np.float32), np.full(count, -1, np.int64)
        heap = faiss.swig_ptr(squares), faiss.swig_ptr(rows)
        with self.query.quantised.scanner(self.query.code) as scanner:
            scanner.scan_codes(len(self.codes), faiss.swig_ptr(self.codes), None, *heap, count)
        self._proven = self.query.lower_bound(float(squares.max()))
        self._returned = self._with_exceptions(rows[rows >= 0])
        self.complete = self._excludes(reach)
        return self._returned

    def remaining(self, reach: Float32[np.ndarray, " 1"]) -> Int64[np.ndarray, " n"]:
        """See `Candidates.remaining`."""
        import faiss  # noqa: PLC0415

        if self._returned is not None and self._excludes(reach):
            return np.empty(0, np.int64)
        result = faiss.RangeSearchResult(1)
        partial = faiss.RangeSearchPartialResult(result)  # type: ignore[attr-defined]
        output = partial.new_result(0)
        with self.query.quantised.scanner(self.query.code) as scanner:
            codes = faiss.swig_ptr(self.codes)
            scanner.scan_codes_range(len(self.codes), codes, None, float(self.limits(reach)[0]), output)
        partial.finalize()
        count = int(faiss.rev_swig_ptr(result.lims, 2)[1])
        rows = np.array(faiss.rev_swig_ptr(result.labels, count), np.int64)
        squares = np.array(faiss.rev_swig_ptr(result.distances, count), np.float32)
        self._near = rows, squares
        places = self._with_exceptions(rows)
        return places if self._returned is None else np.setdiff1d(places, self._returned, assume_unique=True)

    def bounds_at(self, places: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """See `Candidates.bounds_at`; the bound of an exception is 0."""
        squares = np.zeros(len(self.codes), np.float32)
        if self._near is not None:
            squares[self._near[0]] = self._near[1]
        squares[self.exceptions] = 0
        return np.asarray(squares[places])

    def limits(self, reach: Float32[np.ndarray, " 1"]) -> Float32[np.ndarray, " 1"]:
        """See `Candidates.limits`."""
        # A distance that rounds to the reach is smaller than the next float32.
        farthest = float(np.nextafter(reach[0], np.float32(np.inf)))
        return np.array([self.query.square_limit(farthest)], np.float32)

    def _with_exceptions(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        return np.union1d(rows, self.exceptions) if len(self.exceptions) else np.sort(rows)

    def _excludes(self, reach: Float32[np.ndarray, " 1"]) -> bool:
        return self._proven > reach[0] and self._proven > float(np.nextafter(reach[0], np.float32(np.inf)))


def quantise(vectors: Float32[np.ndarray, "n d"], metric: Metric, precision: Precision) -> Quantised | None:
    """Quantise vectors; none if there are none, or if too many lie outside the range of the codes.

    It reads the vectors twice, in chunks.

    Args:
        vectors: float32.
        metric: euclidean or cosine.
        precision: of the codes; float32 gives none.
    """
    n, d = vectors.shape
    if precision == "float32" or not n or not d:
        return None
    parts = list(chunks(n, 2**18 // d))
    centre = np.median(unit_vectors(vectors[:: 1 + n // _SAMPLE], metric), axis=0).astype(np.float32)
    widths = np.concatenate([np.abs(unit_vectors(vectors[part], metric) - centre).max(axis=1) for part in parts])
    eight_bits = precision == "int8"
    outliers = min(n // _OUTLIERS[0], _OUTLIERS[1]) if eight_bits else 0
    widest = float(np.partition(widths, n - 1 - outliers)[n - 1 - outliers])
    scale = widest / (_LARGEST_CODE if eight_bits else 1) or 1.0
    outside = widths > widest
    codes = np.empty((n, d), np.uint8 if eight_bits else np.float16)
    residuals = np.empty(n)
    for part in parts:
        exact = unit_vectors(vectors[part], metric)
        steps = (exact - centre) / scale
        code = np.clip(np.rint(steps), -_LARGEST_CODE, _LARGEST_CODE) if eight_bits else steps.astype(np.float16)
        codes[part] = code + 128 if eight_bits else code
        residuals[part] = np.sqrt(squared_norms(exact - (scale * code.astype(np.float64) + centre)))
        if metric == Metric.COSINE:
            outside[part] |= ~vectors[part].any(axis=1)
    if np.count_nonzero(outside) > max(16, n // 100):
        return None
    lengths = np.linalg.norm(centre.astype(np.float64)) + np.sqrt(d) * widest
    residual = float(residuals[~outside].max(initial=0) * (1 + _ROUNDING) + _ROUNDING * lengths)
    return Quantised(codes, centre, scale, residual, np.flatnonzero(outside), metric)
