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
from lookalike.evaluation.labels import Classes
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
    queries: Shaped[np.ndarray, "..."],
    gallery: Shaped[np.ndarray, "..."],
    query_labels: Shaped[np.ndarray, "..."],
    gallery_labels: Shaped[np.ndarray, "..."],
    metric: Metric,
    *,
    ks: tuple[int, ...] = (1, 5, 10),
    itself: Int64[np.ndarray, " queries"] | None = None,
) -> Retrieval:
    """Rank the whole gallery for each query, and measure. Memory does not grow with the product of the two.

    Args:
        queries: ``(q, d)``; float32, or codes packed into uint8 for Hamming.
        gallery: ``(n, d)``, the same.
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
    left, right = distances.sides(queries, gallery, metric)
    if not ks or min(ks) < 1:
        raise UsageError(f"A cut k must be at least 1; {ks} is no list of such.")
    if itself is not None and not (len(itself) == len(left) and np.all((itself >= 0) & (itself < len(right)))):
        raise UsageError(f"Each of the {len(left)} queries is itself one gallery row between 0 and {len(right) - 1}.")
    asked, classes = Classes.of(query_labels, len(left)), Classes.of(gallery_labels, len(right))
    if (asked.names.dtype.kind == "U") != (classes.names.dtype.kind == "U") and len(left) and len(right):
        raise UsageError("The labels of one side are strings and those of the other are numbers; give both alike.")
    cuts = np.array(ks, np.int64)
    singles, by_cut = np.full((len(left), 4), np.nan), np.full((len(left), 4, len(ks)), np.nan)
    curve = np.zeros(RECALLS)
    for query, ranking in _rankings(left, right, asked, classes, metric, itself=itself):
        singles[query] = ranking.figures()
        by_cut[query] = ranking.at(cuts)
        curve += ranking.curve()
    return _means(singles, by_cut, curve, asked, ks)


def leave_one_out(
    embeddings: Shaped[np.ndarray, "..."],
    labels: Shaped[np.ndarray, "..."],
    metric: Metric,
    *,
    ks: tuple[int, ...] = (1, 5, 10),
) -> Retrieval:
    """Each item is a query against all others: `evaluate` with one array on both sides."""
    return evaluate(embeddings, embeddings, labels, labels, metric, ks=ks, itself=np.arange(len(embeddings)))


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Where one query's relevant items stand: the distances at which there are some, ascending.

    Attributes:
        before: items nearer than that.
        items: items at that distance.
        hits: relevant ones among them.
    """

    before: Int64[np.ndarray, " t"]
    items: Int64[np.ndarray, " t"]
    hits: Int64[np.ndarray, " t"]

    @classmethod
    def of(cls, gallery: Float32[np.ndarray, " n"], relevant: Float32[np.ndarray, " r"]) -> "_Ranking":
        """Of the distances of all items, sorted, and of the relevant ones."""
        at, hits = np.unique(relevant, return_counts=True)
        before = np.searchsorted(gallery, at)
        return cls(before, np.searchsorted(gallery, at, "right") - before, hits)

    def figures(self) -> tuple[float, float, float, float]:
        """Top-1, R-precision, average precision and reciprocal rank."""
        relevant = int(self.hits.sum())
        (top, first_r), _ = self._up_to(np.array([1, relevant]))
        _, (whole,) = self._up_to(self.before[-1:] + self.items[-1:])
        return float(top), float(first_r) / relevant, float(whole) / relevant, self._reciprocal_rank()

    def at(self, cuts: Int64[np.ndarray, " k"]) -> Float64[np.ndarray, "4 k"]:
        """Precision, recall, hit rate and average precision of the nearest so many."""
        relevant = int(self.hits.sum())
        found, gained = self._up_to(cuts)
        hit = [1 - self._none_in(cut) for cut in cuts - self.before[0]]
        return np.stack([found / cuts, found / relevant, np.array(hit), gained / np.minimum(cuts, relevant)])

    def curve(self) -> Float64[np.ndarray, " 101"]:
        """Interpolated precision at each recall: the highest at this one or above it."""
        found = self.hits.cumsum()
        highest = np.maximum.accumulate((found / (self.before + self.items))[::-1])[::-1]
        # In whole numbers: 0.1 · 30 is not 3 as floats go.
        reached = np.searchsorted((RECALLS - 1) * found, np.arange(RECALLS) * found[-1])
        return np.asarray(highest[reached])

    def _up_to(self, cuts: Int64[np.ndarray, " k"]) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """Relevant items among the nearest so many, expected, and the sum of precisions over them."""
        hits = self.hits * np.clip((cuts[:, None] - self.before) / self.items, 0, 1)
        found = hits.cumsum(axis=1)
        precision = found / np.minimum(self.before + self.items, cuts[:, None])
        return found[:, -1], (hits * precision).sum(axis=1)

    def _none_in(self, places: int) -> float:
        """The chance that so many, drawn from the items at the first distance, are all irrelevant."""
        drawn = np.arange(min(max(places, 0), self.items[0]))
        return float(np.prod(np.maximum(1 - self.hits[0] / (self.items[0] - drawn), 0)))

    def _reciprocal_rank(self) -> float:
        """Expected: the sum over places of the chance that the first relevant item stands there, by the place."""
        drawn = np.arange(self.items[0] - self.hits[0] + 1)
        chance = self.hits[0] / (self.items[0] - drawn)  # to be relevant, where all drawn before are not
        first = chance * np.concatenate([[1.0], np.cumprod(1 - chance[:-1])])
        return float(np.sum(first / (self.before[0] + 1 + drawn)))


def _rankings(
    queries: search.Gallery,
    gallery: search.Gallery,
    asked: Classes,
    classes: Classes,
    metric: Metric,
    *,
    itself: Int64[np.ndarray, " q"] | None,
) -> Iterator[tuple[int, _Ranking]]:
    """The queries that have a relevant item, and where they have them."""
    codes = np.searchsorted(classes.names, asked.names)  # of what is asked for, among what there is
    known = np.isin(asked.names, classes.names)
    for part, block in distances.rows(queries, gallery, metric):
        for query, row in enumerate(block, part.start):
            asks = asked.codes[query]
            relevant = classes.members(codes[asks]) if known[asks] else np.empty(0, np.int64)
            others = row
            if itself is not None:
                relevant, others = relevant[relevant != itself[query]], np.delete(row, itself[query])
            if len(relevant):
                yield query, _Ranking.of(np.sort(others), row[relevant])


def _means(
    singles: Float64[np.ndarray, "q 4"],
    by_cut: Float64[np.ndarray, "q 4 k"],
    curve: Float64[np.ndarray, " 101"],
    asked: Classes,
    ks: tuple[int, ...],
) -> Retrieval:
    counted = np.flatnonzero(~np.isnan(singles[:, 0]))
    if not len(counted):
        raise UsageError("No query has a relevant item in the gallery: none has its label. Are these the right labels?")
    by_class = {}
    for code, name in enumerate(asked.names.tolist()):
        rows = asked.members(code)
        mine = singles[rows[~np.isnan(singles[rows, 0])]]
        if len(mine):
            top, first_r, average, _ = mine.mean(axis=0).tolist()
            by_class[name] = ClassFigures(len(mine), top, average, first_r)
    top, first_r, average, rank = singles[counted].mean(axis=0).tolist()
    precision, recall, hit_rate, cut_average = (
        dict(zip(ks, row, strict=True)) for row in by_cut[counted].mean(axis=0).tolist()
    )
    return Retrieval(
        queries=len(counted),
        without_relevant=len(singles) - len(counted),
        top_1=top,
        precision_at=precision,
        recall_at=recall,
        hit_rate_at=hit_rate,
        map_at=cut_average,
        r_precision=first_r,
        map=average,
        mrr=rank,
        curve=curve / len(counted),
        by_class=by_class,
        average_precision=singles[:, 2],
    )


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
