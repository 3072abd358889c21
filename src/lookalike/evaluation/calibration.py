"""Calibration: what a distance means, fitted on pairs that the encoder was not trained on."""

import numpy as np
from jaxtyping import Bool, Shaped

from lookalike.encoders.card import Calibration
from lookalike.metric import Metric

RATES = ("0.1", "0.01", "0.001")
"""False accept rates whose distance a card tells."""

ERRORS = 10
"""Impostor pairs that have to be accepted at a rate for its distance to be more than chance."""

KNOTS = 64
"""Points of the probability curve at most."""


def fit(distances: Shaped[np.ndarray, " n"], same: Bool[np.ndarray, " n"], metric: Metric, data: str) -> Calibration:
    """Fit what distances mean.

    Args:
        distances: of held-out pairs, such as `lookalike.evaluation.verification.draw` gives.
        same: which of them are genuine.
        metric: what they were measured with.
        data: what they were, in words; it is kept in the card.

    Returns:
        `Calibration.distance_at_far` tells a rate only where at least ten impostor pairs are expected below it: 0.001
        takes 10,000 of them. `Calibration.knots` are a monotone fit (isotonic regression by pool adjacent
        violators, Zadrozny and Elkan, KDD 2002) in which genuine and impostor pairs weigh the same in all.

    Raises:
        UsageError: distances that are negative, infinite or NaN.
        DataError: no genuine pair, or no impostor pair.
    """
    raise NotImplementedError
