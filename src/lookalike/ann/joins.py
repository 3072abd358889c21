"""Approximate joins of millions of rows, by an inverted file whose recall is measured on a sample.

The right rows are divided into cells around k-means centres (Sivic and Zisserman, "Video Google", ICCV 2003; FAISS's IVF).
A left row is compared with the rows of the cells with the nearest centres, its *probes*. Pairs are measured by definition,
so their distances are true, and no pair lies outside the range. A pair is missed if its right row lies in another cell. Two
samples of left rows are joined exactly, too. On the first, the number of probes is chosen: the fewest (8, 16, …) that reach
a given recall. On the second, the recall is measured.

An inverted file finds all rows of a range in the probed cells at once, while a graph (HNSW) needs repeated requests. And a
join uses its index only once, which does not repay building a graph.
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
from lookalike.search.answers import NO_PAIRS
from lookalike.search.bounds import measure
from lookalike.search.chunks import chunks
from lookalike.shapes import Int64

RECALL = 0.95
"""The default recall to reach on the first sample."""

_SAMPLE = 1000
"""Left rows of each sample, or half of all rows if there are fewer."""

_PROBES = 8
"""Minimum number of probes: near copies of a row at the edge of a cell lie in the next cell."""

_ROWS = 4096
"""Maximum number of left rows in a chunk."""

_HITS = 2**20
"""Maximum number of pairs in a chunk, estimated from the sample: tens of megabytes."""

_PER_CELL = 39
"""Rows that FAISS needs for each centre."""

_EXTRA = 8
"""Candidates beyond k, since FAISS's order in float32 is not quite that of the distances."""


@dataclass(frozen=True, eq=False)
class ApproximateJoin:
    """An approximate join, made by `prepare`.

    Attributes:
        recall: the share of the exact pairs of the second sample that the join finds; none if there are no pairs.
        sample_rows: number of left rows of the second sample.
        sample_pairs: number of exact pairs of the second sample; the recall of few pairs is uncertain.
        chunks: yields the pairs from a left row on, like `search.join` and `search.self_join`.
    """

    recall: float | None
    sample_rows: int
    sample_pairs: int
    chunks: Callable[[int], Iterator[JoinChunk]]


@dataclass(frozen=True)
class _Rule:
    """The condition of a pair: the right row is among the k nearest, or the distance lies in a range."""

    k: int | None
    within: DistanceRange | None

    @property
    def range(self) -> DistanceRange:
        """The range of a rule without k."""
        return self.within or DistanceRange(0, 0)


def prepare(
    left: Gallery,
    right: Gallery,
    metric: Metric,
    *,
    k: int | None = None,
    within: DistanceRange | None = None,
    recall: float = RECALL,
) -> ApproximateJoin:
    """Prepare an approximate join: build an index, choose the number of probes, and measure the recall.

    The same arguments give the same pairs on the same machine.

    Args:
        left: made by `search.prepare`.
        right: the same object for a self-join, which gives each pair once, and no row with itself.
        metric: of the distances.
        k: as in `search.join`.
        within: as in `search.join`.
        recall: the recall to reach, in 0…1.
    """
    rule = _Rule(None if k is None else min(k, max(1, len(right))), within)
    finder = _Finder(_Index(right, metric), left, rule, self_join=right is left)
    size = min(_SAMPLE, len(left) // 2)
    order = np.random.default_rng(0).permutation(len(left))
    samples = [np.sort(order[:size]), np.sort(order[size : 2 * size])]
    exact = [finder.find_exactly(rows) for rows in samples]
    finder.choose_probes(samples[0], exact[0], recall)
    reached = _recall(finder.find(samples[1]), exact[1], rule)
    pairs_per_row = sum(map(len, exact)) / max(1, 2 * size)
    rows = max(1, min(_ROWS, int(_HITS / (pairs_per_row + 1))))
    return ApproximateJoin(
        None if math.isnan(reached) else reached, size, len(exact[1]), lambda begin: finder.join(rows, begin)
    )


class _Index:
    """FAISS's inverted file of the right side."""

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
        sample = np.random.default_rng(0).choice(rows, min(rows, 64 * self.cells), replace=False)
        self._inner.train(to_faiss(gallery.take(np.sort(sample)), metric))
        for part in chunks(rows, 2**16):
            self._inner.add(to_faiss(gallery.take(part), metric))

    def nearest(self, queries: Gallery, k: int) -> Pairs:
        """Find the k nearest rows of each query in the probed cells, sorted."""
        self._inner.nprobe = self.probes
        _, rows = self._inner.search(to_faiss(queries, self.metric), min(k + _EXTRA, max(1, len(self.gallery))))
        left, columns = np.nonzero(rows >= 0)
        return self._measure(queries, left, rows[left, columns].astype(np.int64)).sorted().first(k)

    def within(self, queries: Gallery, within: DistanceRange) -> Pairs:
        """Find all rows of a range of distances in the probed cells, sorted."""
        self._inner.nprobe = self.probes
        # Slightly more than the range, since FAISS measures in float32; rows that are too far are removed below.
        limit: float
        if self.metric is Metric.HAMMING:
            limit = int(min(within.max, 8 * self.gallery.vectors.shape[1])) + 1
        elif self.metric is Metric.COSINE:
            # The squared Euclidean distance of unit vectors is twice their cosine distance.
            limit = 2 * within.max + 1e-5
        else:
            limit = min(within.max * (1 + 1e-4), 1e19) ** 2 + 1e-37
        offsets, _, rows = self._inner.range_search(to_faiss(queries, self.metric), limit)
        left = np.repeat(np.arange(len(queries)), np.diff(offsets.astype(np.int64)))
        return self._measure(queries, left, rows.astype(np.int64)).within(within).sorted()

    def _measure(self, queries: Gallery, left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"]) -> Pairs:
        return Pairs(left, right, measure(queries, self.gallery, left, right, self.metric))


@dataclass(frozen=True, eq=False)
class _Finder:
    """The search for the pairs of left rows.

    Attributes:
        index: of the right side.
        left: the left side.
        rule: the condition of a pair.
        self_join: both sides are the same, so a row is not paired with itself.
    """

    index: _Index
    left: Gallery
    rule: _Rule
    self_join: bool

    def choose_probes(self, rows: Int64[np.ndarray, " m"], exact: Pairs, recall: float) -> None:
        """Double the probes until a sample of left rows reaches a recall, or all cells are probed."""
        while self.index.probes < self.index.cells and _recall(self.find(rows), exact, self.rule) < recall:
            self.index.probes = min(2 * self.index.probes, self.index.cells)

    def find(self, rows: Int64[np.ndarray, " m"]) -> Pairs:
        """Find the pairs of some left rows approximately; a self-join gives a pair in both orders."""
        queries = self.left.take(rows)
        if not len(self.index.gallery):
            return NO_PAIRS
        if self.rule.k is None:
            found = self.index.within(queries, self.rule.range)
        else:
            found = self.index.nearest(queries, self.rule.k + self.self_join)
        return self._select(Pairs(rows[found.left], found.right, found.distances))

    def find_exactly(self, rows: Int64[np.ndarray, " m"]) -> Pairs:
        """Find the pairs of some left rows exactly."""
        queries, right, metric = self.left.take(rows), self.index.gallery, self.index.metric
        if self.rule.k is None:
            hits = search.within(queries, right, self.rule.range, metric)
        else:
            hits = search.knn(queries, right, self.rule.k + self.self_join, metric)
        return self._select(Pairs(rows[hits.pairs.left], hits.rows, hits.distances))

    def join(self, rows: int, begin: int) -> Iterator[JoinChunk]:
        """Find all pairs from a left row on, in chunks of ``rows`` left rows."""
        if self.self_join and self.rule.k is not None:
            yield from self._join_neighbours(self.rule.k, rows, begin)
            return
        for part in chunks(len(self.left), rows, begin):
            found = self.find(np.arange(part.start, part.stop))
            yield JoinChunk.of(found.keep(found.left < found.right) if self.self_join else found, part.stop)

    def _join_neighbours(self, k: int, rows: int, begin: int) -> Iterator[JoinChunk]:
        """Find pairs of rows of which one is among the k nearest of the other, each pair once; takes 8k bytes a row."""
        neighbours = np.full((len(self.left), k), -1)
        known = np.zeros(len(self.left), bool)

        def find(batch: Int64[np.ndarray, " m"]) -> Pairs:
            found = self.find(batch)
            neighbours[found.left, np.arange(len(found)) - np.searchsorted(found.left, found.left)] = found.right
            known[batch] = True
            return found

        for part in chunks(len(self.left), rows, begin):
            found = find(np.arange(part.start, part.stop))
            earlier = np.unique(found.right[found.right < begin])  # rows of an earlier run
            unknown = earlier[~known[earlier]]
            for batch in chunks(len(unknown), rows):
                find(unknown[batch])
            # An earlier chunk has the pair if the right row is earlier and has the left row among its neighbours.
            repeated = (found.right < found.left) & np.any(neighbours[found.right] == found.left[:, None], axis=1)
            pairs = Pairs(np.minimum(found.left, found.right), np.maximum(found.left, found.right), found.distances)
            yield JoinChunk.of(pairs.keep(~repeated).sorted(), part.stop)

    def _select(self, found: Pairs) -> Pairs:
        """Remove pairs of a row with itself from a self-join, and keep the first k pairs of each row."""
        if not self.self_join:
            return found
        # A row with many copies may not be among its own k + 1 nearest; then k + 1 others remain.
        found = found.keep(found.left != found.right)
        return found if self.rule.k is None else found.first(self.rule.k)


def _recall(found: Pairs, exact: Pairs, rule: _Rule) -> float:
    """Compute the share of the exact pairs that were found, where ties count as found; NaN if there are none."""
    if not len(exact):
        return math.nan
    if rule.k is None:
        return len(found) / len(exact)
    rows, begins = np.unique(exact.left, return_index=True)
    farthest = np.maximum.reduceat(exact.distances, begins)
    return float(np.count_nonzero(found.distances <= farthest[np.searchsorted(rows, found.left)])) / len(exact)
