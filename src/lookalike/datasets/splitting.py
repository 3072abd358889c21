"""Splits of a dataset into training and validation images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lookalike.datasets.dataset import Dataset, LabelledImages, abbreviate, drop_empty_classes
from lookalike.datasets.loading import concatenate, decode_rows, open_dataset
from lookalike.datasets.sources import Source
from lookalike.errors import DataError
from lookalike.images import Fit
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Bool

SplitBy = Literal["item", "class"]
"""The unit of a validation split: a share of the items of each class, or a share of whole classes."""


@dataclass(frozen=True)
class Holdout:
    """The share of the training images that is held out for validation, and how it is chosen.

    Attributes:
        share: the share held out of each source without a validation split, in 0…1.
        by: what is held out. With ``class``, a validation split may have other classes than the training split.
        seed: of the random choice.
        class_per_image: true makes each image a class of its own and ignores labels and class folders; use it with
            ``by="class"``.
    """

    share: float
    by: SplitBy = "item"
    seed: int = 0
    class_per_image: bool = False


def split_for_training(
    sources: Sequence[Source], holdout: Holdout, size: int, fit: Fit, progress: Progress = SILENT
) -> tuple[LabelledImages, LabelledImages]:
    """Load training and validation images. Images of test splits are not decoded.

    A source with a validation split validates with it and trains on its training split. Other sources hold a share out.

    Args:
        sources: what to load; see `lookalike.datasets.concatenate` for their classes.
        holdout: what is held out of a source without a validation split.
        size: pixels a side.
        fit: how an image becomes square.
        progress: as in `lookalike.datasets.decode`.

    Returns:
        Training and validation images. By item, both have the same classes.

    Raises:
        DataError: a source is invalid or has no training images, its splits have different classes, or `hold_out` raises
            it.
    """
    parts, in_validation, without_validation = [], [], []
    for source in sources:
        dataset = _training_data(open_dataset(source, labelled=not holdout.class_per_image), holdout.by)
        part, rows = decode_rows(dataset, size, fit, progress)
        validates = np.zeros(len(part), bool) if dataset.splits is None else dataset.splits[rows] == "validation"
        parts.append(_class_per_image(part) if holdout.class_per_image else part)
        in_validation.append(validates)
        without_validation.append(np.full(len(part), not validates.any()))
    return _split(concatenate(parts), holdout, np.concatenate(in_validation), np.concatenate(without_validation))


def hold_out(images: LabelledImages, holdout: Holdout) -> tuple[LabelledImages, LabelledImages]:
    """Hold out a share of the items of each class, or a share of the classes. Sketches stay with their photos.

    Returns:
        Training and validation images. By item, every class keeps two items to train on. By class, the two have no
        class in common.

    Raises:
        DataError: a class has a single item, or there are too few to hold any out.
    """
    return _split(images, holdout, np.zeros(len(images), bool), np.ones(len(images), bool))


def scarce_classes(images: LabelledImages | Dataset, mask: Bool[np.ndarray, " n"]) -> list[tuple[str, int]]:
    """List the classes with fewer than two items where the mask is true, with their numbers of items."""
    counts = [len(items) for items in _items_by_class(images, mask)]
    return [(name, n) for name, n in zip(images.classes, counts, strict=True) if n < 2]  # noqa: PLR2004 -- a pair


def explain_class_mismatch(dataset: Dataset) -> str | None:
    """Say which classes a split lacks that another split has; None if all splits have the same classes."""
    if len(dataset.split_names) < 2:  # noqa: PLR2004 -- nothing to compare
        return None
    classes = {split: set(np.unique(dataset.labels[dataset.rows(split)]).tolist()) for split in dataset.split_names}
    common = set.intersection(*classes.values())
    lacking = [
        f"{split} lacks {abbreviate([name for i, name in enumerate(dataset.classes) if i not in present])}"
        for split, present in classes.items()
        if len(present) < len(dataset.classes)
    ]
    if not lacking:
        return None
    details = "no class is in all splits" if not common else "; ".join(lacking)
    return (
        f"The splits of {dataset.name} have different classes: {details}. Give each split images of all classes, or "
        "train with data.validation_by: class to recognise new classes."
    )


def _training_data(dataset: Dataset, by: SplitBy) -> Dataset:
    """Leave the test split out, and check that the rest can train."""
    if dataset.splits is None:
        return dataset
    if by == "item" and (mismatch := explain_class_mismatch(dataset)):
        raise DataError(mismatch)
    if not len(dataset.rows("train")):
        names = " and ".join(str(split) for split in dataset.split_names)
        raise DataError(f"{dataset.name} has nothing to train on: its split is {names}. Add a split “train”.")
    return dataset.take(dataset.splits != "test")


def _split(
    images: LabelledImages,
    holdout: Holdout,
    in_validation: Bool[np.ndarray, " n"],
    may_be_held_out: Bool[np.ndarray, " n"],
) -> tuple[LabelledImages, LabelledImages]:
    """Split off the validation images, and those that the holdout takes from the rest."""
    _check_items(images, holdout, ~in_validation)
    rng = np.random.default_rng(holdout.seed)
    validates = in_validation.copy()
    if may_be_held_out.any():
        draw = _draw_classes if holdout.by == "class" else _draw_items
        validates |= draw(images, may_be_held_out, holdout.share, rng)
    training, validation = images.take(~validates), images.take(validates)
    if len(np.unique(training.labels)) < 2:  # noqa: PLR2004 -- a pair of classes
        raise DataError("There is only one class to train on; training needs at least two.")
    if (~validation.sketch).sum() < 2:  # noqa: PLR2004 -- an image and its nearest neighbour
        raise DataError(
            f"There are fewer than two photos to validate with; raise data.validation ({holdout.share}), or add photos to "
            "the validation split."
        )
    if len(names := np.unique(validation.labels[~validation.sketch])) == 1:
        raise DataError(
            f"The photos to validate with are all of the class “{images.classes[names[0]]}”, which cannot be confused; raise"
            f" data.validation ({holdout.share}), or add photos of other classes to the validation split."
        )
    if images.sketch.any() and not (training.sketch.any() and validation.sketch.any()):
        raise DataError("There are too few sketches for both training and validation; add some.")
    if holdout.by == "class":
        return drop_empty_classes(training), drop_empty_classes(validation)
    return training, validation


def _check_items(images: LabelledImages, holdout: Holdout, trains: Bool[np.ndarray, " n"]) -> None:
    minimum = 1 if holdout.class_per_image else 2
    for name, count in scarce_classes(images, trains):
        # By class, a class may have validation images alone.
        if count < minimum and (count or holdout.by == "item"):
            raise DataError(
                f"The class “{name}” has {'one' if count else 'no'} usable image; training needs at least two of each class."
            )


def _class_per_image(images: LabelledImages) -> LabelledImages:
    numbers = np.arange(len(images))
    names = tuple(f"image {i}" for i in numbers.tolist())
    return replace(images, labels=numbers, items=numbers, classes=names)


def _items_by_class(images: LabelledImages | Dataset, mask: Bool[np.ndarray, " n"]) -> list[np.ndarray]:
    """Return the items of each class where the mask is true, sorted."""
    labels, items = images.labels[mask], images.items[mask]
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(1, len(images.classes)))
    return [np.unique(of_class) for of_class in np.split(items[order], ends)]


def _draw_items(
    images: LabelledImages, mask: Bool[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Draw a share of the items of each class; two items always stay."""
    drawn = [
        rng.permutation(items)[: max(0, min(round(share * len(items)), len(items) - 2))]
        for items in _items_by_class(images, mask)
    ]
    return np.isin(images.items, np.concatenate(drawn))


def _draw_classes(
    images: LabelledImages, mask: Bool[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Draw a share of the classes; both parts get at least two, since one class alone cannot be confused."""
    classes = np.unique(images.labels[mask])
    count = len(classes)
    if count < 4:  # noqa: PLR2004 -- two to train on, two to validate with
        raise DataError(
            f"There are {count} classes; holding out whole classes needs four: two to train on and two to validate with."
        )
    drawn = rng.permutation(classes)[: min(max(round(share * count), 2), count - 2)]
    return np.isin(images.labels, drawn)
