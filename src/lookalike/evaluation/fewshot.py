"""k-way n-shot classification: recognition of classes that are not in the training data, by a few examples of each.

A query gets the class of its nearest example, or of its nearest prototype, the mean of a class's examples (Snell, Swersky
and Zemel, "Prototypical networks for few-shot learning", NIPS 2017).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lookalike.errors import UsageError
from lookalike.evaluation.distances import distance_chunks, prepare_both
from lookalike.evaluation.labels import Classes, LabelledVectors
from lookalike.metric import Metric
from lookalike.search import prepare
from lookalike.shapes import Float32, Float64, Shaped

ClassifyBy = Literal["example", "prototype"]
"""The target of the distance to a class: its nearest example, or its prototype."""


@dataclass(frozen=True, eq=False)
class Classification:
    """The distance from each query to each class.

    Attributes:
        classes: the classes of the support set, sorted.
        distances: to the nearest example of a class, or to its prototype.
    """

    classes: Shaped[np.ndarray, " c"]
    distances: Float32[np.ndarray, "q c"]

    @property
    def labels(self) -> Shaped[np.ndarray, " q"]:
        """The nearest class of each query; in a tie, the first in sorted order."""
        return np.asarray(self.classes[self.distances.argmin(axis=1)])

    @property
    def nearest(self) -> Float32[np.ndarray, " q"]:
        """The distance of the nearest class of each query."""
        return np.asarray(self.distances.min(axis=1))


def check_classify_by(by: object) -> None:
    """Check that a value is one of `ClassifyBy`.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(by, str) or by not in get_args(ClassifyBy):
        raise UsageError(f"Classify by {' or '.join(get_args(ClassifyBy))}, not by {by!r}.")


def classify(
    queries: Shaped[np.ndarray, "q d"], support: LabelledVectors, metric: Metric, by: ClassifyBy = "example"
) -> Classification:
    """Measure the distance from each query to each class of a support set.

    Args:
        queries: float32, or codes packed into uint8 for Hamming.
        support: the examples.
        metric: compares the vectors.
        by: a prototype is the mean for Euclidean distance, the mean of unit vectors for cosine distance, and the majority
            of each bit (1 in a tie) for Hamming distance.

    Raises:
        UsageError: there are no examples, or `lookalike.search.prepare` refuses the vectors.
    """
    check_classify_by(by)
    left, examples = prepare_both(queries, support.vectors, metric)
    classes = Classes.of(support.labels, len(examples))
    names = classes.names
    if not len(classes):
        raise UsageError("The support set is empty: give at least one example of one class.")
    distances = np.empty((len(left), len(classes)), np.float32)
    if by == "prototype":
        prototypes = [_prototype(examples.vectors[classes.members(code)], metric) for code in range(len(classes))]
        examples = prepare(np.stack(prototypes), metric)
        classes = Classes.of(np.arange(len(prototypes)), len(prototypes))
    for part, chunk in distance_chunks(left, examples, metric):
        distances[part] = np.minimum.reduceat(chunk[:, classes.order], classes.offsets[:-1], axis=1)
    return Classification(names, distances)


@dataclass(frozen=True)
class Episodes:
    """Random episodes: each has some classes, some examples of each, and other items of these classes as queries.

    Attributes:
        ways: classes in an episode, drawn from those with enough items.
        shots: examples of each class.
        queries: queries of each class.
        count: number of episodes.
        seed: the same items and seed give the same episodes.

    Raises:
        UsageError: a number is too small.
    """

    ways: int
    shots: int
    queries: int
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, minimum in (("ways", 2), ("shots", 1), ("queries", 1), ("count", 1)):
            if (number := getattr(self, name)) < minimum:
                raise UsageError(f"{name} must be at least {minimum}, not {number}.")


@dataclass(frozen=True, eq=False)
class FewShotScores:
    """The accuracy of few-shot classification.

    Attributes:
        accuracies: share of correctly classified queries in each episode.
        ways: classes in an episode.
        shots: examples of each class.
        by: nearest example, or nearest prototype.
    """

    accuracies: Float64[np.ndarray, " episodes"]
    ways: int
    shots: int
    by: ClassifyBy

    @property
    def episodes(self) -> int:
        """The number of episodes."""
        return len(self.accuracies)

    @property
    def accuracy(self) -> float:
        """The mean accuracy of the episodes."""
        return float(self.accuracies.mean())

    @property
    def interval(self) -> float:
        """Half the width of the 95 % confidence interval of the accuracy: 1.96 standard errors; NaN for one episode."""
        return 1.96 * float(self.accuracies.std(ddof=1)) / math.sqrt(self.episodes) if self.episodes > 1 else math.nan


def classify_episodes(
    items: LabelledVectors, episodes: Episodes, metric: Metric, by: ClassifyBy = "example"
) -> FewShotScores:
    """Classify the queries of random episodes.

    Args:
        items: examples and queries are drawn from these.
        episodes: what to draw.
        metric: compares the vectors.
        by: see `classify`.

    Raises:
        UsageError: fewer classes than ``ways`` have ``shots + queries`` items.
    """
    gallery = prepare(items.vectors, metric)
    classes = Classes.of(items.labels, len(gallery))
    ways, shots, queries = episodes.ways, episodes.shots, episodes.queries
    large_enough = np.flatnonzero(classes.sizes >= shots + queries)
    if len(large_enough) < ways:
        raise UsageError(
            f"{ways}-way episodes need {ways} classes with at least {shots + queries} items ({shots} examples, {queries} queries);"
            f" only {len(large_enough)} classes have them."
        )
    rng = np.random.default_rng(episodes.seed)
    accuracies = np.empty(episodes.count)
    for episode in range(episodes.count):
        chosen = rng.choice(large_enough, ways, replace=False)
        rows = np.stack([rng.choice(classes.members(code), shots + queries, replace=False) for code in chosen])
        support = LabelledVectors(gallery.vectors[rows[:, :shots].ravel()], chosen.repeat(shots))
        predicted = classify(gallery.vectors[rows[:, shots:].ravel()], support, metric, by).labels
        accuracies[episode] = np.mean(predicted == chosen.repeat(queries))
    return FewShotScores(accuracies, ways, shots, by)


def _prototype(examples: Shaped[np.ndarray, "m d"], metric: Metric) -> Shaped[np.ndarray, " d"]:
    if metric == Metric.HAMMING:
        ones = np.unpackbits(examples, axis=1).sum(axis=0, dtype=np.int64)
        return np.packbits(2 * ones >= len(examples))
    vectors = examples.astype(np.float64)
    if metric == Metric.COSINE:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return np.asarray(vectors.mean(axis=0))
