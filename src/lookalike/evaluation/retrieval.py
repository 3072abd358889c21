"""Retrieval measures: mAP, MRR, R-precision, and precision, recall and hit rate at k.

Scores do not depend on the order of rows at the same distance; only the fast approximations `top_1` and `hit_rates` do.
Average precision and the precision-recall curve treat all items at one distance as one threshold, as scikit-learn does.
Measures at a rank (top-1, precision, recall and hit rate at k, R-precision, reciprocal rank) are expected values over all
orders of such items (McSherry and Najork, "Computing information retrieval performance measures efficiently in the
presence of tied scores", ECIR 2008).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lookalike import search
from lookalike.errors import UsageError
from lookalike.evaluation.distances import distance_chunks, prepare_both
from lookalike.evaluation.labels import Classes, LabelledVectors
from lookalike.metric import Metric
from lookalike.shapes import Bool, Float32, Float64, Int64, Shaped

RECALLS = 101
"""Recall levels 0, 0.01, … 1 of the precision-recall curve."""

KS = (1, 5, 10)
"""Default ranks k of the measures at k."""


@dataclass(frozen=True)
class ClassScores:
    """Mean scores of the queries of one class.

    Attributes:
        queries: number of queries that have a relevant item.
        top_1: as in `RetrievalScores`.
        map: mean average precision.
        r_precision: precision at rank R.
    """

    queries: int
    top_1: float
    map: float
    r_precision: float


@dataclass(frozen=True, eq=False)
class RetrievalScores:
    """Mean scores of all queries that have a relevant item in the gallery.

    R is the number of a query's relevant items. A rank k beyond the gallery includes all of it.

    Attributes:
        queries: number of queries that have a relevant item.
        without_relevant: number of queries that have none; no mean includes them.
        top_1: share of queries whose nearest item is relevant.
        precision_at: by k, the share of the k nearest items that is relevant.
        recall_at: by k, the share of the relevant items that is among the k nearest.
        hit_rate_at: by k, the share of queries with a relevant item among the k nearest ("recall@k" of Jegou et al. 2011).
        map_at: by k, the average precision of the k nearest, divided by min(R, k). Items at the distance of the k-th
            share the remaining ranks in expectation.
        r_precision: precision of the R nearest.
        map: mean average precision: Σ (recall gained at a distance) · (precision up to it), over the whole gallery.
        mrr: mean reciprocal rank, 1 / rank of the first relevant item.
        curve: interpolated precision, the highest at this recall or a higher one, at recall 0, 0.01, … 1.
        by_class: scores by the label of the queries.
        average_precision: of each query; NaN without a relevant item.
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
    by_class: dict[int | str, ClassScores]
    average_precision: Float64[np.ndarray, " q"]

    @property
    def eleven_points(self) -> Float64[np.ndarray, " 11"]:
        """Interpolated precision at recall 0, 0.1, … 1 (Manning et al., "Introduction to Information Retrieval", 8.4)."""
        return self.curve[:: (RECALLS - 1) // 10]


def evaluate(
    queries: LabelledVectors,
    gallery: LabelledVectors,
    metric: Metric,
    *,
    ks: tuple[int, ...] = KS,
    own_rows: Int64[np.ndarray, " queries"] | None = None,
) -> RetrievalScores:
    """Rank the whole gallery for each query, in bounded memory.

    Args:
        queries: an item of the gallery is relevant if it has the query's label. With product numbers as labels, only the
            same product is relevant.
        gallery: the items to rank.
        metric: compares the vectors.
        ks: the ranks of the measures at k.
        own_rows: the gallery row of each query itself, left out of its ranking; None if no query is in the gallery.

    Raises:
        UsageError: no query has a relevant item, a k is below 1, the labels or own rows do not fit the vectors, or
            `lookalike.search.prepare` refuses the vectors.
    """
    left, right = prepare_both(queries.vectors, gallery.vectors, metric)
    if not ks or min(ks) < 1:
        raise UsageError(f"Give one or more ranks k, each at least 1, not {ks}.")
    if own_rows is not None and not (len(own_rows) == len(left) and np.all((own_rows >= 0) & (own_rows < len(right)))):
        raise UsageError(f"Each of the {len(left)} queries needs one own row between 0 and {len(right) - 1}.")
    query_classes, gallery_classes = Classes.of(queries.labels, len(left)), Classes.of(gallery.labels, len(right))
    both_text = [classes.names.dtype.kind == "U" for classes in (query_classes, gallery_classes)]
    if len(set(both_text)) > 1 and len(left) and len(right):
        raise UsageError(
            "The labels of queries and gallery are strings on one side and numbers on the other; use one type."
        )
    ranks = np.array(ks, np.int64)
    singles, at_k = np.full((len(left), 4), np.nan), np.full((len(left), 4, len(ks)), np.nan)
    curve = np.zeros(RECALLS)
    relevant = _Relevance(query_classes, gallery_classes, own_rows)
    for query, ranking in _rankings(left, right, metric, relevant):
        singles[query] = ranking.scores()
        at_k[query] = ranking.scores_at(ranks)
        curve += ranking.curve()
    return _average(singles, at_k, curve, query_classes, ks)


def leave_one_out(items: LabelledVectors, metric: Metric, *, ks: tuple[int, ...] = KS) -> RetrievalScores:
    """Rank all other items for each item; see `evaluate`."""
    return evaluate(items, items, metric, ks=ks, own_rows=np.arange(len(items)))


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The relevant items of one query, grouped by their distances, nearest first.

    Attributes:
        before: number of items at smaller distances.
        items: number of items at this distance.
        hits: number of relevant items at this distance.
    """

    before: Int64[np.ndarray, " t"]
    items: Int64[np.ndarray, " t"]
    hits: Int64[np.ndarray, " t"]

    @classmethod
    def of(cls, gallery: Float32[np.ndarray, " n"], relevant: Float32[np.ndarray, " r"]) -> "_Ranking":
        """Group by the sorted distances of all items, and the distances of the relevant ones."""
        distances, hits = np.unique(relevant, return_counts=True)
        before = np.searchsorted(gallery, distances)
        return cls(before, np.searchsorted(gallery, distances, "right") - before, hits)

    def scores(self) -> tuple[float, float, float, float]:
        """Return top-1, R-precision, average precision and reciprocal rank."""
        relevant = int(self.hits.sum())
        (top_1, hits_at_r), _ = self._expected_hits(np.array([1, relevant]))
        _, (precision_sum,) = self._expected_hits(self.before[-1:] + self.items[-1:])
        return float(top_1), float(hits_at_r) / relevant, float(precision_sum) / relevant, self._reciprocal_rank()

    def scores_at(self, ks: Int64[np.ndarray, " k"]) -> Float64[np.ndarray, "4 k"]:
        """Return precision, recall, hit rate and average precision at each k."""
        relevant = int(self.hits.sum())
        hits, precision_sums = self._expected_hits(ks)
        hit_rates = [1 - self._miss_probability(k) for k in ks - self.before[0]]
        return np.stack([hits / ks, hits / relevant, np.array(hit_rates), precision_sums / np.minimum(ks, relevant)])

    def curve(self) -> Float64[np.ndarray, " 101"]:
        """Return the interpolated precision at each recall level."""
        hits = self.hits.cumsum()
        highest = np.maximum.accumulate((hits / (self.before + self.items))[::-1])[::-1]
        # In whole numbers, because 0.1 · 30 is not 3 in floats.
        reached = np.searchsorted((RECALLS - 1) * hits, np.arange(RECALLS) * hits[-1])
        return np.asarray(highest[reached])

    def _expected_hits(
        self, ks: Int64[np.ndarray, " k"]
    ) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """Return the expected number of hits among the k nearest, and the sum of precisions at these hits."""
        hits = self.hits * np.clip((ks[:, None] - self.before) / self.items, 0, 1)
        cumulative = hits.cumsum(axis=1)
        precision = cumulative / np.minimum(self.before + self.items, ks[:, None])
        return cumulative[:, -1], (hits * precision).sum(axis=1)

    def _miss_probability(self, places: int) -> float:
        """Return the probability that ``places`` items, drawn from those at the first distance, are all irrelevant."""
        drawn = np.arange(min(max(places, 0), self.items[0]))
        return float(np.prod(np.maximum(1 - self.hits[0] / (self.items[0] - drawn), 0)))

    def _reciprocal_rank(self) -> float:
        """Return Σ P(the first relevant item has this rank) / rank."""
        drawn = np.arange(self.items[0] - self.hits[0] + 1)
        hit = self.hits[0] / (self.items[0] - drawn)  # P(relevant | all items drawn before are not)
        first = hit * np.concatenate([[1.0], np.cumprod(1 - hit[:-1])])
        return float(np.sum(first / (self.before[0] + 1 + drawn)))


@dataclass(frozen=True, eq=False)
class _Relevance:
    """Which gallery rows are relevant to which query."""

    queries: Classes
    gallery: Classes
    own_rows: Int64[np.ndarray, " q"] | None

    def rows(self) -> Iterator[Int64[np.ndarray, " r"]]:
        """Yield the relevant gallery rows of each query, its own row left out."""
        in_gallery = np.isin(self.queries.names, self.gallery.names)
        codes = np.searchsorted(self.gallery.names, self.queries.names)
        for query, code in enumerate(self.queries.codes.tolist()):
            rows = self.gallery.members(codes[code]) if in_gallery[code] else np.empty(0, np.int64)
            yield rows if self.own_rows is None else rows[rows != self.own_rows[query]]


def _rankings(
    queries: search.Gallery, gallery: search.Gallery, metric: Metric, relevance: _Relevance
) -> Iterator[tuple[int, _Ranking]]:
    """Yield each query that has a relevant item, and its ranking."""
    relevant_rows = relevance.rows()
    for part, chunk in distance_chunks(queries, gallery, metric):
        for query, distances in enumerate(chunk, part.start):
            rows = next(relevant_rows)
            others = distances
            if relevance.own_rows is not None:
                others = np.delete(distances, relevance.own_rows[query])
            if len(rows):
                yield query, _Ranking.of(np.sort(others), distances[rows])


def _average(
    singles: Float64[np.ndarray, "q 4"],
    at_k: Float64[np.ndarray, "q 4 k"],
    curve: Float64[np.ndarray, " 101"],
    classes: Classes,
    ks: tuple[int, ...],
) -> RetrievalScores:
    counted = np.flatnonzero(~np.isnan(singles[:, 0]))
    if not len(counted):
        raise UsageError("No query has a relevant item in the gallery: no label is in both. Check the labels.")
    by_class = {}
    for code, name in enumerate(classes.names.tolist()):
        rows = classes.members(code)
        of_class = singles[rows[~np.isnan(singles[rows, 0])]]
        if len(of_class):
            top, r_precision, average, _ = of_class.mean(axis=0).tolist()
            by_class[name] = ClassScores(len(of_class), top, average, r_precision)
    top, r_precision, average, reciprocal_rank = singles[counted].mean(axis=0).tolist()
    precision, recall, hit_rate, average_at = (
        dict(zip(ks, row, strict=True)) for row in at_k[counted].mean(axis=0).tolist()
    )
    return RetrievalScores(
        queries=len(counted),
        without_relevant=len(singles) - len(counted),
        top_1=top,
        precision_at=precision,
        recall_at=recall,
        hit_rate_at=hit_rate,
        map_at=average_at,
        r_precision=r_precision,
        map=average,
        mrr=reciprocal_rank,
        curve=curve / len(counted),
        by_class=by_class,
        average_precision=singles[:, 2],
    )


def top_1(embeddings: Shaped[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], metric: Metric) -> float:
    """Return the share of items whose nearest other item has the same label, fast (R1's top-1 precision).

    Args:
        embeddings: one row an item; each is both query and gallery.
        labels: the class of each.
        metric: compares them. In a tie, the first row counts, unlike in `leave_one_out`.

    Raises:
        UsageError: there are fewer than two items.
    """
    n = len(embeddings)
    if n < 2:  # noqa: PLR2004 -- an item and its neighbour
        raise UsageError(f"Top-1 needs at least two items, an item and its neighbour; there are {n}.")
    rows = search.knn(embeddings, embeddings, 2, metric).rows.reshape(n, 2)
    # An item with identical copies may be second in its own ranking, or missing from it.
    nearest = np.where(rows[:, 0] == np.arange(n), rows[:, 1], rows[:, 0])
    return float(np.mean(labels[nearest] == labels))


def hit_rates(
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "n d"],
    relevant: Bool[np.ndarray, "q n"],
    ks: tuple[int, ...],
    metric: Metric,
) -> dict[int, float]:
    """Return the share of queries with a relevant item among their k nearest, fast (recall@k of Jegou et al. 2011).

    Args:
        queries: one row a query.
        gallery: the items to search; no query is among them.
        relevant: which items are relevant to which query.
        ks: the ranks.
        metric: compares them. In a tie, the first rows count, unlike in `evaluate`.
    """
    hits = search.knn(queries, gallery, max(ks), metric)
    rows = hits.rows.reshape(len(queries), -1)
    is_hit = np.take_along_axis(relevant, rows, axis=1)
    return {k: float(np.mean(is_hit[:, :k].any(axis=1))) for k in ks}
