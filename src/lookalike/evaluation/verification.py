"""Verification measures: are these two the same? Pairs with their truth in, error rates and thresholds out.

Throughout, two things are called the same where their distance is at most the threshold. A *genuine* pair is of one
class and an *impostor* pair of two. FAR, the false accept rate, is the share of impostor pairs that are called the
same; FRR, the false reject rate, is the share of genuine pairs that are not (ISO/IEC 19795-1).
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from lookalike.errors import DataError, UsageError
from lookalike.evaluation import distances as measured
from lookalike.evaluation.labels import Classes
from lookalike.metric import Metric
from lookalike.search import Gallery
from lookalike.search.bounds import measure
from lookalike.search.chunks import chunks

GENUINE_LIMIT = 2**23
"""Genuine pairs that `Roc.of_all` holds at most, at about 100 bytes each while it counts."""

HELD = 2**20
"""Impostor distances that it holds, the least of all."""


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
        """The distance of each pair, rounded to float32 as every answer of `lookalike.search` is.

        Raises:
            UsageError: vectors that `lookalike.search.prepare` refuses.
        """
        side, _ = measured.sides(embeddings, embeddings, metric)
        return measure(side, side, self.left, self.right, metric)


def draw(labels: Shaped[np.ndarray, " n"], count: int, seed: int) -> LabelledPairs:
    """Draw as many genuine as impostor pairs, each uniformly and none twice. Pairs are drawn, never listed.

    Args:
        labels: the class of each row, whole numbers or strings.
        count: of pairs, both kinds together; an odd one is rounded down.
        seed: the same labels, count and seed draw the same pairs.

    Returns:
        As many as were asked for, or, where fewer exist, twice the number of the rarer kind: compare `LabelledPairs.asked`.

    Raises:
        UsageError: a count below 2, or labels that are neither whole numbers nor strings.
        DataError: no two rows share a label, or all do.
    """
    if count < 2:  # noqa: PLR2004 -- one of each kind
        raise UsageError(f"Pairs are drawn half and half: ask for 2 at least, not {count}.")
    labels = np.asarray(labels)
    classes = Classes.of(labels, labels.size)
    place = np.arange(len(labels))
    end = classes.offsets[1:][classes.codes[classes.order]]  # of its class, for each place of a row in their order
    same, other = end - 1 - place, len(labels) - end  # rows after it that make a pair with it
    _check_both(int(same.sum()), int(other.sum()))
    half = min(count // 2, int(same.sum()), int(other.sum()))
    rng = random.Random(seed)  # noqa: S311 -- it keeps no secret, and samples a range without listing it
    genuine, impostors = _drawn(rng, half, place + 1, same), _drawn(rng, half, end, other)
    pairs = np.sort(classes.order[np.concatenate([genuine, impostors])], axis=1)
    return LabelledPairs(pairs[:, 0], pairs[:, 1], np.arange(2 * half) < half, count)


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
        values = _checked(distances)
        if values.shape != same.shape:
            raise UsageError(f"{len(same)} truths do not go with {len(values)} distances: give one of each a pair.")
        _check_both(int(same.sum()), int((~same).sum()))
        thresholds = np.unique(values)
        return cls(thresholds, _up_to(thresholds, np.sort(values[same])), _up_to(thresholds, np.sort(values[~same])))

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

        Genuine distances and the least million of the impostors' are held, and the other impostors counted between
        them. The thresholds are these distances, and the last before each genuine one: what lies between two of them
        accepts no other genuine pair. So AUC, EER and the curve are those of `of_pairs`, and so is a threshold at a low
        FAR.

        Args:
            embeddings: float32, or codes packed into uint8 for Hamming.
            labels: the class of each, whole numbers or strings.
            metric: what to measure with.
            limit: genuine pairs that may be held.

        Raises:
            UsageError: more genuine pairs than the limit, or vectors that `lookalike.search.prepare` refuses.
            DataError: no genuine pair, or no impostor pair.
        """
        side, _ = measured.sides(embeddings, embeddings, metric)
        classes = Classes.of(labels, len(side))
        genuine = sum(size * (size - 1) // 2 for size in classes.sizes.tolist())
        _check_both(genuine, len(side) * (len(side) - 1) // 2 - genuine)
        if genuine > limit:
            raise UsageError(
                f"{genuine:,} pairs of one class are more than the {limit:,} that are held; draw some of them instead."
            )
        within = [np.empty(0, np.float32)]
        for code in range(len(classes)):
            within += [block[later] for _, _, block, later in _triangle(side.take(classes.members(code)), metric)]
        near = np.sort(np.concatenate(within))
        counted = _Counted(np.union1d(near, np.nextafter(near[near > 0], np.float32(0))))
        for rows, others, block, later in _triangle(side, metric):
            counted.add(block[later & (classes.codes[rows, None] != classes.codes[others])])
        thresholds, impostors = counted.finish()
        genuine_accepted = _up_to(thresholds, near)
        telling = np.diff(impostors + genuine_accepted, prepend=0) > 0
        return cls(thresholds[telling], genuine_accepted[telling], impostors[telling])

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
        """The area under the ROC curve: the chance that a genuine pair is nearer than an impostor pair, ties by half.

        Mann and Whitney's U by the number of pairs of pairs.
        """
        points = self._points()
        return float(np.sum(np.diff(points[:, 0]) * (1 - (points[1:, 1] + points[:-1, 1]) / 2)))

    @property
    def eer(self) -> float:
        """The equal error rate: where the ROC curve, straight between its points, has FAR = FRR."""
        far, frr = self._points().T
        at = int(np.argmax(far >= frr))  # the first point past the diagonal; there is one before it, (0, 1)
        gap, next_gap = frr[at - 1] - far[at - 1], frr[at] - far[at]
        return float(far[at - 1] + (far[at] - far[at - 1]) * gap / (gap - next_gap))

    def best_accuracy(self) -> OperatingPoint:
        """The threshold with the least FAR + FRR; the smallest of several.

        That is the best accuracy over pairs of which half are genuine, as `draw` gives them, whatever the share here.
        """
        return self._point(
            int(np.argmin(self.impostors_accepted * self.genuine - self.genuine_accepted * self.impostors))
        )

    def equal_error(self) -> OperatingPoint:
        """The threshold at which FAR and FRR differ least; the smallest of several."""
        return self._point(int(np.argmin(np.abs(self.far - self.frr))))

    def at_far(self, rate: float) -> OperatingPoint:
        """The largest threshold whose FAR is at most this rate.

        Raises:
            UsageError: a rate outside 0…1, or no threshold has so low a FAR.
        """
        if not 0 <= rate <= 1:
            raise UsageError(f"A false accept rate lies between 0 and 1, {rate} does not; 0.001 is one in a thousand.")
        accepted = int(np.searchsorted(self.far, rate, "right"))
        if not accepted:
            raise UsageError(
                f"No threshold has a false accept rate of at most {rate}: {self.impostors_accepted[0]:,} of"
                f" {self.impostors:,} impostor pairs are at the smallest distance, {self.thresholds[0]:g}."
            )
        return self._point(accepted - 1)

    def curve(self, most: int = 500) -> Float64[np.ndarray, "p 2"]:
        """About so many points (FAR, FRR) from (0, 1) to (1, 0), to be drawn as ROC (FAR, 1 - FRR) or DET.

        They lie close in both corners, where a DET curve (Martin et al. 1997), whose axes are normal deviates or
        logarithms, shows the most.
        """
        points = self._points()
        if len(points) <= most:
            return points
        levels = np.geomspace(1 / max(self.genuine, self.impostors), 1, max(2, most // 2))
        by_far, by_frr = np.searchsorted(points[:, 0], levels), np.searchsorted(-points[:, 1], -levels)
        chosen = np.concatenate([[0, len(points) - 1], by_far, by_frr]).clip(0, len(points) - 1)
        return np.asarray(points[np.unique(chosen)])

    def _points(self) -> Float64[np.ndarray, "p 2"]:
        """(FAR, FRR) of accepting nothing, and of each threshold."""
        return np.concatenate([[[0.0, 1.0]], np.stack([self.far, self.frr], axis=1)])

    def _point(self, place: int) -> OperatingPoint:
        return OperatingPoint(float(self.thresholds[place]), float(self.far[place]), float(self.frr[place]))


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
        right = self.true_positives + self.true_negatives
        return _share(right, self.false_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN where nothing is called the same."""
        return _share(self.true_positives, self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN where no pair is genuine."""
        return _share(self.true_positives, self.false_negatives)

    @property
    def f1(self) -> float:
        """2TP / (2TP + FP + FN), the harmonic mean of precision and recall; NaN where both kinds are none."""
        return _share(2 * self.true_positives, self.false_positives + self.false_negatives)

    @property
    def far(self) -> float:
        """FP / (FP + TN); NaN where no pair is an impostor."""
        return _share(self.false_positives, self.true_negatives)

    @property
    def frr(self) -> float:
        """FN / (FN + TP); NaN where no pair is genuine."""
        return _share(self.false_negatives, self.true_positives)


def judge(distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"], threshold: float) -> Verdicts:
    """Call each pair the same where its distance is at most the threshold, both rounded to float32, and count.

    Raises:
        UsageError: distances that are negative, infinite or NaN; a threshold that is NaN.
    """
    values = _checked(distances)
    if values.shape != same.shape:
        raise UsageError(f"{len(same)} truths do not go with {len(values)} distances: give one of each a pair.")
    if math.isnan(threshold):
        raise UsageError("A threshold must be a distance, not NaN.")
    with np.errstate(over="ignore"):  # as above: beyond float32 there is only infinity
        accepted = values <= np.float32(threshold)
    return Verdicts(
        threshold=threshold,
        true_negatives=int(np.sum(~accepted & ~same)),
        false_positives=int(np.sum(accepted & ~same)),
        false_negatives=int(np.sum(~accepted & same)),
        true_positives=int(np.sum(accepted & same)),
    )


class _Counted:
    """Impostor distances as they come: the least of them held, all of them counted between given thresholds."""

    def __init__(self, thresholds: Float32[np.ndarray, " t"]) -> None:
        self._thresholds = thresholds
        self._counts = np.zeros(len(thresholds) + 1, np.int64)  # behind the one before, up to this one
        self._least = np.empty(0, np.float32)
        self._farthest = np.float32(0)

    def add(self, distances: Float32[np.ndarray, " n"]) -> None:
        if not len(distances):
            return
        distances = np.sort(distances)  # sorted needles keep the search in the cache
        self._counts += np.bincount(np.searchsorted(self._thresholds, distances), minlength=len(self._counts))
        self._farthest = max(self._farthest, distances[-1])
        self._least = np.sort(np.concatenate([self._least, distances[:HELD]]))[:HELD]

    def finish(self) -> tuple[Float32[np.ndarray, " u"], Int64[np.ndarray, " u"]]:
        """The thresholds, the held distances and the farthest one, and how many are no farther than each."""
        counts = np.concatenate([[0], self._counts.cumsum()])
        # Of the last distance that is held, others may have gone.
        held = self._least if len(self._least) == counts[-1] else self._least[self._least < self._least[-1]]
        thresholds = np.unique(np.concatenate([self._thresholds, held, [self._farthest]]))
        known = counts[np.searchsorted(self._thresholds, thresholds, "right")]
        known[thresholds >= self._farthest] = counts[-1]
        return thresholds, np.maximum(known, _up_to(thresholds, held))


def _triangle(
    side: Gallery, metric: Metric
) -> Iterator[tuple[slice, slice, Float32[np.ndarray, "q m"], Bool[np.ndarray, "q m"]]]:
    """Some rows against the first of them and all that come later, their distances, and which pairs are in order."""
    for part in chunks(len(side), measured.QUERIES):
        later = side.take(slice(part.start, None))
        for some, block in measured.rows(side.take(part), later, metric):
            in_order = np.arange(some.start, some.stop)[:, None] < np.arange(len(later))
            yield slice(part.start + some.start, part.start + some.stop), slice(part.start, None), block, in_order


def _drawn(
    rng: random.Random, count: int, first: Int64[np.ndarray, " n"], partners: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, "count 2"]:
    """So many different pairs of places, where each place has so many partners from a first one on."""
    ends = partners.cumsum()
    chosen = np.array(rng.sample(range(int(ends[-1])), count))
    left = np.searchsorted(ends, chosen, "right")
    return np.stack([left, first[left] + chosen - (ends - partners)[left]], axis=1)


def _up_to(thresholds: Float32[np.ndarray, " t"], ascending: Float32[np.ndarray, " n"]) -> Int64[np.ndarray, " t"]:
    return np.searchsorted(ascending, thresholds, "right")


def _checked(distances: Shaped[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
        values = np.asarray(distances).astype(np.float32)
    if not np.all((values >= 0) & np.isfinite(values)):
        raise UsageError("Distances must be finite and at least 0; leave pairs that have none out.")
    return values


def _check_both(genuine: int, impostors: int) -> None:
    if not genuine:
        raise DataError("There is no pair of one class: some class needs two items at least.")
    if not impostors:
        raise DataError("There is no pair of two classes: all items have one label.")


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else math.nan
