"""Pairs of contents that lie near each other, as they are or turned."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from lookalike import search
from lookalike.collection import Collection
from lookalike.duplicates import turning
from lookalike.duplicates.contents import Contents
from lookalike.errors import UsageError
from lookalike.query import DistanceRange
from lookalike.search import Pairs

MOST = 1_000_000
"""Pairs at most, a few hundred megabytes: nobody looks through more, and a radius that finds more is too wide."""


@dataclass(frozen=True, eq=False)
class Alike:
    """Pairs of contents, each once, sorted by (left, right).

    Attributes:
        left: places in the first `Contents`.
        right: places in the second; of one with itself, above left.
        distances: in the metric's unit; of several turns the nearest.
        turns: place in `turning.TURNS` of what makes the right one of the left one.
        agree: they show one picture, as far as they were looked at; see `looking`.
    """

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    distances: Float32[np.ndarray, " n"]
    turns: UInt8[np.ndarray, " n"]
    agree: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.left)

    def keep(self, chosen: Bool[np.ndarray, " n"]) -> "Alike":
        """Those of a mask."""
        return Alike(
            self.left[chosen], self.right[chosen], self.distances[chosen], self.turns[chosen], self.agree[chosen]
        )

    def between(self, one: int, other: int) -> tuple[float, turning.Turn] | None:
        """Distance of two contents, and what makes the other of the one; none where they are no pair."""
        low, high = min(one, other), max(one, other)
        start, stop = np.searchsorted(self.left, (low, low + 1)).tolist()
        at = start + int(np.searchsorted(self.right[start:stop], high))
        if at == stop or self.right[at] != high:
            return None
        turn = turning.TURNS[self.turns[at]]
        return float(self.distances[at]), turn if one == low else turn.inverse

    @classmethod
    def of(cls, parts: Iterable[tuple[Pairs, UInt8[np.ndarray, " n"]]], radius: float) -> "Alike":
        """Gather pairs that may come more than once.

        Raises:
            UsageError: there are more than `MOST`.
        """
        gathered = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.uint8))]
        count = 0
        for pairs, turns in parts:
            gathered.append((pairs.left, pairs.right, pairs.distances, turns))
            count += len(pairs)
            if count > MOST:
                raise UsageError(
                    f"Within {radius:.4g} there are more than {MOST:,} pairs, which is no matter of duplicates. Give a"
                    " smaller distance with --within."
                )
        left, right, distances, turns = (np.concatenate(column) for column in zip(*gathered, strict=True))
        order = np.lexsort((turns, distances, right, left))
        left, right, distances, turns = left[order], right[order], distances[order], turns[order]
        first = np.ones(len(left), bool)
        first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
        return cls(left[first], right[first], distances[first], turns[first], np.zeros(int(first.sum()), bool))


def within(
    collection: Collection,
    contents: Contents,
    radius: float,
    *,
    turned: bool = False,
    failed: Callable[[Path, str], None] = lambda *_: None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Alike:
    """All pairs of different contents within a distance.

    Args:
        collection: of the contents.
        contents: what is in it.
        radius: the distance.
        turned: also pictures that are mirrored, or turned by a right angle.
        failed: hears path and reason of each picture that could not be read to turn it.
        tell: hears (done, total) of the contents.

    Raises:
        UsageError: there are more than `MOST` pairs.
    """
    metric = collection.store.metric
    gallery = search.prepare(contents.vectors, metric)

    def parts() -> Iterator[tuple[Pairs, UInt8[np.ndarray, " n"]]]:
        for block in search.self_join(gallery, metric, within=DistanceRange(0, radius)):
            if not turned:
                tell(block.done, len(contents))
            yield block, np.zeros(len(block), np.uint8)
        if turned:
            for pairs, turns in _turned(collection, contents, gallery, radius, failed=failed, tell=tell):
                low = pairs.left < pairs.right
                # Where the turned one comes second, it is the first one turned back.
                ordered = Pairs(
                    np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right), pairs.distances
                )
                other = pairs.left != pairs.right
                yield ordered.keep(other), np.where(low, turns, turning.INVERSE[turns])[other]

    return Alike.of(parts(), radius)


def across(
    left: Collection,
    ours: Contents,
    right: Collection,
    theirs: Contents,
    radius: float,
    *,
    turned: bool = False,
    failed: Callable[[Path, str], None] = lambda *_: None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Alike:
    """All pairs of contents of two collections within a distance, those of the same bytes included.

    The collections are made by one encoder; see `Collection.join`. The rest is as in `within`.
    """
    metric = left.store.metric
    gallery = search.prepare(ours.vectors, metric)
    asked = search.prepare(theirs.vectors, metric)

    def parts() -> Iterator[tuple[Pairs, UInt8[np.ndarray, " n"]]]:
        for block in search.join(gallery, asked, metric, within=DistanceRange(0, radius)):
            if not turned:
                tell(block.done, len(ours))
            yield block, np.zeros(len(block), np.uint8)
        if turned:  # the second collection's, which is mostly the smaller one
            for pairs, turns in _turned(right, theirs, gallery, radius, failed=failed, tell=tell):
                yield Pairs(pairs.right, pairs.left, pairs.distances), turning.INVERSE[turns]

    return Alike.of(parts(), radius)


def _turned(
    collection: Collection,
    contents: Contents,
    gallery: search.Gallery,
    radius: float,
    *,
    failed: Callable[[Path, str], None],
    tell: Callable[[int, int], None],
) -> Iterator[tuple[Pairs, UInt8[np.ndarray, " n"]]]:
    """Pairs of a content that is turned and one of the gallery, and the turn."""
    metric = collection.store.metric
    for places, vectors in turning.embed(collection, contents, failed, tell):
        for turn in range(1, len(turning.TURNS)):
            asked = np.ascontiguousarray(vectors[:, turn - 1])
            for pairs in search.join(asked, gallery, metric, within=DistanceRange(0, radius)):
                left = np.asarray(places)[pairs.left]
                yield Pairs(left, pairs.right, pairs.distances), np.full(len(left), turn, np.uint8)
