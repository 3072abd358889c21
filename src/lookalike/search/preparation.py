"""Preparation of vectors for search: checks, norms and prefilters."""

import math
from typing import get_args

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import Metric, squared_norms
from lookalike.search import prefilters
from lookalike.search.bounds import CACHED
from lookalike.search.chunks import chunks
from lookalike.search.coded import CodedVectors
from lookalike.search.gallery import FLOAT32, Gallery, Prefilter, is_safe
from lookalike.search.prefilters.quantised import Precision
from lookalike.shapes import Bool, Int64, Shaped

_FLOAT64 = np.dtype(np.float64)
_PRECISIONS = get_args(Precision)


def prepare(
    vectors: Shaped[np.ndarray, "..."] | CodedVectors, metric: Metric, precision: Precision = "float32"
) -> Gallery:
    """Prepare vectors for search: check them, and compute their norms and prefilters. It reads them once, in chunks.

    A gallery prepared for Euclidean distance also serves cosine distance, and vice versa.

    Args:
        vectors: ``(n, d)``; real numbers, which are converted to float32, or for Hamming bits packed into uint8. Vectors in
            codes stay so.
        metric: of the searches.
        precision: int8 or float16 adds a quantised copy for single queries and a projected copy for batches, unless they
            would rule out too few vectors. Answers stay the same and are up to four times faster. Both copies serve only
            this metric. Bits and vectors in codes have none.

    Raises:
        UsageError: the vectors have another shape or type, or values that are infinite or NaN in float32.
    """
    if not isinstance(vectors, CodedVectors):
        vectors = np.asarray(vectors)
    if precision not in _PRECISIONS:
        raise UsageError(f"There is no precision “{precision}”; choose one of {', '.join(_PRECISIONS)}.")
    if len(vectors.shape) != 2:  # noqa: PLR2004
        raise UsageError(f"Vectors are an array of shape (n, d), not {vectors.shape}; for one vector v pass v[None].")
    if metric == Metric.HAMMING:
        if vectors.dtype != np.uint8:
            raise UsageError(
                f"Hamming distance compares bits packed into uint8 (numpy.packbits), not {vectors.dtype}."
                " Choose another metric, or pass packed bits."
            )
        return Gallery(vectors, np.zeros(len(vectors)))
    vectors = _to_float32(vectors, metric)
    norms = np.empty(len(vectors))
    for part in chunks(len(vectors), CACHED // (vectors.shape[1] + 1)):
        norms[part] = squared_norms(vectors[part])
    if not math.isfinite(norms.sum()):  # sums of squares of finite float32 numbers do not overflow float64
        bad = np.flatnonzero(~np.isfinite(norms))
        raise UsageError(f"Row {bad[0]} ({len(bad)} in all) holds NaN or infinite values; leave such vectors out.")
    safe = is_safe(norms, vectors.shape[1])
    built: tuple[Prefilter, ...] = ()
    if precision != "float32" and not isinstance(vectors, CodedVectors):
        built = prefilters.build(vectors, metric, precision, safe=safe)
    return Gallery(vectors, norms, FLOAT32 if safe else _FLOAT64, built)


def update(
    gallery: Gallery,
    vectors: Shaped[np.ndarray, "n d"] | CodedVectors,
    rows: Int64[np.ndarray, " k"],
    known: Bool[np.ndarray, " n"],
    metric: Metric,
) -> Gallery:
    """Prepare a changed gallery: check only new vectors, and update prefilters if possible.

    Args:
        gallery: the gallery before the change.
        vectors: of the changed gallery.
        rows: rows of the old gallery that remain; their vectors are ``vectors[known]``, in this order.
        known: a mask of the vectors that are not new.
        metric: as in `prepare`.

    Raises:
        UsageError: `prepare` refuses a new vector.
    """
    new = prepare(vectors[~known], metric)
    norms = np.empty(len(vectors))
    norms[known], norms[~known] = gallery.squared_norms[rows], new.squared_norms
    dtype = np.promote_types(gallery.dtype, new.dtype)
    if isinstance(vectors, CodedVectors):
        return Gallery(vectors, norms, dtype)
    updated = (prefilter.update(vectors, rows, known) for prefilter in gallery.prefilters)
    kept = tuple(prefilter for prefilter in updated if prefilter is not None)
    return Gallery(vectors, norms, dtype, kept)


def _to_float32(
    vectors: Shaped[np.ndarray, "n d"] | CodedVectors, metric: Metric
) -> Shaped[np.ndarray, "n d"] | CodedVectors:
    if vectors.dtype.kind not in "fiu":
        raise UsageError(f"The {metric.unit} compares real numbers, not {vectors.dtype}; convert them to float32.")
    if isinstance(vectors, CodedVectors) or vectors.dtype == np.float32:
        return vectors
    with np.errstate(over="ignore"):  # `prepare` refuses infinite numbers later
        return vectors.astype(np.float32)
