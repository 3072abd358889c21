"""Tables of results: text for terminals, HTML for notebooks, data frames."""

import base64
import csv
import html
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.errors import LookalikeError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Row = Sequence[str]

_IMAGE_SIDE = 160
"""The side of an image in a notebook, in CSS pixels."""


# Control characters, line and paragraph separators, marks of direction, invisible characters, and lone surrogates, which
# stand for bytes outside UTF-8. Joiners between two characters outside ASCII stay: emoji and some scripts need them.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff"
    "\uffa0\ufff9-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
_to_json = json.JSONEncoder(ensure_ascii=False).encode

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Escape characters that control a terminal, break a line or are invisible: ``\x1b``, ``\n``, ``\u202e``.

    A byte of a file name that is not UTF-8 becomes ``\xff``.
    """
    return text if text.isprintable() else _UNPRINTABLE.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 -- how Python represents a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def shorten(text: str, limit: int) -> str:
    """Limit a text to a number of characters; the last one is then “…”."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def text_width(text: str) -> int:
    """Count the columns that a text takes in a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(c) or c in "\u200c\u200d\ufe0f"
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


def bar(share: float | None, width: int = 8) -> str:
    """Draw a share as a bar of at most ``width`` characters; nothing if it is unknown."""
    eighths = round((share or 0) * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def plural(number: int, noun: str) -> str:
    """Format a number with its noun, in the plural if it is not 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def text_table(names: Row, rows: Sequence[Row]) -> str:
    """Format a table as text, with numbers aligned right; it never wraps lines, so that paths can be copied and piped."""
    cells = [[printable(cell) for cell in row] for row in (names, *rows)]
    widths = [max(map(text_width, column)) for column in zip(*cells, strict=True)]
    numeric = [all(row[i][:1].isdigit() for row in cells[1:] if row[i]) for i in range(len(names))]
    lines = (
        "  ".join(_pad(cell, w, right=n) for cell, w, n in zip(row, widths, numeric, strict=True)) for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _pad(cell: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - text_width(cell))
    return blanks + cell if right else cell + blanks


def html_table(names: Row, rows: Sequence[Row]) -> str:
    """Format a table as HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_figure(jpeg: Callable[[], bytes], caption: Sequence[str], title: str) -> str:
    """Format an image with its caption as HTML; show an empty frame if the image cannot be read.

    Args:
        jpeg: makes the image, a JPEG.
        caption: lines below the image.
        title: tooltip of the image, and its text for screen readers.
    """
    style = f"width:{_IMAGE_SIDE}px;height:{_IMAGE_SIDE}px;object-fit:contain"
    try:
        image = f'<img style="{style}" alt="{escape(title)}" src="{jpeg_uri(jpeg())}">'
    except (LookalikeError, OSError):  # such as a file that was deleted since it was indexed
        frame = "display:grid;place-items:center;border:1px dashed;box-sizing:border-box"
        image = f'<div style="{style};{frame}">no image</div>'
    lines = "<br>".join(escape(line) for line in caption)
    return (
        f'<figure style="margin:0;width:{_IMAGE_SIDE}px" title="{escape(title)}">{image}'
        f'<figcaption style="overflow-wrap:anywhere">{lines}</figcaption></figure>'
    )


def html_row(figures: Sequence[str]) -> str:
    """Format figures side by side as HTML."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(figures)}</div>'


def jpeg_uri(jpeg: bytes) -> str:
    """Encode a JPEG as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def escape(text: str) -> str:
    """Escape text for HTML, and its control characters."""
    return html.escape(printable(text))


def to_csv(rows: Sequence[Sequence[object]]) -> bytes:
    """Encode rows as CSV in UTF-8. A byte of a file name that is not UTF-8 stays this byte."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(rows)
    if "\r" in text.getvalue():  # which ends a row, but csv quotes it only from Python 3.13 on
        text = io.StringIO()
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")


def to_json_lines(values: Iterable[object]) -> bytes:
    """Encode values as lines of JSON in UTF-8. A byte of a file name that is not UTF-8 becomes an escape of JSON."""
    return "".join(_to_json(value) + "\n" for value in values).encode(errors="backslashreplace")


def to_unicode(text: str) -> str:
    """Escape bytes of a file name that are not UTF-8, for files that hold Unicode alone, such as Parquet."""
    return text.encode(errors="backslashreplace").decode()


def to_pandas(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> "pd.DataFrame":
    """Convert rows to a DataFrame.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("pandas", "A DataFrame") from e
    return pd.DataFrame(list(rows), columns=list(columns))


def to_arrow(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> "pa.Table":
    """Convert rows to an Arrow table.

    Args:
        rows: values by column name.
        columns: name → ``"text"``, ``"integer"``, ``"number"``, ``"boolean"`` or ``"attributes"`` (a mapping from strings to
            strings).

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("parquet", "An Arrow table") from e
    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "attributes": pa.map_(pa.string(), pa.string()),
    }
    arrays = [
        pa.array(
            [list(row[name].items()) if kind == "attributes" and row[name] is not None else row[name] for row in rows],
            types[kind],
        )
        for name, kind in columns.items()
    ]
    return pa.Table.from_arrays(arrays, names=list(columns))


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Write rows to a Parquet file; see `to_arrow`.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    table = to_arrow(rows, columns)
    import pyarrow.parquet as pq  # noqa: PLC0415 -- an extra

    pq.write_table(table, path)
