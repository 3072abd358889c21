"""Labels and attributes of images, from a CSV file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from lookalike.csv_files import WINDOWS, CsvTable, path_forms, read_csv
from lookalike.errors import DataError, NotFoundError, reason_of
from lookalike.ingest.paths import absolute_path
from lookalike.tables import plural


@dataclass(frozen=True)
class LabelTable:
    """The rows of a CSV file that are about some images.

    Attributes:
        values: image → its values by column, without empty ones and without its path.
        notes: sentences about how the file was read, and about images without a row.
    """

    values: Mapping[Path, Mapping[str, str]]
    notes: tuple[str, ...]


def read_labels(path: Path, folder: Path, images: Sequence[Path]) -> LabelTable:
    """Read labels and attributes of images from a CSV.

    Its paths are relative to the folder of the images or to that of the CSV, whichever fits more of them, or absolute. A
    path may have backslashes, and another Unicode form than the name of the file.

    Args:
        path: of the CSV.
        folder: of the images, absolute.
        images: the images, absolute paths below the folder.

    Raises:
        NotFoundError: the CSV does not exist or cannot be read.
        DataError: it is not a CSV, has no column ``path`` or two of one name, or gives an image two different values, or
            names none of the images.
    """
    try:
        table = read_csv(path)
    except (OSError, ValueError) as e:  # ValueError: a path that no file can have
        advice = "Give “folder”, or the path of a CSV file with the columns path and label."
        raise NotFoundError(f"The labels {path} cannot be read: {reason_of(e)}. {advice}") from e
    if "path" not in table.columns:
        found = f"its first line has {', '.join(table.columns) or 'nothing'}"
        raise DataError(
            f"{path} has no column “path”; {found}. Rename the columns of image paths and labels to path and label."
        )
    known = _Images(images)
    bases = list(dict.fromkeys((folder, absolute_path(path).parent)))
    matches = {folder: [known.find(folder, row["path"]) for _, row in table.rows]}
    if None in matches[folder]:
        matches = {base: [known.find(base, row["path"]) for _, row in table.rows] for base in bases}
    base = max(matches, key=lambda b: len(table.rows) - matches[b].count(None))
    matched = _match(table, folder, matches[base], bases)
    return LabelTable(matched.values, tuple(_notes(table, base, folder, matched, images)))


class _Matched(NamedTuple):
    """The rows of a table: the values of each image, and the paths of rows without an image.

    Attributes:
        values: image → its values by column.
        elsewhere: paths of files that exist but are not among the images.
        missing: paths of files that do not exist.
    """

    values: dict[Path, dict[str, str]]
    elsewhere: list[str]
    missing: list[str]


def _match(table: CsvTable, folder: Path, matches: Sequence[Path | None], bases: Sequence[Path]) -> _Matched:
    values: dict[Path, dict[str, str]] = {}
    lines: dict[Path, int] = {}
    elsewhere, missing = list[str](), list[str]()
    for (line, row), image in zip(table.rows, matches, strict=True):
        text = row["path"]
        if not text:
            raise DataError(f"{table.path}, line {line}: there is no path. Fill it in or delete the row.")
        if image is None:
            there = any(os.path.lexists(base / form) for base in bases for form in path_forms(text) if "\0" not in form)
            (elsewhere if there else missing).append(text)
            continue
        row_values = {name: value for name, value in row.items() if value and name != "path"}
        if values.setdefault(image, row_values) != row_values:
            raise DataError(
                f"{table.path} names “{text}” twice with different values, on lines {lines[image]} and {line}; remove one of"
                " them."
            )
        lines.setdefault(image, line)
    if missing and not values:
        places = " or to ".join(map(str, bases))
        raise DataError(
            f"{table.path} names {plural(len(missing), 'image')} that {'is' if len(missing) == 1 else 'are'} not under"
            f" {folder}, such as “{missing[0]}”. Correct its column “path”: paths are relative to {places}."
        )
    return _Matched(values, elsewhere, missing)


def _notes(
    table: CsvTable,
    base: Path,
    folder: Path,
    matched: _Matched,
    images: Sequence[Path],
) -> list[str]:
    notes = [f"{table.path}: {plural(len(table.rows), 'row')}, with paths relative to {base}."]
    if table.encoding == WINDOWS:
        notes.append(
            f"{table.path} is not in UTF-8; it was read as Windows-1252. If letters are wrong, save it as “CSV UTF-8”."
        )
    if "label" not in table.columns:
        notes.append(f"{table.path} has no column “label”, so it gives no labels. Name a column so.")
    if elsewhere := matched.elsewhere:
        rows = plural(len(elsewhere), "row")
        notes.append(f"{rows} of {table.path} left out: not among the images under {folder}, such as “{elsewhere[0]}”.")
    if missing := matched.missing:
        names = "names" if len(missing) == 1 else "name"
        notes.append(f"{plural(len(missing), 'row')} of {table.path} {names} no image here, such as “{missing[0]}”.")
    without = [image for image in images if image not in matched.values]
    if without:
        example = without[0].relative_to(folder)
        notes.append(f"{plural(len(without), 'image')} without a row in {table.path}, such as “{example}”.")
    return notes


class _Images:
    """Images by their paths, in any Unicode form."""

    def __init__(self, images: Sequence[Path]) -> None:
        self._images = {str(image): image for image in images}
        self._forms: dict[str, Path | None] = {}
        for text, image in self._images.items():
            if not text.isascii():
                form = normalize("NFC", text)
                self._forms[form] = None if form in self._forms else image  # none: two images look the same

    def find(self, base: Path, text: str) -> Path | None:
        """Find the image of a path in a table."""
        for form in path_forms(text):
            path = os.path.normpath(base / form)
            if image := self._images.get(path) or self._forms.get(normalize("NFC", path)):
                return image
        return None
