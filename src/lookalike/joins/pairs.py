"""The pairs of a join, and their conversion to text, HTML, files, pandas and Arrow."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike import tables
from lookalike.errors import UsageError
from lookalike.joins.matching import Join
from lookalike.joins.writing import WrittenJoin, write
from lookalike.metric import format_distance
from lookalike.progress import SILENT, Progress
from lookalike.stores import Item

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Thumbnail = Callable[[Item], bytes]
"""Makes a small JPEG of an item."""

_SHOWN = 20
"""Maximum number of pairs in text and HTML; a join may have millions."""

_COLUMNS = {"left": "text", "right": "text", "distance": "number"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two items that look alike.

    Attributes:
        left: an item of the left collection.
        right: an item of the right collection.
        distance: in the metric's unit.
    """

    left: Item
    right: Item
    distance: float

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON, with the uris of the items."""
        return {"left": self.left.uri, "right": self.right.uri, "distance": self.distance}


@dataclass(frozen=True, eq=False)
class JoinPairs:
    """The pairs of a join, which are computed during iteration, in bounded memory.

    Attributes:
        join: finds the pairs.
        thumbnails: make small JPEGs of the items on the left and on the right, for notebooks.
    """

    join: Join
    thumbnails: tuple[Thumbnail, Thumbnail] | None = None

    @property
    def recall(self) -> float | None:
        """The share of the exact pairs that the join finds; none if the sample for its measurement had no pairs."""
        return 1.0 if self.join.approximate is None else self.join.approximate.recall

    def __iter__(self) -> Iterator[Pair]:
        """Iterate over the pairs in the order of left items, without pairs of removed items."""
        for matches in self.join.matches():
            left = self.join.left.store.get(matches.left)
            right = self.join.right.store.get(matches.right)
            for a, b, distance in zip(matches.left, matches.right, matches.distances, strict=True):
                if a in left and b in right:
                    yield Pair(left[a], right[b], distance)

    def write(self, out: Path | str, progress: Progress = SILENT) -> WrittenJoin:
        """Write the pairs into a CSV, JSON lines or Parquet file; see `lookalike.joins.write`.

        The same call resumes an interrupted one.

        Raises:
            UsageError: the file has another suffix.
            StorageError, BusyError: the file cannot be written; the pairs so far are kept.
        """
        if not isinstance(out, str | os.PathLike):
            raise UsageError(f"The file of a join is given by its path, not by {type(out).__name__}.")
        return write(self.join, Path(out), progress)

    def to_pandas(self) -> "pd.DataFrame":
        """Convert to a DataFrame with the columns left and right, which are uris, and distance.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return tables.to_pandas([pair.to_dict() for pair in self], list(_COLUMNS))

    def to_arrow(self) -> "pa.Table":
        """Convert to an Arrow table with the columns left and right, which are uris, and distance.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        return tables.to_arrow([pair.to_dict() for pair in self], _COLUMNS)

    def __repr__(self) -> str:
        """Show what is joined, without finding the pairs."""
        join = self.join
        sides = f"{len(join.left.snapshot.ids):,} items with {len(join.right.snapshot.ids):,}"
        condition = f"k={join.k}" if join.within is None else f"within {join.within.min:g}..{join.within.max:g}"
        return f"<JoinPairs: {sides}, {condition}; iterate, print or write them>"

    def __str__(self) -> str:
        """Format the first pairs as a table for a terminal."""
        shown, more = self._first()
        if not shown:
            return "No pairs."
        metric = self.join.left.store.space.metric
        rows = [(format_distance(pair.distance, metric), pair.left.uri, pair.right.uri) for pair in shown]
        return tables.text_table(("distance", "left", "right"), rows) + ("\n… and more pairs" if more else "")

    def _repr_html_(self) -> str:
        """Format the first pairs for a notebook."""
        shown, more = self._first()
        if not shown:
            return "<p>No pairs.</p>"
        rest = "<p>… and more pairs</p>" if more else ""
        if self.thumbnails is None:
            rows = [(f"{pair.distance:.3g}", pair.left.uri, pair.right.uri) for pair in shown]
            return tables.html_table(("distance", "left", "right"), rows) + rest
        return "".join(self._figures(pair, *self.thumbnails) for pair in shown) + rest

    def _figures(self, pair: Pair, left: Thumbnail, right: Thumbnail) -> str:
        distance = format_distance(pair.distance, self.join.left.store.space.metric)
        return tables.html_row(
            [
                tables.html_figure(lambda: left(pair.left), (distance, pair.left.label or ""), pair.left.uri),
                tables.html_figure(lambda: right(pair.right), ("", pair.right.label or ""), pair.right.uri),
            ]
        )

    def _first(self) -> tuple[list[Pair], bool]:
        first = list(islice(self, _SHOWN + 1))
        return first[:_SHOWN], len(first) > _SHOWN
