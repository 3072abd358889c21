"""Calibration: what a distance means, fitted on pairs that the encoder was not trained on."""

import numpy as np
from jaxtyping import Bool, Shaped

from lookalike.encoders.card import Calibration
from lookalike.evaluation.verification import Roc
from lookalike.metric import Metric

RATES = ("0.1", "0.01", "0.001")
"""False accept rates whose distance a card tells."""

ERRORS = 10
"""Impostor pairs that have to be accepted at a rate for its distance to be more than chance."""

KNOTS = 64
"""Points of the probability curve at most."""

_Block = tuple[float, float, float, float]
"""A range of distances with one probability: the first, the last, its share of genuine pairs and of impostor pairs."""


def fit(distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"], metric: Metric, data: str) -> Calibration:
    """Fit what distances mean.

    Args:
        distances: of held-out pairs, such as `lookalike.evaluation.verification.draw` gives.
        same: which of them are genuine.
        metric: what they were measured with.
        data: what they were, in words; it is kept in the card.

    Returns:
        `Calibration.distance_at_false_accept_rate` tells a rate only where at least ten impostor pairs are expected below it: 0.001
        takes 10,000 of them. `Calibration.knots` are a monotone fit (isotonic regression by pool adjacent
        violators, Zadrozny and Elkan, KDD 2002) in which genuine and impostor pairs weigh the same in all.

    Raises:
        UsageError: distances that are negative, infinite or NaN.
        DataError: no genuine pair, or no impostor pair.
    """
    roc = Roc.of_pairs(distances, same)
    supported = [rate for rate in RATES if roc.impostors * float(rate) >= ERRORS and roc.far[0] <= float(rate)]
    return Calibration(
        metric=metric,
        distance_at_false_accept_rate={rate: roc.at_far(float(rate)).threshold for rate in supported},
        threshold=roc.best_accuracy().threshold,
        knots=_knots(roc),
        genuine=roc.genuine,
        impostors=roc.impostors,
        data=data,
    )


def _knots(roc: Roc) -> tuple[tuple[float, float], ...]:
    """(distance, probability): both ends of each distance range in which the probability is one."""
    genuine_at = np.diff(roc.genuine_accepted, prepend=0) / roc.genuine
    impostors_at = np.diff(roc.impostors_accepted, prepend=0) / roc.impostors
    blocks: list[_Block] = []
    for at, genuine, impostors in zip(roc.thresholds.tolist(), genuine_at.tolist(), impostors_at.tolist(), strict=True):
        block = (at, at, genuine, impostors)
        # Pool adjacent violators: the probability may not rise with the distance.
        while blocks and _probability(blocks[-1]) <= _probability(block):
            block = _pooled(blocks.pop(), block)
        blocks.append(block)
    while len(blocks) > KNOTS // 2:
        i = min(range(len(blocks) - 1), key=lambda i: _loss(blocks[i], blocks[i + 1]))
        blocks[i : i + 2] = [_pooled(blocks[i], blocks[i + 1])]
    # What never happened in n pairs is no more likely than 1 / (n + 2) (Laplace's rule of succession).
    least, most = 1 / (roc.genuine + 2), 1 - 1 / (roc.impostors + 2)
    ends = [(end, min(max(_probability(block), least), most)) for block in blocks for end in block[:2]]
    return tuple(dict.fromkeys(ends))


def _probability(block: _Block) -> float:
    return block[2] / (block[2] + block[3])


def _pooled(near: _Block, far: _Block) -> _Block:
    return near[0], far[1], near[2] + far[2], near[3] + far[3]


def _loss(near: _Block, far: _Block) -> float:
    """By how much the squared error grows where the two have one probability."""
    a, b = near[2] + near[3], far[2] + far[3]
    return a * b / (a + b) * (_probability(near) - _probability(far)) ** 2
