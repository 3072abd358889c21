"""What is trained on, and what is held out of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Bool

from lookalike.datasets.dataset import Dataset, Samples, few, own_classes
from lookalike.datasets.reading import decode, find, join
from lookalike.datasets.sources import Report, Source
from lookalike.errors import DataError
from lookalike.images import Fit

By = Literal["item", "class"]
"""What is held out: a share of each class's items, or a share of the classes, whole."""


def divide(
    sources: Sequence[Source],
    *,
    size: int,
    fit: Fit,
    share: float,
    by: By = "item",
    each_picture: bool = False,
    seed: int,
    report: Report,
) -> tuple[Samples, Samples]:
    """Read what is trained on and what validates; test pictures are not even decoded.

    A source with a validation split validates with it, and trains on its split “train” alone. Of the others, a share is
    held out.

    Args:
        sources: what is read, classes side by side.
        size: pixels a side.
        fit: how a picture becomes square.
        share: how much is held out, 0…1, of each source without a validation split.
        by: what is held out. By class, validation splits too may have other classes than training.
        each_picture: each picture is a class of its own; labels do not count, and folders need no folders of classes.
            Then ``by`` should be ``class``.
        seed: what is drawn follows from it.
        report: gets a line for every picture that is left out.

    Returns:
        Training and validation samples. By item, the classes of both are the same.

    Raises:
        DataError: a source that cannot be read or has nothing to train on, splits with other classes, or as `hold_out`.
    """
    parts, given, shared = [], [], []
    for source in sources:
        samples, validates = _read(find(source, labelled=not each_picture), size, fit, by, report)
        if each_picture:
            samples = _each_a_class(samples)
        parts.append(samples)
        given.append(validates)
        shared.append(np.full(len(samples), not validates.any()))
    return _divide(
        join(parts),
        given=np.concatenate(given),
        shared=np.concatenate(shared),
        share=share,
        seed=seed,
        by=by,
        least=1 if each_picture else 2,
    )


def hold_out(samples: Samples, share: float, seed: int, by: By = "item") -> tuple[Samples, Samples]:
    """Hold out a share of each class's items, photos and sketches of an item together; or of the classes, whole.

    Returns:
        Training and validation samples. Every class keeps two items to train on where it has them. By class, the
        classes of either are its own.

    Raises:
        DataError: a class has a single item, or there are so few that none can be held out.
    """
    return _divide(
        samples,
        given=np.zeros(len(samples), bool),
        shared=np.ones(len(samples), bool),
        share=share,
        seed=seed,
        by=by,
    )


def lone(samples: Samples | Dataset, mask: Bool[np.ndarray, " n"]) -> list[tuple[str, int]]:
    """The classes with fewer than two items among those pictures, and how many they have: a pair is learned from."""
    counts = [len(items) for items in _items(samples, mask)]
    return [(name, n) for name, n in zip(samples.classes, counts, strict=True) if n < 2]  # noqa: PLR2004 -- a pair


def differing(dataset: Dataset) -> str | None:
    """What is wrong with the classes of a dataset's splits, if they are not the same in each."""
    if len(dataset.parts) < 2:  # noqa: PLR2004 -- nothing to compare
        return None
    classes = {split: set(np.unique(dataset.labels[dataset.rows(split)]).tolist()) for split in dataset.parts}
    everywhere = set.intersection(*classes.values())
    lacks = [
        f"{split} lacks {few([name for i, name in enumerate(dataset.classes) if i not in there])}"
        for split, there in classes.items()
        if len(there) < len(dataset.classes)
    ]
    if not lacks:
        return None
    none = "no class is in all splits" if not everywhere else "; ".join(lacks)
    return (
        f"The splits of {dataset.name} have different classes: {none}. Give each split pictures of all, or train with "
        "data.validation_by: class, if telling new classes apart is meant."
    )


def _read(dataset: Dataset, size: int, fit: Fit, by: By, report: Report) -> tuple[Samples, Bool[np.ndarray, " n"]]:
    """A source's pictures but those of its test split, and which of them validate."""
    if dataset.splits is None:
        samples, rows = decode(dataset, size, fit, report)
        return samples, np.zeros(len(rows), bool)
    if by == "item" and (wrong := differing(dataset)):
        raise DataError(wrong)
    if not len(dataset.rows("train")):
        there = " and ".join(str(split) for split in dataset.parts)
        raise DataError(f"{dataset.name} has nothing to train on: its split is {there}. Add a split “train”.")
    dataset = dataset.take(dataset.splits != "test")
    samples, rows = decode(dataset, size, fit, report)
    splits = dataset.splits
    assert splits is not None  # noqa: S101 -- it had some, and taking rows keeps them
    return samples, splits[rows] == "validation"


def _divide(
    samples: Samples,
    *,
    given: Bool[np.ndarray, " n"],
    shared: Bool[np.ndarray, " n"],
    share: float,
    seed: int,
    by: By,
    least: int = 2,
) -> tuple[Samples, Samples]:
    """Those ``given`` validate; of those ``shared``, a share is held out to do so. A class takes ``least`` items."""
    # By class, some only validate.
    few_items = [(name, n) for name, n in lone(samples, ~given) if n < least and (n or by == "item")]
    if few_items:
        name, count = few_items[0]
        raise DataError(f"The class “{name}” has {count} usable pictures; learning takes two at least of each class.")
    rng = np.random.default_rng(seed)
    held = given.copy()
    if shared.any():
        held |= (
            _some_classes(samples, shared, share, rng) if by == "class" else _some_items(samples, shared, share, rng)
        )
    training, validation = samples.take(~held), samples.take(held)
    if len(np.unique(training.labels)) < 2:  # noqa: PLR2004 -- nothing differs from a single class
        raise DataError("There is one class only to train on; learning what differs takes two at least.")
    if (~validation.sketch).sum() < 2:  # noqa: PLR2004 -- a nearest other takes two
        raise DataError(
            f"There are fewer than two photos to validate with; raise data.validation ({share}), or add some to the "
            "validation split."
        )
    if samples.sketch.any() and not (training.sketch.any() and validation.sketch.any()):
        raise DataError("There are too few sketches to train on some and validate on others.")
    return (own_classes(training), own_classes(validation)) if by == "class" else (training, validation)


def _each_a_class(samples: Samples) -> Samples:
    numbers = np.arange(len(samples))
    names = tuple(f"picture {i}" for i in numbers.tolist())
    return replace(samples, labels=numbers, items=numbers, classes=names)


def _items(samples: Samples | Dataset, mask: Bool[np.ndarray, " n"]) -> list[np.ndarray]:
    """Each class's items, sorted, of those pictures where the mask is true."""
    labels, items = samples.labels[mask], samples.items[mask]
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(1, len(samples.classes)))
    return [np.unique(some) for some in np.split(items[order], ends)]


def _some_items(
    samples: Samples, shared: Bool[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    held = [
        rng.permutation(items)[: max(0, min(round(share * len(items)), len(items) - 2))]
        for items in _items(samples, shared)
    ]
    return np.isin(samples.items, np.concatenate(held))


def _some_classes(
    samples: Samples, shared: Bool[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    # A nearest other says something only among two classes, on either side.
    classes = np.unique(samples.labels[shared])
    count = len(classes)
    if count < 4:  # noqa: PLR2004
        raise DataError(f"There are {count} classes; to hold whole classes out takes four, two for either side.")
    held = rng.permutation(classes)[: min(max(round(share * count), 2), count - 2)]
    return np.isin(samples.labels, held)
