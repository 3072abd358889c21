"""Pairs are looked at: which of those that lie near each other show one picture."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from lookalike import images
from lookalike.duplicates import grouping, pixels, turning
from lookalike.duplicates.alike import Alike
from lookalike.duplicates.tiers import Reach
from lookalike.errors import LookalikeError
from lookalike.parallel import prefetch_map

MOST = 100_000
"""Pairs that are looked at, the nearest ones: some minutes. Where there are more, the rest is called similar, and `told` says so."""

# Pairs of a task for a thread, and pictures that are kept at hand, 12 kB each.
_TASK, _KEPT = 32, 8192

_Picture = UInt8[np.ndarray, "s s 3"] | LookalikeError


def look(
    found: Alike,
    left: Sequence[Path | None],
    right: Sequence[Path | None],
    failed: Callable[[Path, str], None] = lambda *_: None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Alike:
    """The same pairs, and which of them agree (see `pixels.agree`).

    Pictures are read as they are now, and each about once; those that agree once more, to compare them more finely. Where
    frames or pages follow the first one they do not agree: nobody has looked at these.

    Args:
        found: pairs; of a turned one, the left picture is turned first.
        left: the file of each content that the pairs name left; none where there is none to be looked at.
        right: and right; the same sequence where pairs are of one collection.
        failed: hears path and reason of each picture that could not be read; its pairs do not agree.
        tell: hears (done, total) of the pairs.
    """
    rows = _order(found, left, right)
    agree = np.zeros(len(found), bool)
    if not len(rows):
        return replace(found, agree=agree)
    read = lru_cache(_KEPT)(_load)

    def judge(part: Int64[np.ndarray, " p"]) -> tuple[Bool[np.ndarray, " p"], dict[Path, str]]:
        pairs = [(left[found.left[i]], right[found.right[i]], turning.TURNS[found.turns[i]]) for i in part]
        pictures = [(read(a), read(b)) for a, b, _ in pairs if a is not None and b is not None]
        errors = {
            path: str(picture)
            for (*paths, _), both in zip(pairs, pictures, strict=True)
            for path, picture in zip(paths, both, strict=True)
            if path is not None and isinstance(picture, LookalikeError)
        }
        good = [
            (i, turning.apply(a[None], turn)[0], b)
            for i, ((a, b), (*_, turn)) in enumerate(zip(pictures, pairs, strict=True))
            if not isinstance(a, LookalikeError) and not isinstance(b, LookalikeError)
        ]
        same = np.zeros(len(part), bool)
        if good:
            places, ours, theirs = zip(*good, strict=True)
            same[list(places)] = pixels.agree(np.stack(ours), np.stack(theirs))
        for i in np.flatnonzero(same):
            same[i] = _agree_wholly(*pairs[i])
        return same, errors

    parts = [rows[i : i + _TASK] for i in range(0, len(rows), _TASK)]
    unreadable: dict[Path, str] = {}
    done = 0
    for part, (same, errors) in zip(parts, prefetch_map(judge, parts), strict=True):
        agree[part] = same
        unreadable |= errors
        done += len(part)
        tell(done, len(rows))
    for path, reason in unreadable.items():
        failed(path, reason)
    return replace(found, agree=agree)


def told(reach: Reach, pairs: int) -> Reach:
    """The reach of so many pairs, which says so where not all of them were looked at."""
    if pairs <= MOST:
        return reach
    return replace(
        reach, how=f"{reach.how}; of its {pairs:,} pairs only the nearest {MOST:,}, and the others are called similar"
    )


def _order(found: Alike, left: Sequence[Path | None], right: Sequence[Path | None]) -> Int64[np.ndarray, " m"]:
    """The rows to be looked at: what hangs together comes together, so that few pictures need be kept at hand."""
    there = np.array([file is not None for file in left], bool)[found.left]
    there &= np.array([file is not None for file in right], bool)[found.right]
    rows = np.flatnonzero(there)
    rows = rows[np.argsort(found.distances[rows], kind="stable")[:MOST]]
    # Contents of two collections are different ones, though their places be the same.
    ours, theirs = found.left[rows], found.right[rows] + (0 if left is right else len(left))
    chain = np.zeros(len(left) + len(right), np.int64)
    for number, members in enumerate(grouping.chains(ours, theirs, found.distances[rows])):
        chain[list(members)] = number
    return rows[np.argsort(chain[ours], kind="stable")]


def _load(path: Path, side: int = pixels.SIDE) -> _Picture:
    try:
        return images.load(path, side)
    except LookalikeError as e:
        return e


def _agree_wholly(left: Path | None, right: Path | None, turn: turning.Turn) -> bool:
    """Whether two that agree do so in finer details too, where both files have these: wallets are told by their seams.

    Of an animation, or a document of several pages, only the first one is compared, and that may well be blank or a title.
    """
    files = [path for path in (left, right) if path is not None]
    try:
        if any(images.is_animated(path) for path in files):
            return False
        if any(min(images.dimensions(path)) < pixels.FINE for path in files):
            return True
        ours, theirs = (images.load(path, pixels.FINE)[None] for path in files)
    except LookalikeError:  # it was there a moment ago
        return False
    return bool(pixels.agree(turning.apply(ours, turn), theirs)[0])
