"""Retrieval measures: how well the items that should be near a query are.

No figure but `top_1` and `hit_rates`, which are quick, depends on the order of rows in a file, even where many items
are at the same distance. Average precision and the precision-recall curve take all items at one distance as one
threshold, as scikit-learn does. What counts places (top-1, precision, recall and hit rate at k, R-precision, reciprocal
rank) is the expected value over all orders of such items (McSherry and Najork, "Computing information retrieval
performance measures efficiently in the presence of tied scores", ECIR 2008).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from lookalike import search
from lookalike.errors import UsageError
from lookalike.evaluation import distances
from lookalike.metric import Metric

RECALLS = 101
"""Recall 0, 0.01, … 1: where the precision-recall curve is told."""


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class's queries.

    Attributes:
        queries: how many have a relevant item.
        top_1: as in `Retrieval`, and so the others.
        map: mean average precision.
        r_precision: precision among the first R.
    """

    queries: int
    top_1: float
    map: float
    r_precision: float


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Means over all queries that have a relevant item in the gallery.

    R is the number of a query's relevant items, k a cut; where the gallery has fewer than k items, all of them are in.

    Attributes:
        queries: how many have one.
        without_relevant: queries that have none, and count nowhere.
        top_1: share of queries whose nearest item is relevant.
        precision_at: relevant items among the k nearest, by k.
        recall_at: share of the relevant items that is among the k nearest.
        hit_rate_at: share of queries with a relevant item among the k nearest ("recall@k" of Jegou et al. 2011).
        map_at: average precision of the k nearest by min(R, k). Items at the distance of the k-th share the places
            left as the expected value has it.
        r_precision: precision among the R nearest.
        map: mean average precision: Σ (recall gained at a distance) · (precision up to it), over the whole gallery.
        mrr: mean reciprocal rank, 1 / place of the first relevant item.
        curve: interpolated precision, the highest at this recall or above it, at recall 0, 0.01, … 1.
        by_class: the figures by the queries' label.
        average_precision: of each query, NaN where it has no relevant item; for the best and the worst of them.
    """

    queries: int
    without_relevant: int
    top_1: float
    precision_at: dict[int, float]
    recall_at: dict[int, float]
    hit_rate_at: dict[int, float]
    map_at: dict[int, float]
    r_precision: float
    map: float
    mrr: float
    curve: Float64[np.ndarray, " 101"]
    by_class: dict[int | str, ClassFigures]
    average_precision: Float64[np.ndarray, " q"]

    @property
    def eleven_points(self) -> Float64[np.ndarray, " 11"]:
        """Interpolated precision at recall 0, 0.1, … 1 (Manning et al., "Introduction to Information Retrieval", 8.4)."""
        return self.curve[:: (RECALLS - 1) // 10]


def evaluate(
    queries: Shaped[np.ndarray, "q d"],
    gallery: Shaped[np.ndarray, "n d"],
    query_labels: Shaped[np.ndarray, " q"],
    gallery_labels: Shaped[np.ndarray, " n"],
    metric: Metric,
    *,
    ks: tuple[int, ...] = (1, 5, 10),
    itself: Int64[np.ndarray, " q"] | None = None,
) -> Retrieval:
    """Rank the whole gallery for each query, and measure. Memory does not grow with the product of the two.

    Args:
        queries: float32, or codes packed into uint8 for Hamming.
        gallery: the same.
        query_labels: whole numbers or strings. An item is relevant where it has its query's label; labels that are
            numbers of products, say, ask for the very product.
        gallery_labels: the same.
        metric: what to measure with.
        ks: the cuts.
        itself: the gallery row that each query is, to be left out of its ranking. None: no query is in the gallery.

    Raises:
        UsageError: no query has a relevant item, a cut below 1, labels or rows that do not fit the arrays, or vectors
            that `lookalike.search.prepare` refuses.
    """
    raise NotImplementedError


def leave_one_out(
    embeddings: Shaped[np.ndarray, "n d"],
    labels: Shaped[np.ndarray, " n"],
    metric: Metric,
    *,
    ks: tuple[int, ...] = (1, 5, 10),
) -> Retrieval:
    """Each item is a query against all others: `evaluate` with one array on both sides."""
    return evaluate(embeddings, embeddings, labels, labels, metric, ks=ks, itself=np.arange(len(embeddings)))


def top_1(embeddings: Shaped[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], metric: Metric) -> float:
    """Share of items whose nearest *other* item has the same label (R1's top-1 precision), quickly.

    Args:
        embeddings: one row an item; each is both query and gallery.
        labels: the class of each.
        metric: which nearest; of several at the same distance the first row counts. `leave_one_out` prefers none.

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
    """Share of queries with a relevant item among their k nearest, for each k (recall@k of Jegou et al. 2011), quickly.

    Args:
        queries: one row a query.
        gallery: what is searched, apart from the queries.
        relevant: which gallery items answer which query.
        ks: the cuts.
        metric: which nearest; of several at the same distance the first rows count. `evaluate` prefers none.
    """
    hits = search.knn(queries, gallery, max(ks), metric)
    rows = hits.rows.reshape(len(queries), -1)
    found = np.take_along_axis(relevant, rows, axis=1)
    return {k: float(np.mean(found[:, :k].any(axis=1))) for k in ks}
