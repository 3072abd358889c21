"""Calibration: the thresholds and probabilities of an encoder's distances, fitted on held-out pairs."""

import numpy as np
from jaxtyping import Bool, Shaped

from lookalike.encoders.card import Calibration
from lookalike.evaluation.roc import Roc
from lookalike.metric import Metric

RATES = ("0.1", "0.01", "0.001")
"""False accept rates whose distances a card states."""

MIN_ERRORS = 10
"""Impostor pairs expected below the distance of a rate; with fewer, the distance would be chance."""

MAX_KNOTS = 64
"""Most points of the probability curve."""

_Block = tuple[float, float, float, float]
"""A range of distances with one probability: first and last distance, share of genuine pairs, share of impostor pairs."""


def fit(distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"], metric: Metric, data: str) -> Calibration:
    """Fit a calibration to pairs.

    Args:
        distances: of held-out pairs, such as `lookalike.evaluation.verification.draw_pairs` gives.
        same: true for genuine pairs.
        metric: of the distances.
        data: a description of the pairs, for the card.

    Returns:
        `Calibration.distance_at_false_accept_rate` has only rates with at least ten expected impostor pairs: 0.001 needs 10,000 of them.
        `Calibration.knots` are an isotonic regression (pool adjacent violators; Zadrozny and Elkan, KDD 2002) in which
        all genuine pairs together weigh as much as all impostor pairs.

    Raises:
        UsageError: a distance is negative, infinite or NaN.
        DataError: there is no genuine pair, or no impostor pair.
    """
    roc = Roc.of_pairs(distances, same)
    supported = [
        rate for rate in RATES if roc.impostors * float(rate) >= MIN_ERRORS and roc.false_accept_rates[0] <= float(rate)
    ]
    return Calibration(
        metric=metric,
        distance_at_false_accept_rate={rate: roc.at_false_accept_rate(float(rate)).threshold for rate in supported},
        threshold=roc.best_accuracy().threshold,
        knots=_fit_knots(roc),
        genuine=roc.genuine,
        impostors=roc.impostors,
        data=data,
    )


def _fit_knots(roc: Roc) -> tuple[tuple[float, float], ...]:
    """Return (distance, probability) at both ends of each range of distances with one probability."""
    genuine_shares = np.diff(roc.genuine_accepted, prepend=0) / roc.genuine
    impostor_shares = np.diff(roc.impostors_accepted, prepend=0) / roc.impostors
    blocks: list[_Block] = []
    for distance, genuine, impostors in zip(
        roc.thresholds.tolist(), genuine_shares.tolist(), impostor_shares.tolist(), strict=True
    ):
        block = (distance, distance, genuine, impostors)
        # Pool adjacent violators: the probability may not rise with the distance.
        while blocks and _probability(blocks[-1]) <= _probability(block):
            block = _pool(blocks.pop(), block)
        blocks.append(block)
    while len(blocks) > MAX_KNOTS // 2:
        i = min(range(len(blocks) - 1), key=lambda i: _pooling_loss(blocks[i], blocks[i + 1]))
        blocks[i : i + 2] = [_pool(blocks[i], blocks[i + 1])]
    # An event that n pairs never show has at most the probability 1 / (n + 2) (Laplace's rule of succession).
    lower, upper = 1 / (roc.genuine + 2), 1 - 1 / (roc.impostors + 2)
    ends = [(end, min(max(_probability(block), lower), upper)) for block in blocks for end in block[:2]]
    return tuple(dict.fromkeys(ends))


def _probability(block: _Block) -> float:
    return block[2] / (block[2] + block[3])


def _pool(near: _Block, far: _Block) -> _Block:
    return near[0], far[1], near[2] + far[2], near[3] + far[3]


def _pooling_loss(near: _Block, far: _Block) -> float:
    """Return the growth of the squared error if both ranges get one probability."""
    a, b = near[2] + near[3], far[2] + far[3]
    return a * b / (a + b) * (_probability(near) - _probability(far)) ** 2
