"""Find images of a test set that are also in its training set, identical or nearly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.duplicates import candidates
from lookalike.duplicates.candidates import CandidatePairs
from lookalike.duplicates.radius import SearchRadius
from lookalike.duplicates.result import DuplicatePair, PairTable, Tier
from lookalike.duplicates.source import Contents, Failure, Source
from lookalike.errors import MismatchError
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress


@dataclass(frozen=True, repr=False)
class Leaks(PairTable):
    """Pairs of a training and a test collection.

    Attributes:
        pairs: sorted by tier, then nearest first; left is an image of the training collection.
        leaked: the number of test images in a pair, by the tier of their surest pair.
        train_count: the number of images in the training collection.
        test_count: the number of images in the test collection.
        skipped: path and reason of each image that could not be read.
        radius: the distance within which pixels were compared.
        metric: the metric of the distances.
    """

    pairs: tuple[DuplicatePair, ...]
    leaked: dict[Tier, int]
    train_count: int
    test_count: int
    skipped: tuple[Failure, ...]
    radius: SearchRadius
    metric: Metric

    @property
    def summary(self) -> str:
        """A sentence with the number of test images that are in the training collection."""
        counts = ", ".join(f"{count:,} {tier}" for tier, count in self.leaked.items() if count)
        return f"{counts or 'None'} of the {self.test_count:,} test images are among the {self.train_count:,} training images."

    def __repr__(self) -> str:
        """Return the summary, since there may be a million pairs."""
        return f"<Leaks: {self.summary}>"

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; ``lookalike duplicates leaks --json`` prints it after the names."""
        return {
            "images": self.train_count,
            "test_images": self.test_count,
            **self.radius.to_dict(),
            "metric": str(self.metric),
            "leaked": {str(tier): count for tier, count in self.leaked.items()},
            "pairs": [pair.to_dict() for pair in self.pairs],
        }


def find_leaks(
    train: Source,
    test: Source,
    radius: SearchRadius | None = None,
    *,
    all_orientations: bool = False,
    progress: Progress = SILENT,
) -> Leaks:
    """Find the images of a test collection that are in a training collection: the same bytes, or within a radius.

    Args:
        train: the training collection.
        test: the test collection.
        radius: the largest distance; by default from the embedder's calibration and the size of ``train``.
        all_orientations: also find images that are mirrored or rotated by right angles.
        progress: receives the stages ``"comparing"`` and ``"comparing pixels"``.

    Raises:
        MismatchError: the collections have different encoders or metrics.
        UsageError: there are too many pairs.
    """
    if train.embedder.fingerprint != test.embedder.fingerprint or train.store.space.metric != test.store.space.metric:
        raise MismatchError(
            f"“{train.folder.name}” and “{test.folder.name}” cannot be compared: they have different encoders or metrics. Index the"
            " images of one of them again with the encoder of the other."
        )
    left, right = Contents.of(train), Contents.of(test)
    radius = radius or SearchRadius.from_calibration(
        train.embedder, left.image_count, all_orientations=all_orientations
    )
    pairs, unreadable = candidates.find_pairs_between(
        left, right, radius.distance, all_orientations=all_orientations, progress=progress
    )
    left_files, right_files = ([c.file(i) for i in range(len(c))] for c in (left, right))
    pairs, failures = candidates.confirm_by_pixels(pairs, left_files, right_files, progress)
    tiers = [
        Tier.IDENTICAL if left.digests[a] == right.digests[b] else Tier.NEAR_DUPLICATE if confirmed else Tier.SIMILAR
        for a, b, _, _, confirmed in pairs
    ]
    return Leaks(
        tuple(_list_pairs(left_files, right, pairs, tiers)),
        _count_leaked(right, pairs, tiers),
        left.image_count,
        right.image_count,
        tuple(dict.fromkeys([*left.refused, *right.refused, *unreadable, *failures])),
        candidates.note_truncation(radius, len(pairs)),
        train.store.space.metric,
    )


def _list_pairs(
    left_files: Sequence[Path], right: Contents, pairs: CandidatePairs, tiers: Sequence[Tier]
) -> list[DuplicatePair]:
    """Return a pair for each file of the test collection."""
    listed = [
        DuplicatePair(left_files[a], right.source.folder.file(item), distance, tier, orientation)
        for (a, b, distance, orientation, _), tier in zip(pairs, tiers, strict=True)
        for item in right.items[b]
    ]
    return sorted(listed, key=lambda pair: pair.sort_key)


def _count_leaked(right: Contents, pairs: CandidatePairs, tiers: Sequence[Tier]) -> dict[Tier, int]:
    surest: dict[int, Tier] = {}
    for b, tier in zip(pairs.right.tolist(), tiers, strict=True):
        surest[b] = min(surest.get(b, tier), tier, key=lambda tier: tier.rank)
    return {tier: sum(len(right.items[b]) for b, t in surest.items() if t is tier) for tier in Tier}
