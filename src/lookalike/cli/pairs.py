"""The files that `lookalike join` writes: columns ``left, right, distance``, left and right being the pictures' uris."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lookalike import atomic
from lookalike.collection import Collection, Matches
from lookalike.errors import MissingExtraError, StorageError, UsageError

Row = tuple[str, str, float]
Write = Callable[[list[Row]], None]


def write(
    pairs: Iterator[Matches], out: Path | None, left: Collection, right: Collection, *, lines: bool = False
) -> int:
    """Stream a join into a file, or to standard output as CSV or JSON lines; returns the number of pairs.

    A file appears under its name when it is whole, so an interrupted join leaves none.

    Args:
        pairs: of the join.
        out: the file.
        left: the collection on the left.
        right: that on the right.
        lines: JSON lines on standard output rather than CSV.

    Raises:
        UsageError: an ending that is none of .csv, .jsonl, .parquet.
        MissingExtraError: Parquet without pyarrow.
        StorageError: the file cannot be written.
    """
    count = 0
    with _opened(out, lines=lines) as put:
        for block in pairs:
            ours, theirs = left.store.get(block.left), right.store.get(block.right)
            # An item removed since the join began has no uri any more.
            rows = [
                (ours[a].uri, theirs[b].uri, d)
                for a, b, d in zip(block.left, block.right, block.distances, strict=True)
                if a in ours and b in theirs
            ]
            put(rows)
            count += len(rows)
    return count


@contextmanager
def _opened(out: Path | None, *, lines: bool) -> Iterator[Write]:
    kinds = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if out is None:
        with (_jsonl if lines else _csv)(None) as put:
            yield put
        return
    if out.suffix not in kinds:
        raise UsageError(f"{out} should end in {', '.join(kinds)}.")
    try:
        with atomic.replacing(out) as part, kinds[out.suffix](part) as put:
            yield put
    except OSError as e:
        raise StorageError(f"{out} cannot be written: {e.strerror}.") from e


@contextmanager
def _csv(path: Path | None) -> Iterator[Write]:
    with nullcontext(sys.stdout) if path is None else path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("left", "right", "distance"))
        yield writer.writerows


@contextmanager
def _jsonl(path: Path | None) -> Iterator[Write]:
    with nullcontext(sys.stdout) if path is None else path.open("w", encoding="utf-8") as file:
        yield lambda rows: file.writelines(
            json.dumps({"left": a, "right": b, "distance": d}, ensure_ascii=False) + "\n" for a, b, d in rows
        )


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    try:
        import pyarrow as pa  # noqa: PLC0415 -- an extra
        import pyarrow.parquet as pq  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("parquet", "Writing Parquet") from e
    schema = pa.schema([("left", pa.string()), ("right", pa.string()), ("distance", pa.float32())])

    def put(rows: list[Row]) -> None:
        columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
        writer.write_table(pa.table(columns, schema=schema))

    with pq.ParquetWriter(path, schema) as writer:
        yield put
