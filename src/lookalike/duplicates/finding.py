"""Duplicates of a collection: in groups, with the one to keep."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from lookalike.collection import Collection
from lookalike.duplicates import alike, decisions, grouping, keeping, looking
from lookalike.duplicates.alike import Alike
from lookalike.duplicates.contents import Contents
from lookalike.duplicates.keeping import RULES, Facts, Rule
from lookalike.duplicates.tiers import Reach, Tier
from lookalike.duplicates.turning import TURNS, Turn
from lookalike.errors import UsageError
from lookalike.ingest import absolute
from lookalike.metric import Metric, paired
from lookalike.stores import Item

Tell = Callable[[str, int, int], None]
"""Hears what is being done, and how far: (what, done, total)."""


@dataclass(frozen=True)
class Member:
    """A picture in a group.

    Attributes:
        item: the picture.
        path: its file.
        facts: of the file.
        tier: how alike it and the first one of the group are.
        distance: to the first one.
        turn: what has to be done to the first one to make this one.
        kept: it stays.
        why: it is kept, in words; else empty.
    """

    item: Item
    path: Path
    facts: Facts
    tier: Tier
    distance: float
    turn: Turn
    kept: bool
    why: str


@dataclass(frozen=True)
class Group:
    """Pictures that are duplicates of each other.

    Attributes:
        tier: of the least alike.
        members: those that are kept first, then by distance.
    """

    tier: Tier
    members: tuple[Member, ...]

    @property
    def surplus(self) -> tuple[Member, ...]:
        """What could go."""
        return tuple(member for member in self.members if not member.kept)


@dataclass(frozen=True, slots=True)  # there may be a million
class PairFound:
    """Two pictures that are alike, by their first paths where the same bytes have several."""

    left: Path
    right: Path
    distance: float
    tier: Tier
    turn: Turn


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        groups: identical ones and near-duplicates first, then similar ones; of each those first whose pictures are nearest.
        pairs: all that lie within reach, but for those that were decided to be distinct; by tier, and nearest first.
        left_out: path and reason of each picture that may be neither kept nor moved.
        pictures: how many were compared.
        reach: how near is near.
        metric: of the distances.
    """

    groups: tuple[Group, ...]
    pairs: tuple[PairFound, ...]
    left_out: tuple[tuple[Path, str], ...]
    pictures: int
    reach: Reach
    metric: Metric


def find(
    collection: Collection,
    reach: Reach,
    *,
    chains: bool = False,
    rules: Sequence[Rule] = RULES,
    references: Sequence[Path] = (),
    turned: bool = False,
    tell: Tell = lambda *_: None,
) -> Duplicates:
    """Find groups of duplicates.

    Pictures of the same bytes are one content. Contents that lie within reach are looked at: where their pixels agree they
    are near-duplicates, else similar. They are grouped where every two are near-duplicates, or with ``chains`` where each
    is of some other; two that were decided to be distinct never come into one group. What is kept
    of these groups, and all other contents, are then grouped into similar ones the same way.

    Args:
        collection: where to look.
        reach: how near is near; see `tiers`.
        chains: see `grouping`.
        rules: which one to keep.
        references: folders whose pictures are all kept.
        turned: also find pictures that are mirrored or turned.
        tell: hears how far it is.

    Raises:
        UsageError: no picture is in a reference folder, or there are too many pairs.
    """
    contents = Contents.of(collection)
    protected = _protected(contents, references)
    failures: list[tuple[Path, str]] = []
    found = alike.within(
        collection,
        contents,
        reach.radius,
        turned=turned,
        failed=lambda path, reason: failures.append((path, reason)),
        tell=lambda done, total: tell("comparing", done, total),
    )
    apart = _apart(collection, contents)
    found = found.keep(_not_among(found, apart, len(contents)))
    same = {i for i, items in enumerate(contents.items) if len(items) > 1}
    items = [item for i in sorted(same | {*found.left.tolist(), *found.right.tolist()}) for item in contents.items[i]]
    facts, left_out = keeping.look(collection, items, lambda done, total: tell("looking at files", done, total))
    files = [next((collection.file(item) for item in items if item.id in facts), None) for items in contents.items]
    found = looking.look(
        found,
        files,
        files,
        failed=lambda path, reason: failures.append((path, reason)),
        tell=lambda done, total: tell("looking at pairs", done, total),
    )
    search = _Search(
        collection,
        contents,
        found,
        facts=facts,
        rules=rules,
        protected=protected,
        chains=chains,
        apart=apart,
    )
    return Duplicates(
        tuple(search.groups()),
        tuple(_pairs(collection, contents, found)),
        tuple(dict.fromkeys([*left_out, *failures])),
        contents.pictures,
        looking.told(reach, len(found)),
        collection.store.metric,
    )


class _Search:
    """Groups of one search."""

    def __init__(
        self,
        collection: Collection,
        contents: Contents,
        found: Alike,
        *,
        facts: dict[str, Facts],
        rules: Sequence[Rule],
        protected: frozenset[str],
        chains: bool,
        apart: frozenset[tuple[int, int]],
    ) -> None:
        self._collection, self._contents = collection, contents
        self._rules, self._protected, self._facts = rules, protected, facts
        self._chains, self._apart = chains, apart
        # A content none of whose files can be kept or moved takes no part.
        self._there = np.array([any(item.id in facts for item in items) for items in contents.items], bool)
        self._found = found.keep(self._there[found.left] & self._there[found.right])

    def groups(self) -> list[Group]:
        near = self._grouped(self._found.keep(self._found.agree))
        inside = {i for group in near for i in group}
        same = [(i,) for i, items in enumerate(self._contents.items) if len(items) > 1 and i not in inside]
        groups = [self._group(places) for places in [*near, *same]]
        groups = sorted((group for group in groups if len(group.members) > 1), key=_place)
        # What would be left over: of each near group the kept ones, and whatever is in none.
        left, group_of = np.ones(len(self._contents), bool), np.arange(len(self._contents))
        place = {digest: i for i, digest in enumerate(self._contents.digests)}
        for places in near:
            left[list(places)], group_of[list(places)] = False, places[0]
        for group in groups:
            left[[place[_digest(member.item)] for member in group.members if member.kept]] = True
        rest = self._found.keep(
            left[self._found.left]
            & left[self._found.right]
            & (group_of[self._found.left] != group_of[self._found.right])
        )
        kept = {member.item.id for group in groups for member in group.members if member.kept}
        gone = {member.item.id for group in groups for member in group.members if not member.kept}
        similar = [self._similar(places, kept, gone) for places in self._grouped(rest)]
        return groups + sorted((group for group in similar if len(group.members) > 1), key=_place)

    def _grouped(self, pairs: Alike) -> list[grouping.Group]:
        if self._chains:
            return grouping.chains(pairs.left, pairs.right, pairs.distances, self._apart)
        return grouping.cliques(pairs.left, pairs.right, pairs.distances)

    def _group(self, places: grouping.Group) -> Group:
        items = [(i, item) for i in places for item in self._contents.items[i] if item.id in self._facts]
        first, why = self._best(items)
        reasons = {item.id: "in a reference folder" for _, item in items if item.id in self._protected}
        if not reasons:
            reasons = {first[1].id: why}
        return self._made(first, items, reasons, Tier.NEAR)

    def _similar(self, places: grouping.Group, kept: set[str], gone: set[str]) -> Group:
        """Of each content that one picture which the groups before leave over."""
        items = []
        for i in places:
            here = [item for item in self._contents.items[i] if item.id in self._facts and item.id not in gone]
            items += [(i, item) for item in here if item.id in kept or len(here) == 1][:1]
        first, _ = self._best(items)
        return self._made(first, items, dict.fromkeys((item.id for _, item in items), ""), Tier.SIMILAR)

    def _best(self, items: Sequence[tuple[int, Item]]) -> tuple[tuple[int, Item], str]:
        candidates = [one for one in items if one[1].id in self._protected] or list(items)
        files = [(self._collection.file(item), self._facts[item.id]) for _, item in candidates]
        chosen, why = keeping.best(files, self._rules)
        return candidates[chosen], why

    def _made(
        self, first: tuple[int, Item], items: Sequence[tuple[int, Item]], kept: dict[str, str], tier: Tier
    ) -> Group:
        members = []
        for i, item in items:
            distance, turn = self._distance(first[0], i)
            members.append(
                Member(
                    item,
                    self._collection.file(item),
                    self._facts[item.id],
                    Tier.IDENTICAL if i == first[0] else tier,
                    distance,
                    turn,
                    kept=item.id in kept,
                    why=kept.get(item.id, ""),
                )
            )
        members.sort(key=lambda m: (m.item.id != first[1].id, not m.kept, m.distance, str(m.path)))
        return Group(max((member.tier for member in members), key=list(Tier).index), tuple(members))

    def _distance(self, one: int, other: int) -> tuple[float, Turn]:
        """From the pairs; in a chain two may be none."""
        if one == other:
            return 0.0, Turn.NONE
        if pair := self._found.between(one, other):
            return pair
        vectors = self._contents.vectors
        measured = paired(vectors[one], vectors[other], self._collection.store.metric)
        return float(np.float32(measured)), Turn.NONE


def _digest(item: Item) -> str:
    return item.sha256 or item.id


def _place(group: Group) -> tuple[float, str]:
    """The surest first: whose members are all near the first one."""
    return max(member.distance for member in group.members), str(group.members[0].path)


def _protected(contents: Contents, references: Sequence[Path]) -> frozenset[str]:
    """The ids of items under reference folders."""
    found: set[str] = set()
    for folder in references:
        root = absolute(folder)
        under = {item.id for items in contents.items for item in items if Path(item.uri).is_relative_to(root)}
        if not under:
            raise UsageError(f"No picture of the collection is under the reference folder {folder}. Check its path.")
        found |= under
    return frozenset(found)


def _apart(collection: Collection, contents: Contents) -> frozenset[tuple[int, int]]:
    """Places of contents that were decided to be distinct."""
    place = {digest: i for i, digest in enumerate(contents.digests)}
    return frozenset(
        (place[one], place[other]) for one, other in decisions.read(collection) if one in place and other in place
    )


def _not_among(pairs: Alike, apart: Iterable[tuple[int, int]], count: int) -> Bool[np.ndarray, " n"]:
    keys: Int64[np.ndarray, " m"] = np.array([low * count + high for low, high in apart], np.int64)
    return ~np.isin(pairs.left * count + pairs.right, keys)


def _pairs(collection: Collection, contents: Contents, found: Alike) -> list[PairFound]:
    """All pairs: those of the same bytes, near-duplicates, and similar ones; of each the nearest first."""
    files = [[collection.file(item) for item in items] for items in contents.items]
    same = [PairFound(paths[0], other, 0.0, Tier.IDENTICAL, Turn.NONE) for paths in files for other in paths[1:]]
    columns = (found.left, found.right, found.distances, found.turns, found.agree)
    near = [
        PairFound(files[a][0], files[b][0], distance, Tier.NEAR if agree else Tier.SIMILAR, TURNS[turn])
        for a, b, distance, turn, agree in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return sorted(same, key=lambda p: (str(p.left), str(p.right))) + sorted(
        near, key=lambda p: (p.tier is Tier.SIMILAR, p.distance, str(p.left), str(p.right))
    )
