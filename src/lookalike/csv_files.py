"""CSV files as spreadsheets write them: in several encodings, and with several separators."""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from lookalike.errors import DataError

MAX_BYTES = 1 << 28
"""The limit of a CSV file, in bytes."""

MAX_COLUMNS = 1_000
"""The limit of columns of a CSV file."""

_SEPARATORS = ",;\t|"

# The first line by which Excel learns the separator.
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\r?\n', re.IGNORECASE)

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

WINDOWS = "cp1252"
"""The encoding of a file that is not in Unicode, as Excel saves a “CSV” in western Europe and America."""


@dataclass(frozen=True)
class CsvTable:
    """The rows of a CSV file.

    Attributes:
        path: of the file.
        columns: names of the columns; a column without a name, often a row number, is left out.
        rows: number of the line on which a row ends, and its values by column, without spaces around them. Empty rows are
            left out.
        encoding: of the file; `WINDOWS` is a guess.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    encoding: str


def read_csv(path: Path, names: Sequence[str] = ("path", "label")) -> CsvTable:
    """Read a CSV file in UTF-8, UTF-16 or Windows-1252, separated by commas, semicolons, tabs or bars.

    Args:
        path: of the file.
        names: names of columns that are wanted, in lower case; the file may write them in upper case.

    Raises:
        DataError: the file has another encoding or too many bytes, two columns have one name, or a row has more values than
            there are columns.
        OSError: the file cannot be read.
    """
    text, encoding = _decode(path)
    try:
        separator, text = _find_separator(text, names)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
        columns = _name_columns(path, next(reader, []), names)
        rows = []
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if any(values[len(columns) :]):
                raise DataError(
                    f"{path}, line {reader.line_num}: the row has more values than columns. Put values that contain"
                    f" “{separator}” in quotes."
                )
            if any(values):
                values += [""] * (len(columns) - len(values))
                row = {name: value for name, value in zip(columns, values, strict=False) if name}
                rows.append((reader.line_num, row))
    except csv.Error as e:
        raise DataError(f"{path} is not a table of comma-separated values: {e}.") from e
    return CsvTable(path, tuple(filter(None, columns)), tuple(rows), encoding)


def _decode(path: Path) -> tuple[str, str]:
    """Read a file, and return its text and its encoding."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes. Split it.")
    if data.startswith(b"PK\3\4"):
        raise DataError(f"{path} is a spreadsheet in a ZIP file, such as .xlsx; save it as “CSV UTF-8”.")
    marked = next((encoding for mark, encoding in _BOMS.items() if data.startswith(mark)), None)
    # Text in UTF-16 without a mark begins with a Latin letter, half of which is zero.
    unmarked = "utf-16-be" if data[:1] == b"\0" else "utf-16-le" if data[1:2] == b"\0" else "utf-8"
    for encoding in (marked,) if marked else (unmarked, WINDOWS):
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path} is not in UTF-8; save it as “CSV UTF-8”.")


def _find_separator(text: str, names: Iterable[str]) -> tuple[str, str]:
    """Return the separator that finds most of the wanted columns, or else most columns, and the text with the header first."""
    if line := _SEPARATOR_LINE.match(text):
        return line[1], text[line.end() :]

    def found(separator: str) -> tuple[int, int]:
        try:
            header = next(
                csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True), []
            )
        except csv.Error:
            return 0, 0
        columns = {cell.strip().casefold() for cell in header}
        return len(columns.intersection(names)), len(header)

    return max(_SEPARATORS, key=found), text


def _name_columns(path: Path, header: Sequence[str], names: Sequence[str]) -> list[str]:
    columns = [" ".join(cell.split()) for cell in header]
    if len(columns) > MAX_COLUMNS:  # each row takes memory for all of them
        raise DataError(f"{path} has {len(columns):,} columns, more than {MAX_COLUMNS:,}; keep {' and '.join(names)}.")
    for name in names:
        if name not in columns:
            columns = [name if column.casefold() == name else column for column in columns]
    if repeated := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise DataError(f"{path} has two columns named {', '.join(repeated)}; rename one.")
    return columns


def path_forms(text: str) -> Iterable[str]:
    """Yield the forms of a path in a table: unchanged, with slashes for backslashes, and each in both Unicode forms."""
    for path in dict.fromkeys((text, text.replace("\\", "/") if os.sep == "/" else text)):
        yield path
        if not path.isascii():
            yield from (form for form in (normalize("NFC", path), normalize("NFD", path)) if form != path)
