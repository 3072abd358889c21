"""Labelled images in folders: ``class/file`` or ``split/class/file``."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lookalike import images
from lookalike.datasets.dataset import Dataset, abbreviate
from lookalike.datasets.lazy_images import FileImages
from lookalike.datasets.sources import FolderSource, Split, parse_split
from lookalike.errors import DataError

Layout = dict[Split | None, dict[str, list[Path]]]
"""{split: {class: image files}}; the only key is None if there are no splits."""


def open_folder(source: FolderSource) -> Dataset:
    """List the images of a folder.

    Raises:
        DataError: the folder does not exist or has no classes, a class has no images, or the folder of sketches has
            other classes or splits.
    """
    photos = _layout(source.path)
    sketches = _layout(source.sketches) if source.sketches else {}
    classes = tuple(sorted({name for by_class in photos.values() for name in by_class}))
    _check_sketches(source, photos, sketches, classes)
    rows = _rows(photos)
    sketch_rows = _rows(sketches)
    counted = _are_counted(sketch_rows)
    items_of_sketches = (
        range(len(rows), len(rows) + len(sketch_rows)) if counted else _items_of_sketches(rows, sketch_rows)
    )
    items = [*range(len(rows)), *items_of_sketches]
    rows_of_both = [*rows, *sketch_rows]
    position = {name: label for label, name in enumerate(classes)}
    return Dataset(
        name=str(source.path),
        images=FileImages(tuple(path for path, _, _ in rows_of_both)),
        labels=np.asarray([position[name] for _, name, _ in rows_of_both], dtype=np.int64),
        classes=classes,
        items=np.asarray(items, dtype=np.int64),
        sketch=np.arange(len(rows_of_both)) >= len(rows),
        splits=None if None in photos else np.asarray([split for _, _, split in rows_of_both]),
        sketches_counted=counted,
    )


def open_unlabelled(source: FolderSource) -> Dataset:
    """List all images under a folder as one class.

    If the folder contains only folders that are named like splits, these are the splits.

    Raises:
        DataError: the folder does not exist or has no images.
    """
    if not source.path.is_dir():
        raise DataError(f"There is no folder {source.path}. Check the path.")
    subfolders = _subfolders(source.path)
    files = images.find(source.path)
    has_splits = (
        bool(subfolders)
        and all(parse_split(d.name) for d in subfolders)
        and not any(file.parent == source.path for file in files)
    )
    if not files:
        raise DataError(f"There are no images in {source.path}. Check the path.")
    return Dataset(
        name=str(source.path),
        images=FileImages(tuple(files)),
        labels=np.zeros(len(files), dtype=np.int64),
        classes=("image",),
        items=np.arange(len(files)),
        sketch=np.zeros(len(files), dtype=bool),
        splits=np.asarray([parse_split(p.relative_to(source.path).parts[0]) for p in files]) if has_splits else None,
    )


_Row = tuple[Path, str, Split | None]


def _rows(layout: Layout) -> list[_Row]:
    return [
        (path, name, split)
        for split, by_class in layout.items()
        for name in sorted(by_class)
        for path in by_class[name]
    ]


def _are_counted(sketches: list[_Row]) -> bool:
    """Check whether the sketches of each class are only counted: ``1.png``, ``2.png``, … without gaps.

    Such a number says nothing about an item: in another folder, ``7.jpg`` is the seventh photo of the class. Numbers with gaps
    are those of items.
    """
    numbers: dict[tuple[Split | None, str], list[int]] = {}
    for path, name, split in sketches:
        if not (path.stem.isascii() and path.stem.isdigit()):
            return False
        numbers.setdefault((split, name), []).append(int(path.stem))
    return bool(numbers) and all(max(n) - min(n) < len(n) for n in numbers.values())


def _items_of_sketches(photos: list[_Row], sketches: list[_Row]) -> list[int]:
    """Return the number of each sketch's photo, or a new number for a sketch without a photo, or with several."""
    by_stem: dict[tuple[Split | None, str, str], int | None] = {}
    for item, (path, name, split) in enumerate(photos):
        key = split, name, path.stem
        by_stem[key] = None if key in by_stem else item
    items = []
    for row, (path, name, split) in enumerate(sketches, len(photos)):
        matches = (by_stem.get((split, name, stem)) for stem in _stems(path.stem))
        items.append(next((item for item in matches if item is not None), row))
    return items


def _stems(stem: str) -> Iterator[str]:
    """Yield ``cup-7-2``, ``cup-7``, ``cup``."""
    while stem:
        yield stem
        stem = stem.rpartition("-")[0]


def _check_sketches(source: FolderSource, photos: Layout, sketches: Layout, classes: tuple[str, ...]) -> None:
    if sketches and set(sketches) - set(photos):
        raise DataError(f"{source.sketches} and {source.path} have different splits; give both the same layout.")
    if unknown := sorted({name for by_class in sketches.values() for name in by_class}.difference(classes)):
        raise DataError(f"{source.sketches} has classes that {source.path} lacks: {abbreviate(unknown)}.")


def _layout(folder: Path) -> Layout:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    subfolders = _subfolders(folder)
    # A class may be called train or test: only folders that contain folders are splits.
    if not subfolders or not all(parse_split(d.name) for d in subfolders) or not any(map(_subfolders, subfolders)):
        return {None: _files_by_class(folder)}
    layout: Layout = {}
    for subfolder in subfolders:
        split = parse_split(subfolder.name)
        if split in layout:
            raise DataError(f"{folder} has two folders for the split {split}; merge them.")
        layout[split] = _files_by_class(subfolder)
    return layout


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [d for d in sorted(folder.iterdir()) if d.is_dir() and d.name[0] != "."]
    except OSError as e:
        raise DataError(f"The folder {folder} cannot be listed: {e.strerror}. Check its permissions.") from e


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    """Return {class: image files} of a folder with one folder for each class."""
    classes = {d.name: images.find(d) for d in _subfolders(folder)}
    if not classes:
        raise DataError(f"{folder} has no folders in it; put the images of each class into a folder of their own.")
    if empty := [name for name, files in classes.items() if not files]:
        raise DataError(f"These classes in {folder} have no images: {abbreviate(empty)}.")
    return classes
