"""Candidate pairs: find contents whose vectors are near each other, and compare their pixels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lookalike import images, search
from lookalike.duplicates import groups, pixels
from lookalike.duplicates.orientation import INVERSES, ORIENTATIONS, Orientation, embed_orientations, orient
from lookalike.duplicates.radius import SearchRadius
from lookalike.duplicates.source import Contents, Failure
from lookalike.errors import LookalikeError, UsageError
from lookalike.parallel import prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.query import DistanceRange
from lookalike.search import Pairs
from lookalike.shapes import Bool, Float32, Int64, UInt8

MAX_PAIRS = 1_000_000
"""Maximum number of candidate pairs, which take a few hundred megabytes; a radius with more pairs is refused."""

MAX_COMPARED = 100_000
"""Maximum number of pairs whose pixels are compared, the nearest first, in some minutes; the others count as similar."""

# Pairs in a thread's task; decoded images of 12 kB each that are kept in memory.
_TASK, _CACHED_IMAGES = 32, 8192


@dataclass(frozen=True, eq=False)
class CandidatePairs:
    """Pairs of contents, each once, sorted by (left, right).

    Attributes:
        left: indices into the first `Contents`.
        right: indices into the second `Contents`; if both are the same, right is larger than left.
        distances: in the metric's unit; the smallest one of the orientations that were compared.
        orientations: index in `ORIENTATIONS` of the orientation that turns the left image into the right one.
        confirmed: whether the pixels agree; false until `confirm_by_pixels` has compared them.
    """

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    distances: Float32[np.ndarray, " n"]
    orientations: UInt8[np.ndarray, " n"]
    confirmed: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.left)

    def __iter__(self) -> Iterator[tuple[int, int, float, Orientation, bool]]:
        """Yield (left, right, distance, orientation, confirmed) of each pair."""
        columns = (self.left, self.right, self.distances, self.orientations, self.confirmed)
        for left, right, distance, number, confirmed in zip(*(c.tolist() for c in columns), strict=True):
            yield left, right, distance, ORIENTATIONS[number], confirmed

    def keep(self, mask: Bool[np.ndarray, " n"]) -> "CandidatePairs":
        """Return the pairs that a mask selects."""
        return CandidatePairs(
            self.left[mask], self.right[mask], self.distances[mask], self.orientations[mask], self.confirmed[mask]
        )

    def without(self, excluded: Iterable[tuple[int, int]]) -> "CandidatePairs":
        """Return the pairs without excluded ones, which are given with the lower index first."""
        columns = int(self.right.max(initial=0)) + 1
        keys: Int64[np.ndarray, " m"] = np.array([a * columns + b for a, b in excluded if b < columns], np.int64)
        return self.keep(~np.isin(self.left * columns + self.right, keys))

    def between(self, a: int, b: int) -> tuple[float, Orientation] | None:
        """Return the distance of a and b and the orientation that turns a into b; None if they are not a pair."""
        low, high = min(a, b), max(a, b)
        start, stop = np.searchsorted(self.left, (low, low + 1)).tolist()
        index = start + int(np.searchsorted(self.right[start:stop], high))
        if index == stop or self.right[index] != high:
            return None
        orientation = ORIENTATIONS[self.orientations[index]]
        return float(self.distances[index]), orientation if a == low else orientation.inverse

    @classmethod
    def gather(cls, parts: Iterable[tuple[Pairs, UInt8[np.ndarray, " n"]]], radius: float) -> "CandidatePairs":
        """Merge parts in which a pair may occur several times; keep its smallest distance.

        Raises:
            UsageError: there are more than `MAX_PAIRS`.
        """
        gathered = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.uint8))]
        count = 0
        for pairs, orientations in parts:
            gathered.append((pairs.left, pairs.right, pairs.distances, orientations))
            count += len(pairs)
            if count > MAX_PAIRS:
                raise UsageError(
                    f"More than {MAX_PAIRS:,} pairs lie within {radius:.4g}: too many to be duplicates. Give a smaller"
                    " distance with --within."
                )
        left, right, distances, orientations = (np.concatenate(column) for column in zip(*gathered, strict=True))
        order = np.lexsort((orientations, distances, right, left))
        left, right = left[order], right[order]
        first = np.ones(len(left), bool)
        first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
        kept = order[first]
        return cls(left[first], right[first], distances[kept], orientations[kept], np.zeros(len(kept), bool))


# ---- by vectors


def find_pairs(
    contents: Contents, radius: float, *, all_orientations: bool = False, progress: Progress = SILENT
) -> tuple[CandidatePairs, list[Failure]]:
    """Find all pairs of contents of a collection within a distance.

    Args:
        contents: the contents of the collection.
        radius: the distance, included.
        all_orientations: also compare images that are mirrored or rotated by right angles.
        progress: receives the stage ``"comparing"``.

    Returns:
        The pairs, and the images that could not be read in order to turn them.

    Raises:
        UsageError: there are more than `MAX_PAIRS` pairs.
    """
    metric = contents.source.store.space.metric
    gallery = search.prepare(contents.vectors, metric)
    failures: list[Failure] = []

    def parts() -> Iterator[tuple[Pairs, UInt8[np.ndarray, " n"]]]:
        for chunk in search.self_join(gallery, metric, within=DistanceRange(0, radius)):
            if not all_orientations:
                progress.advance("comparing", chunk.done, len(contents))
            yield chunk, np.zeros(len(chunk), np.uint8)
        if all_orientations:
            for pairs, number in _find_oriented(contents, gallery, radius, failures, progress):
                ascending = pairs.left < pairs.right
                # If the turned image comes second, the pair's orientation is the inverse one.
                numbers = np.where(ascending, number, INVERSES[number]).astype(np.uint8)
                low, high = np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right)
                different = low != high
                yield Pairs(low, high, pairs.distances).keep(different), numbers[different]

    return CandidatePairs.gather(parts(), radius), failures


def find_pairs_between(
    left: Contents, right: Contents, radius: float, *, all_orientations: bool = False, progress: Progress = SILENT
) -> tuple[CandidatePairs, list[Failure]]:
    """Find all pairs of contents of two collections within a distance, including contents of the same bytes.

    Both collections have the same encoder. With ``all_orientations``, the images of the right collection are turned,
    which is usually the smaller one. The other arguments, results and errors are those of `find_pairs`.
    """
    metric = left.source.store.space.metric
    gallery = search.prepare(left.vectors, metric)
    queries = search.prepare(right.vectors, metric)
    failures: list[Failure] = []

    def parts() -> Iterator[tuple[Pairs, UInt8[np.ndarray, " n"]]]:
        for chunk in search.join(gallery, queries, metric, within=DistanceRange(0, radius)):
            if not all_orientations:
                progress.advance("comparing", chunk.done, len(left))
            yield chunk, np.zeros(len(chunk), np.uint8)
        if all_orientations:
            for pairs, number in _find_oriented(right, gallery, radius, failures, progress):
                numbers = np.full(len(pairs), INVERSES[number], np.uint8)
                yield Pairs(pairs.right, pairs.left, pairs.distances), numbers

    return CandidatePairs.gather(parts(), radius), failures


def _find_oriented(
    contents: Contents, gallery: search.Gallery, radius: float, failures: list[Failure], progress: Progress
) -> Iterator[tuple[Pairs, int]]:
    """Yield pairs of a content in another orientation and a row of the gallery, and the orientation's number."""
    metric = contents.source.store.space.metric
    for indices, vectors in embed_orientations(contents, failures, progress):
        for number in range(1, len(ORIENTATIONS)):
            queries = np.ascontiguousarray(vectors[:, number - 1])
            for pairs in search.join(queries, gallery, metric, within=DistanceRange(0, radius)):
                yield Pairs(np.asarray(indices)[pairs.left], pairs.right, pairs.distances), number


# ---- by pixels


_Image = UInt8[np.ndarray, "s s 3"] | LookalikeError
_FilePair = tuple[Path, Path, Orientation]


def confirm_by_pixels(
    pairs: CandidatePairs,
    left: Sequence[Path | None],
    right: Sequence[Path | None],
    progress: Progress = SILENT,
) -> tuple[CandidatePairs, list[Failure]]:
    """Compare the pixels of pairs; see `pixels.agree`.

    Most images are read once, and once more at a higher resolution if their pair agrees. An image with several frames or
    pages agrees with no other image, since only the first frame is compared.

    Args:
        pairs: the pairs; if a pair has another orientation, its left image is turned first.
        left: the file of each left content; None leaves its pairs unconfirmed.
        right: the file of each right content; the same sequence as ``left`` if the pairs are of one collection.
        progress: receives the stage ``"comparing pixels"``.

    Returns:
        The pairs with `CandidatePairs.confirmed`, and the images that could not be read.
    """
    rows = _comparison_order(pairs, left, right)
    confirmed = np.zeros(len(pairs), bool)
    unreadable: dict[Path, str] = {}
    load = lru_cache(_CACHED_IMAGES)(_load)

    def compare(part: Int64[np.ndarray, " p"]) -> tuple[Bool[np.ndarray, " p"], dict[Path, str]]:
        files = [(left[pairs.left[i]], right[pairs.right[i]], ORIENTATIONS[pairs.orientations[i]]) for i in part]
        readable = [(a, b, orientation) for a, b, orientation in files if a is not None and b is not None]
        opened = [(load(a), load(b)) for a, b, _ in readable]
        return _compare(readable, opened)

    tasks = [rows[i : i + _TASK] for i in range(0, len(rows), _TASK)]
    done = 0
    for task, (agree, errors) in zip(tasks, prefetch_map(compare, tasks), strict=True):
        confirmed[task] = agree
        unreadable |= errors
        done += len(task)
        progress.advance("comparing pixels", done, len(rows))
    return replace(pairs, confirmed=confirmed), list(unreadable.items())


def note_truncation(radius: SearchRadius, pair_count: int) -> SearchRadius:
    """Add a note to the explanation of a radius if it has more pairs than are compared pixel by pixel."""
    if pair_count <= MAX_COMPARED:
        return radius
    note = (
        f"only the nearest {MAX_COMPARED:,} of its {pair_count:,} pairs were compared, and the others count as similar"
    )
    return replace(radius, explanation=f"{radius.explanation}; {note}")


def _comparison_order(
    pairs: CandidatePairs, left: Sequence[Path | None], right: Sequence[Path | None]
) -> Int64[np.ndarray, " m"]:
    """Return the rows of the nearest pairs; connected pairs come together, so that few images stay in memory."""
    have_files = np.array([file is not None for file in left], bool)[pairs.left]
    have_files &= np.array([file is not None for file in right], bool)[pairs.right]
    rows = np.flatnonzero(have_files)
    rows = rows[np.argsort(pairs.distances[rows], kind="stable")[:MAX_COMPARED]]
    # Equal indices in two collections are different contents.
    a, b = pairs.left[rows], pairs.right[rows] + (0 if left is right else len(left))
    component = np.zeros(len(left) + len(right), np.int64)
    for number, members in enumerate(groups.chains(a, b, pairs.distances[rows])):
        component[list(members)] = number
    return rows[np.argsort(component[a], kind="stable")]


def _compare(
    files: Sequence[_FilePair], opened: Sequence[tuple[_Image, _Image]]
) -> tuple[Bool[np.ndarray, " p"], dict[Path, str]]:
    """Return which pairs of images agree, and the error of each file that could not be read."""
    errors: dict[Path, str] = {}
    readable = []
    for i, ((left_file, right_file, orientation), (left, right)) in enumerate(zip(files, opened, strict=True)):
        if isinstance(left, LookalikeError):
            errors[left_file] = str(left)
        if isinstance(right, LookalikeError):
            errors[right_file] = str(right)
        if not isinstance(left, LookalikeError) and not isinstance(right, LookalikeError):
            readable.append((i, orient(left[None], orientation)[0], right))
    agree = np.zeros(len(files), bool)
    if readable:
        indices, lefts, rights = zip(*readable, strict=True)
        agree[list(indices)] = pixels.agree(np.stack(lefts), np.stack(rights))
    for i in np.flatnonzero(agree).tolist():
        agree[i] = _agree_in_detail(*files[i])
    return agree, errors


def _load(path: Path, side: int = pixels.SIDE) -> _Image:
    try:
        return images.load(path, side)
    except LookalikeError as e:
        return e


def _agree_in_detail(left: Path, right: Path, orientation: Orientation) -> bool:
    """Compare two files that agree again at a higher resolution, if both have it: wallets may differ only in their seams.

    Animations and documents of several pages never agree: only their first frames could be compared, and a first frame may
    be blank or a title page.
    """
    files = (left, right)
    try:
        if any(images.is_animated(path) for path in files):
            return False
        if any(min(images.dimensions(path)) < pixels.FINE for path in files):
            return True
        a, b = (images.load(path, pixels.FINE)[None] for path in files)
    except LookalikeError:  # the file changed after it was read
        return False
    return bool(pixels.agree(orient(a, orientation), b)[0])
