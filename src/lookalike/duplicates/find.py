"""Find the duplicates of a collection, in groups with the image to keep.

The steps: `source.Contents` lists the contents of the collection, `candidates` finds pairs that are near each other and
compares their pixels, `groups` groups the pairs, `keep` chooses the image to keep, and `trash` moves the others.
"""

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lookalike.duplicates import candidates, decisions, groups, keep
from lookalike.duplicates.candidates import CandidatePairs
from lookalike.duplicates.keep import KeepRule
from lookalike.duplicates.orientation import Orientation
from lookalike.duplicates.radius import SearchRadius
from lookalike.duplicates.result import DuplicateGroups, DuplicatePair, FileFacts, Group, Member, Tier
from lookalike.duplicates.source import Contents, Source, content_digest
from lookalike.errors import UsageError
from lookalike.ingest import absolute_path
from lookalike.metric import paired
from lookalike.progress import SILENT, Progress
from lookalike.stores import Item
from lookalike.unicode_forms import to_path


@dataclass(frozen=True)
class FindOptions:
    """What to search for, and which images to keep.

    Attributes:
        all_orientations: also find images that are mirrored or rotated by right angles.
        chains: group images that are connected through others (single linkage); see `groups`.
        rules: which image of a group to keep.
        references: folders in which all images are kept.
    """

    all_orientations: bool = False
    chains: bool = False
    rules: tuple[KeepRule, ...] = keep.DEFAULT_RULES
    references: tuple[str | os.PathLike[str], ...] = ()


DEFAULT_OPTIONS = FindOptions()


def find_duplicates(
    source: Source,
    radius: SearchRadius | None = None,
    options: FindOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> DuplicateGroups:
    """Find groups of duplicates.

    Images of the same bytes are one content. Two contents within the radius are near-duplicates if their pixels agree, and
    similar if not. In a group of duplicates, every two members are near-duplicates; with ``chains``, each member is a
    near-duplicate of some other member. A group never holds two contents that were decided to be distinct. The kept images
    of these groups and all other contents are then grouped by similarity in the same way.

    Args:
        source: the collection.
        radius: the largest distance; by default from the embedder's calibration.
        options: what to search for, and which images to keep.
        progress: receives the stages ``"comparing"``, ``"inspecting files"`` and ``"comparing pixels"``.

    Raises:
        UsageError: there is no image in a reference folder, or there are too many pairs.
    """
    if not isinstance(options, FindOptions):
        raise UsageError(f"The options are FindOptions, not {type(options).__name__}.")
    contents = Contents.of(source)
    radius = radius or SearchRadius.from_calibration(
        source.embedder, contents.image_count, all_orientations=options.all_orientations
    )
    references = _reference_ids(contents, options.references)
    pairs, unreadable = candidates.find_pairs(
        contents, radius.distance, all_orientations=options.all_orientations, progress=progress
    )
    distinct = _distinct_contents(contents)
    pairs = pairs.without(distinct)
    facts, skipped = keep.inspect_files(source, _items_to_inspect(contents, pairs), progress)
    files = _files_to_compare(contents, facts)
    pairs, failures = candidates.confirm_by_pixels(pairs, files, files, progress)
    grouping = _Grouping(contents, pairs, facts, references, options, distinct)
    return DuplicateGroups(
        tuple(grouping.build()),
        tuple(_list_pairs(contents, pairs)),
        tuple(dict.fromkeys([*contents.refused, *skipped, *unreadable, *failures])),
        contents.image_count,
        candidates.note_truncation(radius, len(pairs)),
        source.store.space.metric,
    )


def _reference_ids(contents: Contents, folders: Sequence[str | os.PathLike[str]]) -> frozenset[str]:
    """Return the ids of the items under reference folders."""
    ids: set[str] = set()
    for folder in folders:
        root = absolute_path(to_path(folder))
        under = {item.id for items in contents.items for item in items if Path(item.uri).is_relative_to(root)}
        if not under:
            raise UsageError(f"No image of the collection is under the reference folder {folder}. Check its path.")
        ids |= under
    return frozenset(ids)


def _distinct_contents(contents: Contents) -> frozenset[tuple[int, int]]:
    """Return the pairs of contents that were decided to be distinct, the lower index first."""
    index_of = {digest: i for i, digest in enumerate(contents.digests)}
    decided = decisions.read(contents.source)
    return frozenset((index_of[a], index_of[b]) for a, b in decided if a in index_of and b in index_of)


def _items_to_inspect(contents: Contents, pairs: CandidatePairs) -> list[Item]:
    """Return the items of contents that are in a pair or have several files."""
    repeated = {i for i, items in enumerate(contents.items) if len(items) > 1}
    involved = sorted(repeated | {*pairs.left.tolist(), *pairs.right.tolist()})
    return [item for i in involved for item in contents.items[i]]


def _files_to_compare(contents: Contents, facts: dict[str, FileFacts]) -> list[Path | None]:
    """Return the first usable file of each content."""
    usable = (next((item for item in items if item.id in facts), None) for items in contents.items)
    return [None if item is None else contents.source.folder.file(item) for item in usable]


def _list_pairs(contents: Contents, pairs: CandidatePairs) -> list[DuplicatePair]:
    """Return all pairs as pairs of files: identical, then near-duplicate, then similar; in each tier the nearest first."""
    files = [[contents.source.folder.file(item) for item in items] for items in contents.items]
    identical = [
        DuplicatePair(paths[0], path, 0.0, Tier.IDENTICAL, Orientation.SAME) for paths in files for path in paths[1:]
    ]
    near = [
        DuplicatePair(files[a][0], files[b][0], distance, _tier(confirmed=confirmed), orientation)
        for a, b, distance, orientation, confirmed in pairs
    ]
    return sorted([*identical, *near], key=lambda pair: pair.sort_key)


def _tier(*, confirmed: bool) -> Tier:
    return Tier.NEAR_DUPLICATE if confirmed else Tier.SIMILAR


# ---- pairs into groups


@dataclass(frozen=True)
class _Grouping:
    """Groups contents, and chooses which of their items to keep.

    Attributes:
        contents: the contents of the collection.
        pairs: pairs of contents whose pixels were compared.
        facts: the facts of the files that can be kept or moved, by the item's id.
        references: ids of the items in reference folders, which are all kept.
        options: how to group, and which items to keep.
        distinct: pairs of contents that must not come into one group.
        usable_pairs: the pairs of contents that have a file to keep or move.
    """

    contents: Contents
    pairs: CandidatePairs
    facts: dict[str, FileFacts]
    references: frozenset[str]
    options: FindOptions
    distinct: frozenset[tuple[int, int]]
    usable_pairs: CandidatePairs = field(init=False)

    def __post_init__(self) -> None:
        """Set `usable_pairs`."""
        usable = np.array([any(item.id in self.facts for item in items) for items in self.contents.items], bool)
        pairs = self.pairs.keep(usable[self.pairs.left] & usable[self.pairs.right])
        object.__setattr__(self, "usable_pairs", pairs)

    def build(self) -> list[Group]:
        """Return groups of duplicates, then groups of similar images among the images that these groups keep or lack."""
        near = self._link(self.usable_pairs.keep(self.usable_pairs.confirmed))
        in_near = {i for members in near for i in members}
        repeated = [
            (i,)
            for i, items in enumerate(self.contents.items)
            if i not in in_near and sum(item.id in self.facts for item in items) > 1
        ]
        certain = [self._duplicate_group(members) for members in [*near, *repeated]]
        certain = sorted((group for group in certain if len(group.members) > 1), key=_sort_key)
        similar = self._similar_groups(near, certain)
        return certain + sorted((group for group in similar if len(group.members) > 1), key=_sort_key)

    def _link(self, pairs: CandidatePairs) -> list[groups.Members]:
        if self.options.chains:
            return groups.chains(pairs.left, pairs.right, pairs.distances, self.distinct)
        return groups.cliques(pairs.left, pairs.right, pairs.distances)

    def _duplicate_group(self, members: groups.Members) -> Group:
        """Build a group of all items of near-duplicate contents; it keeps one item, or all in reference folders."""
        items = [(i, item) for i in members for item in self.contents.items[i] if item.id in self.facts]
        first, reason = self._choose(items)
        kept = {item.id: "in a reference folder" for _, item in items if item.id in self.references}
        return self._group(first, items, kept or {first[1].id: reason}, Tier.NEAR_DUPLICATE)

    def _similar_groups(self, near: Sequence[groups.Members], certain: Sequence[Group]) -> list[Group]:
        """Group the contents that remain when surplus items are moved: the kept ones, and those of no other group."""
        count = len(self.contents)
        remaining, near_group = np.ones(count, bool), np.arange(count)
        index_of = {digest: i for i, digest in enumerate(self.contents.digests)}
        kept = {
            member.item.id: index_of[content_digest(member.item)]
            for g in certain
            for member in g.members
            if member.kept
        }
        surplus = {member.item.id for group in certain for member in group.surplus}
        for members in near:
            remaining[list(members)], near_group[list(members)] = False, members[0]
        remaining[list(kept.values())] = True
        left, right = self.usable_pairs.left, self.usable_pairs.right
        pairs = self.usable_pairs.keep(remaining[left] & remaining[right] & (near_group[left] != near_group[right]))
        return [self._similar_group(members, kept.keys(), surplus) for members in self._link(pairs)]

    def _similar_group(self, members: groups.Members, kept: AbstractSet[str], surplus: set[str]) -> Group:
        """Build a group with one item of each content: its kept item, or its only one."""
        items = []
        for i in members:
            usable = [item for item in self.contents.items[i] if item.id in self.facts and item.id not in surplus]
            items += [(i, item) for item in usable if item.id in kept or len(usable) == 1][:1]
        first, _ = self._choose(items)
        return self._group(first, items, dict.fromkeys((item.id for _, item in items), ""), Tier.SIMILAR)

    def _choose(self, items: Sequence[tuple[int, Item]]) -> tuple[tuple[int, Item], str]:
        """Choose the item to keep, from those in reference folders if there are any, and give the reason."""
        eligible = [entry for entry in items if entry[1].id in self.references] or list(items)
        files = [(self.contents.source.folder.file(item), self.facts[item.id]) for _, item in eligible]
        chosen, reason = keep.choose(files, self.options.rules)
        return eligible[chosen], reason

    def _group(
        self, first: tuple[int, Item], items: Sequence[tuple[int, Item]], kept: dict[str, str], tier: Tier
    ) -> Group:
        members = []
        for i, item in items:
            distance, orientation = self._distance(first[0], i)
            member = Member(
                item,
                self.contents.source.folder.file(item),
                self.facts[item.id],
                Tier.IDENTICAL if i == first[0] else tier,
                distance,
                orientation,
                kept=item.id in kept,
                reason=kept.get(item.id, ""),
            )
            members.append(member)
        members.sort(key=lambda m: (m.item.id != first[1].id, not m.kept, m.distance, str(m.path)))
        return Group(max((member.tier for member in members), key=lambda tier: tier.rank), tuple(members))

    def _distance(self, a: int, b: int) -> tuple[float, Orientation]:
        """Return the distance of two contents; measure it if they are not a pair, as members of a chain may be."""
        if a == b:
            return 0.0, Orientation.SAME
        if pair := self.usable_pairs.between(a, b):
            return pair
        vectors = self.contents.vectors
        distance = paired(vectors[a], vectors[b], self.contents.source.store.space.metric)
        return float(np.float32(distance)), Orientation.SAME


def _sort_key(group: Group) -> tuple[float, str]:
    """Sort groups whose members are all near the first one to the front: they are the surest."""
    return max(member.distance for member in group.members), str(group.members[0].path)
