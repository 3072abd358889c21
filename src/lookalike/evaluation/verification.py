"""Verification, whether two images show the same thing: labelled pairs, and the confusion matrix of a threshold.

A pair is accepted as the same if its distance is at most the threshold. A *genuine* pair is of the same class, an *impostor*
pair of different classes. The false accept rate (FAR) is the share of impostor pairs that are accepted; the false reject rate
(FRR) is the share of genuine pairs that are rejected (ISO/IEC 19795-1). `lookalike.evaluation.roc` has the rates of all
thresholds.
"""

import math
import random
from dataclasses import dataclass

import numpy as np

from lookalike.errors import DataError, UsageError
from lookalike.evaluation.labels import Classes
from lookalike.metric import Metric
from lookalike.search import prepare
from lookalike.search.bounds import measure
from lookalike.shapes import Bool, Float32, Int64, Shaped


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Pairs of rows, and whether both rows have the same label.

    Attributes:
        left: rows.
        right: rows, each different from the left one; no pair is repeated.
        same: true for genuine pairs.
        requested: number of pairs that were requested; the data may have fewer.
    """

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    same: Bool[np.ndarray, " n"]
    requested: int

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.left)

    def distances(self, embeddings: Shaped[np.ndarray, "rows d"], metric: Metric) -> Float32[np.ndarray, " n"]:
        """Measure the distance of each pair, rounded to float32 as `lookalike.search` rounds.

        Raises:
            UsageError: `lookalike.search.prepare` refuses the embeddings.
        """
        gallery = prepare(embeddings, metric)
        return measure(gallery, gallery, self.left, self.right, metric)


def draw_pairs(
    labels: Shaped[np.ndarray, " n"], count: int, seed: int, *, impostors: int | None = None
) -> LabelledPairs:
    """Draw genuine and impostor pairs, uniformly and without replacement, in bounded memory.

    Args:
        labels: the class of each row, whole numbers or strings.
        count: number of pairs of both kinds together, half of them genuine; an odd number is rounded down.
        seed: the same labels, numbers and seed give the same pairs.
        impostors: number of impostor pairs, at most; by default as many as genuine ones.

    Returns:
        ``count`` pairs, or twice the number of the rarer kind if fewer exist; see `LabelledPairs.requested`. With
        ``impostors``, half of ``count`` genuine pairs, or all, and that many impostor pairs, or all.

    Raises:
        UsageError: the count is below 2, or the labels are neither whole numbers nor strings.
        DataError: no two rows have the same label, or all have.
    """
    if count < 2:  # noqa: PLR2004 -- one of each kind
        raise UsageError(f"Pairs are drawn half and half: request at least 2, not {count}.")
    labels = np.asarray(labels)
    classes = Classes.of(labels, labels.size)
    position = np.arange(len(labels))  # in the order of classes
    class_end = classes.offsets[1:][classes.codes[classes.order]]
    genuine_partners, impostor_partners = class_end - 1 - position, len(labels) - class_end  # at later positions
    check_both_kinds(int(genuine_partners.sum()), int(impostor_partners.sum()))
    genuine = min(count // 2, int(genuine_partners.sum()))
    if impostors is None:
        genuine = impostors = min(genuine, int(impostor_partners.sum()))
    impostors = min(impostors, int(impostor_partners.sum()))
    rng = random.Random(seed)  # noqa: S311 -- not for secrets; it samples a range without listing it
    same = _sample_pairs(rng, genuine, position + 1, genuine_partners)
    different = _sample_pairs(rng, impostors, class_end, impostor_partners)
    pairs = np.sort(classes.order[np.concatenate([same, different])], axis=1)
    return LabelledPairs(pairs[:, 0], pairs[:, 1], np.arange(len(pairs)) < genuine, count)


@dataclass(frozen=True)
class ConfusionMatrix:
    """The decisions of a threshold on pairs with known truth, and the rates that follow.

    Attributes:
        threshold: a distance.
        true_negatives: impostor pairs that are rejected.
        false_positives: impostor pairs that are accepted.
        false_negatives: genuine pairs that are rejected.
        true_positives: genuine pairs that are accepted.
    """

    threshold: float
    true_negatives: int
    false_positives: int
    false_negatives: int
    true_positives: int

    @property
    def matrix(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """``((TN, FP), (FN, TP))``: impostor pairs in the first row, rejected pairs in the first column."""
        return (self.true_negatives, self.false_positives), (self.false_negatives, self.true_positives)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all; NaN without pairs."""
        return _ratio(self.true_positives + self.true_negatives, self.false_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN if no pair is accepted."""
        return _ratio(self.true_positives, self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN without genuine pairs."""
        return _ratio(self.true_positives, self.false_negatives)

    @property
    def f1(self) -> float:
        """2TP / (2TP + FP + FN), the harmonic mean of precision and recall; NaN if it is 0 / 0."""
        return _ratio(2 * self.true_positives, self.false_positives + self.false_negatives)

    @property
    def false_accept_rate(self) -> float:
        """FP / (FP + TN); NaN without impostor pairs."""
        return _ratio(self.false_positives, self.true_negatives)

    @property
    def false_reject_rate(self) -> float:
        """FN / (FN + TP); NaN without genuine pairs."""
        return _ratio(self.false_negatives, self.true_positives)


def confusion_matrix(
    distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"], threshold: float
) -> ConfusionMatrix:
    """Accept each pair whose distance is at most the threshold, both rounded to float32, and count the decisions.

    Args:
        distances: of the pairs.
        same: true for genuine pairs.
        threshold: a distance.

    Raises:
        UsageError: a distance is negative, infinite or NaN, or the threshold is NaN.
    """
    values = check_distances(distances, same)
    if math.isnan(threshold):
        raise UsageError("The threshold is NaN; give a distance.")
    with np.errstate(over="ignore"):  # a threshold beyond float32 becomes infinity and accepts everything
        accepted = values <= np.float32(threshold)
    return ConfusionMatrix(
        threshold=threshold,
        true_negatives=int(np.sum(~accepted & ~same)),
        false_positives=int(np.sum(accepted & ~same)),
        false_negatives=int(np.sum(~accepted & same)),
        true_positives=int(np.sum(accepted & same)),
    )


def check_distances(distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Round the distances of pairs to float32 and check them.

    Raises:
        UsageError: a distance is negative, infinite or NaN, or the arrays have different lengths.
    """
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused
        values = np.asarray(distances).astype(np.float32)
    if not np.all((values >= 0) & np.isfinite(values)):
        raise UsageError("Distances must be finite and at least 0; leave out pairs without a distance.")
    if values.shape != same.shape:
        raise UsageError(f"There are {len(values)} distances and {len(same)} truths; give one of each per pair.")
    return values


def check_both_kinds(genuine: int, impostors: int) -> None:
    """Check that there are pairs of both kinds.

    Raises:
        DataError: a number is 0.
    """
    if not genuine:
        raise DataError("There is no pair of the same class: at least one class needs two items.")
    if not impostors:
        raise DataError("There is no pair of different classes: all items have the same label.")


def _sample_pairs(
    rng: random.Random, count: int, first: Int64[np.ndarray, " n"], partners: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, "count 2"]:
    """Sample pairs of positions: position i pairs with ``partners[i]`` positions from ``first[i]`` on."""
    ends = partners.cumsum()
    sampled = np.array(rng.sample(range(int(ends[-1])), count))
    left = np.searchsorted(ends, sampled, "right")
    return np.stack([left, first[left] + sampled - (ends - partners)[left]], axis=1)


def _ratio(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else math.nan
