"""The journal of a job that writes a join, which records its progress so that it can be resumed.

The job has a folder beside its file until it is done. The folder has the bytes written so far, and the journal: one row of
SQLite, which is written atomically, and which only one process can open. A resumed job truncates the bytes after the last
entry. A folder that another person made is checked: its files are not links, and its values fit the join.
"""

import errno
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

from lookalike.errors import BusyError, StorageError, reason_of
from lookalike.untrusted import databases
from lookalike.untrusted.databases import Connection
from lookalike.untrusted.parsing import ParseError, parse_json

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (identity TEXT NOT NULL, done INTEGER NOT NULL, size INTEGER NOT NULL,
    pairs INTEGER NOT NULL, removed INTEGER NOT NULL) STRICT
"""

_JOURNAL = "journal.sqlite"

# The limit of a count and of a size in bytes.
_MAX = 2**53

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Entry:
    """The progress of a job.

    Attributes:
        done: number of left items whose pairs are all written.
        size: bytes written.
        pairs: pairs written.
        removed: pairs without one of their items, which was removed meanwhile; they are not written.
    """

    done: int = 0
    size: int = 0
    pairs: int = 0
    removed: int = 0


class Journal:
    """The journal and the folder of a job."""

    def __init__(self, out: Path, sql: Connection, identity: str) -> None:
        """Make a journal of an open database; use `open_journal` instead."""
        self.folder = job_folder(out)
        self.written = self.folder / f"pairs{out.suffix}"
        self._sql, self._identity = sql, identity

    def last(self, total: int) -> tuple[Entry, str]:
        """Return the last entry, or an empty one and the reason if an earlier job cannot be resumed.

        Args:
            total: the number of left items.
        """
        row = self._sql.execute("SELECT identity, done, size, pairs, removed FROM job").fetchone()
        if row is None:
            return Entry(), ""
        try:
            before, now = parse_json(row[0]), parse_json(self._identity)
        except (ParseError, TypeError):
            before = None
        if not isinstance(before, dict) or not all(isinstance(count, int) and 0 <= count < _MAX for count in row[1:]):
            return Entry(), "its journal is damaged"
        if before != now:
            changed = [key for key in now if before.get(key) != now[key]]
            return Entry(), f"{' and '.join(changed) or 'the join'} changed since it began"
        entry = Entry(*row[1:])
        if not self.written.exists() or self.written.stat().st_size < entry.size:
            return Entry(), f"{self.written} is incomplete"
        return (entry, "") if entry.done <= total else (Entry(), "its journal is damaged")

    def enter(self, entry: Entry, file: BinaryIO) -> None:
        """Write an entry after the bytes that it counts are on the disk."""
        file.flush()
        os.fsync(file.fileno())
        self._sql.execute("BEGIN")
        self._sql.execute("DELETE FROM job")
        self._sql.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?)", (self._identity, *astuple(entry)))
        self._sql.execute("COMMIT")

    def remove(self) -> None:
        """Remove the folder of a finished job."""
        with suppress(OSError):  # the join is complete without it
            for name in (self.written.name, _JOURNAL, f"{_JOURNAL}-journal"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()


def job_folder(out: Path) -> Path:
    """Return the folder of the job that writes a file."""
    return out.with_name(out.name + ".part")


@contextmanager
def open_journal(out: Path, identity: Mapping[str, str]) -> Iterator[Journal]:
    """Open the journal of a job, or create it.

    Args:
        out: the file that the job writes.
        identity: the values that determine the file; a job of another identity is not resumed.

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
        written = folder / f"pairs{out.suffix}"
        foreign = folder.is_symlink() or not folder.is_dir()
        if foreign or (not os.path.lexists(folder / _JOURNAL) and any(folder.iterdir())) or not _is_own_file(written):
            raise StorageError(f"{folder} exists and is not an unfinished join. Move it, or give another --out.")
        sql = _open_locked(folder)
        try:
            yield Journal(out, sql, json.dumps(dict(identity)))
        finally:
            sql.close()


def _is_own_file(path: Path) -> bool:
    """Return whether a file does not exist, or is a regular file without another name."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _open_locked(folder: Path) -> Connection:
    """Open the journal and lock it against other processes; replace a damaged journal by an empty one."""
    path = folder / _JOURNAL
    try:
        return _lock(databases.connect(path, _SCHEMA, timeout=0))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        databases.remove(path)
        return _lock(databases.connect(path, _SCHEMA, timeout=0))


def _lock(sql: Connection) -> Connection:
    try:
        sql.execute("PRAGMA locking_mode = EXCLUSIVE")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("BEGIN EXCLUSIVE")  # in this mode the lock outlives the transaction
        sql.execute(_SCHEMA)
        sql.execute("COMMIT")
    except BaseException:
        sql.close()
        raise
    return sql


@contextmanager
def _translate_errors(out: Path) -> Iterator[None]:
    """Translate errors of the system and of SQLite to errors of lookalike."""
    resume = f"{job_folder(out)} has the pairs so far: run the same command again to resume."
    try:
        yield
    except OSError as e:
        if e.errno in _FULL:
            raise StorageError(f"The disk is full. Free some space. {resume}") from e
        if not os.path.isdir(out.parent):  # noqa: PTH112 -- false for a name that is too long, too
            raise StorageError(f"{out} cannot be written: there is no folder {out.parent}. Create it first.") from e
        raise StorageError(f"{out} cannot be written: {reason_of(e)}. Give another --out.") from e
    except sqlite3.Error as e:
        code = databases.error_code(e)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(f"Another process is writing {out}. Wait for it, or give another --out.") from e
        if code == sqlite3.SQLITE_FULL:
            raise StorageError(f"The disk is full. Free some space. {resume}") from e
        raise StorageError(f"{job_folder(out)} cannot be used: {e}. {resume}") from e
