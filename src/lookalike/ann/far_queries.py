"""Queries far from all vectors of an index, which it answers worse than others.

The nearest vectors of a far query are all about equally far, so a search takes the wrong way or stops too early. Its recall
falls with the distance of the nearest vector, whatever the query is (``benchmarks/far_queries.py``). So a query whose nearest
vector is farther than usual is searched again, with an effort and a recall of its own, and one that is farther still is
searched exactly.
"""

from dataclasses import dataclass, replace

import numpy as np

from lookalike import search
from lookalike.ann.index import LONGEST, RECALL_AT, Index, knn
from lookalike.ann.tuning import EFFORTS
from lookalike.search import Gallery, Hits, prepare
from lookalike.shapes import Bool, Float64, Int64

_ROWS = 512
"""Rows whose distances to their nearest other row are compared."""

_QUANTILE = 0.975
"""One query in 40 like the rows is searched again, which takes about four times as long: 10% of the time of all. A higher
share would find more queries that are like noise, and cost more."""

_QUERIES = 64
"""Queries of each kind in a sample."""

_BEYOND = 1.25
"""Queries are searched exactly if their nearest vector is farther than this multiple of the largest distance of a row to its
nearest one. The rows and queries like them do not get there."""

_TIMES = 10.0
"""Distance of distant queries, as a multiple of the largest distance of a row from the mean."""


@dataclass(frozen=True)
class FarQueries:
    """How an index answers queries far from all of its vectors.

    Attributes:
        distance: a query is far if its nearest vector is farther than this.
        beyond: a query needs an exact search if its nearest vector is farther than this.
        effort: see `Index`.
        recall: at 10, with this effort; the lowest for several kinds of far queries.
    """

    distance: float
    beyond: float
    effort: int
    recall: float

    def deepen(self, index: Index) -> Index:
        """Return the index with the effort for far queries."""
        return replace(index, effort=max(index.effort, self.effort))


def nearest(hits: Hits, default: float = np.inf) -> Float64[np.ndarray, " q"]:
    """Return the distance of the first hit of each query, or the default if it has none."""
    distances = np.full(len(hits.offsets) - 1, default)
    found = np.diff(hits.offsets) > 0
    distances[found] = hits.distances[hits.offsets[:-1][found]]
    return distances


def merge(hits: Hits, deeper: Hits, far: Bool[np.ndarray, " q"]) -> Hits:
    """Replace the hits of far queries by those of a deeper or exact search of only these."""
    if far.all():
        return deeper
    kept, found = hits.pairs, deeper.pairs
    parts = [kept.keep(~far[kept.left]), replace(found, left=np.flatnonzero(far)[found.left])]
    return Hits.from_pairs(parts, len(far), exact=False, complete=hits.complete and deeper.complete)


def tune_far(index: Index, gallery: Gallery, recall: float) -> FarQueries:
    """Find from which distance on a query is far, and the lowest effort that reaches a recall for far queries.

    The effort is chosen on one sample and the recall measured on another. If no effort reaches the recall, the highest is taken.
    """
    rows = np.sort(np.random.default_rng(3).permutation(len(gallery))[:_ROWS])
    near = search.knn(gallery.take(rows), gallery, 2, index.metric).pairs
    others = near.keep(near.right != rows[near.left])
    distances = others.first(1).distances
    distance, beyond = float(np.quantile(distances, _QUANTILE)), _BEYOND * float(distances.max())
    validation, test = (_draw(gallery, index, rows, seed) for seed in (4, 5))
    effort = index.effort
    for effort in (e for e in EFFORTS[index.kind] if e >= index.effort):
        if _recall(replace(index, effort=effort), gallery, validation) >= recall:
            break
    far = FarQueries(distance, beyond, effort, 0.0)
    return replace(far, recall=_recall(far.deepen(index), gallery, test))


_Sample = list[tuple[Gallery, Hits]]


def _draw(gallery: Gallery, index: Index, rows: Int64[np.ndarray, " r"], seed: int) -> _Sample:
    """Draw noise with the mean and deviation of the vectors, and queries far away in all directions."""
    rng = np.random.default_rng(seed)
    vectors = gallery.vectors[rows].astype(np.float64)
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    length = np.linalg.norm(vectors - mean, axis=1).max()
    noise = rng.standard_normal((_QUERIES, vectors.shape[1]))
    directions = noise / np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), np.finfo(float).tiny)
    kinds = [
        mean + deviation * noise,
        mean + min(_TIMES, LONGEST**0.5 / (8 * max(length, 1))) * length * directions,
    ]
    queries = [prepare(kind.astype(np.float32), index.metric) for kind in kinds]
    return [(q, search.knn(q, gallery, RECALL_AT, index.metric)) for q in queries]


def _recall(index: Index, gallery: Gallery, sample: _Sample) -> float:
    """Measure recall at 10 for each kind of query, as `tuning.measure_recall` does; return the lowest."""
    recalls = []
    for queries, exact in sample:
        found = knn(index, queries, gallery, RECALL_AT)
        good = [np.count_nonzero(d <= e[-1]) / len(e) for (_, d), (_, e) in zip(found, exact, strict=True)]
        recalls.append(float(np.mean(good)))
    return min(recalls)
