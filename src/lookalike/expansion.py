"""Query expansion: a search for what a query and its nearest items have in common."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import Query, Vectors
from lookalike.stores import Store


def expand(store: Store, query: Query, items: Sequence[str], metric: Metric) -> Vectors:
    """Return the vectors of an expanded query: the `midpoints` of its vectors and their nearest items.

    An item that the query searches for is not among its own nearest.

    Args:
        store: of the items.
        query: with vectors and ``expand``.
        items: ids of the items that the vectors are of; empty if they are of others.
        metric: of the distances.

    Raises:
        UsageError: the vectors are bits, of which there is no mean; or as `Store.search`.
    """
    assert query.vectors is not None and query.expand is not None  # noqa: S101, PT018 -- the caller has set both
    if metric is Metric.HAMMING:
        raise UsageError("A query for bits cannot be expanded, since bits have no mean. Leave out expand (--expand).")
    first = replace(query, k=query.expand + bool(items), within=None, limit=None, expand=None)
    nearest = []
    for row, answer in enumerate(store.search(first)):
        ids = [hit.item.id for hit in answer if not items or hit.item.id != items[row]]
        nearest.append(store.vectors(ids[: query.expand]))
    return midpoints(query.vectors, nearest, metric)


def midpoints(vectors: Vectors, nearest: Sequence[Vectors], metric: Metric) -> Vectors:
    """Return the midpoint of each query and the mean of its nearest items; a query without them keeps its vector.

    Average query expansion (Chum et al. 2007), with half of the weight on the query whatever the number of items. With the cosine
    metric, all vectors have length 1 before they are averaged.

    Args:
        vectors: of the queries, float32 (q, d).
        nearest: vectors (m, d) of the nearest items of each query.
        metric: of the distances, not Hamming.
    """
    out = _directions(np.array(vectors, np.float32), metric)
    for row, items in enumerate(nearest):
        if len(items):
            out[row] = (out[row] + _directions(items, metric).mean(axis=0)) / 2
    return out


def _directions(vectors: Vectors, metric: Metric) -> Vectors:
    """Scale vectors to length 1 for cosine; zero vectors stay."""
    if metric is not Metric.COSINE:
        return vectors
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
