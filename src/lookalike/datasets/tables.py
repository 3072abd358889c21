"""Labelled pictures in a table: ``path,label[,split,is_query,is_gallery]``."""

import csv
from pathlib import Path

import numpy as np

from lookalike.datasets.dataset import Dataset, few
from lookalike.datasets.pictures import Files
from lookalike.datasets.sources import CsvSource, split_of
from lookalike.errors import DataError

_YES = {"1", "true", "t", "yes", "y"}
_NO = {"", "0", "false", "f", "no", "n"}

_ROWS = list[tuple[int, dict[str, str]]]


def find(source: CsvSource) -> Dataset:
    """List a table's pictures. Files that are not there are found out when they are read.

    Raises:
        DataError: no such file, no table in UTF-8, no column path or label, a row without either, a picture named
            twice, a value that is no split or no yes or no.
    """
    path = source.path
    columns, rows = _read(path)
    if missing := [name for name in ("path", "label") if name not in columns]:
        raise DataError(
            f"{path} has no column {' and no column '.join(f'“{m}”' for m in missing)}; its first line has "
            f"{', '.join(columns) or 'nothing'}. Rename those that hold the pictures' paths and labels to path and label."
        )
    seen: dict[str, int] = {}
    for line, row in rows:
        for name in ("path", "label"):
            if not row[name]:
                raise DataError(f"{path}, line {line}: there is no {name}. Fill it in or leave the row out.")
            if "\0" in row[name]:  # NumPy would drop it at a label's end, and take it for another one
                raise DataError(f"{path}, line {line}: the {name} has a NUL in it, which no text has. Save it anew.")
        if row["path"] in seen:
            raise DataError(f"{path}, lines {seen[row['path']]} and {line} both name {row['path']}; keep one of them.")
        seen[row["path"]] = line
    classes, labels = np.unique([row["label"] for _, row in rows], return_inverse=True)
    return Dataset(
        name=str(path),
        pictures=Files(tuple(path.parent / name for name in seen)),
        labels=labels.astype(np.int64),
        classes=tuple(classes.tolist()),
        items=np.arange(len(rows)),
        sketch=np.zeros(len(rows), bool),
        splits=np.asarray([_split(path, line, row["split"]) for line, row in rows]) if "split" in columns else None,
        is_query=_flags(path, columns, rows, "is_query"),
        is_gallery=_flags(path, columns, rows, "is_gallery"),
    )


def _read(path: Path) -> tuple[list[str], _ROWS]:
    """The columns that have a name, and the rows with the lines on which they end; blanks around values go."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            named = [name for name in columns if name]  # one without a name is often a mere number
            if double := sorted({name for name in named if named.count(name) > 1}):
                raise DataError(f"{path} has two columns of the name {few(double)}; rename one.")
            rows = [(reader.line_num, {name: row[name].strip() for name in named}) for row in reader]
    except OSError as e:
        raise DataError(f"The table {path} cannot be read: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not in UTF-8; save it as “CSV UTF-8”.") from e
    except csv.Error as e:
        raise DataError(f"{path} is no table of comma-separated values: {e}.") from e
    if {"path", "label"} <= set(named) and not rows:
        raise DataError(f"{path} has no rows; give each picture one below the first line.")
    return named, rows


def _split(path: Path, line: int, name: str) -> str:
    split = split_of(name)
    if split is None:
        raise DataError(f"{path}, line {line}: “{name}” is no split; write train, validation or test.")
    return split


def _flags(path: Path, columns: list[str], rows: _ROWS, name: str) -> np.ndarray | None:
    if name not in columns:
        return None
    for line, row in rows:
        if row[name].lower() not in _YES | _NO:
            raise DataError(f"{path}, line {line}: {name} is “{row[name]}”; write true or false.")
    return np.asarray([row[name].lower() in _YES for _, row in rows], dtype=bool)
