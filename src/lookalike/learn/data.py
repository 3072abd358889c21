"""Labelled pictures in memory: read from folders of classes or drawn by the toy shop, and split by item."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from lookalike import images, sample
from lookalike.errors import DataError, ImageError
from lookalike.learn import recipe

Report = Callable[[str], None]
T = TypeVar("T")


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


def load(config: recipe.Data, report: Report) -> Samples:
    """Read all sources, their classes side by side.

    Args:
        config: sources, size and fit.
        report: gets a line for every picture that is left out.

    Raises:
        DataError: a source without classes, a class without pictures, fewer than two classes.
    """
    parts = [_load_source(source, config, report) for source in config.sources]
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


def split(samples: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    """Hold out a share of each class's items, photos and sketches of an item together.

    Returns:
        Training and validation samples. Every class keeps two items to train on where it has them.

    Raises:
        DataError: a class has a single item, or so few that none can be held out of any class.
    """
    rng = np.random.default_rng(seed)
    held = []
    for label, name in enumerate(samples.classes):
        items = np.unique(samples.items[samples.labels == label])
        if len(items) < 2:  # noqa: PLR2004 -- a pair is what is learned from
            raise DataError(
                f"The class “{name}” has {len(items)} usable pictures; learning takes two at least of each class."
            )
        held.append(rng.permutation(items)[: min(round(share * len(items)), len(items) - 2)])
    out = np.isin(samples.items, np.concatenate(held))
    training, validation = samples.take(~out), samples.take(out)
    if (~validation.sketch).sum() < 2:  # noqa: PLR2004 -- a nearest other takes two
        raise DataError(f"A validation share of {share} holds out fewer than two photos; raise data.validation.")
    if samples.sketch.any() and not (training.sketch.any() and validation.sketch.any()):
        raise DataError("There are too few sketches to train on some and validate on others.")
    return training, validation


def _load_source(source: recipe.Source, config: recipe.Data, report: Report) -> Samples:
    if isinstance(source, recipe.ToyShopSource):
        return _draw(source, config.size)
    return _read(source, config, report)


def _read(source: recipe.FolderSource, config: recipe.Data, report: Report) -> Samples:
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
    pictures, good = _decode(files, config, report)
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


def _decode(files: list[Path], config: recipe.Data, report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the files that could be read, and their positions."""
    out = np.empty((len(files), config.size, config.size, 3), dtype=np.uint8)

    def one(i: int) -> int | None:
        try:
            out[i] = images.load(files[i], config.size, config.fit)
        except ImageError as e:
            report(str(e))
            return None
        return i

    good = [i for i in _threaded(one, range(len(files))) if i is not None]
    if not good:
        raise DataError(f"None of the {len(files):,} pictures could be read.")
    return (out if len(good) == len(files) else out[good]), np.asarray(good)


def _draw(source: recipe.ToyShopSource, size: int) -> Samples:
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
