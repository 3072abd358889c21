"""Query expansion: a search for what a query and its nearest items have in common."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import Query, Vectors
from lookalike.search.prefilters.directions import unit_vectors
from lookalike.stores import Replaceable, Store


def expand(store: Store, query: Query, items: Sequence[str], metric: Metric) -> Vectors:
    """Return the vectors of an expanded query: the `midpoints` of its vectors and their nearest items.

    An item that the query searches for is not among its own nearest.

    Args:
        store: of the items.
        query: with vectors and ``expand``.
        items: ids of the items that the vectors are of; empty if they are of others.
        metric: of the distances.

    Raises:
        UsageError: the vectors are bits, which have no mean; or as `Store.search`.
    """
    assert query.vectors is not None and query.expand is not None  # noqa: S101, PT018 -- the caller has set both
    if metric is Metric.HAMMING:
        raise UsageError("A query for bits cannot be expanded, since bits have no mean. Leave out expand (--expand).")
    first = replace(query, k=query.expand + bool(items), within=None, limit=None, expand=None)
    near = [[hit.item.id for hit in answer] for answer in store.search(first)]
    if items:
        near = [[ident for ident in ids if ident != own] for ids, own in zip(near, items, strict=True)]
    near = [ids[: query.expand] for ids in near]
    read = store.embeddings if query.rescore and isinstance(store, Replaceable) else store.vectors
    vectors = read([ident for ids in near for ident in ids])
    nearest = np.split(vectors, np.cumsum([len(ids) for ids in near])[:-1]) if near else []
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
    out = unit_vectors(np.asarray(vectors, np.float32), metric)
    for row, items in enumerate(nearest):
        if len(items):
            out[row] = (out[row] + unit_vectors(items, metric).mean(axis=0)) / 2
    return out.astype(np.float32)
