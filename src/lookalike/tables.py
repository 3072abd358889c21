"""Tables of results: text for terminals, HTML for notebooks, data frames."""

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookalike.errors import LookalikeError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Row = Sequence[str]

SIDE = 160
"""The side of an image in a notebook, in CSS pixels."""


# Control characters, marks that reverse the direction of text, and lone surrogates, which stand for bytes that are not UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(line: str) -> str:
    """Replace control characters by �: a stranger's file name must not steer a terminal."""
    return _UNPRINTABLE.sub("\ufffd", line)


def text_table(names: Row, rows: Sequence[Row]) -> str:
    """Format a table whose lines are never folded, so that paths can be copied and piped; numbers go right."""
    cells = [[printable(cell) for cell in row] for row in (names, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(row[i][:1].isdigit() for row in cells[1:] if row[i]) for i in range(len(names))]
    lines = (
        "  ".join(cell.rjust(w) if n else cell.ljust(w) for cell, w, n in zip(row, widths, numeric, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def html_table(names: Row, rows: Sequence[Row]) -> str:
    """Format a table as HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_figure(jpeg: Callable[[], bytes], caption: Sequence[str], title: str) -> str:
    """Format an image with its caption as HTML; a frame takes the place of an image that cannot be read.

    Args:
        jpeg: makes the image, a JPEG.
        caption: lines below it.
        title: of the image, for the pointer and for screen readers.
    """
    style = f"width:{SIDE}px;height:{SIDE}px;object-fit:contain"
    try:
        image = f'<img style="{style}" alt="{escape(title)}" src="{jpeg_uri(jpeg())}">'
    except (LookalikeError, OSError):  # such as a file that was deleted since it was indexed
        frame = "display:grid;place-items:center;border:1px dashed;box-sizing:border-box"
        image = f'<div style="{style};{frame}">no image</div>'
    lines = "<br>".join(escape(line) for line in caption)
    return (
        f'<figure style="margin:0;width:{SIDE}px" title="{escape(title)}">{image}'
        f'<figcaption style="overflow-wrap:anywhere">{lines}</figcaption></figure>'
    )


def html_row(figures: Sequence[str]) -> str:
    """Put figures side by side."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(figures)}</div>'


def jpeg_uri(jpeg: bytes) -> str:
    """Return a JPEG as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def escape(text: str) -> str:
    """Escape text for HTML, without control characters."""
    return html.escape(printable(text))


def to_pandas(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> "pd.DataFrame":
    """Make a DataFrame.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("pandas", "A DataFrame") from e
    return pd.DataFrame(list(rows), columns=list(columns))


def to_arrow(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> "pa.Table":
    """Make an Arrow table.

    Args:
        rows: the values of each column.
        columns: name → ``"text"``, ``"number"`` or ``"attributes"``, which is a mapping of texts.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("parquet", "An Arrow table") from e
    types = {"text": pa.string(), "number": pa.float64(), "attributes": pa.map_(pa.string(), pa.string())}
    arrays = [
        pa.array(
            [list(row[name].items()) if kind == "attributes" else row[name] for row in rows],
            types[kind],
        )
        for name, kind in columns.items()
    ]
    return pa.Table.from_arrays(arrays, names=list(columns))
