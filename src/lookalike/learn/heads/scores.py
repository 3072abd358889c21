"""Scores of single queries, and the gain of one encoder over another with an interval."""

from dataclasses import dataclass

import numpy as np

from lookalike.evaluation.intervals import DRAWS, MIN_UNITS, Interval
from lookalike.search.chunks import chunks
from lookalike.shapes import Float32, Float64, Int64

_QUERIES = 256


@dataclass(frozen=True, eq=False)
class QueryScores:
    """Scores of the queries that have a relevant item, leave-one-out.

    Attributes:
        queries: their rows.
        top_1: 1 if the nearest other item has the class of the query, else 0.
        average_precision: over all other items.
    """

    queries: Int64[np.ndarray, " q"]
    top_1: Float64[np.ndarray, " q"]
    average_precision: Float64[np.ndarray, " q"]


def score_queries(
    embeddings: Float32[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], queries: Int64[np.ndarray, " m"]
) -> QueryScores:
    """Rank all other items for each query by their Euclidean distance; ties are in the order of rows.

    Args:
        embeddings: of the items.
        labels: the class of each.
        queries: rows of the items to ask for; those without another item of their class are left out.
    """
    counts = np.bincount(labels)
    queries = queries[counts[labels[queries]] > 1]
    squares = np.einsum("nd,nd->n", embeddings, embeddings)
    top_1, precision = np.empty(len(queries)), np.empty(len(queries))
    for part in chunks(len(queries), _QUERIES):
        rows = queries[part]
        distances = squares - 2 * embeddings[rows] @ embeddings.T
        distances[np.arange(len(rows)), rows] = np.inf  # last, and left out
        relevant = labels[np.argsort(distances, axis=1, kind="stable")[:, :-1]] == labels[rows, None]
        hits = np.cumsum(relevant, axis=1)
        top_1[part] = relevant[:, 0]
        precision[part] = (hits / np.arange(1, hits.shape[1] + 1) * relevant).sum(axis=1) / hits[:, -1]
    return QueryScores(queries, top_1, precision)


@dataclass(frozen=True)
class Gain:
    """A mean score before and after, and the 95 % interval of its gain; none if there is too little to draw from.

    Attributes:
        before: with the encoder that training began from.
        after: with the new one.
        interval: of ``after - before``.
    """

    before: float
    after: float
    interval: Interval | None

    def __str__(self) -> str:
        """Format the scores, the gain and the interval."""
        interval = "" if self.interval is None else f", 95 % interval {self.interval[0]:+.3f}…{self.interval[1]:+.3f}"
        return f"{self.before:.3f} → {self.after:.3f} ({self.after - self.before:+.3f}{interval})"


def measure_gain(
    before: Float64[np.ndarray, " q"], after: Float64[np.ndarray, " q"], units: Int64[np.ndarray, " q"], seed: int
) -> Gain:
    """Compare the scores of the same queries, and draw their classes for an interval (cluster bootstrap).

    Args:
        before: score of each query.
        after: of the same queries.
        units: the class of each query; if there are fewer than `MIN_UNITS`, queries are drawn instead of classes.
        seed: the same scores and seed give the same interval.
    """
    _, members = np.unique(units, return_inverse=True)
    if members.max(initial=0) + 1 < MIN_UNITS:
        members = np.arange(len(units))
    count = int(members.max(initial=-1)) + 1
    interval = None
    if count >= MIN_UNITS:
        sums, sizes = np.bincount(members, after - before), np.bincount(members)
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
        low, high = np.quantile((drawn @ sums) / (drawn @ sizes), [0.025, 0.975]).tolist()
        interval = low, high
    return Gain(float(before.mean()), float(after.mean()), interval)
