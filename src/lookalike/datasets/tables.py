"""Labelled images in a CSV table: ``path,label[,split,is_query,is_gallery]``."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lookalike.csv_files import path_forms, read_csv
from lookalike.datasets.dataset import Dataset
from lookalike.datasets.lazy_images import FileImages
from lookalike.datasets.sources import CsvSource, parse_split
from lookalike.errors import DataError
from lookalike.unicode_forms import to_path

_YES = {"1", "true", "t", "yes", "y"}
_NO = {"", "0", "false", "f", "no", "n"}

_COLUMNS = ("path", "label", "split", "is_query", "is_gallery")

_Rows = Sequence[tuple[int, dict[str, str]]]


def open_table(source: CsvSource) -> Dataset:
    """List the images of a table. The files are not opened yet, so a missing one is reported when it is decoded.

    Raises:
        DataError: the file does not exist, is not a table, lacks the column path or label, has a row without
            a path or label, names an image twice, or has an invalid split or flag.
    """
    path = source.path
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file. Give a CSV table.")
    columns, rows = _read(path)
    if missing := [name for name in ("path", "label") if name not in columns]:
        raise DataError(
            f"{path} has no column {' and no column '.join(f'“{m}”' for m in missing)}; its first line has "
            f"{', '.join(columns) or 'nothing'}. Rename the columns of image paths and labels to path and label."
        )
    line_of_path: dict[str, int] = {}
    for line, row in rows:
        for name in ("path", "label"):
            if not row[name]:
                raise DataError(f"{path}, line {line}: there is no {name}. Fill it in or delete the row.")
            if "\0" in row[name]:  # NumPy drops a trailing NUL, which would merge two labels
                raise DataError(f"{path}, line {line}: the {name} has a NUL character. Delete it.")
        if row["path"] in line_of_path:
            first = line_of_path[row["path"]]
            raise DataError(f"{path}, lines {first} and {line} both name {row['path']}; keep one of them.")
        line_of_path[row["path"]] = line
    classes = sorted({row["label"] for _, row in rows})
    position = {name: label for label, name in enumerate(classes)}  # an array of text would be as wide as its longest
    return Dataset(
        name=str(path),
        images=FileImages(tuple(_find_file(source.folder or path.parent, name) for name in line_of_path)),
        labels=np.asarray([position[row["label"]] for _, row in rows], np.int64),
        classes=tuple(classes),
        items=np.arange(len(rows)),
        sketch=np.zeros(len(rows), bool),
        splits=np.asarray([_split(path, line, row["split"]) for line, row in rows]) if "split" in columns else None,
        is_query=_flags(path, columns, rows, "is_query"),
        is_gallery=_flags(path, columns, rows, "is_gallery"),
    )


def table_of_folder(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> CsvSource:
    """Return the source of a table whose paths are relative to a folder of images or to its own, whichever fits more of them.

    Raises:
        DataError: the file cannot be read, or names no image.
    """
    path, folder = to_path(path), to_path(folder)
    columns, rows = _read(path)
    if "path" not in columns:  # `open_table` explains it
        return CsvSource(path=path)
    names = [row["path"] for _, row in rows if "\0" not in row["path"]]
    found = {base: sum(os.path.lexists(_find_file(base, name)) for name in names) for base in (folder, path.parent)}
    base = max(found, key=lambda base: found[base])
    if names and not found[base]:
        raise DataError(
            f"{path} names {len(names):,} images that do not exist, such as “{names[0]}”. Correct its column “path”: paths are"
            f" relative to {folder} or to {path.parent}."
        )
    return CsvSource(path=path, folder=None if base == path.parent else base)


def _read(path: Path) -> tuple[tuple[str, ...], _Rows]:
    """Read the named columns, and the line number on which each row ends."""
    try:
        table = read_csv(path, _COLUMNS)
    except OSError as e:
        raise DataError(f"The table {path} cannot be read: {e.strerror}.") from e
    if {"path", "label"} <= set(table.columns) and not table.rows:
        raise DataError(f"{path} has no rows; add one for each image below the first line.")
    return table.columns, table.rows


def _find_file(folder: Path, name: str) -> Path:
    """Return the path of a file, also if its name in the table has backslashes or another Unicode form."""
    if "\\" not in name and name.isascii():
        return folder / name
    return next((folder / form for form in path_forms(name) if os.path.lexists(folder / form)), folder / name)


def _split(path: Path, line: int, name: str) -> str:
    split = parse_split(name)
    if split is None:
        raise DataError(f"{path}, line {line}: “{name}” is not a split; write train, validation or test.")
    return split


def _flags(path: Path, columns: Sequence[str], rows: _Rows, name: str) -> np.ndarray | None:
    if name not in columns:
        return None
    for line, row in rows:
        if row[name].lower() not in _YES | _NO:
            raise DataError(f"{path}, line {line}: {name} is “{row[name]}”; write true or false.")
    return np.asarray([row[name].lower() in _YES for _, row in rows], dtype=bool)
