"""Writing of the pairs of a join, as the uris of their images, to a file or a stream."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lookalike import atomic
from lookalike.joins import formats, journal
from lookalike.joins.formats import Format, Row
from lookalike.joins.journal import Entry
from lookalike.joins.matching import Join, Side
from lookalike.progress import SILENT, Progress
from lookalike.search import Pairs
from lookalike.search.answers import concatenate
from lookalike.search.chunks import chunks

_PAIRS = 2**15
"""Pairs encoded at a time: enough for an efficient look-up of their uris, and a few megabytes."""

_WORK = 2**32
"""Products of numbers after which the journal gets an entry: a few seconds."""

_ENTRY_PAIRS = 2**20
"""Pairs after which the journal gets an entry in any case."""


@dataclass(frozen=True)
class WrittenJoin:
    """Counts of a join that was written.

    Attributes:
        pairs: pairs in the file.
        removed: pairs without one of their items, which was removed meanwhile; they are not in the file.
        begin: left items that an earlier run finished.
    """

    pairs: int
    removed: int
    begin: int


def write(join: Join, out: Path, progress: Progress = SILENT) -> WrittenJoin:
    """Write a join to a file atomically, and resumably.

    After an interruption by Ctrl-C, ``kill -9`` or a full disk, the same call resumes the join, and the file is
    byte-identical. Until then the pairs are in a folder beside the file, see `journal`. The join starts over if either
    store or the join itself changed.

    Args:
        join: the join.
        out: the file: .csv, .jsonl or .parquet.
        progress: receives the stage ``"joining"``, whose units are left items weighted by their work, at the beginning
            and after each chunk. It also receives a note if an earlier run is resumed or cannot be resumed.

    Raises:
        UsageError: the file has another suffix.
        MissingExtraError: Parquet needs pyarrow.
        BusyError: another process is writing this file.
        StorageError: the file cannot be written; the pairs so far are kept.
    """
    file_format = formats.find_format(out)
    identity = {**join.identity, "format": out.suffix, "version": "1"}
    with journal.open_journal(out, identity) as job:
        entry, reason = job.last(join.total)
        begin = entry.done
        if reason:
            progress.note(f"{out}: starting over: {reason}.")
        elif begin:
            progress.note(f"{out}: resuming at {begin:,} of {join.total:,} items.")
        if not entry.size:
            job.written.unlink(missing_ok=True)
        with job.written.open("r+b" if entry.size else "xb") as file:
            file.truncate(entry.size)
            file.seek(entry.size)
            for current in _append(join, entry, file_format, file, progress):
                job.enter(current, file)
        _publish(file_format, job.written, out)
        job.remove()
    return WrittenJoin(current.pairs, current.removed, begin)


def _append(join: Join, last: Entry, file_format: Format, file: BinaryIO, progress: Progress) -> Iterator[Entry]:
    """Append the remaining pairs; yield an entry each time one is due, and at the end."""
    rows = _Rows(join)
    if not last.size:
        file.write(file_format.begin)
    stride = _WORK // max(1, math.prod(join.right.gallery.vectors.shape))
    buffer: list[Pairs] = []
    current, done = last, last.done
    _report(progress, join, done, current.pairs)
    for chunk in join.chunks(last.done):
        buffer.append(chunk)
        complete, done = chunk.done > done, chunk.done
        buffered = sum(map(len, buffer))
        due = complete and (done - last.done >= stride or current.pairs + buffered - last.pairs >= _ENTRY_PAIRS)
        if due or buffered >= _PAIRS:
            current, buffer = _write_pairs(rows, buffer, current, file_format, file), []
        if due:
            last = current = replace(current, done=done, size=file.tell())
            yield last
        _report(progress, join, done, current.pairs + sum(map(len, buffer)))
    current = _write_pairs(rows, buffer, current, file_format, file)
    yield replace(current, done=join.total, size=file.tell())


def _report(progress: Progress, join: Join, done: int, pairs: int) -> None:
    worked = round(join.total * join.share(done))
    progress.advance("joining", worked, join.total, f"{done:,} of {join.total:,} items, {pairs:,} pairs")


def _write_pairs(rows: "_Rows", buffer: list[Pairs], entry: Entry, file_format: Format, file: BinaryIO) -> Entry:
    count = 0
    for group in rows.of(concatenate(buffer)):
        file.write(file_format.encode(group))
        count += len(group)
    removed = sum(map(len, buffer)) - count
    return replace(entry, pairs=entry.pairs + count, removed=entry.removed + removed)


def _publish(file_format: Format, written: Path, out: Path) -> None:
    """Move the complete file to its name, durably."""
    complete = written
    try:
        if file_format.finish is not None:
            complete = written.with_name(f"complete{out.suffix}")
            complete.unlink(missing_ok=True)
            file_format.finish(written, complete)
            atomic.sync(complete)
        complete.replace(out)
        atomic.sync(out.parent)
    finally:
        if file_format.finish is not None:
            with suppress(OSError):
                complete.unlink(missing_ok=True)


def stream(join: Join, file_format: Format, write_bytes: Callable[[bytes], object]) -> int:
    """Encode a join in chunks, for example for standard output; return the number of pairs.

    Args:
        join: the join.
        file_format: of the pairs.
        write_bytes: receives the bytes.
    """
    rows, count = _Rows(join), 0
    write_bytes(file_format.begin)
    for chunk in join.chunks():
        for group in rows.of(chunk):
            write_bytes(file_format.encode(group))
            count += len(group)
    return count


class _Rows:
    """A cache of the uris of both sides, about 250 bytes for each item in a pair."""

    def __init__(self, join: Join) -> None:
        self._left: dict[int, str] = {}
        self._right: dict[int, str] = self._left if join.right is join.left else {}
        self._join = join

    def of(self, pairs: Pairs) -> Iterator[list[Row]]:
        """Convert pairs to rows in groups, without pairs of items that were removed since the join began."""
        for part in chunks(len(pairs), _PAIRS):
            yield self._to_rows(pairs.keep(np.arange(part.start, part.stop)))

    def _to_rows(self, pairs: Pairs) -> list[Row]:
        left, right = pairs.left.tolist(), pairs.right.tolist()
        _look_up(self._left, self._join.left, left)
        _look_up(self._right, self._join.right, right)
        return [
            (self._left[a], self._right[b], distance)
            for a, b, distance in zip(left, right, pairs.distances.tolist(), strict=True)
            if a in self._left and b in self._right
        ]


def _look_up(known: dict[int, str], side: Side, rows: list[int]) -> None:
    """Look up the uris of rows that are not known."""
    ids = {side.snapshot.ids[row]: row for row in set(rows).difference(known)}
    known.update((ids[ident], item.uri) for ident, item in side.store.get(list(ids)).items())
