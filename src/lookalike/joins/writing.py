"""Write the pairs of a join, as their images' uris, to a file or a stream."""

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
"""Pairs encoded at a time: enough to look up their uris efficiently, and some megabytes."""

_WORK = 2**32
"""Products of numbers after which the journal gets an entry: a few seconds of them."""

_ENTRY_PAIRS = 2**20
"""Pairs after which the journal gets an entry, however few the products."""


@dataclass(frozen=True)
class WrittenJoin:
    """Counts of a join that was written.

    Attributes:
        pairs: pairs in the file.
        removed: pairs left out because one of their items was removed from its collection meanwhile.
        begin: left items that an earlier run had finished.
    """

    pairs: int
    removed: int
    begin: int


def write(join: Join, out: Path, progress: Progress = SILENT) -> WrittenJoin:
    """Write a join to a file, which appears under its name when it is complete.

    If it is interrupted by Ctrl-C, ``kill -9`` or a full disk, the same call resumes it, and the file is the same to the
    last byte. Until then the work is in a folder beside the file, see `journal`. It starts anew if either store was
    written to in between, or if the join is another one.

    Args:
        join: the join.
        out: the file: .csv, .jsonl or .parquet.
        progress: receives the stage ``"joining"``, whose units are left items weighted by their work, at the beginning
            and after each chunk; and a note if it resumes an earlier run, or why it does not.

    Raises:
        UsageError: the name has another ending.
        MissingExtraError: Parquet needs pyarrow.
        BusyError: another process is writing this file.
        StorageError: the file cannot be written; the work so far is kept.
    """
    form = formats.of(out)
    identity = {**join.identity, "format": out.suffix, "version": "1"}
    with journal.open_journal(out, identity) as job:
        entry, reason = job.last()
        begin = entry.done
        if reason or begin:
            progress.note(
                f"{out}: starting anew: {reason}."
                if reason
                else f"{out}: resuming at {begin:,} of {join.total:,} items."
            )
        with job.written.open("r+b" if entry.size else "wb") as file:
            file.truncate(entry.size)
            file.seek(entry.size)
            for now in _append(join, entry, form, file, progress):
                job.enter(now, file)
        _publish(form, job.written, out)
        job.remove()
    return WrittenJoin(now.pairs, now.removed, begin)


def _append(join: Join, last: Entry, form: Format, file: BinaryIO, progress: Progress) -> Iterator[Entry]:
    """Append the remaining pairs; yield an entry each time one is due, and at the end."""
    rows = _Rows(join)
    if not last.size:
        file.write(form.begin)
    stride = _WORK // max(1, join.right.gallery.vectors.size)
    held: list[Pairs] = []
    now, reached = last, last.done
    _report(progress, join, reached, now.pairs)
    for chunk in join.chunks(last.done):
        held.append(chunk)
        complete, reached = chunk.done > reached, chunk.done
        waiting = sum(map(len, held))
        due = complete and (reached - last.done >= stride or now.pairs + waiting - last.pairs >= _ENTRY_PAIRS)
        if due or waiting >= _PAIRS:
            now, held = _put(rows, held, now, form, file), []
        if due:
            last = now = replace(now, done=reached, size=file.tell())
            yield last
        _report(progress, join, reached, now.pairs + sum(map(len, held)))
    now = _put(rows, held, now, form, file)
    yield replace(now, done=join.total, size=file.tell())


def _report(progress: Progress, join: Join, done: int, pairs: int) -> None:
    worked = round(join.total * join.share(done))
    progress.advance("joining", worked, join.total, f"{done:,} of {join.total:,} items, {pairs:,} pairs")


def _put(rows: "_Rows", held: list[Pairs], now: Entry, form: Format, file: BinaryIO) -> Entry:
    count = 0
    for found in rows.of(concatenate(held)):
        file.write(form.encode(found))
        count += len(found)
    removed = sum(map(len, held)) - count
    return replace(now, pairs=now.pairs + count, removed=now.removed + removed)


def _publish(form: Format, written: Path, out: Path) -> None:
    """Move the complete file to its name, durably."""
    complete = written
    try:
        if form.finish is not None:
            complete = written.with_name(f"complete{out.suffix}")
            form.finish(written, complete)
            atomic.sync(complete)
        complete.replace(out)
        atomic.sync(out.parent)
    finally:
        if form.finish is not None:
            with suppress(OSError):
                complete.unlink(missing_ok=True)


def stream(join: Join, form: Format, put: Callable[[bytes], object]) -> int:
    """Encode a join chunk by chunk, for example to standard output; return the number of pairs.

    Args:
        join: the join.
        form: of the bytes.
        put: receives them.
    """
    rows, count = _Rows(join), 0
    put(form.begin)
    for chunk in join.chunks():
        for found in rows.of(chunk):
            put(form.encode(found))
            count += len(found)
    return count


class _Rows:
    """Looks up the uris of both sides, each once, and keeps them: some 250 bytes for each item that occurs."""

    def __init__(self, join: Join) -> None:
        self._left: dict[int, str] = {}
        self._right: dict[int, str] = self._left if join.right is join.left else {}
        self._join = join

    def of(self, pairs: Pairs) -> Iterator[list[Row]]:
        """Make rows of pairs, some at a time, without pairs of items that were removed since the join began."""
        for part in chunks(len(pairs), _PAIRS):
            yield self._make(pairs.keep(np.arange(part.start, part.stop)))

    def _make(self, pairs: Pairs) -> list[Row]:
        left, right = pairs.left.tolist(), pairs.right.tolist()
        _look_up(self._left, self._join.left, left)
        _look_up(self._right, self._join.right, right)
        return [
            (self._left[a], self._right[b], distance)
            for a, b, distance in zip(left, right, pairs.distances.tolist(), strict=True)
            if a in self._left and b in self._right
        ]


def _look_up(known: dict[int, str], side: Side, rows: list[int]) -> None:
    """Add the uris of rows that are not known yet."""
    ids = {side.snapshot.ids[row]: row for row in set(rows).difference(known)}
    known.update((ids[ident], item.uri) for ident, item in side.store.get(list(ids)).items())
