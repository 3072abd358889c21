"""One query: a pass over the gallery at the speed of memory, and little beside it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import bounds
from lookalike.search.answers import Pairs, joined, round_range
from lookalike.search.bounds import Gallery, kth, limits, lower_bounds, measure
from lookalike.search.chunks import chunks
from lookalike.search.scan import Question

_ROW = 32
"""Bytes that a row may take: its bound, its place in the order, whether it is near."""

_SPARSE = 4
"""Where fewer than one row of so many is searched, these are copied; else all between the first and the last are read."""

_CANDIDATES = 64
"""Rows that a scan proposes beside four times k. They cost little, and mostly prove that no other is nearer."""

_OPEN = 32
"""Where a scan leaves open more than one row of so many, the vectors themselves are scanned."""


@dataclass(frozen=True, eq=False)
class Stripe:
    """Some rows of the gallery against one query."""

    query: Gallery
    gallery: Gallery
    rows: slice | Int64[np.ndarray, " m"]
    metric: Metric
    bounds: Float[np.ndarray, " m"] | Int32[np.ndarray, " m"]

    def limit(self, reach: np.float32) -> float:
        """What bounds within reach do not exceed."""
        return float(limits(np.full(1, reach), self.query, self.metric, self.bounds.dtype)[0])

    def measure(self, columns: Int64[np.ndarray, " n"]) -> Pairs:
        """These with their distances, by definition."""
        rows = columns + self.rows.start if isinstance(self.rows, slice) else self.rows[columns]
        if self.metric == Metric.HAMMING:  # of bits the bound is the distance itself
            return Pairs(np.zeros_like(rows), rows, self.bounds[columns].astype(np.float32))
        return _measured(self.query, self.gallery, rows, self.metric)


def nearest(query: Gallery, gallery: Gallery, k: int, metric: Metric, rows: Int64[np.ndarray, " m"] | None) -> Pairs:
    """The k nearest rows, sorted."""
    best = joined([])
    if (question := _question(query, gallery, metric, rows)) is not None and 4 * k + _CANDIDATES < len(gallery) // 4:
        found, farther = question.nearest(4 * k + _CANDIDATES)
        best = first(_measured(query, gallery, found, metric), k)
        if farther > float(np.nextafter(best.distances[-1], np.float32(np.inf))):
            return best
        best = joined(list(_scanned(question, query, gallery, DistanceRange(0, float(best.distances[-1])), metric)))
        return first(best, k)
    for stripe in _stripes(query, gallery, metric, rows):
        reach = best.distances[k - 1] if len(best) >= k else np.float32(np.inf)
        best = first(joined([best, *_lowest(stripe, k, reach)]), k)
    return best


def inside(
    query: Gallery, gallery: Gallery, within: DistanceRange, metric: Metric, rows: Int64[np.ndarray, " m"] | None
) -> Iterator[Pairs]:
    """All in the range, part by part of the gallery."""
    if (question := _question(query, gallery, metric, rows)) is not None:
        yield from _scanned(question, query, gallery, within, metric)
        return
    _, reach = round_range(within)
    for stripe in _stripes(query, gallery, metric, rows):
        yield stripe.measure(np.flatnonzero(stripe.bounds <= stripe.limit(reach))).within(within)


def first(pairs: Pairs, k: int) -> Pairs:
    """The k first by (distance, right), sorted."""
    return pairs.keep(np.lexsort((pairs.right, pairs.distances))[:k])


def _lowest(stripe: Stripe, k: int, reach: np.float32) -> Iterator[Pairs]:
    """All that can be among the k nearest, of those within reach."""
    limit = stripe.limit(reach) if reach < np.inf else math.inf
    ceiling = min(float(kth(stripe.bounds[None], k)[0]), limit)
    near = np.flatnonzero(stripe.bounds <= ceiling)
    found = stripe.measure(near)
    yield found
    if len(found) >= k:
        # The k of lowest bound need not be the k nearest, but the k nearest are no farther.
        limit = min(limit, stripe.limit(np.partition(found.distances, k - 1)[k - 1]))
    if limit > ceiling:
        yield stripe.measure(np.flatnonzero((stripe.bounds <= limit) & (stripe.bounds > ceiling)))


def _stripes(
    query: Gallery, gallery: Gallery, metric: Metric, rows: Int64[np.ndarray, " m"] | None
) -> Iterator[Stripe]:
    """The query against the gallery, or these rows of it."""
    dtype = np.promote_types(query.dtype, gallery.dtype)
    terms = gallery.terms(metric, dtype)
    if rows is None:
        for part in chunks(len(gallery), bounds.BUDGET // _ROW):
            yield Stripe(query, gallery, part, metric, lower_bounds(query, gallery.take(part), metric, terms[part])[0])
        return
    for part in chunks(len(rows), bounds.BUDGET // (_ROW + gallery.vectors.itemsize * gallery.vectors.shape[1])):
        chosen = rows[part]
        span = slice(int(chosen[0]), int(chosen[-1]) + 1)
        if _SPARSE * len(chosen) < span.stop - span.start:
            found = lower_bounds(query, gallery.take(chosen), metric, terms[chosen])[0]
        else:
            found = lower_bounds(query, gallery.take(span), metric, terms[span])[0][chosen - span.start]
        yield Stripe(query, gallery, chosen, metric, found)


def _question(
    query: Gallery, gallery: Gallery, metric: Metric, rows: Int64[np.ndarray, " m"] | None
) -> Question | None:
    scan = gallery.scan
    if scan is None or scan.metric != metric or rows is not None or not query.squared_norms[0]:
        return None
    return scan.ask(query.vectors[0])


def _scanned(
    question: Question, query: Gallery, gallery: Gallery, within: DistanceRange, metric: Metric
) -> Iterator[Pairs]:
    """All in the range, of what the scan leaves open."""
    _, reach = round_range(within)
    for part, open_ in question.inside(float(np.nextafter(reach, np.float32(np.inf)))):
        if _OPEN * len(open_) <= part.stop - part.start:
            yield _measured(query, gallery, open_, metric).within(within)
        else:
            for found in inside(query, gallery.take(part), within, metric, None):
                yield Pairs(found.left, found.right + part.start, found.distances)


def _measured(query: Gallery, gallery: Gallery, rows: Int64[np.ndarray, " n"], metric: Metric) -> Pairs:
    zeros = np.zeros(len(rows), np.int64)
    distances: Float32[np.ndarray, " n"] = measure(query, gallery, zeros, rows, metric)
    return Pairs(zeros, rows, distances)
