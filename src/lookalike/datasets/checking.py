"""Is this a dataset to train on and to measure with? Every picture is decoded to find out."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lookalike.datasets.dataset import Dataset, few
from lookalike.datasets.dividing import differing, lone
from lookalike.datasets.reading import find, in_threads
from lookalike.datasets.sources import Source, Split
from lookalike.errors import LookalikeError


@dataclass(frozen=True)
class Part:
    """A split, or all of a dataset without splits: usable pictures and how they spread over the classes.

    Attributes:
        split: its name, nothing where there are no splits.
        photos: pictures that are no sketches.
        sketches: those that are.
        classes: how many have pictures.
        smallest: a class with fewest photos, and how many.
        median: photos of the class in the middle.
        largest: a class with most photos, and how many.
    """

    split: Split | None
    photos: int
    sketches: int
    classes: int
    smallest: tuple[str, int]
    median: float
    largest: tuple[str, int]


@dataclass(frozen=True)
class Findings:
    """What a dataset holds and what is wrong with it.

    Attributes:
        parts: its splits.
        sizes: (width, height) in pixels → how many pictures, the commonest first.
        broken: why each picture that cannot be used cannot.
        leaks: names of two pictures in different splits that are the same to the last byte.
        problems: what training or measuring would refuse or get wrong, a line each.
        notes: what is good to know, a line each.
    """

    parts: tuple[Part, ...]
    sizes: dict[tuple[int, int], int]
    broken: tuple[str, ...]
    leaks: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check(source: Source, tell: Callable[[int, int], None] = lambda *_: None) -> Findings:
    """Decode every picture of a source and look for what is wrong.

    Args:
        source: what to look at.
        tell: hears (done, total).

    Raises:
        DataError: it cannot be read at all, as `find`.
    """
    dataset = find(source)
    seen, broken = {}, []
    for row, one in in_threads(dataset.pictures.look, len(dataset)):
        if isinstance(one, LookalikeError):
            broken.append(str(one))
        else:
            seen[row] = one
        tell(row + 1, len(dataset))
    names = [dataset.pictures.name(row) for row in seen]
    good = dataset.take(np.asarray(list(seen), dtype=np.int64))
    same = _same([one.fingerprint for one in seen.values()])
    leaks = tuple((names[a], names[b]) for a, b in _across(good, same))
    return Findings(
        parts=tuple(_part(good, split) for split in good.parts if len(good)),
        sizes=dict(Counter((one.width, one.height) for one in seen.values()).most_common()),
        broken=tuple(broken),
        leaks=leaks,
        problems=tuple(_problems(good, len(broken), len(leaks))),
        notes=tuple(_notes(good, same)),
    )


def _same(fingerprints: list[str]) -> list[list[int]]:
    """Positions of equal pictures, group by group."""
    groups: dict[str, list[int]] = {}
    for row, fingerprint in enumerate(fingerprints):
        groups.setdefault(fingerprint, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _across(dataset: Dataset, same: list[list[int]]) -> Iterator[tuple[int, int]]:
    """Of each group of equal pictures, the first of each split with the first of each other."""
    if dataset.splits is None:
        return
    for rows in same:
        first: dict[str, int] = {}
        for row in rows:
            first.setdefault(str(dataset.splits[row]), row)
        yield from combinations(first.values(), 2)


def _part(dataset: Dataset, split: Split | None) -> Part:
    rows = dataset.rows(split)
    sketch = dataset.sketch[rows]
    there = np.unique(dataset.labels[rows])
    counts = np.bincount(dataset.labels[rows][~sketch], minlength=len(dataset.classes))[there]
    low, high = int(counts.argmin()), int(counts.argmax())
    return Part(
        split=split,
        photos=int((~sketch).sum()),
        sketches=int(sketch.sum()),
        classes=len(there),
        smallest=(dataset.classes[there[low]], int(counts[low])),
        median=float(np.median(counts)),
        largest=(dataset.classes[there[high]], int(counts[high])),
    )


def _problems(dataset: Dataset, broken: int, leaks: int) -> Iterator[str]:
    if broken:
        yield f"Pictures that cannot be used, and are left out: {broken:,}."
    if not len(dataset):
        yield "No picture can be used."
        return
    if leaks:
        yield f"Pictures that are in two splits: {leaks:,}. Figures come out too good; keep each in one."
    if len(np.unique(dataset.labels)) < 2:  # noqa: PLR2004 -- nothing differs from a single class
        yield "There is one class only; learning what differs takes two at least."
    split: Split | None = None if dataset.splits is None else "train"
    trains = np.isin(np.arange(len(dataset)), dataset.rows(split))
    # Which classes a split lacks is told apart from which have too few there.
    if too_few := [f"“{name}”" for name, n in lone(dataset, trains) if n]:
        yield f"Classes with one usable picture to train on: {few(too_few)}. Training takes two at least of each."
    if not _apart(dataset) and (wrong := differing(dataset)):
        yield wrong
    if dataset.splits is None and (empty := [f"“{name}”" for name, n in lone(dataset, trains) if not n]):
        yield f"Classes without a usable picture: {few(empty)}."


def _notes(dataset: Dataset, same: list[list[int]]) -> Iterator[str]:
    if dataset.splits is not None and not len(dataset.rows("train")):
        yield "There is no split to train on; it can be measured with."
    if _apart(dataset):
        yield "The splits have no class in common: train with data.validation_by: class."
    if extra := sum(len(rows) - 1 for rows in same):
        mixed = sum(len(set(dataset.labels[rows].tolist())) > 1 for rows in same)
        yield f"Copies of other pictures, byte by byte: {extra:,}" + (
            f"; pictures that stand in several classes: {mixed:,}." if mixed else "."
        )


def _apart(dataset: Dataset) -> bool:
    """Whether no two splits have a class in common, which is meant where new classes are to be told apart."""
    classes = [set(dataset.labels[dataset.rows(split)].tolist()) for split in dataset.parts]
    return len(classes) > 1 and not any(a & b for a, b in combinations(classes, 2))
