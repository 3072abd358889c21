"""ROC curves: the false accept and false reject rates of all thresholds, AUC, EER and operating points."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lookalike.errors import UsageError
from lookalike.evaluation import distances as pair_distances
from lookalike.evaluation.labels import Classes, LabelledVectors
from lookalike.evaluation.verification import check_both_kinds, check_distances
from lookalike.metric import Metric
from lookalike.search import Gallery, prepare
from lookalike.search.chunks import chunks
from lookalike.shapes import Bool, Float32, Float64, Int64, Shaped

MAX_GENUINE = 2**23
"""Largest number of genuine pairs that `Roc.of_all_pairs` accepts; each takes about 100 bytes of memory while it counts."""

MAX_IMPOSTORS = 2**20
"""Number of impostor distances, the smallest ones, that `Roc.of_all_pairs` keeps in memory."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and its error rates.

    Attributes:
        threshold: a distance; pairs at most this far apart are accepted.
        false_accept_rate: share of impostor pairs that are accepted.
        false_reject_rate: share of genuine pairs that are rejected.
    """

    threshold: float
    false_accept_rate: float
    false_reject_rate: float

    @property
    def accuracy(self) -> float:
        """The share of right decisions if genuine and impostor pairs are equally frequent: ``1 - (FAR + FRR) / 2``."""
        return 1 - (self.false_accept_rate + self.false_reject_rate) / 2


@dataclass(frozen=True, eq=False)
class Roc:
    """The numbers of accepted pairs at every threshold that changes them.

    Attributes:
        thresholds: distances, ascending, each once.
        genuine_accepted: genuine pairs at most this far apart.
        impostors_accepted: impostor pairs at most this far apart.
    """

    thresholds: Float32[np.ndarray, " t"]
    genuine_accepted: Int64[np.ndarray, " t"]
    impostors_accepted: Int64[np.ndarray, " t"]

    @classmethod
    def of_pairs(cls, distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"]) -> "Roc":
        """Count the accepted pairs; the thresholds are all distances.

        Args:
            distances: of the pairs; rounded to float32.
            same: true for genuine pairs.

        Raises:
            UsageError: a distance is negative, infinite or NaN.
            DataError: there is no genuine pair, or no impostor pair.
        """
        values = check_distances(distances, same)
        check_both_kinds(int(same.sum()), int((~same).sum()))
        thresholds = np.unique(values)
        genuine, impostors = np.sort(values[same]), np.sort(values[~same])
        return cls(thresholds, _count_up_to(thresholds, genuine), _count_up_to(thresholds, impostors))

    @classmethod
    def of_all_pairs(cls, items: LabelledVectors, metric: Metric, *, max_genuine: int = MAX_GENUINE) -> "Roc":
        """Count all n(n - 1) / 2 pairs of a set, exactly, in bounded memory.

        The method keeps the genuine distances and the million smallest impostor distances, and counts the other impostors
        between them. The thresholds are these distances, and the float32 number before each genuine distance: thresholds
        between two of them accept the same genuine pairs. So AUC, EER and the curve equal those of `of_pairs`, and so does
        a threshold at a low false accept rate.

        Args:
            items: the vectors and their labels.
            metric: compares the vectors.
            max_genuine: largest number of genuine pairs to keep in memory.

        Raises:
            UsageError: there are more genuine pairs than ``max_genuine``, or `lookalike.search.prepare` refuses the vectors.
            DataError: there is no genuine pair, or no impostor pair.
        """
        gallery = prepare(items.vectors, metric)
        classes = Classes.of(items.labels, len(gallery))
        genuine = sum(size * (size - 1) // 2 for size in classes.sizes.tolist())
        check_both_kinds(genuine, len(gallery) * (len(gallery) - 1) // 2 - genuine)
        if genuine > max_genuine:
            raise UsageError(
                f"{genuine:,} genuine pairs are more than the {max_genuine:,} that fit into memory; use draw_pairs."
            )
        parts = [np.empty(0, np.float32)]
        for code in range(len(classes)):
            of_class = gallery.take(classes.members(code))
            parts += [chunk.distances[chunk.in_order] for chunk in _upper_triangle(of_class, metric)]
        genuine_distances = np.sort(np.concatenate(parts))
        before = np.nextafter(genuine_distances[genuine_distances > 0], np.float32(0))
        counter = _ImpostorCounter(np.union1d(genuine_distances, before))
        for chunk in _upper_triangle(gallery, metric):
            counter.add(
                chunk.distances[chunk.in_order & (classes.codes[chunk.rows, None] != classes.codes[chunk.others])]
            )
        thresholds, impostors_accepted = counter.finish()
        genuine_accepted = _count_up_to(thresholds, genuine_distances)
        changes = np.diff(impostors_accepted + genuine_accepted, prepend=0) > 0
        return cls(thresholds[changes], genuine_accepted[changes], impostors_accepted[changes])

    @property
    def genuine(self) -> int:
        """The number of genuine pairs."""
        return int(self.genuine_accepted[-1])

    @property
    def impostors(self) -> int:
        """The number of impostor pairs."""
        return int(self.impostors_accepted[-1])

    @property
    def false_accept_rates(self) -> Float64[np.ndarray, " t"]:
        """The false accept rate at each threshold, ascending."""
        return self.impostors_accepted / self.impostors

    @property
    def false_reject_rates(self) -> Float64[np.ndarray, " t"]:
        """The false reject rate at each threshold, descending."""
        return 1 - self.genuine_accepted / self.genuine

    @property
    def auc(self) -> float:
        """The area under the ROC curve: P(a genuine pair is nearer than an impostor pair), ties counted by half.

        It is Mann and Whitney's U divided by the product of the two numbers of pairs.
        """
        points = self._points()
        return float(np.sum(np.diff(points[:, 0]) * (1 - (points[1:, 1] + points[:-1, 1]) / 2)))

    @property
    def eer(self) -> float:
        """The equal error rate: FAR = FRR on the ROC curve, drawn straight between its points."""
        accepts, rejects = self._points().T
        after = int(np.argmax(accepts >= rejects))  # the first point past the diagonal; (0, 1) always precedes it
        gap, next_gap = rejects[after - 1] - accepts[after - 1], rejects[after] - accepts[after]
        return float(accepts[after - 1] + (accepts[after] - accepts[after - 1]) * gap / (gap - next_gap))

    def best_accuracy(self) -> OperatingPoint:
        """Return the threshold with the smallest FAR + FRR, in a tie the smallest one.

        It has the best accuracy on equally many pairs of both kinds, as `draw_pairs` gives them. The shares of the two kinds
        among these pairs do not affect it.
        """
        costs = self.impostors_accepted * self.genuine - self.genuine_accepted * self.impostors
        return self._operating_point(int(np.argmin(costs)))

    def equal_error(self) -> OperatingPoint:
        """Return the threshold with the smallest difference of FAR and FRR, in a tie the smallest one."""
        return self._operating_point(int(np.argmin(np.abs(self.false_accept_rates - self.false_reject_rates))))

    def at_false_accept_rate(self, rate: float) -> OperatingPoint:
        """Return the largest threshold whose false accept rate is at most ``rate``.

        Raises:
            UsageError: the rate is outside 0…1, or every threshold has a higher rate.
        """
        if not 0 <= rate <= 1:
            raise UsageError(f"A false accept rate lies between 0 and 1, not {rate}; 0.001 is one in a thousand.")
        thresholds = int(np.searchsorted(self.false_accept_rates, rate, "right"))
        if not thresholds:
            raise UsageError(
                f"No threshold has a false accept rate of at most {rate}: {self.impostors_accepted[0]:,} of"
                f" {self.impostors:,} impostor pairs are at the smallest distance, {self.thresholds[0]:g}."
            )
        return self._operating_point(thresholds - 1)

    def curve(self, limit: int = 500) -> Float64[np.ndarray, "p 2"]:
        """Return about ``limit`` points (FAR, FRR) from (0, 1) to (1, 0), for a ROC (FAR, 1 - FRR) or a DET curve.

        The points are dense in both corners, which a DET curve (Martin et al. 1997) magnifies.
        """
        points = self._points()
        if len(points) <= limit:
            return points
        levels = np.geomspace(1 / max(self.genuine, self.impostors), 1, max(2, limit // 2))
        by_accepts, by_rejects = np.searchsorted(points[:, 0], levels), np.searchsorted(-points[:, 1], -levels)
        chosen = np.concatenate([[0, len(points) - 1], by_accepts, by_rejects]).clip(0, len(points) - 1)
        return np.asarray(points[np.unique(chosen)])

    def _points(self) -> Float64[np.ndarray, "p 2"]:
        """Return (FAR, FRR) of accepting nothing, and of each threshold."""
        return np.concatenate([[[0.0, 1.0]], np.stack([self.false_accept_rates, self.false_reject_rates], axis=1)])

    def _operating_point(self, row: int) -> OperatingPoint:
        return OperatingPoint(
            float(self.thresholds[row]), float(self.false_accept_rates[row]), float(self.false_reject_rates[row])
        )


class _ImpostorCounter:
    """Counts impostor distances between given thresholds, and keeps the smallest ones."""

    def __init__(self, thresholds: Float32[np.ndarray, " t"]) -> None:
        self._thresholds = thresholds
        self._counts = np.zeros(len(thresholds) + 1, np.int64)  # after the previous threshold, up to this one
        self._smallest = np.empty(0, np.float32)
        self._largest = np.float32(0)

    def add(self, distances: Float32[np.ndarray, " n"]) -> None:
        if not len(distances):
            return
        distances = np.sort(distances)  # sorted needles keep the search in the cache
        self._counts += np.bincount(np.searchsorted(self._thresholds, distances), minlength=len(self._counts))
        self._largest = max(self._largest, distances[-1])
        self._smallest = np.sort(np.concatenate([self._smallest, distances[:MAX_IMPOSTORS]]))[:MAX_IMPOSTORS]

    def finish(self) -> tuple[Float32[np.ndarray, " u"], Int64[np.ndarray, " u"]]:
        """Return thresholds (the given ones, the kept distances and the largest one), and the number of distances up to each."""
        counts = np.concatenate([[0], self._counts.cumsum()])
        kept = self._smallest
        if len(kept) < counts[-1]:
            kept = kept[kept < kept[-1]]  # `add` may have dropped distances that equal the last one
        thresholds = np.unique(np.concatenate([self._thresholds, kept, [self._largest]]))
        counted = counts[np.searchsorted(self._thresholds, thresholds, "right")]
        counted[thresholds >= self._largest] = counts[-1]
        return thresholds, np.maximum(counted, _count_up_to(thresholds, kept))


@dataclass(frozen=True, eq=False)
class _TriangleChunk:
    """Distances between a range of rows and a range of others; ``in_order`` marks each pair once."""

    rows: slice
    others: slice
    distances: Float32[np.ndarray, "q m"]
    in_order: Bool[np.ndarray, "q m"]


def _upper_triangle(gallery: Gallery, metric: Metric) -> Iterator[_TriangleChunk]:
    """Yield the distances of all pairs of a set, in bounded memory."""
    for part in chunks(len(gallery), pair_distances.QUERIES):
        others = gallery.take(slice(part.start, None))
        for rows, distances in pair_distances.distance_chunks(gallery.take(part), others, metric):
            in_order = np.arange(rows.start, rows.stop)[:, None] < np.arange(len(others))
            yield _TriangleChunk(
                slice(part.start + rows.start, part.start + rows.stop), slice(part.start, None), distances, in_order
            )


def _count_up_to(
    thresholds: Float32[np.ndarray, " t"], ascending: Float32[np.ndarray, " n"]
) -> Int64[np.ndarray, " t"]:
    return np.searchsorted(ascending, thresholds, "right")
