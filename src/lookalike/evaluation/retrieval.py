"""Retrieval measures."""

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lookalike import search
from lookalike.errors import UsageError
from lookalike.metric import Metric


def top_1(embeddings: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], metric: Metric) -> float:
    """Share of items whose nearest *other* item has the same label (R1's top-1 precision).

    Args:
        embeddings: one row an item; each is both query and gallery.
        labels: the class of each.
        metric: which nearest; of several at the same distance the first row counts.

    Raises:
        UsageError: fewer than two items.
    """
    n = len(embeddings)
    if n < 2:  # noqa: PLR2004 -- a nearest other takes two
        raise UsageError("Top-1 takes two items at least: an item's nearest neighbour is another one.")
    rows = search.knn(embeddings, embeddings, 2, metric).rows.reshape(n, 2)
    # Among identical vectors an item itself may come second, or not come at all.
    nearest = np.where(rows[:, 0] == np.arange(n), rows[:, 1], rows[:, 0])
    return float(np.mean(labels[nearest] == labels))


def hit_rates(
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "n d"],
    relevant: Bool[np.ndarray, "q n"],
    ks: tuple[int, ...],
    metric: Metric,
) -> dict[int, float]:
    """Share of queries with a relevant item among their k nearest, for each k (recall@k of Jegou et al. 2011).

    Args:
        queries: one row a query.
        gallery: what is searched, apart from the queries.
        relevant: which gallery items answer which query.
        ks: the cuts.
        metric: which nearest.
    """
    hits = search.knn(queries, gallery, max(ks), metric)
    rows = hits.rows.reshape(len(queries), -1)
    found = np.take_along_axis(relevant, rows, axis=1)
    return {k: float(np.mean(found[:, :k].any(axis=1))) for k in ks}
