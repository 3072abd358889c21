"""k-way n-shot classification: classes that were never trained, known by a few examples each.

A query goes to the class of its nearest example, or of its nearest *prototype*, the middle of a class's examples (Snell,
Swersky and Zemel, "Prototypical networks for few-shot learning", NIPS 2017).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from lookalike.metric import Metric

By = Literal["example", "prototype"]


@dataclass(frozen=True, eq=False)
class Classification:
    """Which class each query is of, and how far each class is.

    Attributes:
        classes: all classes of the support set, sorted.
        distances: from each query to each class: to its nearest example, or to its prototype.
    """

    classes: Shaped[np.ndarray, " c"]
    distances: Float32[np.ndarray, "q c"]

    @property
    def labels(self) -> Shaped[np.ndarray, " q"]:
        """The nearest class of each query; of several at the same distance the first in sorted order."""
        return self.classes[self.distances.argmin(axis=1)]

    @property
    def nearest(self) -> Float32[np.ndarray, " q"]:
        """The distance of that class."""
        return np.asarray(self.distances.min(axis=1))


def classify(
    queries: Shaped[np.ndarray, "q d"],
    support: Shaped[np.ndarray, "s d"],
    support_labels: Shaped[np.ndarray, " s"],
    metric: Metric,
    by: By = "example",
) -> Classification:
    """Classify queries by their nearest class.

    Args:
        queries: float32, or codes packed into uint8 for Hamming.
        support: the same; the examples.
        support_labels: the class of each example, whole numbers or strings.
        metric: what to measure with.
        by: the nearest example, or the nearest prototype. A prototype is the mean for Euclidean distance, the mean of
            unit vectors for cosine distance, and the majority of each bit (1 where there is none) for Hamming distance.

    Raises:
        UsageError: no examples, or vectors that `lookalike.search.prepare` refuses.
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False)
class FewShot:
    """How often few-shot classification is right.

    Attributes:
        accuracies: share of right answers in each episode.
        ways: classes in an episode.
        shots: examples of each.
        by: nearest example or prototype.
    """

    accuracies: Float64[np.ndarray, " episodes"]
    ways: int
    shots: int
    by: By

    @property
    def episodes(self) -> int:
        """The number of episodes."""
        return len(self.accuracies)

    @property
    def accuracy(self) -> float:
        """The mean over episodes."""
        raise NotImplementedError

    @property
    def interval(self) -> float:
        """Half the width of its 95 % confidence interval: 1.96 standard errors of the mean. NaN of one episode."""
        raise NotImplementedError


def episodes(
    embeddings: Shaped[np.ndarray, "n d"],
    labels: Shaped[np.ndarray, " n"],
    *,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
    metric: Metric,
    by: By = "example",
) -> FewShot:
    """Classify in random episodes: some classes, some examples of each, and other items of them as queries.

    Args:
        embeddings: one row an item.
        labels: the class of each, whole numbers or strings.
        ways: classes in an episode, drawn anew for each from those that have enough items.
        shots: examples of each class.
        queries: of each class.
        episodes: how many.
        seed: the same arrays and seed give the same episodes.
        metric: what to measure with.
        by: as `classify` takes it.

    Raises:
        UsageError: a number below 1 (ways: below 2), or fewer classes with ``shots + queries`` items than ways.
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Run:
    """One of the official one-shot runs of Omniglot: which of these drawings is of the same character?

    Attributes:
        name: such as ``run01``.
        training: files with one drawing of each character.
        test: files with drawings by somebody else.
        truth: for each test file the place of the right one in ``training``.
    """

    name: str
    training: tuple[bytes, ...]
    test: tuple[bytes, ...]
    truth: Int64[np.ndarray, " test"]


def read_runs(path: Path) -> tuple[Run, ...]:
    """Read the one-shot runs of Lake et al. (2015), the 20 of Omniglot's ``all_runs.zip`` or others laid out alike.

    Args:
        path: a folder or zip of ``run*/class_labels.txt``, ``run*/training/*.png`` and ``run*/test/*.png``. A line of
            ``class_labels.txt`` names a test file and the training file of its class.

    Raises:
        NotFoundError: nothing is there.
        DataError: it is no such folder or zip, a file that a run names is missing or out of all proportion, or a run
            names files that are not its own.
    """
    raise NotImplementedError


def one_shot(runs: Sequence[Run], embed: Callable[[list[bytes]], Shaped[np.ndarray, "n d"]], metric: Metric) -> FewShot:
    """Share of right answers in each run, by the nearest example.

    Args:
        runs: from `read_runs`.
        embed: makes an embedding of each picture file.
        metric: what to measure with.

    Raises:
        UsageError: no runs.
    """
    raise NotImplementedError
