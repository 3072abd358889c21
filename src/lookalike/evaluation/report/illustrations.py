"""Illustrations of a report: example pairs, example queries, and the map of the embeddings."""

from dataclasses import dataclass

import numpy as np

from lookalike import search
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.protocols import RetrievalResult, VerificationResult
from lookalike.evaluation.report.embedding_map import POINTS, EmbeddingMap, compute_map
from lookalike.evaluation.results import Evaluation
from lookalike.shapes import Float32, Int64

# Example pairs of each kind, example queries of each kind, and neighbours of each query.
_RIGHT, _WRONG = 2, 6
_BEST, _WORST = 3, 6
_NEIGHBOURS = 8


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A query and its nearest neighbours.

    Attributes:
        row: of the query.
        average_precision: of its whole ranking.
        hits: rows of the neighbours, the nearest first.
        distances: of the neighbours.
        best: true for one of the best queries, false for one of the worst.
    """

    row: int
    average_precision: float
    hits: Int64[np.ndarray, " k"]
    distances: Float32[np.ndarray, " k"]
    best: bool


@dataclass(frozen=True, eq=False)
class Illustrations:
    """The examples and the map that a page shows beside the scores.

    Attributes:
        pairs: positions in the judged pairs.
        neighbours: queries with their neighbours.
        embedding_map: None if there are too few embeddings for one.
    """

    pairs: tuple[int, ...] = ()
    neighbours: tuple[Neighbours, ...] = ()
    embedding_map: EmbeddingMap | None = None


def illustrate(evaluation: Evaluation, points: int = POINTS) -> Illustrations:
    """Choose example pairs and queries, and lay out the embeddings in a map; needs the extra “report”.

    Args:
        evaluation: results with their data; without data there are no illustrations.
        points: largest number of points of the map.
    """
    data, seed = evaluation.data, evaluation.about.seed
    if data is None:
        return Illustrations()
    return Illustrations(
        pairs=_choose_pairs(evaluation.verification, seed) if evaluation.verification else (),
        neighbours=_choose_queries(evaluation.retrieval, data, seed) if evaluation.retrieval else (),
        embedding_map=compute_map(data.embeddings, data.labels, data.metric, seed, points),
    )


def _choose_pairs(result: VerificationResult, seed: int) -> tuple[int, ...]:
    """Choose random pairs that were judged correctly, and the pairs with the largest errors."""
    rng = np.random.default_rng(seed)
    same, distances, accepted = result.pairs.same, result.distances, result.accepted
    chosen: list[int] = []
    for kind in (same & accepted, ~same & ~accepted):
        right = np.flatnonzero(kind)
        chosen += np.sort(rng.choice(right, min(_RIGHT, len(right)), replace=False)).tolist()
    false_accepts, false_rejects = np.flatnonzero(~same & accepted), np.flatnonzero(same & ~accepted)
    for worst_first in (
        false_accepts[np.argsort(distances[false_accepts], kind="stable")],
        false_rejects[np.argsort(-distances[false_rejects], kind="stable")],
    ):
        chosen += _with_distinct_images(worst_first, result)
    return tuple(chosen)


def _with_distinct_images(order: Int64[np.ndarray, " n"], result: VerificationResult) -> list[int]:
    """Return the first pairs of an order without a repeated image, since one odd image could fill all places."""
    seen: set[int] = set()
    chosen: list[int] = []
    for i in order.tolist():
        rows = {int(result.pairs.left[i]), int(result.pairs.right[i])}
        if len(chosen) < _WRONG and not rows & seen:
            chosen.append(i)
            seen |= rows
    return chosen


def _choose_queries(result: RetrievalResult, data: EmbeddedDataset, seed: int) -> tuple[Neighbours, ...]:
    """Choose some of the best and the worst queries by average precision, with their neighbours."""
    scores = result.by_class.average_precision
    usable = np.random.default_rng(seed).permutation(np.flatnonzero(np.isfinite(scores)))
    order = usable[np.argsort(scores[usable], kind="stable")]
    labels = data.labels[result.queries]
    worst = _one_per_class(order, labels, _WORST)
    best = set(_one_per_class(order[::-1], labels, _BEST)).difference(worst)
    positions = np.array([*worst, *sorted(best)], dtype=np.int64)
    queries = result.queries[positions]
    # One more than is shown, since a query may find itself.
    k = min(_NEIGHBOURS + 1, len(result.gallery))
    hits = search.knn(data.embeddings[queries], data.embeddings[result.gallery], k, data.metric)
    chosen = []
    for i, (position, row) in enumerate(zip(positions.tolist(), queries.tolist(), strict=True)):
        part = slice(hits.offsets[i], hits.offsets[i + 1])
        rows, distances = result.gallery[hits.rows[part]], hits.distances[part]
        others = np.flatnonzero(rows != row)[:_NEIGHBOURS]
        chosen.append(Neighbours(row, float(scores[position]), rows[others], distances[others], position in best))
    return tuple(sorted(chosen, key=lambda n: (n.best, n.average_precision)))


def _one_per_class(order: Int64[np.ndarray, " q"], labels: Int64[np.ndarray, " n"], count: int) -> list[int]:
    """Return the first positions of an order, each of another class, for a variety of failures."""
    _, first = np.unique(labels[order], return_index=True)
    return [int(position) for position in order[np.sort(first)[:count]]]
