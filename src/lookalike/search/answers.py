"""What a search gives: pairs of rows, and the hits of queries."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lookalike.query import DistanceRange


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows of two arrays, sorted by (left, distance, right).

    Attributes:
        left: rows of the first array.
        right: rows of the second.
        distances: in the metric's unit.
    """

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    distances: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.left)

    def keep(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> "Pairs":
        """Those of a mask, or those at these places."""
        return Pairs(self.left[chosen], self.right[chosen], self.distances[chosen])

    def within(self, within: DistanceRange) -> "Pairs":
        """Keep the pairs whose distance lies in a range, whose ends are rounded to float32 as distances are."""
        low, high = round_range(within)
        return self.keep((self.distances >= low) & (self.distances <= high))

    def sorted(self) -> "Pairs":
        """By (left, distance, right)."""
        return self.keep(np.lexsort((self.right, self.distances, self.left)))

    def first(self, k: int) -> "Pairs":
        """The first k of each left row, of sorted ones."""
        return self.keep(np.arange(len(self)) - np.searchsorted(self.left, self.left) < k)


def round_range(within: DistanceRange) -> tuple[np.float32, np.float32]:
    """Round both ends of a range to float32, as distances are: so a distance of an earlier answer includes that answer."""
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        return np.float32(within.min), np.float32(within.max)


@dataclass(frozen=True, eq=False)
class JoinChunk(Pairs):
    """Some of the pairs of a join.

    Attributes:
        done: of the rows before this one all pairs are given, in this block and those before it. A join that ended goes
            on from the last block whose ``done`` was larger than that of the block before: by ``begin=done``, without
            the pairs that came after that block, which come again.
    """

    done: int

    @classmethod
    def of(cls, pairs: Pairs, done: int) -> "JoinChunk":
        """These pairs, after which so many rows are done."""
        return cls(pairs.left, pairs.right, pairs.distances, done)


@dataclass(frozen=True, eq=False)
class Hits:
    """The answers to ``q`` queries: those to query ``i`` are ``hits[i]``, sorted by (distance, row).

    Attributes:
        offsets: ``(q + 1,)``; the answers of query ``i`` stand at ``offsets[i]:offsets[i + 1]`` of the other two.
        rows: of the gallery.
        distances: in the metric's unit.
        exact: these are the very nearest, not approximately.
        complete: no row within the radius is missing.
    """

    offsets: Int64[np.ndarray, " offsets"]
    rows: Int64[np.ndarray, " total"]
    distances: Float32[np.ndarray, " total"]
    exact: bool = True
    complete: bool = True

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> tuple[Int64[np.ndarray, " hits"], Float32[np.ndarray, " hits"]]:
        """Rows and distances of one query's answers."""
        if not 0 <= query < len(self):
            raise IndexError(query)
        mine = slice(self.offsets[query], self.offsets[query + 1])
        return self.rows[mine], self.distances[mine]

    def __iter__(self) -> Iterator[tuple[Int64[np.ndarray, " hits"], Float32[np.ndarray, " hits"]]]:
        """Rows and distances, query by query."""
        return (self[query] for query in range(len(self)))

    @property
    def pairs(self) -> Pairs:
        """The answers as pairs (query, row)."""
        return Pairs(np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.rows, self.distances)

    def first(self, k: int) -> "Hits":
        """The first k of each query."""
        return Hits.from_pairs([self.pairs.first(k)], len(self), exact=self.exact, complete=self.complete)

    @classmethod
    def from_pairs(cls, parts: list[Pairs], queries: int, *, exact: bool = True, complete: bool = True) -> "Hits":
        """The answers of which these are the pairs (query, row), in any order."""
        pairs = joined(parts).sorted()
        offsets = np.searchsorted(pairs.left, np.arange(queries + 1))
        return cls(offsets, pairs.right, pairs.distances, exact, complete)


def joined(parts: list[Pairs]) -> Pairs:
    """One after the other."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    return Pairs(
        np.concatenate([np.empty(0, np.int64), *(part.left for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.right for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.distances for part in parts)]),
    )
