"""Items, hits and answers of stores, and their conversion to text, HTML, JSON, pandas and Arrow."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

from lookalike import tables
from lookalike.encoders.card import CalibrationKind
from lookalike.metric import Metric, format_distance
from lookalike.query import Branch

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_PRINTED = 50
"""Maximum number of hits in text and HTML; an answer to a range query may have a million."""

NO_MATCH = "Nothing here looks like it: the nearest image is no nearer than chance."
"""What people read if `Answer.no_match` is true."""

BLANK = "The image is blank: all of it has one colour."
"""What people read if `Answer.blank` is true."""

_COLUMNS = {
    "id": "text",
    "uri": "text",
    "label": "text",
    "attributes": "attributes",
    "name": "text",
    "size": "integer",
    "modified": "text",
    "distance": "number",
    "similarity": "number",
    "probability": "number",
    "closeness": "number",
}

FILE_NAME = "filename"
"""The attribute that holds the file name of an image whose file the collection's folder keeps, such as an upload."""

_SIGNATURE = re.compile(r"(\d{1,19})-(-?\d{1,19})-")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Item:
    """An image in a collection.

    Attributes:
        id: unique in the collection.
        uri: a path to the image, absolute or relative to the collection's folder.
        label: its class, if known.
        attributes: more properties, by name.
        sha256: of the file's content, hexadecimal.
        signature: the file's size and times when it was indexed, in bytes and nanoseconds: ``size-mtime-ctime``. The file
            is unchanged if they are the same now. It ends in ``-recent`` if the file might change again without its times
            showing it.
    """

    id: str
    uri: str
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
    signature: str = ""

    @property
    def name(self) -> str:
        """The name of its file, without folders; of an upload the name that it was uploaded with, if that is known."""
        if self.uri.startswith(f"images/{self.sha256}."):  # named by its content, in the collection's folder
            return re.split(r"[/\\]", self.attributes.get(FILE_NAME, self.uri))[-1]
        return self.uri.rpartition("/")[2]

    @property
    def size(self) -> int | None:
        """The bytes of its file when it was indexed, if they are known."""
        match = _SIGNATURE.match(self.signature)
        return int(match[1]) if match else None

    @property
    def modified(self) -> datetime | None:
        """The time of the last change of its file when it was indexed, if it is known."""
        match = _SIGNATURE.match(self.signature)
        return _EPOCH + timedelta(microseconds=int(match[2]) // 1000) if match else None

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON; the time is in ISO 8601."""
        return {
            "id": self.id,
            "uri": self.uri,
            "label": self.label,
            "attributes": dict(self.attributes),
            "name": self.name,
            "size": self.size,
            "modified": self.modified.isoformat() if self.modified else None,
        }


@dataclass(frozen=True)
class Hit:
    """An item that answers a query.

    Attributes:
        item: the item.
        distance: in the metric's unit.
        similarity: in 0…1, see `lookalike.metric.similarity`.
        probability: of showing the same thing as the query, for equal priors; none if the encoder is not calibrated for
            the metric, its calibration does not hold for the collection, or nothing looks like the query. `lookalike.collection.Collection` adds it, since stores have no encoder.
        closeness: in 0…1: 1 at distance 0, and 0 from the distance of chance on, see `lookalike.chance`; none if that is
            unknown. `lookalike.collection.Collection` adds it.
    """

    item: Item
    distance: float
    similarity: float
    probability: float | None = None
    closeness: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return {
            **self.item.to_dict(),
            "distance": self.distance,
            "similarity": self.similarity,
            "probability": self.probability,
            "closeness": self.closeness,
        }


@dataclass(frozen=True, repr=False)
class Answer(Sequence[Hit]):
    """The hits of one query, nearest first: a sequence of `Hit`.

    Attributes:
        hits: sorted by (distance, id).
        metric: of the distances.
        exact: whether an exact search found the hits; else an approximate index found them.
        complete: whether no hit in the range is missing; in an approximate answer, no hit that the index found.
        recall: of an approximate answer, the share of the 10 nearest items that the index finds, measured when it was
            built.
        no_match: whether the nearest hit is no nearer than chance, see `lookalike.chance`; none if that is unknown.
        calibrated_on: what the hits' probability is of: one class, or copies of one image; none if they have none.
        branch: the branch of the encoder that embedded the image or the text; none for an item or a vector.
        codec: what made the codes whose distances these are, in words; none if they are distances of embeddings, because the
            collection is not compressed or the query re-scores.
        note: why there are no hits, if no item passes the filter.
        blank: whether the image has one colour only, so that it shows nothing to search for; none for a text, an item or a vector.
        thumbnail: makes a small JPEG of an item, for notebooks.

    Example:
        >>> hits = la.open("shop").search("mug.jpg", k=3)
        >>> len(hits), hits.metric, hits.exact
        (3, <Metric.EUCLIDEAN: 'euclidean'>, True)
        >>> hits[0].distance <= hits[1].distance
        True
        >>> print(hits[:1])
        distance  closeness  label  image
        ...
    """

    hits: tuple[Hit, ...]
    metric: Metric
    exact: bool = True
    complete: bool = True
    recall: float | None = None
    no_match: bool | None = None
    calibrated_on: CalibrationKind | None = None
    branch: Branch | None = None
    codec: str | None = None
    note: str | None = None
    blank: bool | None = None
    thumbnail: Callable[[Item], bytes] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        """Count the hits."""
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        """Iterate over the hits, nearest first."""
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> "Answer": ...

    def __getitem__(self, index: int | slice) -> "Hit | Answer":
        """Return one hit, or an answer with a slice of the hits, which is incomplete if hits are missing."""
        if not isinstance(index, slice):
            return self.hits[index]
        hits = self.hits[index]
        return replace(self, hits=hits, complete=self.complete and len(hits) == len(self.hits))

    def __repr__(self) -> str:
        """Summarise the answer; `print` shows the hits."""
        nearest = f", nearest at {format_distance(self.hits[0].distance, self.metric)}" if self.hits else ""
        return f"<Answer: {tables.plural(len(self.hits), 'hit')}{nearest} ({self.metric})>"

    def __str__(self) -> str:
        """Format as a table for a terminal, without control characters."""
        if not self.hits:
            return tables.printable(self.note or "No hits.")
        names, rows = self.table(lambda hit: hit.item.uri)
        return "\n".join([tables.text_table(names, rows), *self._remarks()])

    def _repr_html_(self) -> str:
        """Format for a notebook: a grid of thumbnails, or a table if there is no `thumbnail`."""
        if not self.hits:
            return f"<p>{tables.escape(self.note or 'No hits.')}</p>"
        remarks = "".join(f"<p>{tables.escape(remark)}</p>" for remark in self._remarks())
        if self.thumbnail is None:
            return tables.html_table(*self.table(lambda hit: hit.item.uri)) + remarks
        return tables.html_row([self._figure(hit, self.thumbnail) for hit in self.hits[:_PRINTED]]) + remarks

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON, as the command line prints and HTTP returns it.

        Example:
            >>> answer = la.open("shop").search("mug.jpg", k=3)
            >>> sorted(answer.to_dict())
            ['blank', 'branch', 'calibrated_on', 'codec', 'complete', 'exact', 'hits', 'metric', 'no_match', 'note', 'recall']
        """
        return {
            "hits": [hit.to_dict() for hit in self.hits],
            "metric": str(self.metric),
            "exact": self.exact,
            "complete": self.complete,
            "recall": self.recall,
            "no_match": self.no_match,
            "calibrated_on": self.calibrated_on,
            "branch": self.branch,
            "codec": self.codec,
            "note": self.note,
            "blank": self.blank,
        }

    def to_pandas(self) -> "pd.DataFrame":
        """Convert to a DataFrame with a row for each hit and the columns of `Hit.to_dict`.

        Raises:
            MissingExtraError: pandas is not installed.

        Example:
            >>> table = la.open("shop").search("mug.jpg", k=3).to_pandas()
            >>> len(table), table["distance"].is_monotonic_increasing
            (3, True)
        """
        return tables.to_pandas([hit.to_dict() for hit in self.hits], list(_COLUMNS))

    def to_arrow(self) -> "pa.Table":
        """Convert to an Arrow table with a row for each hit and the columns of `Hit.to_dict`.

        Raises:
            MissingExtraError: pyarrow is not installed.

        Example:
            >>> table = la.open("shop").search("mug.jpg", k=3).to_arrow()
            >>> table.num_rows, table.column_names[:3]
            (3, ['id', 'uri', 'label'])
        """
        return tables.to_arrow([hit.to_dict() for hit in self.hits], _COLUMNS)

    def table(self, describe: Callable[[Hit], str], limit: int | None = _PRINTED) -> tuple[list[str], list[list[str]]]:
        """Return the column names and the rows of a table for people.

        It has the distance, and a bar, which is empty if a hit is no nearer than chance. It has no per cent: a similarity
        would look like a probability, and `Hit.probability` is of equal priors, which the items of a collection do not have.

        Args:
            describe: returns the text of the last column, the image.
            limit: the number of rows; none is all.
        """
        columns: list[tuple[str, Callable[[Hit], str]]] = [
            ("distance", lambda hit: format_distance(hit.distance, self.metric)),
            ("closeness", lambda hit: tables.bar(hit.closeness)),
            ("label", lambda hit: hit.item.label or ""),
            ("image", describe),
        ]
        if all(hit.closeness is None for hit in self.hits):
            del columns[1]
        return [name for name, _ in columns], [[text(hit) for _, text in columns] for hit in self.hits[:limit]]

    def describe_distance(self, hit: Hit) -> str:
        """Return the distance of a hit as text, such as “distance 0.31”."""
        return f"distance {format_distance(hit.distance, self.metric)}"

    def warnings(self) -> list[str]:
        """Return the sentences that people read before the hits: that the image is blank, or that nothing looks like it."""
        return [BLANK] * bool(self.blank) + [NO_MATCH] * bool(self.no_match)

    def _remarks(self) -> list[str]:
        remarks = self.warnings()
        if len(self.hits) > _PRINTED:
            remarks.append(f"… and {len(self.hits) - _PRINTED:,} more hits")
        if not self.exact:
            remarks.append("approximate" if self.recall is None else f"approximate (recall {self.recall:.2f})")
        if self.codec is not None:
            remarks.append(f"by codes of {self.codec}")
        if not self.complete:
            remarks.append("incomplete: more items match")
        return remarks

    def _figure(self, hit: Hit, thumbnail: Callable[[Item], bytes]) -> str:
        caption = (self.describe_distance(hit), hit.item.label or "")
        return tables.html_figure(lambda: thumbnail(hit.item), caption, hit.item.uri)
