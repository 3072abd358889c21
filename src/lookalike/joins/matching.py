"""Joins of snapshots of two stores, and self-joins."""

from collections.abc import Iterator
from dataclasses import dataclass

from lookalike import search
from lookalike.ann import joins as approximate_joins
from lookalike.ann.joins import ApproximateJoin
from lookalike.query import DistanceRange
from lookalike.search import Gallery, JoinChunk
from lookalike.stores import Snapshot, Store, take_snapshot


@dataclass(frozen=True)
class Matches:
    """A chunk of a join: pairs of ids with their distances.

    Attributes:
        left: ids of left items.
        right: ids of right items.
        distances: in the metric's unit.
        done: all pairs of this many left items, in the order of ids, are in this chunk and the earlier ones.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    distances: tuple[float, ...]
    done: int


@dataclass(frozen=True, eq=False)
class Side:
    """A snapshot of a store, prepared for a join."""

    store: Store
    snapshot: Snapshot
    gallery: Gallery

    @classmethod
    def of(cls, store: Store) -> "Side":
        """Take a snapshot of a store, and prepare its vectors."""
        snapshot = take_snapshot(store)
        return cls(store, snapshot, search.prepare(snapshot.vectors, store.space.metric))


@dataclass(frozen=True, eq=False)
class Join:
    """A join of two sides, or a self-join; made by `between`.

    Attributes:
        left: the left side.
        right: the right side; the same object for a self-join, which gives each pair once, and no item with itself.
        k: pair each left item with this many nearest right items; none if ``within`` is given.
        within: pair all items whose distance lies in this range; none if ``k`` is given.
        approximate: the prepared approximate join; none if the join is exact.
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
        """Prepare a join of two stores, or a self-join, from their current snapshots.

        Args:
            left: the left store.
            right: the right store; none for a self-join.
            k: pair each left item with its k nearest right items. Give this or ``within``.
            within: pair all items whose distance lies in this range.
            approximate: find most pairs by an index with a measured recall, see `lookalike.ann.joins`. It is built now,
                which takes a minute for a million items.

        Raises:
            UsageError: both or neither of k and within, or values that `search.join` refuses.
        """
        left_side = Side.of(left)
        right_side = left_side if right is None else Side.of(right)
        metric = left.space.metric
        empty = left_side.gallery.take(slice(0, 0))
        search.join(empty, empty, metric, k=k, within=within)  # checks the values before the work begins
        if not approximate:
            return cls(left_side, right_side, k, within)
        prepared = approximate_joins.prepare(left_side.gallery, right_side.gallery, metric, k=k, within=within)
        return cls(left_side, right_side, k, within, prepared)

    @property
    def total(self) -> int:
        """The number of left items."""
        return len(self.left.gallery)

    @property
    def identity(self) -> dict[str, str]:
        """The values that determine the pairs, by name. Joins with equal identities give the same pairs in the same order.

        Journals store it, so a change of its keys or format would start unfinished joins over.
        """
        return {
            "the left collection": self.left.snapshot.generation,
            "the right collection": "itself" if self.right is self.left else self.right.snapshot.generation,
            "k": str(self.k),
            "the radius": "None" if self.within is None else str(self.within.max),
            "the least distance": str((self.within and self.within.min) or 0),
            "--approximate": str(self.approximate is not None),
        }

    def share(self, done: int) -> float:
        """Estimate the share of the work, in 0…1, that is done with this many left items."""
        items = done / self.total if self.total else 1.0
        # An exact self-join by range compares each row only with later rows.
        triangular = self.right is self.left and self.k is None and self.approximate is None
        return items * (2 - items) if triangular else items

    def chunks(self, begin: int = 0) -> Iterator[JoinChunk]:
        """Find the pairs as rows of the snapshots, from a left row on."""
        if self.approximate is not None:
            return self.approximate.chunks(begin)
        metric, k, within = self.left.store.space.metric, self.k, self.within
        if self.right is self.left:
            return search.self_join(self.left.gallery, metric, k=k, within=within, begin=begin)
        return search.join(self.left.gallery, self.right.gallery, metric, k=k, within=within, begin=begin)

    def matches(self, begin: int = 0) -> Iterator[Matches]:
        """Find the pairs as ids, from a left item on."""
        left, right = self.left.snapshot.ids, self.right.snapshot.ids
        return (
            Matches(
                tuple(left[i] for i in chunk.left.tolist()),
                tuple(right[i] for i in chunk.right.tolist()),
                tuple(chunk.distances.tolist()),
                chunk.done,
            )
            for chunk in self.chunks(begin)
        )
