"""Answers of a search: pairs of rows, and the hits of queries."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.query import DistanceRange
from lookalike.shapes import Bool, Float32, Int64


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows of two arrays, with their distances.

    Attributes:
        left: rows of the first array.
        right: rows of the second array.
        distances: in the metric's unit.
    """

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    distances: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.left)

    def keep(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> "Pairs":
        """Select pairs by a mask or by indices."""
        return Pairs(self.left[chosen], self.right[chosen], self.distances[chosen])

    def within(self, within: DistanceRange) -> "Pairs":
        """Select the pairs whose distance lies in a range, see `round_range`."""
        low, high = round_range(within)
        return self.keep((self.distances >= low) & (self.distances <= high))

    def sorted(self) -> "Pairs":
        """Sort by (left, distance, right)."""
        return self.keep(np.lexsort((self.right, self.distances, self.left)))

    def shifted(self, begin: int) -> "Pairs":
        """Add a number to all left rows, to turn the rows of a batch into those of the whole array."""
        return Pairs(self.left + begin, self.right, self.distances)

    def first(self, k: int) -> "Pairs":
        """Select the first k pairs of each left row; the pairs must be sorted."""
        return self.keep(np.arange(len(self)) - np.searchsorted(self.left, self.left) < k)


NO_PAIRS = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def concatenate(parts: Sequence[Pairs]) -> Pairs:
    """Concatenate pairs; the result is empty if there are none."""
    parts = [part for part in parts if len(part)]
    if len(parts) <= 1:
        return parts[0] if parts else NO_PAIRS
    return Pairs(
        np.concatenate([part.left for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.distances for part in parts]),
    )


def round_range(within: DistanceRange) -> tuple[np.float32, np.float32]:
    """Round both ends of a range to float32, as distances are rounded.

    So a range that ends at the distance of a hit includes that hit.
    """
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        return np.float32(within.min), np.float32(within.max)


@dataclass(frozen=True, eq=False)
class JoinChunk(Pairs):
    """A chunk of the pairs of a join, sorted by (left, distance, right).

    Attributes:
        done: all pairs of the left rows before this one are in this chunk and the earlier ones. To resume a join, pass
            ``begin=done`` of the last chunk whose ``done`` grew, and drop the pairs of later chunks: the join finds
            them again.
    """

    done: int

    @classmethod
    def of(cls, pairs: Pairs, done: int) -> "JoinChunk":
        """Make a chunk of sorted pairs."""
        return cls(pairs.left, pairs.right, pairs.distances, done)


@dataclass(frozen=True, eq=False)
class Hits:
    """The hits of ``q`` queries. ``hits[i]`` returns those of query ``i``, sorted by (distance, row).

    Attributes:
        offsets: ``(q + 1,)``; the hits of query ``i`` are ``offsets[i]:offsets[i + 1]`` of the two arrays below.
        rows: of the gallery.
        distances: in the metric's unit.
        exact: no nearer row is missing.
        complete: no row of the distance range is missing.
    """

    offsets: Int64[np.ndarray, " offsets"]
    rows: Int64[np.ndarray, " total"]
    distances: Float32[np.ndarray, " total"]
    exact: bool = True
    complete: bool = True

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> tuple[Int64[np.ndarray, " hits"], Float32[np.ndarray, " hits"]]:
        """Return rows and distances of one query's hits."""
        if not 0 <= query < len(self):
            raise IndexError(query)
        hits = slice(self.offsets[query], self.offsets[query + 1])
        return self.rows[hits], self.distances[hits]

    def __iter__(self) -> Iterator[tuple[Int64[np.ndarray, " hits"], Float32[np.ndarray, " hits"]]]:
        """Iterate over rows and distances, query by query."""
        return (self[query] for query in range(len(self)))

    @property
    def pairs(self) -> Pairs:
        """The hits as pairs (query, row)."""
        return Pairs(np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.rows, self.distances)

    def first(self, k: int) -> "Hits":
        """Select the first k hits of each query."""
        return Hits.from_pairs([self.pairs.first(k)], len(self), exact=self.exact, complete=self.complete)

    @classmethod
    def from_pairs(cls, parts: Sequence[Pairs], queries: int, *, exact: bool = True, complete: bool = True) -> "Hits":
        """Make hits of pairs (query, row) in any order."""
        hits = cls.from_sorted(concatenate(parts).sorted(), queries)
        return cls(hits.offsets, hits.rows, hits.distances, exact, complete)

    @classmethod
    def from_sorted(cls, pairs: Pairs, queries: int = 1) -> "Hits":
        """Make hits of pairs sorted by (query, distance, row)."""
        ends = [0, len(pairs)] if queries == 1 else np.searchsorted(pairs.left, np.arange(queries + 1))
        return cls(np.asarray(ends), pairs.right, pairs.distances)
