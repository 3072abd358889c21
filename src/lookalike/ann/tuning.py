"""How far an index has to look to reach a recall, and the recall that it then has."""

from dataclasses import dataclass, replace

import numpy as np

from lookalike import search
from lookalike.ann.index import RECALL_AT, Index, knn
from lookalike.search import Gallery, Hits, prepare
from lookalike.shapes import Int64

_QUERIES = 256
"""Of each of the two samples: with ten answers each, the recall's standard error is below 0.01."""

_EFFORTS = {
    "hnsw": (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096),
    "ivf-pq": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024),
}


@dataclass(frozen=True, eq=False)
class Sample:
    """Queries, where each came from, and their exact answers without that.

    Attributes:
        queries: rows of the gallery, each moved as far as its nearest other row is, in a random direction: about where a
            picture like it would be that the gallery does not have.
        origins: those rows. They are left out of exact and of approximate answers, or the index would find them and
            seem better than it is for pictures that it does not have.
        exact: their `RECALL_AT` + 1 nearest.
    """

    queries: Gallery
    origins: Int64[np.ndarray, " q"]
    exact: Hits


def tune(index: Index, gallery: Gallery, recall: float) -> tuple[Index, float]:
    """The index with the least effort that reaches a recall at 10, or with the most there is; and the recall it has.

    The effort is chosen on one sample and the recall measured on another, so that the choice does not flatter it.
    """
    chosen_on, measured_on = (_sample(gallery, index, seed) for seed in (1, 2))
    for effort in _EFFORTS[index.kind]:
        index = replace(index, effort=effort)
        if measure_recall(index, gallery, chosen_on) >= recall:
            break
    return index, measure_recall(index, gallery, measured_on)


def measure_recall(index: Index, gallery: Gallery, sample: Sample) -> float:
    """Recall at 10: the share of answers that are no farther than the farthest of the exact ones. Ties all count."""
    found = knn(index, sample.queries, gallery, RECALL_AT + 1)
    good, total = 0, 0
    for (rows, distances), (truth, exactly), origin in zip(found, sample.exact, sample.origins, strict=True):
        true = exactly[truth != origin][:RECALL_AT]
        good += int(np.count_nonzero(distances[rows != origin][: len(true)] <= true[-1]))
        total += len(true)
    return float(good / total)


def _sample(gallery: Gallery, index: Index, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(gallery), min(_QUERIES, len(gallery)), replace=False))
    around = search.knn(gallery.take(rows), gallery, RECALL_AT + 1, index.metric)
    vectors = gallery.vectors[rows].astype(np.float64)
    others = np.array([_other(found, row) for (found, _), row in zip(around, rows, strict=True)])
    reach = np.linalg.norm(gallery.vectors[others] - vectors, axis=1, keepdims=True)
    step = rng.standard_normal(vectors.shape)
    step *= reach / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), np.finfo(float).tiny)
    queries = prepare((vectors + step).astype(np.float32), index.metric)
    return Sample(queries, rows, search.knn(queries, gallery, RECALL_AT + 1, index.metric))


def _other(found: Int64[np.ndarray, " k"], row: int) -> int:
    """The nearest row but this one."""
    return int(found[found != row][0])
