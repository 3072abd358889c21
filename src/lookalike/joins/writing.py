"""Pairs with their pictures' uris, into a file or a stream."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lookalike.joins import formats, journal
from lookalike.joins.formats import Format, Row
from lookalike.joins.journal import Entry
from lookalike.joins.matching import Join, Side
from lookalike.progress import SILENT, Progress
from lookalike.search import Pairs
from lookalike.search.answers import concatenate

_PAIRS = 2**15
"""Pairs that become rows at a time: enough for looking up their uris in one go, and some megabytes."""

_WORK = 2**32
"""Products of numbers after which is noted how far the job is: a few seconds of them."""

_MOST = 2**20
"""Pairs after which is noted how far the job is, however few the products."""


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
    """Write a join into a file, which appears under its name when it is whole.

    Ended in any way, by Ctrl-C, ``kill -9`` or a full disk, the same call goes on where it was, and the file is the same to
    the last byte. Until then what is done is in a folder beside it: see `journal`. If either store has been written to in
    between, or something else is asked for, it starts anew.

    Args:
        join: what is written.
        out: the file: .csv, .jsonl or .parquet.
        progress: receives the stage ``"joining"``, whose units are left items weighted by their work, at the beginning
            and after each chunk; and a note if an earlier run goes on, or why it does not.

    Raises:
        UsageError: another ending.
        MissingExtraError: Parquet without pyarrow.
        BusyError: another process is writing this file.
        StorageError: it cannot be written; what was written stays.
    """
    form = formats.of(out)
    identity = {**join.identity, "format": out.suffix, "version": "1"}
    with journal.opened(out, identity) as job:
        entry, anew = job.last()
        begin = entry.done
        if anew or begin:
            progress.note(
                f"{out}: starting anew: {anew}." if anew else f"{out}: going on at {begin:,} of {join.total:,} items."
            )
        with job.written.open("r+b" if entry.size else "wb") as file:
            file.truncate(entry.size)
            file.seek(entry.size)
            for now in _append(join, entry, form, file, progress):
                job.enter(now, file)
        _appear(form, job.written, out)
        job.remove()
    return WrittenJoin(now.pairs, now.removed, begin)


def _append(join: Join, last: Entry, form: Format, file: BinaryIO, progress: Progress) -> Iterator[Entry]:
    """Write what is still to come. Each time that so much is written as an entry says, it is yielded."""
    rows = _Rows(join)
    if not last.size:
        file.write(form.begin)
    stride = _WORK // max(1, join.right.gallery.vectors.size)
    held: list[Pairs] = []
    now, reached = last, last.done
    _report(progress, join, reached, now.pairs)
    for chunk in join.chunks(last.done):
        held.append(chunk)
        whole, reached = chunk.done > reached, chunk.done
        waiting = sum(map(len, held))
        due = whole and (reached - last.done >= stride or now.pairs + waiting - last.pairs >= _MOST)
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


def _appear(form: Format, written: Path, out: Path) -> None:
    if form.finish is None:
        written.replace(out)
        return
    whole = written.with_name(f"whole{out.suffix}")
    try:
        form.finish(written, whole)
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.replace(out)
    finally:
        with suppress(OSError):
            whole.unlink(missing_ok=True)


def stream(join: Join, form: Format, put: Callable[[bytes], object]) -> int:
    """Pass a join on as it comes, such as to standard output; returns the number of pairs."""
    rows, count = _Rows(join), 0
    put(form.begin)
    for chunk in join.chunks():
        for found in rows.of(chunk):
            put(form.encode(found))
            count += len(found)
    return count


class _Rows:
    """The uris of both sides; each is looked up once, and kept: some 250 bytes for each item that occurs."""

    def __init__(self, join: Join) -> None:
        self._left: dict[int, str] = {}
        self._right: dict[int, str] = self._left if join.right is join.left else {}
        self._join = join

    def of(self, pairs: Pairs) -> Iterator[list[Row]]:
        """The rows of any number of pairs, without those of which an item was removed since the join began."""
        for begin in range(0, len(pairs), _PAIRS):
            yield self._some(pairs.keep(np.arange(begin, min(begin + _PAIRS, len(pairs)))))

    def _some(self, pairs: Pairs) -> list[Row]:
        left, right = pairs.left.tolist(), pairs.right.tolist()
        ours, theirs = self._left, self._right
        _look_up(ours, self._join.left, left)
        _look_up(theirs, self._join.right, right)
        return [
            (ours[a], theirs[b], d)
            for a, b, d in zip(left, right, pairs.distances.tolist(), strict=True)
            if a in ours and b in theirs
        ]


def _look_up(known: dict[int, str], side: Side, rows: list[int]) -> None:
    ids = {side.snapshot.ids[row]: row for row in set(rows).difference(known)}
    known.update((ids[ident], item.uri) for ident, item in side.store.get(list(ids)).items())
