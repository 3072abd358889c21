"""Galleries in fewer bytes, which are read faster, and what their distances prove about the true ones.

A vector y is kept as ŷ = scale·c + centre, with c of 8 or 16 bits. By the triangle inequality ‖x - y‖ differs from
‖x̂ - ŷ‖ by at most ‖x - x̂‖ + ‖y - ŷ‖. The first is known for each query, the second has a largest value. So FAISS reads
the codes, and only what its distances leave open is measured by definition.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float16, Float32, Float64, Int64, UInt8

from lookalike.metric import Metric, squared_norms
from lookalike.search.chunks import chunks

Precision = Literal["float32", "float16", "int8"]

_CHUNK = 2**20
"""Codes that are scanned at a time, so that what is found in them takes bounded memory."""

_MOST = 127
"""Codes of 8 bits go from -127 to 127; FAISS keeps them as bytes, 128 more."""

_FARTHEST = 2.0**40
"""Queries are scanned up to here, in steps of 16 bits, so that no square overflows."""

_LEFT_OUT = 1000, 64
"""One vector of so many, and so many at most, may lie outside the range of 8 bits: they are measured for every query."""

_SAMPLE = 4096
"""Vectors whose medians are the centre: a mean would follow a single huge vector."""

_ROUNDING = 2.0**-40
"""More than all roundings in float64 together, in proportion to what is computed."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A gallery in fewer bytes. Plain arrays, which may be memory-mapped; FAISS reads them where they lie.

    Attributes:
        codes: float16, or uint8: a signed number plus 128.
        centre: what a code of zero stands for.
        scale: what a step of a code stands for.
        residual: the largest ‖y - ŷ‖ but for the exceptions.
        exceptions: rows of which the codes say nothing.
        metric: euclidean, or cosine: then the codes are of vectors brought to length 1.
    """

    codes: UInt8[np.ndarray, "n d"] | Float16[np.ndarray, "n d"]
    centre: Float32[np.ndarray, " d"]
    scale: float
    residual: float
    exceptions: Int64[np.ndarray, " e"]
    metric: Metric

    def ask(self, query: Float32[np.ndarray, " d"]) -> "Question":
        """Make a query ready; it is not a zero vector where the metric is cosine."""
        vector = directed(query[None], self.metric)[0]
        steps = (vector - self.centre) / self.scale
        eight_bits = self.codes.dtype == np.uint8
        # FAISS cuts the query to whole numbers where codes are bytes; rounded beforehand, it loses nothing more.
        code = np.clip(np.rint(steps), -_MOST, _MOST) if eight_bits else np.clip(steps, -_FARTHEST, _FARTHEST)
        code = code.astype(np.float32)
        residual = np.linalg.norm(vector - (self.scale * code.astype(np.float64) + self.centre))
        lengths = np.linalg.norm(vector) + np.linalg.norm(self.centre.astype(np.float64))
        margin = (residual + self.residual) * (1 + _ROUNDING) + _ROUNDING * lengths
        return Question(self, code, float(margin))

    @contextmanager
    def scanner(self, code: Float32[np.ndarray, " d"]) -> Iterator[Any]:
        """What compares a query with codes: one of FAISS's scanners, which nobody frees and which are used again."""
        import faiss  # noqa: PLC0415 - reads for a seventh of a second, which other commands would wait for

        try:
            scanner = self._idle.pop()
        except IndexError:
            kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
            kind = kind if self.codes.dtype == np.uint8 else faiss.ScalarQuantizer.QT_fp16
            quantizer: Any = faiss.ScalarQuantizer(len(code), kind)
            scanner = quantizer.select_InvertedListScanner(faiss.METRIC_L2, None, True, None, False)
            scanner.list_no, scanner.code_size = 0, quantizer.code_size
            scanner.quantizer = quantizer  # which it points to
        scanner.set_query(faiss.swig_ptr(code))
        try:
            yield scanner
        finally:
            self._idle.append(scanner)

    @cached_property
    def _idle(self) -> list[Any]:
        return []


@dataclass(frozen=True, eq=False)
class Question:
    """One query, to be asked of a scan."""

    scan: Scan
    code: Float32[np.ndarray, " d"]
    margin: float
    """How far the codes' distance and the Euclidean one may be apart."""

    def nearest(self, k: int) -> tuple[Int64[np.ndarray, " m"], float]:
        """At least k rows that seem nearest, with the exceptions, and a distance that all others are farther than."""
        import faiss  # noqa: PLC0415

        found, least = [self.scan.exceptions], np.inf
        for chunk in chunks(len(self.scan.codes), _CHUNK):
            codes = self.scan.codes[chunk].view(np.uint8)
            squares, rows = np.full(k, np.inf, np.float32), np.full(k, -1, np.int64)
            places = faiss.swig_ptr(squares), faiss.swig_ptr(rows)
            with self.scan.scanner(self.code) as scanner:
                scanner.scan_codes(len(codes), faiss.swig_ptr(codes), None, *places, k)
            found.append(rows[rows >= 0] + chunk.start)
            least = min(least, float(squares.max()))
        return np.unique(np.concatenate(found)), self._at_least(least)

    def inside(self, reach: float) -> Iterator[tuple[slice, Int64[np.ndarray, " m"]]]:
        """All rows that may be within reach, with some that are not: chunk by chunk, the exceptions among them."""
        import faiss  # noqa: PLC0415

        for chunk in chunks(len(self.scan.codes), _CHUNK):
            codes = self.scan.codes[chunk].view(np.uint8)
            result = faiss.RangeSearchResult(1)
            partial = faiss.RangeSearchPartialResult(result)  # type: ignore[attr-defined]
            into = partial.new_result(0)
            with self.scan.scanner(self.code) as scanner:
                scanner.scan_codes_range(len(codes), faiss.swig_ptr(codes), None, self._square_at(reach), into)
            partial.finalize()
            rows = faiss.rev_swig_ptr(result.labels, int(faiss.rev_swig_ptr(result.lims, 2)[1])).copy()
            mine = self.scan.exceptions
            mine = mine[(mine >= chunk.start) & (mine < chunk.stop)]
            yield chunk, np.union1d(rows + chunk.start, mine)

    def _at_least(self, square: float) -> float:
        """The distance, in the metric's unit, that is proven by the square of a distance of codes."""
        if not np.isfinite(square):
            return np.inf
        distance = max(0.0, self.scan.scale * np.sqrt(square * (1 - self._slack)) - self.margin)
        return float(distance**2 / 2 - self._slack if self.scan.metric == Metric.COSINE else distance)

    def _square_at(self, reach: float) -> float:
        """The other way round: the square that is larger than those of all codes within reach."""
        with np.errstate(over="ignore"):
            distance = float(np.sqrt(2 * (reach + self._slack))) if self.scan.metric == Metric.COSINE else reach
            square = np.square((np.float64(distance) + self.margin) / self.scan.scale) * (1 + 2 * self._slack)
            return float(np.nextafter(np.float32(square), np.float32(np.inf)))

    @property
    def _slack(self) -> float:
        # A sum of d squares in float32: d + 2 roundings (Higham, section 3.1), and many more of float64 than there are.
        return (len(self.scan.centre) + 8) * 2.0**-23


def reduced(vectors: Float32[np.ndarray, "n d"], metric: Metric, precision: Precision) -> Scan | None:
    """These vectors in fewer bytes; nothing where that says little: where they are too unlike in length, or too few.

    It reads them twice, block by block.
    """
    n, d = vectors.shape
    if precision == "float32" or not n or not d:
        return None
    size = 2**18 // d
    parts = list(chunks(n, size))
    centre = np.median(directed(vectors[:: 1 + n // _SAMPLE], metric), axis=0).astype(np.float32)
    widths = np.concatenate([np.abs(directed(vectors[part], metric) - centre).max(axis=1) for part in parts])
    eight_bits = precision == "int8"
    left_out = min(n // _LEFT_OUT[0], _LEFT_OUT[1]) if eight_bits else 0
    widest = float(np.partition(widths, n - 1 - left_out)[n - 1 - left_out])
    scale = widest / (_MOST if eight_bits else 1) or 1.0
    outside = widths > widest
    codes = np.empty((n, d), np.uint8 if eight_bits else np.float16)
    residuals = np.empty(n)
    for part in parts:
        ours = directed(vectors[part], metric)
        steps = (ours - centre) / scale
        code = np.clip(np.rint(steps), -_MOST, _MOST) if eight_bits else steps.astype(np.float16)
        codes[part] = code + 128 if eight_bits else code
        residuals[part] = np.sqrt(squared_norms(ours - (scale * code.astype(np.float64) + centre)))
        if metric == Metric.COSINE:
            outside[part] |= ~vectors[part].any(axis=1)
    if np.count_nonzero(outside) > max(16, n // 100):
        return None
    lengths = np.linalg.norm(centre.astype(np.float64)) + np.sqrt(d) * widest
    residual = float(residuals[~outside].max(initial=0) * (1 + _ROUNDING) + _ROUNDING * lengths)
    return Scan(codes, centre, scale, residual, np.flatnonzero(outside), metric)


def directed(vectors: Float32[np.ndarray, "n d"], metric: Metric) -> Float64[np.ndarray, "n d"]:
    """In float64, and for cosine of length 1: then half the square of a Euclidean distance is the cosine distance."""
    if metric == Metric.EUCLIDEAN:
        return vectors.astype(np.float64)
    norms: Float[np.ndarray, "n 1"] = np.sqrt(squared_norms(vectors))[:, None]
    return np.asarray(np.divide(vectors, norms, out=np.zeros(vectors.shape), where=norms > 0))
