"""What is known of labelled pictures, decoded or not."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from lookalike.datasets.pictures import Pictures
from lookalike.datasets.sources import Split
from lookalike.errors import DataError

# What `limit` keeps follows from this alone, so that a limited figure can be compared with another.
_SEED = 0

# Names that a message lists before it says how many more there are.
_NAMED = 5


@dataclass(frozen=True)
class Samples:
    """Pictures with what is known of them.

    ``labels`` are positions in ``classes``; ``items`` says which thing is shown, so that a sketch carries the number
    of the photo that it was drawn from; ``sketch`` marks the sketches.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int64[np.ndarray, " n"]
    items: Int64[np.ndarray, " n"]
    sketch: Bool[np.ndarray, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Samples":
        """The pictures at these positions (or where a mask is true)."""
        return Samples(self.images[rows], self.labels[rows], self.items[rows], self.sketch[rows], self.classes)


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures, none of them decoded yet.

    Attributes:
        name: what to call it in messages.
        pictures: files, rows of arrays, or products to be drawn.
        labels: positions in ``classes``.
        classes: their names, sorted.
        items: which thing each shows; a sketch has the number of its photo.
        sketch: which are sketches.
        splits: ``train``, ``validation`` or ``test`` of each; nothing where there are no splits.
        is_query: which are searched with, where the source says so.
        is_gallery: which are searched among, where the source says so.
    """

    name: str
    pictures: Pictures
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    items: Int64[np.ndarray, " n"]
    sketch: Bool[np.ndarray, " n"]
    splits: Shaped[np.ndarray, " n"] | None = None
    is_query: Bool[np.ndarray, " n"] | None = None
    is_gallery: Bool[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Dataset":
        """The pictures at these positions (or where a mask is true)."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        some: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else column[rows]
            for name in ("labels", "items", "sketch", "splits", "is_query", "is_gallery")
        }
        return replace(self, pictures=self.pictures.take(rows), **some)

    def rows(self, split: Split | None) -> Int64[np.ndarray, " m"]:
        """The positions of a split's pictures; of all, where there are no splits and none is asked for."""
        if self.splits is None:
            return np.arange(len(self) if split is None else 0)
        return np.flatnonzero(self.splits == split)

    @property
    def parts(self) -> tuple[Split | None, ...]:
        """The splits that have pictures, or a single nothing where there are none."""
        if self.splits is None:
            return (None,)
        there = set(np.unique(self.splits).tolist())
        in_order: tuple[Split, ...] = ("train", "validation", "test")
        return tuple(split for split in in_order if split in there)


D = TypeVar("D", Samples, Dataset)


def own_classes(some: D) -> D:
    """The same with only those classes that it has pictures of."""
    there, labels = np.unique(some.labels, return_inverse=True)
    names = tuple(some.classes[i] for i in there.tolist())
    return replace(some, labels=labels.astype(np.int64), classes=names)


def few(names: list[str]) -> str:
    """The first of the names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def narrow(dataset: Dataset, split: Split | None, classes: tuple[str, ...] | None, limit: int | None) -> Dataset:
    """Only this split, these classes, and so many items of each class in each split.

    Raises:
        DataError: there is no such split or class.
    """
    if split is not None:
        dataset = own_classes(dataset.take(_rows_of(dataset, split)))
    if classes is not None:
        if strange := sorted(set(classes) - set(dataset.classes)):
            raise DataError(
                f"{dataset.name} has no class {few([f'“{name}”' for name in strange])}; "
                f"it has {few(list(dataset.classes))}."
            )
        wanted = [i for i, name in enumerate(dataset.classes) if name in classes]
        dataset = own_classes(dataset.take(np.isin(dataset.labels, wanted)))
    return dataset if limit is None else dataset.take(_drawn(dataset, limit))


def _rows_of(dataset: Dataset, split: Split) -> np.ndarray:
    if dataset.splits is None:
        raise DataError(f"{dataset.name} has no splits, so that “{split}” cannot be taken of it; leave the split out.")
    rows = dataset.rows(split)
    if not len(rows):
        raise DataError(f"{dataset.name} has no pictures in its split “{split}”; it has {', '.join(dataset.parts)}.")  # type: ignore[arg-type]  # it has splits, so none of them is None
    return rows


def _drawn(dataset: Dataset, limit: int) -> Bool[np.ndarray, " n"]:
    """Which pictures are of the items that stay: so many of each class in each split, each with its sketches.

    Sketches without a photo are counted apart, so that they take no photo's place.
    """
    items, first = np.unique(dataset.items, return_index=True)
    has_photo = np.isin(items, dataset.items[~dataset.sketch])
    splits = np.zeros(len(items), np.int64)
    if dataset.splits is not None:
        splits = np.unique(dataset.splits, return_inverse=True)[1][first]
    keys = np.stack([dataset.labels[first], splits, has_photo.astype(np.int64)], axis=1)
    group = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(group, kind="stable")
    # A generator for each: what stays of a class does not depend on what other classes there are.
    kept = [
        rows[np.random.default_rng(_SEED).permutation(len(rows))[:limit]]
        for rows in np.split(order, np.cumsum(np.bincount(group))[:-1])
    ]
    return np.isin(dataset.items, items[np.concatenate(kept)])
