"""How far a job is that writes a join: a folder beside the file to be, which is there for as long as the job is not done.

It holds what was written so far, and a journal: one row of SQLite, which is written whole or not at all and which one
process at a time may open. What was written after the last entry is cut off when the job goes on.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

from lookalike.errors import BusyError, StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (identity TEXT NOT NULL, done INTEGER NOT NULL, size INTEGER NOT NULL,
    pairs INTEGER NOT NULL, removed INTEGER NOT NULL) STRICT
"""

_JOURNAL = "journal.sqlite"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Entry:
    """How far the job is.

    Attributes:
        done: items on the left of which all pairs are written.
        size: bytes that are written.
        pairs: how many these are.
        removed: pairs that were left out, as one of their items was removed meanwhile.
    """

    done: int = 0
    size: int = 0
    pairs: int = 0
    removed: int = 0


class Journal:
    """The folder of a job; see the module and `opened`."""

    def __init__(self, out: Path, sql: sqlite3.Connection, identity: str) -> None:
        """Use `opened`."""
        self.folder = place(out)
        self.written = self.folder / f"pairs{out.suffix}"
        self._sql, self._identity = sql, identity

    def last(self) -> tuple[Entry, str]:
        """The last entry of a job of this identity, else the first one; and why the job starts anew, where one was begun."""
        sql = self._sql
        row = sql.execute("SELECT identity, done, size, pairs, removed FROM job").fetchone()
        if row is None:
            return Entry(), ""
        if row[0] != self._identity:
            before, now = json.loads(row[0]), json.loads(self._identity)
            changed = [key for key in now if before.get(key) != now[key]]
            return Entry(), f"{' and '.join(changed)} changed since it was begun"
        entry = Entry(*row[1:])
        if not self.written.exists() or self.written.stat().st_size < entry.size:
            return Entry(), f"{self.written} is not there whole"
        return entry, ""

    def enter(self, entry: Entry, file: BinaryIO) -> None:
        """Make sure that all this is on the disk."""
        file.flush()
        os.fsync(file.fileno())
        self._sql.execute("BEGIN")
        self._sql.execute("DELETE FROM job")
        self._sql.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?)", (self._identity, *astuple(entry)))
        self._sql.execute("COMMIT")

    def remove(self) -> None:
        """The job is done."""
        with suppress(OSError):  # the file is there, which is what was asked for
            for name in (self.written.name, _JOURNAL, f"{_JOURNAL}-journal"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()


def place(out: Path) -> Path:
    """The folder of the job that makes this file."""
    return out.with_name(out.name + ".part")


@contextmanager
def opened(out: Path, identity: Mapping[str, str]) -> Iterator[Journal]:
    """Open the folder of a job, or make it.

    Args:
        out: the file that the job makes.
        identity: what the file follows from.

    Raises:
        BusyError: another process has it.
        StorageError: it cannot be written.
    """
    with _translated(out):
        if out.is_dir():
            raise StorageError(f"{out} cannot be written: it is a folder.")
        folder = place(out)
        with suppress(FileExistsError):
            folder.mkdir()
        if not folder.is_dir() or (not (folder / _JOURNAL).exists() and any(folder.iterdir())):
            raise StorageError(f"{folder} is in the way: it is no unfinished join. Move it, or give another --out.")
        sql = _locked(folder)
        try:
            yield Journal(out, sql, json.dumps(dict(identity)))
        finally:
            sql.close()


def _locked(folder: Path) -> sqlite3.Connection:
    """The journal, which nobody else can open until it is closed; an empty one in place of one that is damaged."""
    sql = sqlite3.connect(folder / _JOURNAL, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        sql.execute("PRAGMA locking_mode = EXCLUSIVE")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("BEGIN EXCLUSIVE")  # in this mode the end of the transaction does not let go
        sql.execute(_SCHEMA)
        sql.execute("COMMIT")
    except sqlite3.OperationalError:
        sql.close()
        raise
    except sqlite3.DatabaseError:
        sql.close()
        (folder / _JOURNAL).unlink()
        return _locked(folder)
    return sql


@contextmanager
def _translated(out: Path) -> Iterator[None]:
    """The system's errors and SQLite's as ours."""
    kept = f"{place(out)} keeps what is done: the same command goes on there."
    try:
        yield
    except OSError as e:
        if e.errno in _FULL:
            raise StorageError(f"The disk is full. Make room; {kept}") from e
        if not out.parent.is_dir():
            raise StorageError(f"{out} cannot be written: there is no folder {out.parent}. Make it first.") from e
        raise StorageError(f"{out} cannot be written: {e.strerror or e}. Give another --out.") from e
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF  # Python's own have none
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(f"Another process is writing {out}. Wait for it, or give another --out.") from e
        if code == sqlite3.SQLITE_FULL:
            raise StorageError(f"The disk is full. Make room; {kept}") from e
        raise StorageError(f"{place(out)} cannot be used: {e}. {kept}") from e
