"""Groups out of pairs.

A *clique* is a group in which every two are a pair, a *chain* one in which each is a pair with some other. Alike is not
transitive: of a series taken from a moving train the first and the last picture have nothing in common, though each is
a pair with the next. So cliques are what may be thinned out, and chains what is looked at.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Int64

Group = tuple[int, ...]
"""Members, ascending."""


def cliques(
    left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"], distances: Float32[np.ndarray, " n"]
) -> list[Group]:
    """Groups in which every two are a pair, by complete linkage.

    Of all groups that may be merged, those are whose farthest members lie nearest, until none may be (Sørensen 1948;
    Müllner, "Modern hierarchical, agglomerative clustering algorithms", 2011). Two groups may where all their members are
    pairs. So the order of the pairs does not matter; equal distances go by the numbers of the members.

    Args:
        left: members.
        right: others; each pair once.
        distances: of the pairs.

    Returns:
        The groups of two or more, by their first members.
    """
    groups: dict[int, list[int]] = {}
    at: dict[int, int] = {}  # member → its group
    pairs: defaultdict[int, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))  # of two groups, so far
    for a, b in _ascending(left, right, distances):
        one, other = at.setdefault(a, a), at.setdefault(b, b)
        ours, theirs = groups.setdefault(one, [one]), groups.setdefault(other, [other])
        pairs[one][other] += 1
        pairs[other][one] += 1
        # The last pair of two groups is that of their farthest members.
        if pairs[one][other] == len(ours) * len(theirs):
            if len(pairs[one]) < len(pairs[other]):
                one, other, ours, theirs = other, one, theirs, ours
            for third, count in pairs.pop(other).items():
                del pairs[third][other]
                if third != one:
                    pairs[one][third] += count
                    pairs[third][one] += count
            ours.extend(theirs)
            at.update(dict.fromkeys(theirs, one))
            del groups[other]
    return _sorted(groups.values())


def chains(
    left: Int64[np.ndarray, " n"],
    right: Int64[np.ndarray, " n"],
    distances: Float32[np.ndarray, " n"],
    apart: Iterable[tuple[int, int]] = (),
) -> list[Group]:
    """Groups in which each is a pair with some other: connected components, or single linkage.

    Args:
        left: members.
        right: others.
        distances: of the pairs; the nearest are linked first.
        apart: members that may not come into one group, not even by way of others.

    Returns:
        As `cliques`.
    """
    groups: dict[int, list[int]] = {}
    at: dict[int, int] = {}
    strangers: defaultdict[int, set[int]] = defaultdict(set)  # group → members that it may not take in
    for a, b in apart:
        strangers[a].add(b)
        strangers[b].add(a)
    for a, b in _ascending(left, right, distances):
        one, other = at.setdefault(a, a), at.setdefault(b, b)
        ours, theirs = groups.setdefault(one, [one]), groups.setdefault(other, [other])
        if one == other or not strangers[one].isdisjoint(theirs):
            continue
        if len(ours) < len(theirs):
            one, other, ours, theirs = other, one, theirs, ours
        ours.extend(theirs)
        strangers[one] |= strangers.pop(other, set())
        at.update(dict.fromkeys(theirs, one))
        del groups[other]
    return _sorted(groups.values())


def _ascending(
    left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"], distances: Float32[np.ndarray, " n"]
) -> Iterable[tuple[int, int]]:
    """The pairs, nearest first."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((high, low, distances))
    return zip(low[order].tolist(), high[order].tolist(), strict=True)


def _sorted(groups: Iterable[list[int]]) -> list[Group]:
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)
