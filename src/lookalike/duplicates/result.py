"""The results of a search for duplicates: pairs and groups, for terminals, notebooks and data frames."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lookalike import tables
from lookalike.duplicates.orientation import Orientation
from lookalike.duplicates.radius import SearchRadius
from lookalike.duplicates.source import Failure
from lookalike.errors import LookalikeError
from lookalike.images import thumbnail
from lookalike.metric import Metric, format_distance
from lookalike.parallel import prefetch_map
from lookalike.stores import Item

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Groups, and members of a group, that `str` and a notebook show; the side of a notebook's thumbnails in pixels.
_SHOWN_GROUPS, _SHOWN_MEMBERS, _THUMBNAIL = 20, 12, 96


class Tier(StrEnum):
    """The degree of similarity of two images, the surest tier first."""

    IDENTICAL = "identical"
    """The same bytes."""
    NEAR_DUPLICATE = "near-duplicate"
    """Copies of one image: the vectors are near each other, and the pixels agree."""
    SIMILAR = "similar"
    """The vectors are near each other, but the pixels do not agree. Similar images are shown, never moved."""

    @property
    def rank(self) -> int:
        """The position in the order of the tiers, from 0."""
        return list(Tier).index(self)


@dataclass(frozen=True)
class FileFacts:
    """Size, dimensions and dates of an image file.

    Attributes:
        width: width of the upright image, in pixels.
        height: height of the upright image, in pixels.
        size: size of the file, in bytes.
        modified: time of the last write, in nanoseconds since 1970.
        inode: device and inode number; two names of one file share them.
    """

    width: int
    height: int
    size: int
    modified: int
    inode: tuple[int, int]

    @property
    def date(self) -> str:
        """The day of `modified`, in UTC."""
        return datetime.fromtimestamp(self.modified / 1e9, UTC).date().isoformat()


@dataclass(frozen=True)
class Member:
    """An image in a group.

    Attributes:
        item: the item.
        path: the item's file.
        facts: the facts of the file.
        tier: the tier of the pair of this member and the first one.
        distance: the distance to the first member.
        orientation: the orientation that turns the first member into this one.
        kept: whether the file stays when the group's surplus is moved to the trash.
        reason: the reason why the file is kept; empty for other members.
    """

    item: Item
    path: Path
    facts: FileFacts
    tier: Tier
    distance: float
    orientation: Orientation
    kept: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold."""
        return {
            "id": self.item.id,
            "path": str(self.path),
            "label": self.item.label,
            "tier": str(self.tier),
            "distance": self.distance,
            "orientation": str(self.orientation),
            "kept": self.kept,
            "reason": self.reason,
            "width": self.facts.width,
            "height": self.facts.height,
            "bytes": self.facts.size,
            "modified": self.facts.modified / 1e9,
        }


@dataclass(frozen=True)
class Group:
    """Images that are duplicates of each other, or similar.

    Attributes:
        tier: the tier of the member that is least similar to the first one.
        members: the chosen image first, then other kept ones, then the others by distance.
    """

    tier: Tier
    members: tuple[Member, ...]

    @property
    def surplus(self) -> tuple[Member, ...]:
        """The members that can be moved to the trash."""
        return tuple(member for member in self.members if not member.kept)

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold."""
        return {"tier": str(self.tier), "members": [member.to_dict() for member in self.members]}


@dataclass(frozen=True)
class Applied:
    """What happened to the surplus of groups when it was moved to a trash folder.

    Attributes:
        trash: the trash folder.
        outcomes: the id of each file's item → the reason why the file stays, or none if it was moved. A file that is not in it was
            not reached, since the move ended early.
    """

    trash: Path
    outcomes: Mapping[str, str | None]

    def has_moved(self, member: "Member") -> bool:
        """Return whether the file of a member was moved."""
        return self.outcomes.get(member.item.id, "") is None

    def reason(self, member: "Member") -> str:
        """Return why the file of a member stays; empty if it was moved or is kept."""
        return "" if member.kept else self.outcomes.get(member.item.id, "the move ended before it") or ""

    def summarise(self, surplus: Sequence["Member"]) -> str:
        """Return a text with the number of files that were moved, and of those that stay."""
        moved = [member for member in surplus if self.has_moved(member)]
        text = f"{len(moved):,} moved, {format_size(sum(member.facts.size for member in moved))}"
        return text + (f"; {len(surplus) - len(moved):,} left in place" if len(moved) < len(surplus) else "")


@dataclass(frozen=True, slots=True)  # there may be a million
class DuplicatePair:
    """Two similar images; the first path represents several files of the same bytes."""

    left: Path
    right: Path
    distance: float
    tier: Tier
    orientation: Orientation

    @property
    def sort_key(self) -> tuple[int, float, str, str]:
        """The sort key: the surest tier first, then the nearest pair, then by path."""
        return self.tier.rank, self.distance, str(self.left), str(self.right)

    def to_dict(self) -> dict[str, str | float]:
        """Convert to what JSON can hold, with the keys of `PAIR_COLUMNS`."""
        values = (str(self.left), str(self.right), self.distance, str(self.tier), str(self.orientation))
        return dict(zip(PAIR_COLUMNS, values, strict=True))


PAIR_COLUMNS = {"left": "text", "right": "text", "distance": "number", "tier": "text", "orientation": "text"}
"""The columns of a table of pairs: name → kind."""


class PairTable:
    """A result with pairs that converts to a table with the columns of `PAIR_COLUMNS`."""

    pairs: tuple[DuplicatePair, ...]

    def to_arrow(self) -> "pa.Table":
        """Convert the pairs to an Arrow table.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        return tables.to_arrow([pair.to_dict() for pair in self.pairs], PAIR_COLUMNS)

    def to_pandas(self) -> "pd.DataFrame":
        """Convert the pairs to a DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return tables.to_pandas([pair.to_dict() for pair in self.pairs], list(PAIR_COLUMNS))


@dataclass(frozen=True, repr=False)
class DuplicateGroups(PairTable, Sequence[Group]):
    """The groups of duplicates of a collection, as a sequence.

    Attributes:
        groups: groups of identical images and near-duplicates, then groups of similar images; nearest groups first.
        pairs: all pairs within the radius but those decided to be distinct; sorted by tier, then nearest first.
        skipped: path and reason of each image that is neither kept nor moved.
        image_count: the number of images that were compared.
        radius: the distance within which pixels were compared.
        metric: the metric of the distances.
    """

    groups: tuple[Group, ...]
    pairs: tuple[DuplicatePair, ...]
    skipped: tuple[Failure, ...]
    image_count: int
    radius: SearchRadius
    metric: Metric

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | Sequence[Group]:
        """Return a group, or a slice of the groups."""
        return self.groups[index]

    def __len__(self) -> int:
        """Count the groups, including groups of similar images."""
        return len(self.groups)

    @property
    def surplus(self) -> tuple[Member, ...]:
        """The members of all groups that can be moved to the trash."""
        return tuple(member for group in self.groups for member in group.surplus)

    def of_tier(self, *tiers: Tier) -> tuple[Group, ...]:
        """Return the groups of the given tiers."""
        return tuple(group for group in self.groups if group.tier in tiers)

    @property
    def summary(self) -> str:
        """A sentence with the number of groups and of images that could go."""
        return self.summarise()

    def summarise(self, applied: Applied | None = None) -> str:
        """Return a sentence with the number of groups, and of images that could go or that were moved."""
        if not self.groups:
            return f"No duplicates among {tables.plural(self.image_count, 'image')}."
        similar = len(self.of_tier(Tier.SIMILAR))
        text = f"{tables.plural(len(self.groups) - similar, 'group')} of duplicates"
        text += f" and {similar:,} of similar images" if similar else ""
        surplus = self.surplus
        size = format_size(sum(member.facts.size for member in surplus))
        rest = applied.summarise(surplus) if applied else f"{len(surplus):,} could go, {size}"
        return f"{text} among {tables.plural(self.image_count, 'image')}; {rest}."

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; ``lookalike duplicates find --json`` prints it after the collection's name."""
        return {
            "images": self.image_count,
            **self.radius.to_dict(),
            "metric": str(self.metric),
            "groups": [group.to_dict() for group in self.groups],
            "skipped": [{"path": str(path), "reason": reason} for path, reason in self.skipped],
        }

    def __repr__(self) -> str:
        """Return the summary, since there may be thousands of groups."""
        return f"<DuplicateGroups: {self.summary}>"

    def __str__(self) -> str:
        """Return a table of the first groups and the summary, without control characters."""
        if not self.groups:
            return self.summary
        rows = group_rows(map(_shorten, self.groups[:_SHOWN_GROUPS]), self.metric)
        return "\n".join([tables.text_table(GROUP_COLUMNS, rows), *self._left_out(), self.summary])

    def _repr_html_(self) -> str:
        """Return the first groups as HTML, for a notebook."""
        shown = list(map(_shorten, self.groups[:_SHOWN_GROUPS]))
        paths = [member.path for group in shown for member in group.members]
        thumbnails = dict(zip(paths, prefetch_map(lambda path: thumbnail_uri(path, _THUMBNAIL), paths), strict=True))
        parts = [f"<p>{tables.escape(self.summary)}</p>"]
        for group in shown:
            figures = "".join(_figure(member, group.tier, thumbnails[member.path]) for member in group.members)
            parts.append(f'<div style="display:flex;flex-wrap:wrap;gap:8px"><b>{group.tier}</b>{figures}</div>')
        return "".join([*parts, *(f"<p>{line}</p>" for line in self._left_out())])

    def _left_out(self) -> list[str]:
        lines = []
        if members := sum(max(0, len(group.members) - _SHOWN_MEMBERS) for group in self.groups[:_SHOWN_GROUPS]):
            lines.append(f"and {members:,} more members of these groups")
        if len(self.groups) > _SHOWN_GROUPS:
            lines.append(f"and {len(self.groups) - _SHOWN_GROUPS:,} more groups")
        return lines


# ---- text and thumbnails

GROUP_COLUMNS = ("group", "", "tier", "distance", "pixels", "size", "image", "reason")


def group_rows(groups: Iterable[Group], metric: Metric, applied: Applied | None = None) -> list[tuple[str, ...]]:
    """Return a table row for each member of groups, with the columns `GROUP_COLUMNS`.

    Args:
        groups: the groups.
        metric: of the distances.
        applied: what happened to the surplus; none if it was not moved.
    """
    return [
        (
            str(number),
            "" if group.tier is Tier.SIMILAR else verdict(member, applied),
            str(member.tier) if i else "",
            format_distance(member.distance, metric) if i else "",
            f"{member.facts.width}×{member.facts.height}",
            format_size(member.facts.size),
            str(member.path),
            (applied.reason(member) if applied else "") or member.reason or describe(member.orientation),
        )
        for number, group in enumerate(groups, 1)
        for i, member in enumerate(group.members)
    ]


def verdict(member: Member, applied: Applied | None = None) -> str:
    """Return what happens to the file of a member of a group of duplicates, or what happened to it."""
    if member.kept:
        return "keep"
    return "could go" if applied is None else "moved" if applied.has_moved(member) else "left"


def _shorten(group: Group) -> Group:
    """Limit the members of a group to the number that is shown."""
    return replace(group, members=group.members[:_SHOWN_MEMBERS])


def describe(orientation: Orientation) -> str:
    """Describe an orientation; return an empty string for `Orientation.SAME`."""
    return "" if orientation is Orientation.SAME else str(orientation)


def format_size(size: int) -> str:
    """Format a number of bytes in powers of 1000."""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:  # noqa: PLR2004 -- as above
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def thumbnail_uri(path: Path, size: int) -> str:
    """Return a thumbnail of an image file as a data URI; empty if the file cannot be read."""
    try:
        return tables.jpeg_uri(thumbnail(path, size))
    except LookalikeError:
        return ""


def _figure(member: Member, tier: Tier, uri: str) -> str:
    verdict = str(tier) if tier is Tier.SIMILAR else "keep" if member.kept else str(member.tier)
    image = f'<img src="{uri}" alt="">' if uri else ""
    caption = f"{tables.escape(member.path.name)}<br>{verdict} {tables.escape(member.reason)}"
    return f'<figure style="margin:0;width:{_THUMBNAIL}px">{image}<figcaption>{caption}</figcaption></figure>'
