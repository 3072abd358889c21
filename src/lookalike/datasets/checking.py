"""Checks of a dataset before training or evaluation; every image is decoded."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lookalike.datasets.dataset import Dataset, abbreviate
from lookalike.datasets.loading import map_rows, open_dataset
from lookalike.datasets.sources import Source, Split
from lookalike.datasets.splitting import explain_class_mismatch, scarce_classes
from lookalike.errors import LookalikeError
from lookalike.progress import SILENT, Progress


@dataclass(frozen=True)
class SplitCounts:
    """The usable images of a split, and how they spread over the classes.

    Attributes:
        split: None for a dataset without splits.
        photos: number of images that are not sketches.
        sketches: number of sketches.
        classes: number of classes with images.
        smallest: a class with the fewest photos, and their number.
        median: photos of the median class.
        largest: a class with the most photos, and their number.
    """

    split: Split | None
    photos: int
    sketches: int
    classes: int
    smallest: tuple[str, int]
    median: float
    largest: tuple[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "split": self.split,
            "photos": self.photos,
            "sketches": self.sketches,
            "classes": self.classes,
            "fewest": {"class": self.smallest[0], "photos": self.smallest[1]},
            "median": self.median,
            "most": {"class": self.largest[0], "photos": self.largest[1]},
        }


@dataclass(frozen=True)
class DatasetCheck:
    """The contents of a dataset, and its problems.

    Attributes:
        kind: the layout of its source.
        splits: the counts of each split.
        sizes: (width, height) in pixels → number of images, the most frequent first.
        broken: for each unusable image, the reason.
        leaks: names of two identical images in different splits.
        problems: reasons why training or evaluation would fail or give wrong scores, a line each.
        notes: useful facts, a line each.
    """

    kind: str
    splits: tuple[SplitCounts, ...]
    sizes: dict[tuple[int, int], int]
    broken: tuple[str, ...]
    leaks: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON values."""
        return {
            "kind": self.kind,
            "splits": [split.to_dict() for split in self.splits],
            "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in self.sizes.items()],
            "broken": list(self.broken),
            "leaks": [list(pair) for pair in self.leaks],
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


def check(source: Source, progress: Progress = SILENT) -> DatasetCheck:
    """Decode every image of a source and look for problems.

    Args:
        source: what to check.
        progress: receives the stage “decoding”.

    Raises:
        DataError: the source cannot be opened; see `lookalike.datasets.open_dataset`.
    """
    dataset = open_dataset(source)
    infos, broken = {}, []
    for row, info in map_rows(dataset.images.inspect, len(dataset)):
        if isinstance(info, LookalikeError):
            broken.append(str(info))
        else:
            infos[row] = info
        progress.advance("decoding", row + 1, len(dataset))
    names = [dataset.images.name(row) for row in infos]
    usable = dataset.take(np.asarray(list(infos), dtype=np.int64))
    copies = _group_copies([info.fingerprint for info in infos.values()])
    leaks = tuple((names[a], names[b]) for a, b in _find_leaks(usable, copies))
    return DatasetCheck(
        kind=source.kind,
        splits=tuple(_count_split(usable, split) for split in usable.split_names if len(usable)),
        sizes=dict(Counter((info.width, info.height) for info in infos.values()).most_common()),
        broken=tuple(broken),
        leaks=leaks,
        problems=tuple(_find_problems(usable, len(broken), len(leaks))),
        notes=tuple(_find_notes(usable, copies)),
    )


def _group_copies(fingerprints: list[str]) -> list[list[int]]:
    """Group the rows of identical images; images without a copy are in no group."""
    groups: dict[str, list[int]] = {}
    for row, fingerprint in enumerate(fingerprints):
        groups.setdefault(fingerprint, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _find_leaks(dataset: Dataset, copies: list[list[int]]) -> Iterator[tuple[int, int]]:
    """Pair the first image of each split with the first of every other split, in each group of copies."""
    if dataset.splits is None:
        return
    for rows in copies:
        first: dict[str, int] = {}
        for row in rows:
            first.setdefault(str(dataset.splits[row]), row)
        yield from combinations(first.values(), 2)


def _count_split(dataset: Dataset, split: Split | None) -> SplitCounts:
    rows = dataset.rows(split)
    sketch = dataset.sketch[rows]
    present = np.unique(dataset.labels[rows])
    counts = np.bincount(dataset.labels[rows][~sketch], minlength=len(dataset.classes))[present]
    low, high = int(counts.argmin()), int(counts.argmax())
    return SplitCounts(
        split=split,
        photos=int((~sketch).sum()),
        sketches=int(sketch.sum()),
        classes=len(present),
        smallest=(dataset.classes[present[low]], int(counts[low])),
        median=float(np.median(counts)),
        largest=(dataset.classes[present[high]], int(counts[high])),
    )


def _find_problems(dataset: Dataset, broken: int, leaks: int) -> Iterator[str]:
    if broken:
        yield f"Unusable images, which are left out: {broken:,}."
    if not len(dataset):
        yield "No image can be used."
        return
    if leaks:
        yield f"Images in two splits: {leaks:,}. They inflate the scores; keep each in one split."
    if len(np.unique(dataset.labels)) < 2:  # noqa: PLR2004 -- a pair of classes
        yield "There is only one class; training needs at least two."
    split: Split | None = None if dataset.splits is None else "train"
    trains = np.isin(np.arange(len(dataset)), dataset.rows(split))
    # A class that the training split lacks is reported below, with the other splits.
    if scarce := [f"“{name}”" for name, n in scarce_classes(dataset, trains) if n]:
        yield f"Classes with one usable image to train on: {abbreviate(scarce)}. Training needs at least two of each."
    if not _has_disjoint_splits(dataset) and (mismatch := explain_class_mismatch(dataset)):
        yield mismatch
    if dataset.splits is None and (empty := [f"“{name}”" for name, n in scarce_classes(dataset, trains) if not n]):
        yield f"Classes without a usable image: {abbreviate(empty)}."


def _find_notes(dataset: Dataset, copies: list[list[int]]) -> Iterator[str]:
    if dataset.splits is not None and not len(dataset.rows("train")):
        yield "There is no training split; use the dataset for evaluation only."
    if _has_disjoint_splits(dataset):
        yield "The splits have no class in common: train with data.validation_by: class."
    if extra := sum(len(rows) - 1 for rows in copies):
        mixed = sum(len(set(dataset.labels[rows].tolist())) > 1 for rows in copies)
        yield f"Identical copies of other images: {extra:,}" + (
            f"; images in several classes: {mixed:,}." if mixed else "."
        )


def _has_disjoint_splits(dataset: Dataset) -> bool:
    """Check whether the splits share no class, as in data for recognising new classes."""
    classes = [set(dataset.labels[dataset.rows(split)].tolist()) for split in dataset.split_names]
    return len(classes) > 1 and not any(a & b for a, b in combinations(classes, 2))
