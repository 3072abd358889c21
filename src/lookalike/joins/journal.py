"""The journal of a job that writes a join: how far it is, so that it can be resumed.

It lies in a folder beside the file, which exists until the job is done. The folder holds the bytes written so far and a
journal: one row of SQLite, which is written atomically, and which only one process may open. Bytes written after the last
entry are cut off when the job resumes.
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
        done: left items whose pairs are all written.
        size: bytes written.
        pairs: pairs written.
        removed: pairs left out because one of their items was removed meanwhile.
    """

    done: int = 0
    size: int = 0
    pairs: int = 0
    removed: int = 0


class Journal:
    """The folder of a job, made by `open_journal`."""

    def __init__(self, out: Path, sql: sqlite3.Connection, identity: str) -> None:
        """Use `open_journal`."""
        self.folder = job_folder(out)
        self.written = self.folder / f"pairs{out.suffix}"
        self._sql, self._identity = sql, identity

    def last(self) -> tuple[Entry, str]:
        """Return the last entry of this job, or an empty one, and the reason if an unfinished job cannot be resumed."""
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
            return Entry(), f"{self.written} is incomplete"
        return entry, ""

    def enter(self, entry: Entry, file: BinaryIO) -> None:
        """Write an entry, once the bytes that it counts are on the disk."""
        file.flush()
        os.fsync(file.fileno())
        self._sql.execute("BEGIN")
        self._sql.execute("DELETE FROM job")
        self._sql.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?)", (self._identity, *astuple(entry)))
        self._sql.execute("COMMIT")

    def remove(self) -> None:
        """Remove the folder of a finished job."""
        with suppress(OSError):  # the file is written, which is what matters
            for name in (self.written.name, _JOURNAL, f"{_JOURNAL}-journal"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()


def job_folder(out: Path) -> Path:
    """Return the folder of the job that makes a file."""
    return out.with_name(out.name + ".part")


@contextmanager
def open_journal(out: Path, identity: Mapping[str, str]) -> Iterator[Journal]:
    """Open the folder of a job, or make it.

    Args:
        out: the file that the job makes.
        identity: what determines the file; a job of another identity is not resumed.

    Raises:
        BusyError: another process has it open.
        StorageError: it cannot be written.
    """
    with _translate_errors(out):
        if out.is_dir():
            raise StorageError(f"{out} cannot be written: it is a folder.")
        folder = job_folder(out)
        with suppress(FileExistsError):
            folder.mkdir()
        if not folder.is_dir() or (not (folder / _JOURNAL).exists() and any(folder.iterdir())):
            raise StorageError(f"{folder} is in the way: it is not an unfinished join. Move it, or give another --out.")
        sql = _open_locked(folder)
        try:
            yield Journal(out, sql, json.dumps(dict(identity)))
        finally:
            sql.close()


def _open_locked(folder: Path) -> sqlite3.Connection:
    """Open the journal and lock it for other processes; a damaged one is replaced by an empty one."""
    sql = sqlite3.connect(folder / _JOURNAL, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        sql.execute("PRAGMA locking_mode = EXCLUSIVE")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("BEGIN EXCLUSIVE")  # in this mode the lock outlives the transaction
        sql.execute(_SCHEMA)
        sql.execute("COMMIT")
    except sqlite3.OperationalError:
        sql.close()
        raise
    except sqlite3.DatabaseError:
        sql.close()
        (folder / _JOURNAL).unlink()
        return _open_locked(folder)
    return sql


@contextmanager
def _translate_errors(out: Path) -> Iterator[None]:
    """Raise the system's errors and SQLite's as errors of lookalike."""
    kept = f"{job_folder(out)} keeps what is done: run the same command again to resume."
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
        raise StorageError(f"{job_folder(out)} cannot be used: {e}. {kept}") from e
