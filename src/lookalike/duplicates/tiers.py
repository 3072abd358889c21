"""How near is near: the tiers, and the distance within which they are looked for."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration
from lookalike.errors import UsageError
from lookalike.metric import Metric


class Tier(StrEnum):
    """How alike two pictures are."""

    IDENTICAL = "identical"
    """The same bytes."""
    NEAR = "near-duplicate"
    """One picture, saved twice: it lies near, and the pixels agree."""
    SIMILAR = "similar"
    """It lies near, and the pixels do not agree; to be looked at, never offered for deletion."""


@dataclass(frozen=True)
class Reach:
    """How far apart pictures may lie to be looked at.

    Attributes:
        radius: the distance, included.
        how: where it comes from, in words.
    """

    radius: float
    how: str


# An encoder that tells copies finds some distance at which a pair is a thousand times as likely to be of the same as of
# different pictures; one that tells classes does not. And so few pictures are taken for a sample of at least as many.
_FINE = 1000

# Symmetries of the square.
_WAYS = 8


def calibrated(encoder: Encoder, metric: Metric, pictures: int, *, turned: bool = False) -> Reach:
    """The reach for a number of pictures.

    A false accept rate would not do: among 10,000 pictures are 50 million pairs, of which a rate of 0.001 takes 50,000
    that are not the same. So the rarity of duplicates is counted in (Bayes' rule): where each picture has one duplicate
    among n pictures, the odds of a pair are 1 : (n - 1) before it is looked at, and its distance multiplies them by the
    likelihood ratio p / (1 - p), p being `Calibration.probability`. The reach ends where that makes a pair as likely the
    same as not. Impostors of the calibration are of all kinds, though, and pictures of few kinds lie nearer to each other.
    So distances alone make nothing a near-duplicate: what lies within reach is looked at; see `looking`.

    Args:
        encoder: made the vectors.
        metric: of the vectors.
        pictures: how many there are; fewer than a thousand count as a thousand.
        turned: each is compared in eight ways, so a pair has eight chances to lie near by accident.

    Raises:
        UsageError: the encoder is not calibrated for the metric, or can tell classes but no duplicates.
    """
    known, name = Embedder.of(encoder, metric).calibration(), encoder.card.name
    if known is None or not known.knots:
        raise UsageError(
            f"“{name}” is not calibrated for the {metric} metric, so nobody knows which distances are those of duplicates."
            " Give --within, a distance such as 0.1 or a similarity such as 95%; or see lookalike calibrate --help."
        )
    best, wanted = _ratio(known.knots[0][1]), max(_FINE, pictures - 1) * (_WAYS if turned else 1)
    if best < _FINE:
        raise UsageError(
            f"“{name}” is calibrated to tell things of one kind, not duplicates: even the nearest pictures are only"
            f" {best:,.0f} times as likely to be the same as not, and among {pictures:,} pictures it takes {wanted:,}. Give"
            " --within, a distance such as 0.1 or a similarity such as 95%; or an encoder that is calibrated on copies."
        )
    ratio = min(best, wanted)
    how = f"a pair within it is at least {ratio:,.0f} times as likely to be the same as not"
    if best < wanted:
        how += f"; the calibration of “{name}” has seen too few pairs to tell the {wanted:,} times that it takes here"
    return Reach(_farthest(known, ratio), how)


def given(distance: float) -> Reach:
    """The reach that somebody chose.

    Raises:
        UsageError: it is no distance.
    """
    if not distance >= 0:
        raise UsageError(f"A radius must be a distance of at least 0, not {distance:g}.")
    return Reach(distance, "as given")


def at_rate(encoder: Encoder, metric: Metric, rate: float) -> Reach:
    """The reach of a false accept rate; UsageError where the encoder is not calibrated for it."""
    return Reach(Embedder.of(encoder, metric).distance_at(rate), f"the distance of the false accept rate {rate:g}")


def _ratio(probability: float) -> float:
    return probability / (1 - probability) if probability < 1 else float("inf")


def _farthest(known: Calibration, ratio: float) -> float:
    """The farthest distance of at least this likelihood ratio; the probability falls from knot to knot in straight lines."""
    least = ratio / (1 + ratio) if ratio != float("inf") else 1.0
    inside = [distance for distance, probability in known.knots if probability >= least]
    for (a, p), (b, q) in pairwise(known.knots):
        if p >= least > q:
            return a + (b - a) * (p - least) / (p - q)
    return inside[-1]
