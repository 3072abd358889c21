"""The distances from which the nearest items of a query are no nearer than chance.

The neighbours of a query that belongs to a collection are about as near as those of the collection's own items; the neighbours
of an outlier are farther (Ramaswamy, Rastogi and Shim, SIGMOD 2000; Sun et al., ICML 2022, for embeddings). An outlier may lie
near a single odd item by accident, so the tenth neighbour counts as well. A calibration on copies says more: the nearest item
must be a copy more probably than not. A calibration on classes decides only where the items are too few to say how near a
neighbour usually is, since classes differ in how alike their images are. A calibration on images unlike these does not count.
``benchmarks/no_match.py`` measures how often this is right; see ``docs/reference/measures.md``.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from lookalike import atomic, search
from lookalike.encoders.card import Calibration
from lookalike.metric import Metric
from lookalike.query import DistanceRange, Vectors
from lookalike.untrusted import parsing

MIN_ITEMS = 50
"""Fewest items whose distances to each other say how near a neighbour usually is."""

MAX_ITEMS = 2**14
"""Most items that are compared: more would make the first search slower, and hardly change the distances."""

NEIGHBOURS = 10
"""The rank of the other neighbour whose distance counts, besides the nearest."""

_QUERIES = 512
_REFUSED = 0.0125  # share of the items that the rule may refuse if they are queries
_LEAST, _QUANTILES = 0.98, 161
_STEPS = 512

# Fewer items have too few pairs to check a calibration.
_MIN_CHECKED = 20
# Fewer pairs than one in a thousand are too few to count in a sample.
_MIN_RATE = 0.001
# The largest excess of near pairs, and the largest share of the same: between those of collections like the images of a
# calibration and those of others. ``benchmarks/no_match.py`` shows how often they are right, also in small samples.
_MAX_EXCESS, _MAX_SAME = 1.8, 0.5
_MAX_BYTES = 10_000

# A sketch lies this much farther from its neighbours than a photo does (benchmarks/no_match.py).
_SKETCH_NEAREST, _SKETCH_TENTH = 1.15, 1.03


@dataclass(frozen=True)
class Chance:
    """Distances from which neighbours are no nearer than chance.

    Attributes:
        nearest: almost every item has another one within this distance.
        usual: half of the items do. A query with a nearer item matches, whatever its other neighbours are.
        tenth: almost every item has ten others within this distance; infinite if that is unknown.
        calibration_holds: the encoder's calibration holds for these items.
    """

    nearest: float
    usual: float
    tenth: float = math.inf
    calibration_holds: bool = False

    @classmethod
    def of(cls, vectors: Vectors, metric: Metric, calibration: Calibration | None = None) -> Self | None:
        """Measure the distances of a collection's photos.

        Args:
            vectors: of the items, or of a sample of them: ``(n, c)``.
            metric: of the distances.
            calibration: of the encoder for the metric, if there is one.

        Returns:
            None if there are fewer than `MIN_ITEMS` and no calibration that holds, or all items are alike.
        """
        sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _QUERIES)).astype(np.int64)]
        chance = cls(math.inf, math.inf)
        if len(vectors) >= MIN_ITEMS:
            found = search.knn(sample, vectors, NEIGHBOURS + 1, metric).distances.reshape(len(sample), -1)
            chance = cls(*_limits(found[:, 1], found[:, NEIGHBOURS]))  # the first is the item itself
        if calibration is not None and calibration.knots:
            prior = _prior(sample, len(vectors), metric, calibration)
            if prior is not None:
                if calibration.kind == "copies" or not math.isfinite(chance.nearest):
                    even = _even_odds(calibration, prior)
                    chance = replace(chance, nearest=min(chance.nearest, even), usual=min(chance.usual, even))
                chance = replace(chance, calibration_holds=True)
        return chance if math.isfinite(chance.nearest) else None

    def for_sketches(self) -> Self:
        """Return the distances for sketches, which lie farther from photos than photos do."""
        nearest, usual = self.nearest * _SKETCH_NEAREST, self.usual * _SKETCH_NEAREST
        return replace(self, nearest=nearest, usual=usual, tenth=self.tenth * _SKETCH_TENTH)

    def no_match(self, distances: Sequence[float]) -> bool:
        """Return whether a query's neighbours are no nearer than chance.

        Args:
            distances: of the hits, ascending; the tenth counts if it is there.
        """
        tenth = distances[NEIGHBOURS - 1] if len(distances) >= NEIGHBOURS else 0
        return distances[0] > self.nearest or (tenth > self.tenth and distances[0] > self.usual)

    def closeness(self, distances: Sequence[float], metric: Metric) -> list[float]:
        """Convert distances to 1 at distance 0, and to 0 from the distance of `nearest` on.

        Euclidean distances are squared, so that vectors of length 1 get the same values as by cosine distance: most lie in
        a narrow range below `nearest`, which squares widen.
        """
        power = 2 if metric is Metric.EUCLIDEAN else 1
        return [max(0.0, 1 - (distance / self.nearest) ** power) for distance in distances]


def _limits(nearest: np.ndarray, tenth: np.ndarray) -> tuple[float, float, float]:
    """Return the distances of a `Chance` that refuse a small share of the items."""
    usual = float(np.median(nearest))
    limits = math.inf, math.inf
    for quantile in np.linspace(1, _LEAST, _QUANTILES):
        closer = float(np.quantile(nearest, quantile)), float(np.quantile(tenth, quantile))
        if np.mean((nearest > closer[0]) | ((tenth > closer[1]) & (nearest > usual))) > _REFUSED:
            break
        limits = closer
    return limits[0] or math.inf, usual, limits[1]


def _prior(sample: Vectors, total: int, metric: Metric, calibration: Calibration) -> float | None:
    """Estimate the share of the collection's pairs that show the same thing; None if the calibration does not hold.

    If a share ``g`` of the pairs is the same, the share ``g · TAR + (1 - g) · FAR`` lies within the distance of a false
    accept rate. The smallest rate estimates ``g``, and the largest one checks it: images unlike those of the calibration lie
    nearer to each other, so a larger share of their pairs lies within its distance.
    """
    expected = 1 / max(2, total)  # one item that shows the same
    accept = calibration.true_accept_rate
    rates = sorted(
        (float(rate), accept.get(rate, 1.0), distance)
        for rate, distance in calibration.distance_at_false_accept_rate.items()
        if _MIN_RATE <= float(rate) < accept.get(rate, 1.0)
    )
    if len(sample) < _MIN_CHECKED or not rates:
        return None if accept else expected

    def share_within(distance: float) -> float:
        found = len(search.within(sample, sample, DistanceRange(0, distance), metric).rows) - len(sample)
        return found / len(sample) / (len(sample) - 1)

    (low_far, low_tar, low_distance), (high_far, high_tar, high_distance) = rates[0], rates[-1]
    same = max(0.0, (share_within(low_distance) - low_far) / (low_tar - low_far))
    expected_within = same * high_tar + (1 - same) * high_far
    # A card of an early version has no true accept rates, so it cannot be checked.
    if accept and (same > _MAX_SAME or share_within(high_distance) > _MAX_EXCESS * expected_within):
        return None
    return min(_MAX_SAME, max(expected, same))


def _even_odds(calibration: Calibration, prior: float) -> float:
    """Return the distance from which a pair is more probably different than the same, if a share of pairs is the same.

    It is infinite if a calibration of few pairs is never so sure: then it says nothing about distances.
    """
    distances = np.linspace(0, calibration.knots[-1][0], _STEPS)
    probabilities = calibration.probability(distances)
    unlikely = probabilities * prior < (1 - probabilities) * (1 - prior)
    return (float(distances[np.argmax(unlikely)]) if unlikely.any() else 0) or math.inf


def cache_key(generation: str, calibration: Calibration | None, metric: Metric) -> str:
    """Return a key that changes with the items, the calibration and the metric."""
    text = "" if calibration is None else calibration.model_dump_json()
    return f"{generation} {metric} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def load(path: Path, key: str) -> Chance | None:
    """Read distances that `save` wrote; None if the file has none for the key."""
    with suppress(OSError, ValueError):
        tree = parsing.read_json(path, max_bytes=_MAX_BYTES)
        values = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(values, list) and len(values) == len(asdict(Chance(1, 1))):
            nearest, usual, tenth = (float(value) if isinstance(value, int | float) else 0 for value in values[:3])
            if 0 < nearest < math.inf and 0 <= usual <= nearest and tenth > 0 and isinstance(values[3], bool):
                return Chance(nearest, usual, tenth, values[3])
    return None


def save(path: Path, key: str, chance: Chance) -> None:
    """Write distances in place of earlier ones. A failure is ignored, since the next process can measure them again."""
    with suppress(OSError):
        values = [
            chance.nearest,
            chance.usual,
            min(chance.tenth, float(np.finfo(np.float32).max)),
            chance.calibration_holds,
        ]
        atomic.write_text(path, json.dumps({key: values}) + "\n")
