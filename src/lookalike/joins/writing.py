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
from lookalike.search import Pairs
from lookalike.search.answers import joined

_PAIRS = 2**15
"""Pairs that become rows at a time: enough for looking up their uris in one go, and some megabytes."""

_WORK = 2**32
"""Products of numbers after which is noted how far the job is: a few seconds of them."""

_MOST = 2**20
"""Pairs after which is noted how far the job is, however few the products."""


@dataclass(frozen=True)
class Progress:
    """How far a join is.

    Attributes:
        done: items on the left that are dealt with, those of an earlier run among them.
        total: items on the left.
        share: how much of the work is behind, in 0…1.
        pairs: how many there are by now.
    """

    done: int
    total: int
    share: float
    pairs: int


@dataclass(frozen=True)
class Written:
    """What a join wrote.

    Attributes:
        pairs: how many.
        removed: pairs that were left out, as one of their items was removed from its collection meanwhile.
        begin: items on the left that an earlier run had dealt with.
    """

    pairs: int
    removed: int
    begin: int


def write(
    join: Join,
    out: Path,
    tell: Callable[[Progress], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Written:
    """Write a join into a file, which appears under its name when it is whole.

    Ended in any way, by Ctrl-C, ``kill -9`` or a full disk, the same call goes on where it was, and the file is the same to
    the last byte. Until then what is done is in a folder beside it: see `journal`. If either store has been written to in
    between, or something else is asked for, it starts anew.

    Args:
        join: what is written.
        out: the file: .csv, .jsonl or .parquet.
        tell: hears how far it is, at the beginning and after each block.
        note: hears, in a sentence, that an earlier run goes on, or why it does not.

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
            note(f"{out}: starting anew: {anew}." if anew else f"{out}: going on at {begin:,} of {join.total:,} items.")
        with job.written.open("r+b" if entry.size else "wb") as file:
            file.truncate(entry.size)
            file.seek(entry.size)
            for now in _append(join, entry, form, file, tell):
                job.enter(now, file)
        _appear(form, job.written, out)
        job.remove()
    return Written(now.pairs, now.removed, begin)


def _append(join: Join, last: Entry, form: Format, file: BinaryIO, tell: Callable[[Progress], None]) -> Iterator[Entry]:
    """Write what is still to come. Each time that so much is written as an entry says, it is yielded."""
    rows = _Rows(join)
    if not last.size:
        file.write(form.begin)
    stride = _WORK // max(1, join.right.gallery.vectors.size)
    held: list[Pairs] = []
    now, reached = last, last.done
    tell(Progress(reached, join.total, join.share(reached), now.pairs))
    for block in join.blocks(last.done):
        held.append(block)
        whole, reached = block.done > reached, block.done
        waiting = sum(map(len, held))
        due = whole and (reached - last.done >= stride or now.pairs + waiting - last.pairs >= _MOST)
        if due or waiting >= _PAIRS:
            now, held = _put(rows, held, now, form, file), []
        if due:
            last = now = replace(now, done=reached, size=file.tell())
            yield last
        tell(Progress(reached, join.total, join.share(reached), now.pairs + sum(map(len, held))))
    now = _put(rows, held, now, form, file)
    yield replace(now, done=join.total, size=file.tell())


def _put(rows: "_Rows", held: list[Pairs], now: Entry, form: Format, file: BinaryIO) -> Entry:
    count = 0
    for found in rows.of(joined(held)):
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
    for block in join.blocks():
        for found in rows.of(block):
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
