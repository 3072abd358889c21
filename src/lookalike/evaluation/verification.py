"""Verification measures: are these two the same? Pairs with their truth in, error rates and thresholds out.

Throughout, two things are called the same where their distance is at most the threshold. A *genuine* pair is of one
class and an *impostor* pair of two. FAR, the false accept rate, is the share of impostor pairs that are called the
same; FRR, the false reject rate, is the share of genuine pairs that are not (ISO/IEC 19795-1).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from lookalike.metric import Metric

GENUINE_LIMIT = 2**23
"""Genuine pairs that `Roc.of_all` holds at most: 48 bytes each while it counts."""


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Pairs of rows and whether they are of one class: half of them are.

    Attributes:
        left: rows.
        right: rows; never the left one, and no two rows are a pair twice.
        same: whether both have the same label.
        asked: how many pairs were asked for; there may not be so many.
    """

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    same: Bool[np.ndarray, " n"]
    asked: int

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.left)

    def distances(self, embeddings: Shaped[np.ndarray, "rows d"], metric: Metric) -> Float32[np.ndarray, " n"]:
        """The distance of each pair, rounded to float32 as every answer of `lookalike.search` is."""
        raise NotImplementedError


def draw(labels: Shaped[np.ndarray, " n"], count: int, seed: int) -> LabelledPairs:
    """Draw as many genuine as impostor pairs, each uniformly and none twice. Pairs are drawn, never listed.

    Args:
        labels: the class of each row, whole numbers or strings.
        count: of pairs, both kinds together; an odd one is rounded down.
        seed: the same labels, count and seed draw the same pairs.

    Returns:
        As many as were asked for, or, where fewer exist, twice the number of the rarer kind: compare `LabelledPairs.asked`.

    Raises:
        UsageError: a count below 2.
        DataError: no two rows share a label, or all do.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it costs.

    Attributes:
        threshold: a distance; at most so far apart is the same.
        far: false accept rate.
        frr: false reject rate.
    """

    threshold: float
    far: float
    frr: float

    @property
    def accuracy(self) -> float:
        """Share of right verdicts where genuine and impostor pairs are as many: ``1 - (FAR + FRR) / 2``."""
        return 1 - (self.far + self.frr) / 2


@dataclass(frozen=True, eq=False)
class Roc:
    """The error rates of every threshold that matters.

    Attributes:
        thresholds: distances, ascending, each once.
        genuine_accepted: genuine pairs at most so far apart.
        impostors_accepted: impostor pairs at most so far apart.
    """

    thresholds: Float32[np.ndarray, " t"]
    genuine_accepted: Int64[np.ndarray, " t"]
    impostors_accepted: Int64[np.ndarray, " t"]

    @classmethod
    def of_pairs(cls, distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> "Roc":
        """Of pairs; the thresholds are all their distances.

        Args:
            distances: rounded to float32 where they are something else.
            same: which pairs are genuine.

        Raises:
            UsageError: distances that are negative, infinite or NaN.
            DataError: no genuine pair, or no impostor pair.
        """
        raise NotImplementedError

    @classmethod
    def of_all(
        cls,
        embeddings: Shaped[np.ndarray, "n d"],
        labels: Shaped[np.ndarray, " n"],
        metric: Metric,
        *,
        limit: int = GENUINE_LIMIT,
    ) -> "Roc":
        """Of all n(n - 1) / 2 pairs of a set, exactly, without holding them.

        Raises:
            UsageError: more genuine pairs than the limit, or vectors that `lookalike.search.prepare` refuses.
            DataError: no genuine pair, or no impostor pair.
        """
        raise NotImplementedError

    @property
    def genuine(self) -> int:
        """The number of genuine pairs."""
        return int(self.genuine_accepted[-1])

    @property
    def impostors(self) -> int:
        """The number of impostor pairs."""
        return int(self.impostors_accepted[-1])

    @property
    def far(self) -> Float64[np.ndarray, " t"]:
        """The false accept rate at each threshold, ascending."""
        return self.impostors_accepted / self.impostors

    @property
    def frr(self) -> Float64[np.ndarray, " t"]:
        """The false reject rate at each threshold, descending."""
        return 1 - self.genuine_accepted / self.genuine

    @property
    def auc(self) -> float:
        """The area under the ROC curve: the chance that a genuine pair is nearer than an impostor pair, ties by half."""
        raise NotImplementedError

    @property
    def eer(self) -> float:
        """The equal error rate: where the ROC curve, straight between its points, has FAR = FRR."""
        raise NotImplementedError

    def best_accuracy(self) -> OperatingPoint:
        """The threshold with the least FAR + FRR; the smallest of several.

        That is the best accuracy over pairs of which half are genuine, as `draw` gives them, whatever the share here.
        """
        raise NotImplementedError

    def equal_error(self) -> OperatingPoint:
        """The threshold at which FAR and FRR differ least; the smallest of several."""
        raise NotImplementedError

    def at_far(self, rate: float) -> OperatingPoint:
        """The largest threshold whose FAR is at most this rate.

        Raises:
            UsageError: a rate outside 0…1, or no threshold has so low a FAR.
        """
        raise NotImplementedError

    def curve(self, most: int = 500) -> Float64[np.ndarray, "p 2"]:
        """About so many points (FAR, FRR) from (0, 1) to (1, 0), to be drawn as ROC (FAR, 1 - FRR) or DET.

        They lie close in both corners, where a DET curve (Martin et al. 1997), whose axes are normal deviates or
        logarithms, shows the most.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Verdicts:
    """What a threshold decides about pairs whose truth is known: the confusion matrix and what follows from it.

    Attributes:
        threshold: a distance.
        true_negatives: impostor pairs called different.
        false_positives: impostor pairs called the same.
        false_negatives: genuine pairs called different.
        true_positives: genuine pairs called the same.
    """

    threshold: float
    true_negatives: int
    false_positives: int
    false_negatives: int
    true_positives: int

    @property
    def matrix(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """``((TN, FP), (FN, TP))``: a row for what is true, a column for what is said; different first, then same."""
        return (self.true_negatives, self.false_positives), (self.false_negatives, self.true_positives)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all."""
        raise NotImplementedError

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN where nothing is called the same."""
        raise NotImplementedError

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        raise NotImplementedError

    @property
    def f1(self) -> float:
        """2TP / (2TP + FP + FN), the harmonic mean of precision and recall."""
        raise NotImplementedError

    @property
    def far(self) -> float:
        """FP / (FP + TN)."""
        raise NotImplementedError

    @property
    def frr(self) -> float:
        """FN / (FN + TP)."""
        raise NotImplementedError


def judge(distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"], threshold: float) -> Verdicts:
    """Call each pair the same where its distance is at most the threshold, both rounded to float32, and count.

    Raises:
        UsageError: distances that are negative, infinite or NaN; a threshold that is NaN.
    """
    raise NotImplementedError
