"""Labelled pictures in folders: ``class/file``, or ``split/class/file``."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lookalike import images
from lookalike.datasets.dataset import Dataset, few
from lookalike.datasets.pictures import Files
from lookalike.datasets.sources import FolderSource, Split, split_of
from lookalike.errors import DataError

Layout = dict[Split | None, dict[str, list[Path]]]
"""{split: {class: its pictures}}; the one split is nothing where there are none."""


def find(source: FolderSource) -> Dataset:
    """List a folder's pictures.

    Raises:
        DataError: there is no such folder, no class in it, or a class without pictures; sketches of other classes.
    """
    photos = _layout(source.path)
    drawn = _layout(source.sketches) if source.sketches else {}
    classes = tuple(sorted({name for part in photos.values() for name in part}))
    if drawn and set(drawn) - set(photos):
        raise DataError(f"{source.sketches} and {source.path} have other splits; lay them out in the same way.")
    if strange := sorted({name for part in drawn.values() for name in part}.difference(classes)):
        raise DataError(f"{source.sketches} has classes that {source.path} lacks: {few(strange)}.")
    rows: list[tuple[Path, str, Split | None]] = [
        (path, name, split) for split, part in photos.items() for name in sorted(part) for path in part[name]
    ]
    count = len(rows)
    items = list(range(count))
    stems = {(split, name, path.stem): item for item, (path, name, split) in enumerate(rows)}
    for split, part in drawn.items():
        for name in sorted(part):
            for path in part[name]:
                found = (stems.get((split, name, stem)) for stem in _beginnings(path.stem))
                item = next((item for item in found if item is not None), None)
                items.append(len(items) if item is None else item)
                rows.append((path, name, split))
    position = {name: label for label, name in enumerate(classes)}
    return Dataset(
        name=str(source.path),
        pictures=Files(tuple(path for path, _, _ in rows)),
        labels=np.asarray([position[name] for _, name, _ in rows], dtype=np.int64),
        classes=classes,
        items=np.asarray(items, dtype=np.int64),
        sketch=np.arange(len(rows)) >= count,
        splits=None if None in photos else np.asarray([split for _, _, split in rows]),
    )


def find_unlabelled(source: FolderSource) -> Dataset:
    """List all pictures under a folder, those of its splits where it has nothing but folders of splits in it.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not source.path.is_dir():
        raise DataError(f"There is no folder {source.path}. Check the path.")
    inside = _folders(source.path)
    found = images.find(source.path)
    in_splits = (
        bool(inside) and all(split_of(d.name) for d in inside) and not any(p.parent == source.path for p in found)
    )
    if not found:
        raise DataError(f"There are no pictures in {source.path}. Check the path.")
    return Dataset(
        name=str(source.path),
        pictures=Files(tuple(found)),
        labels=np.zeros(len(found), dtype=np.int64),
        classes=("picture",),
        items=np.arange(len(found)),
        sketch=np.zeros(len(found), dtype=bool),
        splits=np.asarray([split_of(p.relative_to(source.path).parts[0]) for p in found]) if in_splits else None,
    )


def _beginnings(stem: str) -> Iterator[str]:
    """``cup-7-2``, ``cup-7``, ``cup``."""
    while stem:
        yield stem
        stem = stem.rpartition("-")[0]


def _layout(folder: Path) -> Layout:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    inside = _folders(folder)
    # A class may be called train, or test: splits have folders in them.
    if not inside or not all(split_of(d.name) for d in inside) or not any(_folders(d) for d in inside):
        return {None: _by_class(folder)}
    layout: Layout = {}
    for d in inside:
        split = split_of(d.name)
        if split in layout:
            raise DataError(f"{folder} has two folders for the split {split}; put their classes into one.")
        layout[split] = _by_class(d)
    return layout


def _folders(folder: Path) -> list[Path]:
    try:
        return [d for d in sorted(folder.iterdir()) if d.is_dir() and d.name[0] != "."]
    except OSError as e:
        raise DataError(f"The folder {folder} cannot be listed: {e.strerror}. Check its permissions.") from e


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """{class: its pictures} of a folder with one folder for each class."""
    classes = {d.name: images.find(d) for d in _folders(folder)}
    if not classes:
        raise DataError(f"{folder} has no folders in it; put each class's pictures in a folder of its own.")
    if empty := [name for name, files in classes.items() if not files]:
        raise DataError(f"These classes in {folder} have no pictures: {few(empty)}.")
    return classes
