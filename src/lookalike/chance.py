"""The distance from which the nearest item of a query is no nearer than chance.

A query that belongs to a collection has a neighbour about as near as the items of the collection have among themselves; a
stranger's nearest neighbour is farther (Ramaswamy, Rastogi and Shim, SIGMOD 2000; Sun et al., ICML 2022, for embeddings).
Where the encoder is calibrated, the nearest item must also show the same thing more probably than not.
``benchmarks/no_match.py`` measures how often this is right; see ``docs/reference/measures.md``.
"""

import hashlib
import json
import math
from contextlib import suppress
from pathlib import Path

import numpy as np

from lookalike import atomic, parsing, search
from lookalike.encoders.card import Calibration
from lookalike.metric import Metric
from lookalike.query import DistanceRange, Vectors

MIN_ITEMS = 50
"""Fewest items whose distances to each other say how near a neighbour usually is."""

MAX_ITEMS = 2**14
"""Most items that are compared: more would make the first search slower, and hardly change the distance."""

SKETCH_FACTOR = 1.15
"""A sketch lies this much farther from its nearest item than a photo does (``benchmarks/no_match.py``)."""

_QUERIES = 512
_QUANTILE = 0.99
_STEPS = 512
_MAX_BYTES = 10_000


def chance_distance(vectors: Vectors, metric: Metric, calibration: Calibration | None = None) -> float | None:
    """Compute the distance from which the nearest item of a photo is no nearer than chance.

    Args:
        vectors: of the items, or of a sample of them: ``(n, c)``.
        metric: of the distance.
        calibration: of the encoder for the metric, if there is one.

    Returns:
        The distance within which 99% of the items have another item, or the shorter one from which an item is more probably
        different than the same; none if there are fewer than `MIN_ITEMS` and no calibration, or all items are alike.
    """
    sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _QUERIES)).astype(np.int64)]
    distance = math.inf
    if len(vectors) >= MIN_ITEMS:
        nearest = search.knn(sample, vectors, 2, metric).distances.reshape(-1, 2)[:, 1]  # the first is the item itself
        distance = float(np.quantile(nearest, _QUANTILE)) or math.inf
    if calibration is not None and calibration.knots:
        distance = min(distance, _even_odds(calibration, _prior(sample, len(vectors), metric, calibration)))
    return distance if math.isfinite(distance) else None


def _prior(sample: Vectors, total: int, metric: Metric, calibration: Calibration) -> float:
    """Estimate the share of pairs of the same thing: those at a distance that different things hardly ever have."""
    expected = 1 / max(2, total)  # one item that shows the same
    if len(sample) < 2 or not calibration.distance_at_false_accept_rate:  # noqa: PLR2004 -- a pair
        return expected
    rate, distance = min((float(rate), d) for rate, d in calibration.distance_at_false_accept_rate.items())
    within = len(search.within(sample, sample, DistanceRange(0, distance), metric).rows) - len(sample)
    return min(0.5, max(expected, within / len(sample) / (len(sample) - 1) - rate))


def _even_odds(calibration: Calibration, prior: float) -> float:
    """Return the distance from which a pair is more probably different than the same, if a share of pairs is the same."""
    distances = np.linspace(0, calibration.knots[-1][0], _STEPS)
    probabilities = calibration.probability(distances)
    unlikely = probabilities * prior < (1 - probabilities) * (1 - prior)
    return float(distances[np.argmax(unlikely)]) if unlikely.any() else math.inf


def cache_key(generation: str, calibration: Calibration | None, metric: Metric) -> str:
    """Return a name of what a distance depends on."""
    text = "" if calibration is None else calibration.model_dump_json()
    return f"{generation} {metric} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def load(path: Path, key: str) -> float | None:
    """Read a distance that `save` wrote; none if there is none for the key."""
    with suppress(OSError, ValueError):
        tree = parsing.read_json(path, max_bytes=_MAX_BYTES)
        value = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(value, float) and 0 < value < math.inf:
            return value
    return None


def save(path: Path, key: str, distance: float) -> None:
    """Write a distance in place of earlier ones. A failure is ignored, since the next process can compute it again."""
    with suppress(OSError):
        atomic.write_text(path, json.dumps({key: distance}) + "\n")
