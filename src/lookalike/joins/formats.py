"""The formats of pairs: columns ``left, right, distance``, left and right being the pictures' uris.

Each is written by appending: what was written up to any row can be kept, and the rest cut off. Parquet cannot be appended
to, so it is kept as a stream of Arrow record batches until it is whole.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.errors import MissingExtraError, UsageError

Row = tuple[str, str, float]

COLUMNS = ("left", "right", "distance")

_GROUP = 2**17
"""Rows of a row group of Parquet: some tens of megabytes."""


@dataclass(frozen=True)
class Format:
    """How rows become bytes.

    Attributes:
        begin: what a file begins with.
        encode: the bytes of some rows, to be appended.
        finish: makes the file of what was appended to another one; none where this is the file already.
    """

    begin: bytes
    encode: Callable[[Sequence[Row]], bytes]
    finish: Callable[[Path, Path], None] | None = None


def of(out: Path) -> Format:
    """The format that a file's name asks for.

    Raises:
        UsageError: an ending that is none of .csv, .jsonl, .parquet.
        MissingExtraError: Parquet without pyarrow.
    """
    makers: dict[str, Callable[[], Format]] = {".csv": lambda: CSV, ".jsonl": lambda: LINES, ".parquet": _parquet}
    if out.suffix not in makers:
        raise UsageError(f"{out} should end in {', '.join(makers)}.")
    return makers[out.suffix]()


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _lines(rows: Sequence[Row]) -> bytes:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    return "".join(encode(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows).encode()


CSV = Format((",".join(COLUMNS) + "\n").encode(), _csv)
LINES = Format(b"", _lines)


def _parquet() -> Format:
    try:
        import pyarrow as pa  # noqa: PLC0415 -- an extra
        import pyarrow.parquet as pq  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("parquet", "Writing Parquet") from e
    schema = pa.schema([("left", pa.string()), ("right", pa.string()), ("distance", pa.float32())])

    def encode(rows: Sequence[Row]) -> bytes:
        columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
        return bytes(pa.record_batch(columns, schema=schema).serialize()) if rows else b""

    def finish(stream: Path, out: Path) -> None:
        with (
            pa.OSFile(str(stream)) as source,
            pa.ipc.open_stream(source) as batches,
            pq.ParquetWriter(out, schema) as writer,
        ):
            kept: list[Any] = []
            for batch in batches:
                kept.append(batch)
                if sum(map(len, kept)) >= _GROUP:
                    writer.write_table(pa.Table.from_batches(kept, schema))
                    kept = []
            writer.write_table(pa.Table.from_batches(kept, schema))

    return Format(bytes(schema.serialize()), encode, finish)
