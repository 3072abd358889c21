"""Group pairs by complete or single linkage.

In a *clique* every two members are a pair; in a *chain* each member is a pair with some other member. Similarity is not
transitive: in a series taken from a moving train, each image is a pair with the next, and the first and the last image have
nothing in common. So surplus members of a clique may be moved, and chains are only for looking at.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from lookalike.shapes import Float32, Int64

Members = tuple[int, ...]
"""The members of a group, ascending."""


def cliques(
    left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"], distances: Float32[np.ndarray, " n"]
) -> list[Members]:
    """Group members so that every two of a group are a pair, by complete linkage.

    Two groups can be merged if all their members are pairs. Of all groups that can be merged, the two whose farthest
    members are nearest are merged first (Sørensen 1948; Müllner, "Modern hierarchical, agglomerative clustering
    algorithms", 2011). So the order of the pairs does not matter; equal distances are ordered by member.

    Args:
        left: the left member of each pair.
        right: the right member of each pair; each pair occurs once.
        distances: the distance of each pair.

    Returns:
        The groups of two or more, ascending.
    """
    groups: dict[int, list[int]] = {}
    group_of: dict[int, int] = {}
    # The number of pairs between each two groups so far.
    pairs: defaultdict[int, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for a, b in _ascending(left, right, distances):
        first, second = group_of.setdefault(a, a), group_of.setdefault(b, b)
        members, others = groups.setdefault(first, [first]), groups.setdefault(second, [second])
        pairs[first][second] += 1
        pairs[second][first] += 1
        # Pairs come in ascending order, so the last pair of two groups is that of their farthest members.
        if pairs[first][second] == len(members) * len(others):
            if len(pairs[first]) < len(pairs[second]):
                first, second, members, others = second, first, others, members
            for third, number in pairs.pop(second).items():
                del pairs[third][second]
                if third != first:
                    pairs[first][third] += number
                    pairs[third][first] += number
            members.extend(others)
            group_of.update(dict.fromkeys(others, first))
            del groups[second]
    return _sorted(groups.values())


def chains(
    left: Int64[np.ndarray, " n"],
    right: Int64[np.ndarray, " n"],
    distances: Float32[np.ndarray, " n"],
    distinct: Iterable[tuple[int, int]] = (),
) -> list[Members]:
    """Group members so that each is a pair with some other member: connected components (single linkage).

    Args:
        left: the left member of each pair.
        right: the right member of each pair.
        distances: the distance of each pair; the nearest pairs are linked first.
        distinct: pairs of members that must not come into one group, not even through others.

    Returns:
        The groups of two or more, ascending.
    """
    groups: dict[int, list[int]] = {}
    group_of: dict[int, int] = {}
    excluded: defaultdict[int, set[int]] = defaultdict(set)  # group → members that must not join it
    for a, b in distinct:
        excluded[a].add(b)
        excluded[b].add(a)
    for a, b in _ascending(left, right, distances):
        first, second = group_of.setdefault(a, a), group_of.setdefault(b, b)
        members, others = groups.setdefault(first, [first]), groups.setdefault(second, [second])
        if first == second or not excluded[first].isdisjoint(others):
            continue
        if len(members) < len(others):
            first, second, members, others = second, first, others, members
        members.extend(others)
        excluded[first] |= excluded.pop(second, set())
        group_of.update(dict.fromkeys(others, first))
        del groups[second]
    return _sorted(groups.values())


def _ascending(
    left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"], distances: Float32[np.ndarray, " n"]
) -> Iterable[tuple[int, int]]:
    """Return the pairs, nearest first."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((high, low, distances))
    return zip(low[order].tolist(), high[order].tolist(), strict=True)


def _sorted(groups: Iterable[list[int]]) -> list[Members]:
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)
