"""The database ``catalog.sqlite``: connections, transactions and translation of SQLite's errors."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

from lookalike.atomic import atomic_write
from lookalike.errors import AlreadyExistsError, BusyError, StorageError, UsageError
from lookalike.stores.answer import Item
from lookalike.stores.sqlite.manifests import MANIFEST_SCHEMA
from lookalike.stores.sqlite.relative import ROOTS_SCHEMA, resolve_items
from lookalike.stores.sqlite.schema import (
    CHUNK,
    ORIGINALS_SCHEMA,
    SCHEMA,
    SETTINGS_SCHEMA,
    placeholders,
    to_item,
)
from lookalike.untrusted import databases
from lookalike.untrusted.databases import Connection

NAME = "catalog.sqlite"

# Bytes of the file that SQLite needs beside a database, even for reading.
_SHARED_MEMORY = 2**15

# Maximum seconds that a writer waits for another one.
_TIMEOUT = 30

_MAX_REASON = 200


class Catalogue:
    """The database of a store's folder, safe to use from several threads, each of which gets its own connection."""

    def __init__(self, folder: Path) -> None:
        """Prepare a catalogue; the first use opens a connection."""
        self.folder = folder
        self.path = folder.resolve() / NAME
        self._writable = os.access(self.path.parent, os.W_OK) and os.access(self.path, os.W_OK)
        self._idle: list[Connection] = []
        self._closed = Event()

    @classmethod
    def create(cls, folder: Path) -> None:
        """Create an empty database in a folder.

        Raises:
            AlreadyExistsError: the folder already has a database.
            StorageError: the database cannot be written.
        """
        path = folder / NAME
        if path.exists():
            raise AlreadyExistsError(f"{path} already exists. Open that store, or choose another folder.")
        try:
            with atomic_write(path) as part, closing(sqlite3.connect(part)) as sql:
                sql.execute("PRAGMA journal_mode = WAL")
                sql.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as e:
            raise StorageError(f"{path} cannot be created: {e}.") from e

    def close(self) -> None:
        """Close idle connections; a busy thread closes its connection when it ends."""
        self._closed.set()
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Take a connection for the exclusive use of this thread."""
        if self._closed.is_set():
            raise UsageError(f"{self.folder} has been closed. Open it again.")
        with _translate_errors(self.folder):
            try:
                sql = self._idle.pop()
            except IndexError:
                sql = self._open()
            try:
                yield sql
            except BaseException:
                sql.close()  # rolls back
                raise
            if self._writable:
                self._idle.append(sql)
            else:
                sql.close()
            if self._closed.is_set():
                self.close()

    def _open(self) -> Connection:
        mode = "mode=rw"
        if not self._writable:
            # Readers of a WAL database need files beside it, which SQLite cannot create here. It does not need them if
            # there is no log. Each connection checks this, since another user may be allowed to write.
            log = self.path.with_name(f"{self.path.name}-wal")
            mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        optional = f"{SETTINGS_SCHEMA};{ROOTS_SCHEMA};{MANIFEST_SCHEMA};{ORIGINALS_SCHEMA}"
        sql = databases.connect(self.path, SCHEMA, optional=optional, mode=mode, timeout=_TIMEOUT)
        try:
            sql.execute("PRAGMA foreign_keys = ON")
            sql.execute("PRAGMA synchronous = FULL")
        except BaseException:
            sql.close()
            raise
        return sql

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Begin a read transaction, which sees the database at one moment, even if others write meanwhile."""
        with self.connect() as sql:
            sql.execute("BEGIN")
            yield sql
            sql.execute("ROLLBACK")

    @contextmanager
    def write(
        self, *, new_generation: bool = True, check: Callable[[Connection], None] = lambda _: None
    ) -> Iterator[Connection]:
        """Begin a write transaction; an exception rolls it back.

        Args:
            new_generation: increment the generation if a row changes.
            check: called first, may raise an exception.
        """
        with self.connect() as sql:
            sql.execute("BEGIN IMMEDIATE")
            check(sql)
            before = sql.total_changes
            yield sql
            if new_generation and sql.total_changes > before:
                sql.execute("UPDATE generation SET number = number + 1, token = lower(hex(randomblob(8)))")
            sql.execute("COMMIT")

    def compact(self) -> None:
        """Write the database anew, without the space of deleted rows."""
        with self.connect() as sql:
            limit = sql.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 1)  # SQLite attaches the new database
            sql.execute("VACUUM")
            sql.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, limit)
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def select(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of one statement."""
        with self.connect() as sql:
            return list(sql.rows(statement, values))

    def select_in(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement at one moment for any number of values, which replace its ``%s``."""
        with self.read() as sql:
            return [row for part in chunks(values) for row in sql.rows(statement % placeholders(part), part)]

    def to_items(self, rows: Iterable[Any]) -> list[Item]:
        """Convert rows of `ITEM_COLUMNS` to items.

        Raises:
            StorageError: a row is damaged.
        """
        with _translate_errors(self.folder):
            items = list(map(to_item, rows))
        if not any(item.uri.startswith("..") for item in items):
            return items
        with self.connect() as sql:
            return resolve_items(sql, self.path.parent, items)


def chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Split values into parts that are small enough for one statement."""
    return (values[i : i + CHUNK] for i in range(0, len(values), CHUNK))


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as e:
        raise UsageError(f"{e.object!r} is not Unicode text: it has half a surrogate pair.") from e
    except UnicodeDecodeError as e:
        raise damaged(folder, "a text is not UTF-8") from e
    except MemoryError as e:
        raise StorageError(f"{folder} needs more memory than there is. Free some memory and try again.") from e
    except sqlite3.Error as e:
        raise _translate(e, folder) from e


def _is_disk_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _SHARED_MEMORY
    except OSError:
        return False


def _translate(error: sqlite3.Error, folder: Path) -> BusyError | StorageError:
    code = databases.error_code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError(f"Another process has been writing to {folder} for {_TIMEOUT} s. Try again later.")
    if code == sqlite3.SQLITE_READONLY:
        return StorageError(f"{folder} is read-only. Change its permissions, or copy it elsewhere.")
    # Without room for its files beside the database, SQLite reports an I/O error.
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_disk_full(folder)):
        return StorageError(f"The disk is full. {folder} is unchanged; free some space and try again.")
    reason = " ".join(str(error).split())[:_MAX_REASON]
    if code == sqlite3.SQLITE_INTERRUPT:
        reason = "a query does not end"
    elif "decode to UTF-8" in reason:
        reason = "a text is not UTF-8"
    elif isinstance(error, sqlite3.OperationalError | databases.HardLinkError):
        return StorageError(f"{folder} cannot be used: {reason}.")
    return damaged(folder, reason)


def damaged(folder: Path, reason: str) -> StorageError:
    """Make the error of a catalogue whose content is invalid."""
    return StorageError(f"{folder}/{NAME} is damaged: {reason}. Put back a backup, or index the images again.")
