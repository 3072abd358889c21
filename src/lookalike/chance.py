"""The distance from which the nearest item of a query is no nearer than chance.

A query that belongs to a collection has a neighbour about as near as the items of the collection have among themselves. The
distance to the k-th nearest neighbour tells strangers apart without labels (Ramaswamy, Rastogi and Shim, SIGMOD 2000; Sun et
al., ICML 2022, for embeddings).
"""

import numpy as np

from lookalike import search
from lookalike.metric import Metric
from lookalike.query import Vectors

MIN_ITEMS = 50
"""Fewest items whose distances say something about chance."""

MAX_ITEMS = 2**14
"""Most items that are compared; more would make the first search slower, and change the distance little."""

_QUERIES = 256
_QUANTILE = 0.99


def chance_distance(vectors: Vectors, metric: Metric) -> float | None:
    """Compute the distance within which 99% of a sample of the items have another item.

    Args:
        vectors: of the items, or of a sample of them: ``(n, c)``.
        metric: of the distance.

    Returns:
        The distance; none if there are fewer than `MIN_ITEMS`, or if the distance is 0.
    """
    if len(vectors) < MIN_ITEMS:
        return None
    queries = np.linspace(0, len(vectors) - 1, min(len(vectors), _QUERIES)).astype(np.int64)
    nearest = search.knn(vectors[queries], vectors, 2, metric).distances.reshape(-1, 2)[
        :, 1
    ]  # the first is the item itself
    return float(np.quantile(nearest, _QUANTILE)) or None
