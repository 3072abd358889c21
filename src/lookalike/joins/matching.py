"""What is joined with what, and the pairs that this gives."""

from collections.abc import Iterator
from dataclasses import dataclass

from lookalike import search
from lookalike.ann import joins as approximately
from lookalike.ann.joins import ApproximateJoin
from lookalike.query import DistanceRange
from lookalike.search import Gallery, JoinChunk
from lookalike.stores import Snapshot, Store, take_snapshot


@dataclass(frozen=True)
class Matches:
    """A block of a join: pairs of ids with their distances.

    Attributes:
        left: ids of items on the left.
        right: ids of items on the right.
        distances: in the metric's unit.
        done: of so many items on the left, in the order of ids, all pairs are given.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    distances: tuple[float, ...]
    done: int


@dataclass(frozen=True, eq=False)
class Side:
    """A store as it was at one moment, ready to be joined."""

    store: Store
    snapshot: Snapshot
    gallery: Gallery

    @classmethod
    def of(cls, store: Store) -> "Side":
        """The store as it is now."""
        snapshot = take_snapshot(store)
        return cls(store, snapshot, search.prepare(snapshot.vectors, store.space.metric))


@dataclass(frozen=True, eq=False)
class Join:
    """A question about two sides, or about one with itself; `between` checks it.

    Attributes:
        left: the side on the left.
        right: that on the right; the same one for a self-join, which gives each pair once and none of an item with itself.
        k: each item on the left with so many nearest on the right. This or
        within: all pairs in a range of distances.
        approximate: where not all pairs are asked for: how they are found, and with what recall.
    """

    left: Side
    right: Side
    k: int | None
    within: DistanceRange | None
    approximate: ApproximateJoin | None = None

    @classmethod
    def between(
        cls,
        left: Store,
        right: Store | None = None,
        *,
        k: int | None = None,
        within: DistanceRange | None = None,
        approximate: bool = False,
    ) -> "Join":
        """A join of two stores, or of one with itself, as they are now.

        An approximate one is prepared here, which takes a minute for a million items; see `lookalike.ann.joins`.

        Raises:
            UsageError: both or neither of k and within, or values that `search.join` refuses.
        """
        one = Side.of(left)
        other = one if right is None else Side.of(right)
        none = one.gallery.take(slice(0, 0))
        search.join(none, none, left.space.metric, k=k, within=within)  # a mistake is told here
        if not approximate:
            return cls(one, other, k, within)
        prepared = approximately.prepare(one.gallery, other.gallery, left.space.metric, k=k, within=within)
        return cls(one, other, k, within, prepared)

    @property
    def total(self) -> int:
        """Items on the left."""
        return len(self.left.gallery)

    @property
    def identity(self) -> dict[str, str]:
        """What the pairs follow from, by name: joins of one identity give the same pairs in the same order."""
        return {
            "the left collection": self.left.snapshot.generation,
            "the right collection": "itself" if self.right is self.left else self.right.snapshot.generation,
            "k": str(self.k),
            "the distance range": "None" if self.within is None else f"{self.within.min}..{self.within.max}",
            "--approximate": str(self.approximate is not None),
        }

    def share(self, done: int) -> float:
        """How much of the work is behind when so many items on the left are done, in 0…1."""
        part = done / self.total if self.total else 1.0
        # An exact self-join by radius looks at the pairs of a row with those after it.
        fewer = self.right is self.left and self.k is None and self.approximate is None
        return part * (2 - part) if fewer else part

    def chunks(self, begin: int = 0) -> Iterator[JoinChunk]:
        """Its pairs as rows of the snapshots, from one row on the left on."""
        if self.approximate is not None:
            return self.approximate.chunks(begin)
        metric, k, within = self.left.store.space.metric, self.k, self.within
        if self.right is self.left:
            return search.self_join(self.left.gallery, metric, k=k, within=within, begin=begin)
        return search.join(self.left.gallery, self.right.gallery, metric, k=k, within=within, begin=begin)

    def matches(self, begin: int = 0) -> Iterator[Matches]:
        """Its pairs as ids, from one item on the left on."""
        ours, theirs = self.left.snapshot.ids, self.right.snapshot.ids
        return (
            Matches(
                tuple(ours[i] for i in chunk.left.tolist()),
                tuple(theirs[i] for i in chunk.right.tolist()),
                tuple(chunk.distances.tolist()),
                chunk.done,
            )
            for chunk in self.chunks(begin)
        )
