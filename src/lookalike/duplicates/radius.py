"""The distance within which duplicates are searched for."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from lookalike.embedding import Embedder
from lookalike.encoders.card import Calibration
from lookalike.errors import UsageError
from lookalike.query import DistanceRange, Within

# The likelihood ratio of same to different images that an encoder must reach to find duplicates. An encoder that is
# calibrated on copies reaches it at some distance; an encoder that is calibrated on classes does not. A collection with
# fewer images is treated as if it had this many.
_MIN_LIKELIHOOD_RATIO = 1000

# The symmetries of the square.
_ORIENTATIONS = 8


@dataclass(frozen=True)
class SearchRadius:
    """The largest distance of a pair whose pixels are compared.

    Attributes:
        distance: in the metric's unit, included.
        explanation: where the distance comes from, in words.
    """

    distance: float
    explanation: str

    def to_dict(self) -> dict[str, float | str]:
        """Convert to what JSON can hold."""
        return {"within": self.distance, "explanation": self.explanation}

    @classmethod
    def fixed(cls, distance: float) -> Self:
        """Use a given distance.

        Raises:
            UsageError: the distance is negative or NaN.
        """
        if not distance >= 0:
            raise UsageError(f"A radius must be a distance of at least 0, not {distance:g}.")
        return cls(distance, "as given")

    @classmethod
    def parse(cls, embedder: Embedder, within: Within | None, false_accept_rate: float | None) -> Self | None:
        """Read a distance, a similarity or a false accept rate.

        Args:
            embedder: converts similarities and false accept rates to distances.
            within: a distance, such as ``0.1``, or a similarity, such as ``"95%"``.
            false_accept_rate: such as 0.01.

        Returns:
            The radius; None if neither ``within`` nor a rate is given.

        Raises:
            UsageError: both are given, one is invalid, or a range leaves out the nearest images.
        """
        if within is not None and false_accept_rate is not None:
            raise UsageError("Give a distance or a false accept rate, not both.")
        if false_accept_rate is not None:
            return cls.at_false_accept_rate(embedder, false_accept_rate)
        if within is None:
            return None
        distances = DistanceRange.parse(within, embedder.space)
        if distances.min > 0:
            raise UsageError(
                f"Duplicates are the nearest images, so a range such as “{within}” leaves them out. Give one distance."
            )
        return cls.fixed(distances.max)

    @classmethod
    def at_false_accept_rate(cls, embedder: Embedder, false_accept_rate: float) -> Self:
        """Use the distance of a false accept rate.

        Raises:
            UsageError: the embedder is not calibrated, or not for this rate.
        """
        return cls(
            embedder.distance_at(false_accept_rate, prefer="copies"),
            f"the distance of the false accept rate {false_accept_rate:g}",
        )

    @classmethod
    def from_calibration(cls, embedder: Embedder, image_count: int, *, all_orientations: bool = False) -> Self:
        """Choose the distance that suits the number of images, by the embedder's calibration.

        A false accept rate ignores that duplicates are rare: 10,000 images make 50 million pairs, and a rate of 0.001
        accepts 50,000 pairs of different images. So this method applies Bayes' rule. If each of n images has one
        duplicate, the prior odds of a pair are 1 : (n - 1). The pair's distance multiplies them by the likelihood ratio
        p / (1 - p), where p is `Calibration.probability`. The radius is the distance at which the posterior odds are 1.

        The impostors of a calibration are images of all kinds, and images of one kind lie nearer to each other. So a
        small distance alone does not make a near-duplicate: `candidates.confirm_by_pixels` compares the pixels of each
        pair.

        Args:
            embedder: the embedder that made the vectors.
            image_count: how many images there are; fewer than 1,000 count as 1,000.
            all_orientations: each pair is compared in eight orientations, so it has eight chances to be near by accident.

        Raises:
            UsageError: the embedder is not calibrated, or its calibration separates classes, not copies.
        """
        known, name = embedder.calibration(prefer="copies"), embedder.name
        if known is None or not known.knots:
            raise UsageError(
                f"“{name}” is not calibrated for the {embedder.metric} metric, so the distances of duplicates are unknown."
                " Give --within (in Python, within=), a distance such as 0.1 or a similarity such as 95%; or use the encoder"
                " copies."
            )
        best = _likelihood_ratio(known.knots[0][1])
        needed = max(_MIN_LIKELIHOOD_RATIO, image_count - 1) * (_ORIENTATIONS if all_orientations else 1)
        if best < _MIN_LIKELIHOOD_RATIO:
            raise UsageError(
                f"“{name}” is calibrated on classes, not on duplicates: even its nearest pairs are only {best:,.0f} times"
                f" as likely to be the same as not, and {image_count:,} images need {needed:,} times. Give --within"
                " (in Python, within=), a distance such as 0.1 or a similarity such as 95%; or use the encoder copies."
            )
        ratio = min(best, needed)
        explanation = f"a pair within it is at least {ratio:,.0f} times as likely to be the same as not"
        if best < needed:
            explanation += f"; the calibration of “{name}” has seen too few pairs for the {needed:,} times needed here"
        return cls(_largest_distance(known, ratio), explanation)


def _likelihood_ratio(probability: float) -> float:
    return probability / (1 - probability) if probability < 1 else float("inf")


def _largest_distance(calibration: Calibration, ratio: float) -> float:
    """Return the largest distance with at least this likelihood ratio.

    The probability falls linearly from knot to knot.
    """
    min_probability = ratio / (1 + ratio) if ratio != float("inf") else 1.0
    inside = [distance for distance, probability in calibration.knots if probability >= min_probability]
    for (a, p), (b, q) in pairwise(calibration.knots):
        if p >= min_probability > q:
            return a + (b - a) * (p - min_probability) / (p - q)
    return inside[-1]
