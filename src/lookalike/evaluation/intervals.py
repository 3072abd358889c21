"""95 % confidence intervals: Wilson's for shares, and a bootstrap over classes or images for scores of pairs.

Pairs that share a class or an image are not independent: an interval for independent pairs is far too narrow. So the bootstrap
draws classes (or images), not pairs. A pair counts as often as its two classes were drawn, multiplied; a genuine pair, of one
class, as often as this class (Owen, “The pigeonhole bootstrap”, 2007; for pairs of one set: Davezies, D'Haultfœuille and
Guyonvarch, “Empirical process results for exchangeable arrays”, 2021). The variance of the draws gives the number of independent
pairs that are as certain, and Wilson's interval for this number is the result (Fogliato, Patil and Perona, “Confidence intervals
for error rates in 1:1 matching tasks”, IJCV 2024). The older subset bootstrap (Bolle, Ratha and Pankanti 2004) gives each
impostor pair to one of its two classes, and its intervals of the false accept rate are too narrow (Li et al. 2009).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lookalike.search.chunks import chunks
from lookalike.shapes import Bool, Float32, Float64, Int64

DRAWS = 500
"""Draws of the bootstrap; the standard error of an interval's width is then 3 % of it."""

MIN_UNITS = 10
"""Fewest classes or images to draw from; with fewer there is no interval."""

_Z = 1.959964

# Pairs × draws that are held in memory at once.
_CHUNK = 2**20

Interval = tuple[float, float]


def wilson_interval(share: float, count: float) -> Interval:
    """Return the 95 % confidence interval of a share of ``count`` independent trials (Wilson 1927)."""
    middle = (share + _Z * _Z / (2 * count)) / (1 + _Z * _Z / count)
    half = _Z / (1 + _Z * _Z / count) * math.sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, eq=False)
class PairDistances:
    """Distances of pairs, with the classes or images that were sampled to make these pairs.

    Attributes:
        distances: of the pairs.
        same: true for genuine pairs.
        left: the class or image of one side, 0, 1, …
        right: of the other side; equal to ``left`` if the units are classes and the pair is genuine.
    """

    distances: Float32[np.ndarray, " n"]
    same: Bool[np.ndarray, " n"]
    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]

    @property
    def units(self) -> int:
        """The number of classes or images that the pairs contain."""
        return len(np.unique([self.left, self.right]))

    def crossings(self, kind: Bool[np.ndarray, " n"]) -> int:
        """Count the different combinations of two classes or images among pairs of a kind."""
        low, high = np.minimum(self.left, self.right)[kind], np.maximum(self.left, self.right)[kind]
        return len(np.unique(low * (1 + self.right.max(initial=self.left.max(initial=0))) + high))


def verification_intervals(
    judged: PairDistances, chosen: PairDistances, scores: Mapping[str, float], seed: int
) -> dict[str, Interval]:
    """Estimate intervals of verification scores, as far as other classes or images would change them.

    Each draw chooses the threshold on pairs of newly drawn classes (or images), and judges pairs of newly drawn others by it. So
    the intervals cover both choices: of the classes that are judged, and of those that the threshold comes from.

    Args:
        judged: pairs that are judged.
        chosen: pairs that chose the threshold, with no class or image of the judged ones.
        scores: name → score of the judged pairs: any of those of `_Curves.scores`.
        seed: the same pairs and seed give the same intervals.

    Returns:
        Name → interval, also of the ``threshold``; empty if either side has fewer than `MIN_UNITS` classes or images.
    """
    if min(judged.units, chosen.units) < MIN_UNITS:
        return {}
    rng = np.random.default_rng(seed)
    thresholds = np.concatenate([curves.best_thresholds() for curves in _draw(chosen, rng)])
    done, parts = 0, []
    for curves in _draw(judged, rng):
        parts.append(curves.scores(thresholds[done : done + curves.draws]))
        done += curves.draws
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    genuine, impostors = judged.crossings(judged.same), judged.crossings(~judged.same)
    trials = {"recall": genuine, "false_reject_rate": genuine, "false_accept_rate": impostors}
    found = {
        name: _share_interval(score, drawn[name], trials.get(name, min(genuine, impostors)))
        for name, score in scores.items()
    }
    low, high = np.quantile(thresholds, [0.025, 0.975]).tolist()
    found["threshold"] = low, high
    return {name: interval for name, interval in found.items() if all(map(math.isfinite, interval))}


def _share_interval(score: float, drawn: Float64[np.ndarray, " draws"], trials: int) -> Interval:
    """Return Wilson's interval of the number of independent trials whose variance is that of the draws; NaN if unknown.

    If no draw differs, since there is no error at all, ``trials`` is this number.
    """
    valid = drawn[np.isfinite(drawn)]
    if not math.isfinite(score) or len(valid) < DRAWS // 2:
        return math.nan, math.nan
    variance = float(valid.var())
    return wilson_interval(score, score * (1 - score) / variance if variance > 0 and 0 < score < 1 else trials)


@dataclass(frozen=True, eq=False)
class _Curves:
    """Shares of accepted pairs at each distance, for each draw.

    Attributes:
        distances: ascending, each once.
        genuine: share of the genuine pairs that are at most this far apart; NaN if a draw has none.
        impostors: of the impostor pairs.
        prior: share of genuine pairs among the requested pairs, which no draw changes.
    """

    distances: Float32[np.ndarray, " t"]
    genuine: Float32[np.ndarray, "t draws"]
    impostors: Float32[np.ndarray, "t draws"]
    prior: float

    @property
    def draws(self) -> int:
        """The number of draws."""
        return len(self.genuine.T)

    def best_thresholds(self) -> Float32[np.ndarray, " draws"]:
        """Return the threshold of best accuracy of each draw, as `Roc.best_accuracy` does."""
        best = np.argmin(np.nan_to_num(self.impostors - self.genuine), axis=0)
        return np.asarray(self.distances[best])

    def scores(self, thresholds: Float32[np.ndarray, " draws"]) -> dict[str, Float64[np.ndarray, " draws"]]:
        """Return the scores of each draw at its threshold."""
        row = np.searchsorted(self.distances, thresholds, "right") - 1
        draw = np.arange(self.draws)
        accepted, false = (
            np.where(row < 0, 0.0, shares[row, draw].astype(np.float64)) for shares in (self.genuine, self.impostors)
        )
        true_positives, false_positives = self.prior * accepted, (1 - self.prior) * false
        with np.errstate(invalid="ignore"):
            return {
                "accuracy": true_positives + (1 - self.prior) * (1 - false),
                "precision": true_positives / (true_positives + false_positives),
                "recall": accepted,
                "f1": 2 * true_positives / (self.prior + true_positives + false_positives),
                "auc": self._auc(),
                "eer": self._eer(),
                "false_accept_rate": false,
                "false_reject_rate": 1 - accepted,
            }

    def _auc(self) -> Float64[np.ndarray, " draws"]:
        """Return the area under each ROC curve, as `Roc.auc`."""
        steps = np.diff(self.impostors, axis=0, prepend=0)
        middles = self.genuine - np.diff(self.genuine, axis=0, prepend=0) / 2
        return np.asarray(np.einsum("td,td->d", steps, middles, dtype=np.float64))

    def _eer(self) -> Float64[np.ndarray, " draws"]:
        """Return the rate at which FAR and FRR are nearest to each other: their mean there."""
        rejects = 1 - self.genuine
        row = np.argmin(np.nan_to_num(np.abs(self.impostors - rejects), nan=1.0), axis=0)
        draw = np.arange(self.draws)
        return np.asarray((self.impostors[row, draw].astype(np.float64) + rejects[row, draw]) / 2)


def _draw(pairs: PairDistances, rng: np.random.Generator) -> Iterator[_Curves]:
    """Draw as many classes (or images) as there are, with replacement, and weight the pairs; in bounded memory."""
    order = np.argsort(pairs.distances, kind="stable")
    distances, same = pairs.distances[order], pairs.same[order]
    names, codes = np.unique(np.stack([pairs.left[order], pairs.right[order]]), return_inverse=True)
    left, right = codes.reshape(2, -1)
    last = np.append(np.flatnonzero(distances[1:] != distances[:-1]), len(distances) - 1)
    crossed = np.flatnonzero(left != right)
    for part in chunks(DRAWS, max(1, _CHUNK // len(distances))):
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), part.stop - part.start)
        drawn = np.ascontiguousarray(counts.T, dtype=np.float32)
        weights = drawn[left]
        weights[crossed] *= drawn[right[crossed]]
        accepted = (np.cumsum(weights * kind[:, None], axis=0)[last] for kind in (same, ~same))
        with np.errstate(invalid="ignore"):
            genuine, impostors = (counts / counts[-1] for counts in accepted)
        yield _Curves(distances[last], genuine, impostors, float(same.mean()))
