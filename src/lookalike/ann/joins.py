"""Joins for millions: an inverted file says which pairs are worth measuring, and a sample says how many are missed.

The rows on the right are put into cells around the centres that k-means finds (Sivic and Zisserman, "Video Google", ICCV
2003; FAISS's IVF). A row on the left is compared with those in the cells whose centres are nearest to it, its *probes*.
What is found is measured by definition, so distances are true, and a pair within the radius is never one that is not. What
is missed lies in another cell. How much that is, is measured: the exact answer is computed for two samples of left rows. By
the first the probes are chosen, the fewest (8, 16, …) that reach the recall asked for; by the second their recall is told.

An inverted file rather than HNSW: it gives all in a radius that lies in the probed cells, where a graph has to be asked for
more and more, and a join, which asks an index once, does not repay the building of a graph.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike import search
from lookalike.ann.index import to_faiss
from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import Gallery, JoinChunk, Pairs
from lookalike.search.answers import concatenate
from lookalike.search.bounds import measure
from lookalike.shapes import Int64

RECALL = 0.95
"""What is reached on the first sample."""

_SAMPLE = 1000
"""Left rows of each sample, or half of all where there are fewer."""

_PROBES = 8
"""Cells that are looked into at least: near copies of what lies at the edge of one lie in the next."""

_ROWS = 4096
"""Left rows at a time."""

_HITS = 2**20
"""Pairs at a time, by what the sample says of a row: some tens of megabytes."""

_PER_CELL = 39
"""Rows that FAISS wants for each centre."""

_MORE = 8
"""Candidates beyond k, as FAISS's order in float32 is not quite that of the distances."""


@dataclass(frozen=True, eq=False)
class ApproximateJoin:
    """An approximate join, ready to be asked; see `prepare`.

    Attributes:
        recall: share of the exact pairs of the second sample that were found; none where these rows have no pair at all.
        sample_rows: how many rows that sample has.
        sample_pairs: how many exact pairs these have: a recall of few pairs says little.
        chunks: the pairs from a left row on, as `search.join` and `search.self_join` give them.
    """

    recall: float | None
    sample_rows: int
    sample_pairs: int
    chunks: Callable[[int], Iterator[JoinChunk]]


@dataclass(frozen=True)
class _Rule:
    """What makes a pair: one of the two."""

    k: int | None
    within: DistanceRange | None


def prepare(
    left: Gallery,
    right: Gallery,
    metric: Metric,
    *,
    k: int | None = None,
    within: DistanceRange | None = None,
    recall: float = RECALL,
) -> ApproximateJoin:
    """Build the index of the right side, choose the probes, and measure the recall.

    The same vectors, question and recall give the same pairs on the same machine.

    Args:
        left: as `search.prepare` made it.
        right: the same one for a self-join: each pair once, none of a row with itself.
        metric: what to measure with.
        k: as in `search.join`.
        within: as in `search.join`.
        recall: what is aimed at, in 0…1.
    """
    index = _Index(right, metric)
    itself = right is left
    asked = _Rule(None if k is None else min(k, max(1, len(right))), within)
    size = min(_SAMPLE, len(left) // 2)
    drawn = np.random.default_rng(0).permutation(len(left))
    samples = [np.sort(drawn[:size]), np.sort(drawn[size : 2 * size])]
    exact = [_exact(left, right, metric, asked, rows) for rows in samples]
    reached = 0.0
    while True:
        found = _find(index, left, samples[0], asked, itself=itself)
        reached = _recall(found, exact[0], asked)
        if math.isnan(reached) or reached >= recall or index.probes >= index.cells:
            break
        index.probes = min(2 * index.probes, index.cells)
    told = _recall(_find(index, left, samples[1], asked, itself=itself), exact[1], asked)
    hits = sum(map(len, exact)) / max(1, 2 * size)
    rows = max(1, min(_ROWS, int(_HITS / (hits + 1))))

    def chunks(begin: int) -> Iterator[JoinChunk]:
        if not itself:
            return _join(index, left, asked, rows, begin)
        if asked.k is None:
            return _self_join_within(index, asked, rows, begin)
        return _self_join_nearest(index, asked.k, rows, begin)

    return ApproximateJoin(None if math.isnan(told) else told, size, len(exact[1]), chunks)


class _Index:
    """An inverted file of FAISS over one side."""

    def __init__(self, gallery: Gallery, metric: Metric) -> None:
        import faiss  # noqa: PLC0415 -- heavy

        self.gallery, self.metric = gallery, metric
        rows, columns = gallery.vectors.shape
        self.cells = max(1, min(round(4 * math.sqrt(rows)), rows // _PER_CELL))
        self.probes = min(_PROBES, self.cells)
        if metric is Metric.HAMMING:
            self._coarse: Any = faiss.IndexBinaryFlat(8 * columns)
            self._inner: Any = faiss.IndexBinaryIVF(self._coarse, 8 * columns, self.cells)
        else:
            self._coarse = faiss.IndexFlatL2(columns)
            self._inner = faiss.IndexIVFFlat(self._coarse, columns, self.cells)
        if not rows:
            return
        self._inner.cp.min_points_per_centroid = 1  # or FAISS writes warnings to stderr
        some = np.random.default_rng(0).choice(rows, min(rows, 64 * self.cells), replace=False)
        self._inner.train(to_faiss(gallery.take(np.sort(some)), metric))
        for begin in range(0, rows, 2**16):
            self._inner.add(to_faiss(gallery.take(slice(begin, begin + 2**16)), metric))

    def nearest(self, queries: Gallery, k: int) -> Pairs:
        """The k nearest of what is in the probed cells, sorted."""
        self._inner.nprobe = self.probes
        _, rows = self._inner.search(to_faiss(queries, self.metric), min(k + _MORE, max(1, len(self.gallery))))
        left, places = np.nonzero(rows >= 0)
        return self._measured(queries, left, rows[left, places].astype(np.int64)).sorted().first(k)

    def within(self, queries: Gallery, within: DistanceRange) -> Pairs:
        """All in the probed cells that are in the ring, sorted."""
        self._inner.nprobe = self.probes
        # A little more than the radius, as FAISS measures in float32; what is too far goes below.
        radius = within.max
        most: float
        if self.metric is Metric.HAMMING:
            most = int(min(radius, 8 * self.gallery.vectors.shape[1])) + 1
        elif self.metric is Metric.COSINE:
            most = 2 * radius + 1e-5  # between directions, the squared Euclidean distance is twice that of the cosine
        else:
            most = min(radius * (1 + 1e-4), 1e19) ** 2 + 1e-37
        offsets, _, rows = self._inner.range_search(to_faiss(queries, self.metric), most)
        left = np.repeat(np.arange(len(queries)), np.diff(offsets.astype(np.int64)))
        return self._measured(queries, left, rows.astype(np.int64)).within(within).sorted()

    def _measured(self, queries: Gallery, left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"]) -> Pairs:
        return Pairs(left, right, measure(queries, self.gallery, left, right, self.metric))


def _find(index: _Index, left: Gallery, rows: Int64[np.ndarray, " m"], asked: _Rule, *, itself: bool) -> Pairs:
    """The pairs of these left rows; of a self-join without those of a row with itself, and both ways round."""
    queries = left.take(rows)
    if not len(index.gallery):
        found = concatenate([])
    elif asked.k is None:
        found = index.within(queries, _range(asked))
    else:
        found = index.nearest(queries, asked.k + itself)
    found = Pairs(rows[found.left], found.right, found.distances)
    if not itself:
        return found
    return _others(found, asked.k)


def _others(found: Pairs, k: int | None) -> Pairs:
    """Without those of a row with itself; and then, as a row may have so many copies that it did not find itself, k each."""
    found = found.keep(found.left != found.right)
    return found if k is None else found.first(k)


def _range(asked: _Rule) -> DistanceRange:
    return asked.within or DistanceRange(0, 0)


def _exact(left: Gallery, right: Gallery, metric: Metric, asked: _Rule, rows: Int64[np.ndarray, " m"]) -> Pairs:
    """What `_find` should give."""
    itself, some = right is left, left.take(rows)
    if asked.k is None:
        hits = search.within(some, right, _range(asked), metric)
    else:
        hits = search.knn(some, right, asked.k + itself, metric)
    found = Pairs(rows[hits.pairs.left], hits.rows, hits.distances)
    return _others(found, asked.k) if itself else found


def _recall(found: Pairs, exact: Pairs, asked: _Rule) -> float:
    """Share of the exact pairs that were found; of equally distant ones any will do. NaN where there are none."""
    if not len(exact):
        return math.nan
    if asked.k is None:
        return len(found) / len(exact)
    rows, begins = np.unique(exact.left, return_index=True)
    farthest = np.maximum.reduceat(exact.distances, begins)
    places = np.searchsorted(rows, found.left)
    return float(np.count_nonzero(found.distances <= farthest[places])) / len(exact)


def _parts(total: int, rows: int, begin: int) -> Iterator[Int64[np.ndarray, " m"]]:
    return (np.arange(start, min(start + rows, total)) for start in range(begin, total, rows))


def _join(index: _Index, left: Gallery, asked: _Rule, rows: int, begin: int) -> Iterator[JoinChunk]:
    for part in _parts(len(left), rows, begin):
        yield JoinChunk.of(_find(index, left, part, asked, itself=False), int(part[-1]) + 1)


def _self_join_within(index: _Index, asked: _Rule, rows: int, begin: int) -> Iterator[JoinChunk]:
    for part in _parts(len(index.gallery), rows, begin):
        found = _find(index, index.gallery, part, asked, itself=True)
        yield JoinChunk.of(found.keep(found.left < found.right), int(part[-1]) + 1)


def _self_join_nearest(index: _Index, k: int, rows: int, begin: int) -> Iterator[JoinChunk]:
    """Rows of which either was found among the k nearest of the other one, each pair once; it takes 8k bytes a row."""
    gallery, asked = index.gallery, _Rule(k, None)
    lists = np.full((len(gallery), k), -1)
    asked_for = np.zeros(len(gallery), bool)

    def ask(some: Int64[np.ndarray, " m"]) -> Pairs:
        found = _find(index, gallery, some, asked, itself=True)
        begins = np.searchsorted(found.left, found.left)
        lists[found.left, np.arange(len(found)) - begins] = found.right
        asked_for[some] = True
        return found

    for part in _parts(len(gallery), rows, begin):
        found = ask(part)
        before = np.unique(found.right[found.right < begin])  # of an earlier run
        unknown = before[~asked_for[before]]
        for start in range(0, len(unknown), rows):
            ask(unknown[start : start + rows])
        # Where the other row came before and has this one among its own, the pair is known.
        known = (found.right < found.left) & np.any(lists[found.right] == found.left[:, None], axis=1)
        pairs = Pairs(np.minimum(found.left, found.right), np.maximum(found.left, found.right), found.distances)
        yield JoinChunk.of(pairs.keep(~known).sorted(), int(part[-1]) + 1)
