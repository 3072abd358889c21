"""File formats of pairs: CSV, JSON lines and Parquet, with the columns ``left, right, distance``.

Left and right are the images' uris. Rows are appended, so that a job can truncate a file after any row and resume there.
Parquet files cannot be appended to, so their rows are a stream of Arrow record batches until the job ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike import tables
from lookalike.errors import MissingExtraError, StorageError, UsageError

Row = tuple[str, str, float]

COLUMNS = ("left", "right", "distance")

_GROUP = 2**17
"""Rows of a row group of Parquet: tens of megabytes."""


@dataclass(frozen=True)
class Format:
    """A file format of pairs.

    Attributes:
        begin: the first bytes of a file.
        encode: encodes rows as bytes to append.
        finish: converts the appended bytes (first path) to the file (second path); none if they are the file.
    """

    begin: bytes
    encode: Callable[[Sequence[Row]], bytes]
    finish: Callable[[Path, Path], None] | None = None


def find_format(out: Path) -> Format:
    """Find the format for the suffix of a file.

    Raises:
        UsageError: the name does not end in .csv, .jsonl or .parquet.
        MissingExtraError: Parquet needs pyarrow.
    """
    makers: dict[str, Callable[[], Format]] = {".csv": lambda: CSV, ".jsonl": lambda: LINES, ".parquet": _parquet}
    if out.suffix not in makers:
        raise UsageError(f"The format of {out} is unknown. Its name must end in {', '.join(makers)}.")
    return makers[out.suffix]()


def _encode_lines(rows: Sequence[Row]) -> bytes:
    return tables.to_json_lines(dict(zip(COLUMNS, row, strict=True)) for row in rows)


CSV = Format((",".join(COLUMNS) + "\n").encode(), tables.to_csv)
LINES = Format(b"", _encode_lines)


def _parquet() -> Format:
    try:
        import pyarrow as pa  # noqa: PLC0415 -- an extra
        import pyarrow.parquet as pq  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("parquet", "Writing Parquet") from e
    schema = pa.schema([("left", pa.string()), ("right", pa.string()), ("distance", pa.float32())])

    def encode(rows: Sequence[Row]) -> bytes:
        columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
        for names in columns[:2]:
            names[:] = map(tables.to_unicode, names)
        return bytes(pa.record_batch(columns, schema=schema).serialize()) if rows else b""

    def finish(stream: Path, out: Path) -> None:
        with (
            pa.OSFile(str(stream)) as source,
            pa.ipc.open_stream(source) as batches,
            pq.ParquetWriter(out, schema) as writer,
        ):
            group: list[Any] = []
            for batch in batches:
                group.append(batch)
                if sum(map(len, group)) >= _GROUP:
                    writer.write_table(pa.Table.from_batches(group, schema))
                    group = []
            writer.write_table(pa.Table.from_batches(group, schema))

    def finish_or_say_why(stream: Path, out: Path) -> None:
        try:
            finish(stream, out)
        except pa.ArrowException as e:
            reason = str(e).partition("\n")[0]
            raise StorageError(
                f"{stream} is damaged: {reason}. Delete its folder, and run the same command again."
            ) from e

    return Format(bytes(schema.serialize()), encode, finish_or_say_why)
