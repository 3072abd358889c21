"""Pictures of one collection that are in another too, as they are or nearly: what a test set knows of its training set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike.collection import Collection
from lookalike.duplicates import alike, looking
from lookalike.duplicates.alike import Alike
from lookalike.duplicates.contents import Contents
from lookalike.duplicates.finding import PairFound, Tell
from lookalike.duplicates.tiers import Reach, Tier
from lookalike.duplicates.turning import TURNS
from lookalike.errors import MismatchError
from lookalike.metric import Metric


@dataclass(frozen=True)
class Leaks:
    """Pairs between two collections.

    Attributes:
        pairs: by tier, and nearest first; left is of the first collection.
        leaked: how many pictures of the second collection are in a pair, by tier of their nearest one.
        left: how many pictures the first collection has.
        right: and the second.
        left_out: path and reason of each picture that could not be read.
        reach: how near is near.
        metric: of the distances.
    """

    pairs: tuple[PairFound, ...]
    leaked: dict[Tier, int]
    left: int
    right: int
    left_out: tuple[tuple[Path, str], ...]
    reach: Reach
    metric: Metric


def leaks(
    train: Collection, test: Collection, reach: Reach, *, turned: bool = False, tell: Tell = lambda *_: None
) -> Leaks:
    """Find the pictures of ``test`` that are in ``train``: of the same bytes, or within reach; see `find`.

    Raises:
        MismatchError: the two were not made by the same encoder, or have different metrics.
        UsageError: there are too many pairs.
    """
    if train.encoder.fingerprint != test.encoder.fingerprint or train.store.metric != test.store.metric:
        raise MismatchError(
            f"“{train.name}” and “{test.name}” cannot be compared: their vectors were made by different encoders or are"
            " compared by different metrics. Index one of them again with the encoder of the other."
        )
    ours, theirs = Contents.of(train), Contents.of(test)
    failures: list[tuple[Path, str]] = []
    found = alike.across(
        train,
        ours,
        test,
        theirs,
        reach.radius,
        turned=turned,
        failed=lambda path, reason: failures.append((path, reason)),
        tell=lambda done, total: tell("comparing", done, total),
    )
    same = np.array([ours.digests[a] == theirs.digests[b] for a, b in _rows(found)], bool)
    left = [train.file(items[0]) for items in ours.items]
    right = [[test.file(item) for item in items] for items in theirs.items]
    found = looking.look(
        found,
        left,
        [paths[0] for paths in right],
        failed=lambda path, reason: failures.append((path, reason)),
        tell=lambda done, total: tell("looking at pairs", done, total),
    )
    tiers = [
        Tier.IDENTICAL if equal else Tier.NEAR if agree else Tier.SIMILAR
        for equal, agree in zip(same.tolist(), found.agree.tolist(), strict=True)
    ]
    return Leaks(
        tuple(_pairs(left, right, found, tiers)),
        _leaked(theirs, found, tiers),
        ours.pictures,
        theirs.pictures,
        tuple(dict.fromkeys(failures)),
        looking.told(reach, len(found)),
        train.store.metric,
    )


def _rows(found: Alike) -> list[tuple[int, int]]:
    return list(zip(found.left.tolist(), found.right.tolist(), strict=True))


def _pairs(
    left: Sequence[Path], right: Sequence[Sequence[Path]], found: Alike, tiers: Sequence[Tier]
) -> list[PairFound]:
    pairs = [
        PairFound(left[a], path, distance, tier, TURNS[turn])
        for (a, b), distance, turn, tier in zip(
            _rows(found), found.distances.tolist(), found.turns.tolist(), tiers, strict=True
        )
        for path in right[b]
    ]
    order = list(Tier)
    return sorted(pairs, key=lambda p: (order.index(p.tier), p.distance, str(p.left), str(p.right)))


def _leaked(theirs: Contents, found: Alike, tiers: Sequence[Tier]) -> dict[Tier, int]:
    order = list(Tier)
    worst: dict[int, Tier] = {}
    for b, tier in zip(found.right.tolist(), tiers, strict=True):
        worst[b] = min(worst.get(b, tier), tier, key=order.index)
    return {tier: sum(len(theirs.items[b]) for b, t in worst.items() if t is tier) for tier in Tier}
