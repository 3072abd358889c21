"""Labelled pictures in memory: read from folders of classes or drawn by the toy shop, and split by item."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from lookalike import images, sample
from lookalike.datasets.sources import FolderSource, Report, Source, ToyShopSource
from lookalike.errors import DataError, ImageError
from lookalike.images import Fit

T = TypeVar("T")

By = Literal["item", "class"]
"""What is held out: a share of each class's items, or a share of the classes, whole."""


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


def load(sources: Sequence[Source], size: int, fit: Fit, report: Report) -> Samples:
    """Read all sources, their classes side by side.

    Args:
        sources: what is read.
        size: pixels a side.
        fit: how a picture becomes square.
        report: gets a line for every picture that is left out.

    Raises:
        DataError: a source without classes, a class without pictures, fewer than two classes.
    """
    parts = [_load_source(source, size, fit, report) for source in sources]
    if sum(len(p.classes) for p in parts) < 2:  # noqa: PLR2004 -- nothing differs from a single class
        raise DataError("There is one class only; learning what differs takes two at least.")
    first_class = np.cumsum([0, *(len(p.classes) for p in parts)])
    first_item = np.cumsum([0, *(int(p.items.max()) + 1 for p in parts)])
    return Samples(
        images=np.concatenate([p.images for p in parts]),
        labels=np.concatenate([p.labels + n for p, n in zip(parts, first_class, strict=False)]),
        items=np.concatenate([p.items + n for p, n in zip(parts, first_item, strict=False)]),
        sketch=np.concatenate([p.sketch for p in parts]),
        classes=tuple(name for p in parts for name in p.classes),
    )


def divide(
    sources: Sequence[Source], *, size: int, fit: Fit, share: float, by: By = "item", seed: int, report: Report
) -> tuple[Samples, Samples]:
    """Read the sources and hold a share of them out of training.

    Args:
        sources: what is read, classes side by side.
        size: pixels a side.
        fit: how a picture becomes square.
        share: how much is held out, 0…1.
        by: what is held out.
        seed: what is drawn follows from it.
        report: gets a line for every picture that is left out.

    Returns:
        Training and validation samples.

    Raises:
        DataError: as `load` and `hold_out`.
    """
    return hold_out(load(sources, size, fit, report), share, seed, by)


def hold_out(samples: Samples, share: float, seed: int, by: By = "item") -> tuple[Samples, Samples]:
    """Hold out a share of each class's items, photos and sketches of an item together; or of the classes, whole.

    Returns:
        Training and validation samples. Every class keeps two items to train on where it has them. By class, the
        classes of either are its own.

    Raises:
        DataError: a class has a single item, or there are so few that none can be held out.
    """
    rng = np.random.default_rng(seed)
    for label, name in enumerate(samples.classes):
        count = len(np.unique(samples.items[samples.labels == label]))
        if count < 2:  # noqa: PLR2004 -- a pair is what is learned from
            raise DataError(
                f"The class “{name}” has {count} usable pictures; learning takes two at least of each class."
            )
    out = _some_classes(samples, share, rng) if by == "class" else _some_items(samples, share, rng)
    training, validation = samples.take(~out), samples.take(out)
    if (~validation.sketch).sum() < 2:  # noqa: PLR2004 -- a nearest other takes two
        raise DataError(f"A validation share of {share} holds out fewer than two photos; raise data.validation.")
    if samples.sketch.any() and not (training.sketch.any() and validation.sketch.any()):
        raise DataError("There are too few sketches to train on some and validate on others.")
    return (_own_classes(training), _own_classes(validation)) if by == "class" else (training, validation)


def _some_items(samples: Samples, share: float, rng: np.random.Generator) -> Bool[np.ndarray, " n"]:
    held = []
    for label in range(len(samples.classes)):
        items = np.unique(samples.items[samples.labels == label])
        held.append(rng.permutation(items)[: min(round(share * len(items)), len(items) - 2)])
    return np.isin(samples.items, np.concatenate(held))


def _some_classes(samples: Samples, share: float, rng: np.random.Generator) -> Bool[np.ndarray, " n"]:
    # A nearest other says something only among two classes, on either side.
    count = len(samples.classes)
    if count < 4:  # noqa: PLR2004
        raise DataError(f"There are {count} classes; to hold whole classes out takes four, two for either side.")
    held = rng.permutation(count)[: min(max(round(share * count), 2), count - 2)]
    return np.isin(samples.labels, held)


def _own_classes(samples: Samples) -> Samples:
    """The same with only those classes that it has pictures of."""
    there, labels = np.unique(samples.labels, return_inverse=True)
    return replace(samples, labels=labels.astype(np.int64), classes=tuple(samples.classes[i] for i in there))


def _load_source(source: Source, size: int, fit: Fit, report: Report) -> Samples:
    if isinstance(source, ToyShopSource):
        return _draw(source, size)
    return _read(source, size, fit, report)


def _read(source: FolderSource, size: int, fit: Fit, report: Report) -> Samples:
    photos = _by_class(source.path)
    classes = tuple(sorted(photos))
    files: list[Path] = []
    labels: list[int] = []
    items: list[int] = []
    stems: dict[tuple[str, str], int] = {}
    for label, name in enumerate(classes):
        for path in photos[name]:
            stems[name, path.stem] = len(files)
            files.append(path)
            labels.append(label)
            items.append(len(items))
    count = len(files)
    if source.sketches is not None:
        drawn = _by_class(source.sketches)
        if strange := sorted(set(drawn) - set(photos)):
            raise DataError(f"{source.sketches} has classes that {source.path} lacks: {', '.join(strange[:5])}.")
        for label, name in enumerate(classes):
            for path in drawn.get(name, []):
                item = next((stems[name, stem] for stem in _beginnings(path.stem) if (name, stem) in stems), None)
                files.append(path)
                labels.append(label)
                items.append(len(items) if item is None else item)
    pictures, good = _decode(files, size, fit, report)
    return Samples(
        images=pictures,
        labels=np.asarray(labels, dtype=np.int64)[good],
        items=np.asarray(items, dtype=np.int64)[good],
        sketch=(np.arange(len(files)) >= count)[good],
        classes=classes,
    )


def _beginnings(stem: str) -> Iterator[str]:
    """``cup-7-2``, ``cup-7``, ``cup``."""
    while stem:
        yield stem
        stem = stem.rpartition("-")[0]


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """{class: its pictures} of a folder with one folder for each class."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder} to learn from.")
    classes = {d.name: list(images.find(d)) for d in sorted(folder.iterdir()) if d.is_dir() and d.name[0] != "."}
    if not classes:
        raise DataError(f"{folder} has no folders in it; put each class's pictures in a folder of its own.")
    if empty := [name for name, files in classes.items() if not files]:
        raise DataError(f"These classes in {folder} have no pictures: {', '.join(empty[:5])}.")
    return classes


def _decode(files: list[Path], size: int, fit: Fit, report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the files that could be read, and their positions."""
    out = np.empty((len(files), size, size, 3), dtype=np.uint8)

    def one(i: int) -> int | None:
        try:
            out[i] = images.load(files[i], size, fit)
        except ImageError as e:
            report(str(e))
            return None
        return i

    good = [i for i in _threaded(one, range(len(files))) if i is not None]
    if not good:
        raise DataError(f"None of the {len(files):,} pictures could be read.")
    return (out if len(good) == len(files) else out[good]), np.asarray(good)


def _draw(source: ToyShopSource, size: int) -> Samples:
    products = sample.catalogue(source.count, source.seed)
    each = 1 + source.sketches
    out = np.empty((len(products) * each, size, size, 3), dtype=np.uint8)

    def one(i: int) -> None:
        out[i * each] = np.asarray(products[i].photo(size))
        for variant in range(source.sketches):
            out[i * each + 1 + variant] = np.asarray(products[i].sketch(variant, size))

    for _ in _threaded(one, range(len(products))):
        pass
    labels = np.asarray([sample.CLASSES.index(p.label) for p in products], dtype=np.int64)
    return Samples(
        images=out,
        labels=np.repeat(labels, each),
        items=np.repeat(np.arange(len(products)), each),
        sketch=np.tile(np.arange(each) > 0, len(products)),
        classes=sample.CLASSES,
    )


def _threaded(work: Callable[[int], T], over: Iterable[int]) -> Iterator[T]:
    """Map over both cores; Pillow lets go of the interpreter's lock while it decodes and draws."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, over)
