"""Datasets of labelled images, decoded (`LabelledImages`) or not (`Dataset`)."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from lookalike.datasets.lazy_images import LazyImages
from lookalike.datasets.sources import Split
from lookalike.errors import DataError
from lookalike.shapes import Bool, Int64, Shaped, UInt8

# `limit` selects items by this seed alone, so that the scores of two limited runs can be compared.
_SEED = 0

COUNTED = (
    "the sketches are only counted (1.png, 2.png, …), so they belong to their class and to no photo: a number need not mean the"
    " same item in both folders. To pair them, name a sketch after its photo, with more than a number: mug-7.png for mug-7.jpg"
)
"""Why sketches whose names are numbers without gaps have no photo."""

# Names that a message lists before it counts the rest.
_LISTED = 5


@dataclass(frozen=True)
class LabelledImages:
    """Decoded images with their labels.

    Attributes:
        images: RGB, fitted to squares.
        labels: positions in ``classes``.
        items: the thing that each image shows; a sketch has the number of its photo.
        sketch: true for sketches, false for photos.
        classes: the names of the classes.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int64[np.ndarray, " n"]
    items: Int64[np.ndarray, " n"]
    sketch: Bool[np.ndarray, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "LabelledImages":
        """Select the images at these rows, or where a mask is true."""
        return LabelledImages(self.images[rows], self.labels[rows], self.items[rows], self.sketch[rows], self.classes)


@dataclass(frozen=True)
class Dataset:
    """Labelled images that are not decoded yet.

    Attributes:
        name: for messages.
        images: files, rows of arrays, or generated products.
        labels: positions in ``classes``.
        classes: the names of the classes, sorted.
        items: the thing that each image shows; a sketch has the number of its photo.
        sketch: true for sketches, false for photos.
        splits: ``train``, ``validation`` or ``test`` for each image; None if the dataset has no splits.
        is_query: the queries of a retrieval evaluation, if the source names them.
        is_gallery: the gallery of a retrieval evaluation, if the source names it.
        sketches_counted: the sketches have only classes, since their names are numbers without gaps; see `COUNTED`.
    """

    name: str
    images: LazyImages
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    items: Int64[np.ndarray, " n"]
    sketch: Bool[np.ndarray, " n"]
    splits: Shaped[np.ndarray, " n"] | None = None
    is_query: Bool[np.ndarray, " n"] | None = None
    is_gallery: Bool[np.ndarray, " n"] | None = None
    sketches_counted: bool = False

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Dataset":
        """Select the images at these rows, or where a mask is true."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else column[rows]
            for name in ("labels", "items", "sketch", "splits", "is_query", "is_gallery")
        }
        return replace(self, images=self.images.take(rows), **columns)

    def rows(self, split: Split | None) -> Int64[np.ndarray, " m"]:
        """Return the rows of a split; None selects all rows of a dataset without splits."""
        if self.splits is None:
            return np.arange(len(self) if split is None else 0)
        return np.flatnonzero(self.splits == split)

    @property
    def split_names(self) -> tuple[Split | None, ...]:
        """The splits that have images, in the order train, validation, test; ``(None,)`` without splits."""
        if self.splits is None:
            return (None,)
        present = set(np.unique(self.splits).tolist())
        in_order: tuple[Split, ...] = ("train", "validation", "test")
        return tuple(split for split in in_order if split in present)


D = TypeVar("D", LabelledImages, Dataset)


def drop_empty_classes(data: D) -> D:
    """Keep only the classes that have images, and renumber the labels."""
    present, labels = np.unique(data.labels, return_inverse=True)
    names = tuple(data.classes[i] for i in present.tolist())
    return replace(data, labels=labels.astype(np.int64), classes=names)


def abbreviate(names: list[str]) -> str:
    """List the first names, and count the rest."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest:,} more" if rest > 0 else "")


def select(dataset: Dataset, split: Split | None, classes: tuple[str, ...] | None, limit: int | None) -> Dataset:
    """Select a split, some classes, and at most ``limit`` items of each class in each split.

    Raises:
        DataError: the dataset has no such split or class.
    """
    if split is not None:
        dataset = drop_empty_classes(dataset.take(_rows_of_split(dataset, split)))
    if classes is not None:
        if unknown := sorted(set(classes) - set(dataset.classes)):
            raise DataError(
                f"{dataset.name} has no class {abbreviate([f'“{name}”' for name in unknown])}; "
                f"it has {abbreviate(list(dataset.classes))}."
            )
        selected = [i for i, name in enumerate(dataset.classes) if name in classes]
        dataset = drop_empty_classes(dataset.take(np.isin(dataset.labels, selected)))
    return dataset if limit is None else dataset.take(_limited(dataset, limit))


def _rows_of_split(dataset: Dataset, split: Split) -> np.ndarray:
    if dataset.splits is None:
        raise DataError(f"{dataset.name} has no splits, so “{split}” cannot be selected; leave the split out.")
    rows = dataset.rows(split)
    if not len(rows):
        names = ", ".join(str(name) for name in dataset.split_names)
        raise DataError(f"{dataset.name} has no images in its split “{split}”; it has {names}.")
    return rows


def _limited(dataset: Dataset, limit: int) -> Bool[np.ndarray, " n"]:
    """Mark the images of at most ``limit`` items of each class in each split, sketches with their photos.

    Sketches without a photo have a limit of their own, so that they displace no photo.
    """
    items, first = np.unique(dataset.items, return_index=True)
    has_photo = np.isin(items, dataset.items[~dataset.sketch])
    splits = np.zeros(len(items), np.int64)
    if dataset.splits is not None:
        splits = np.unique(dataset.splits, return_inverse=True)[1][first]
    keys = np.stack([dataset.labels[first], splits, has_photo.astype(np.int64)], axis=1)
    group = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(group, kind="stable")
    # One generator a group: the selection in a class does not depend on the other classes.
    selected = [
        rows[np.random.default_rng(_SEED).permutation(len(rows))[:limit]]
        for rows in np.split(order, np.cumsum(np.bincount(group))[:-1])
    ]
    return np.isin(dataset.items, items[np.concatenate(selected)])
