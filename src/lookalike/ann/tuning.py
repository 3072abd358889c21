"""Tuning of the effort of an index to reach a recall, and measurement of the recall."""

from dataclasses import dataclass, replace

import numpy as np

from lookalike import search
from lookalike.ann.index import RECALL_AT, Index, knn
from lookalike.search import Gallery, Hits, prepare
from lookalike.shapes import Int64

_QUERIES = 256
"""Queries of each of the two samples: with ten answers each, the recall's standard error is below 0.01."""

EFFORTS = {
    "hnsw": (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096),
    "ivf-pq": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024),
}


@dataclass(frozen=True, eq=False)
class Sample:
    """Queries made from rows, with their exact answers.

    Attributes:
        queries: rows of the gallery, each moved in a random direction by the distance of its nearest other row. So they
            are like embeddings of similar images outside the gallery.
        origins: these rows. The recall does not count them: an index finds them too easily, so the recall would be too
            high for images outside the gallery.
        exact: the ``RECALL_AT + 1`` nearest rows of each query.
    """

    queries: Gallery
    origins: Int64[np.ndarray, " q"]
    exact: Hits


def tune(index: Index, gallery: Gallery, recall: float) -> tuple[Index, float]:
    """Find the lowest effort that reaches a recall at 10, or the highest effort; return the index and its recall.

    The effort is chosen on one sample and the recall measured on another, so that the measurement is unbiased.
    """
    validation, test = (_draw_sample(gallery, index, seed) for seed in (1, 2))
    for effort in EFFORTS[index.kind]:
        index = replace(index, effort=effort)
        if measure_recall(index, gallery, validation) >= recall:
            break
    return index, measure_recall(index, gallery, test)


def measure_recall(index: Index, gallery: Gallery, sample: Sample) -> float:
    """Measure recall at 10: the share of hits that are not farther than the farthest exact hit, so that ties count."""
    approximate = knn(index, sample.queries, gallery, RECALL_AT + 1)
    correct, total = 0, 0
    for (rows, distances), (exact_rows, exact_distances), origin in zip(
        approximate, sample.exact, sample.origins, strict=True
    ):
        expected = exact_distances[exact_rows != origin][:RECALL_AT]
        correct += int(np.count_nonzero(distances[rows != origin][: len(expected)] <= expected[-1]))
        total += len(expected)
    return float(correct / total)


def _draw_sample(gallery: Gallery, index: Index, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(gallery), min(_QUERIES, len(gallery)), replace=False))
    around = search.knn(gallery.take(rows), gallery, RECALL_AT + 1, index.metric)
    vectors = gallery.vectors[rows].astype(np.float64)
    others = np.array([neighbours[neighbours != row][0] for (neighbours, _), row in zip(around, rows, strict=True)])
    lengths = np.linalg.norm(gallery.vectors[others] - vectors, axis=1, keepdims=True)
    step = rng.standard_normal(vectors.shape)
    step *= lengths / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), np.finfo(float).tiny)
    queries = prepare((vectors + step).astype(np.float32), index.metric)
    return Sample(queries, rows, search.knn(queries, gallery, RECALL_AT + 1, index.metric))
