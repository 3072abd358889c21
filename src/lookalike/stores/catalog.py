"""Connections to ``catalog.sqlite``, its transactions, and its errors as ours."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

from lookalike.errors import BusyError, StorageError, UsageError

# How long a writer waits for another one, in seconds.
_PATIENCE = 30

# Rows read, or ids asked for, in one statement; SQLite allows 32,766 placeholders.
CHUNK = 5000


class Catalog:
    """The database of a store's folder. Safe to use from several threads, each of which has a connection of its own."""

    def __init__(self, folder: Path) -> None:
        """Nothing is opened yet."""
        self.folder = folder
        self.path = (folder / "catalog.sqlite").resolve()
        self._writable = os.access(self.path.parent, os.W_OK) and os.access(self.path, os.W_OK)
        self._idle: list[sqlite3.Connection] = []
        self._closed = Event()

    def close(self) -> None:
        """Let go of connections; what other threads are at comes to its end."""
        self._closed.set()
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread has meanwhile."""
        if self._closed.is_set():
            raise UsageError(f"{self.folder} has been closed; open it again.")
        with _translated(self.folder):
            try:
                sql = self._idle.pop()
            except IndexError:
                sql = self._connect()
            try:
                yield sql
            except BaseException:
                sql.close()  # and undoes what is not committed
                raise
            if self._writable:
                self._idle.append(sql)
            else:
                sql.close()
            if self._closed.is_set():
                self.close()

    def _connect(self) -> sqlite3.Connection:
        how = "mode=rw"
        if not self._writable:
            # SQLite cannot make its own files for readers here. It can do without where all is in the one file; that is
            # looked at anew each time, as somebody else may be allowed to write.
            log = self.path.with_name(f"{self.path.name}-wal")
            how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        sql = sqlite3.connect(
            f"{self.path.as_uri()}?{how}",
            uri=True,
            timeout=_PATIENCE,
            isolation_level=None,  # transactions are begun by hand
            check_same_thread=False,  # one at a time has it
        )
        try:
            sql.execute("PRAGMA foreign_keys = ON")
            sql.execute("PRAGMA synchronous = FULL")
        except BaseException:
            sql.close()
            raise
        return sql

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One moment of the database, whatever others write meanwhile."""
        with self.connected() as sql:
            sql.execute("BEGIN")
            yield sql
            sql.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing."""
        with self.connected() as sql:
            sql.execute("BEGIN IMMEDIATE")
            before = sql.total_changes
            yield sql
            if sql.total_changes > before:
                sql.execute("UPDATE generation SET number = number + 1, token = lower(hex(randomblob(8)))")
            sql.execute("COMMIT")

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of one statement."""
        with self.connected() as sql:
            return sql.execute(statement, values).fetchall()

    def select(self, statement: str, ids: Sequence[str]) -> list[Any]:
        """Rows for any number of ids, of one moment."""
        with self.reading() as sql:
            return [row for chunk in chunks(ids) for row in sql.execute(statement % marks(chunk), chunk)]


def marks(values: Sequence[Any]) -> str:
    """A placeholder for each value."""
    return ",".join("?" * len(values))


def chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """As many values at a time as one statement takes."""
    return (values[i : i + CHUNK] for i in range(0, len(values), CHUNK))


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except UnicodeEncodeError as e:
        raise UsageError(f"{e.object!r} is no Unicode text: it has half a surrogate pair.") from e
    except sqlite3.OperationalError as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF  # Python's own have none
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(f"Another process has been writing to {folder} for {_PATIENCE} s; try again later.") from e
        if code == sqlite3.SQLITE_READONLY:
            raise StorageError(f"{folder} cannot be written to: it is read-only.") from e
        if code == sqlite3.SQLITE_FULL:
            raise StorageError(f"The disk is full; nothing of what {folder} had is lost.") from e
        raise StorageError(f"{folder} cannot be used: {e}.") from e
    except sqlite3.DatabaseError as e:
        raise StorageError(f"{folder}/catalog.sqlite is damaged: {e}.") from e
