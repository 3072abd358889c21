"""SQLite databases that may come from a stranger, opened within limits.

A database can do harm: a view may never end, a trigger may change other rows, and a rollback journal may name a file anywhere
on the disk, which SQLite then deletes. So `connect` opens only a database with the expected tables, and each statement ends
after a number of steps that depends on the size of the file.
"""

import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

# Files that SQLite keeps beside a database.
_BESIDE = ("-wal", "-shm", "-journal")

# The last bytes of a rollback journal that names another one, see https://sqlite.org/fileformat2.html#the_rollback_journal.
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")

# Bytes of a value and of a statement.
_MAX_VALUE = 2**26
_MAX_STATEMENT = 2**20

# Steps of SQLite's virtual machine that a statement may take: a filter of attributes takes about 100 for a row, which has
# more than 100 bytes; a list of a million ids takes 10 for each.
_FREE_STEPS = 2**26
_STEPS_A_BYTE = 4
_STEPS_AT_A_TIME = 100_000

# Bytes that the rows of a statement may have beyond the size of the database, for a log that is being written.
_FREE_BYTES = 2**24

# The table that SQLite itself makes for AUTOINCREMENT.
_SEQUENCE = "CREATE TABLE sqlite_sequence(name,seq)"

_COMMENT = re.compile(r"--[^\n]*")
_SPACE = re.compile(r"\s*([(),])\s*|\s+", re.ASCII)

_MAX_QUOTE = 40


class UnsafeDatabaseError(sqlite3.DatabaseError):
    """A database that is not opened, or is no longer read; to be reported like SQLite's own errors."""


class HardLinkError(UnsafeDatabaseError):
    """A database, or a file beside it, that has a second name; SQLite would overwrite the content of both."""


class Connection(sqlite3.Connection):
    """A connection whose statements end; see `connect`."""

    steps: "_Steps"

    def execute(self, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401 -- as the base class
        """Execute a statement.

        Raises:
            sqlite3.OperationalError: it does not end (“interrupted”), or fails otherwise.
        """
        self.steps.count = 0
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as e:  # of SQLite's own message, which quotes a damaged name
            raise UnsafeDatabaseError("a name in it is not UTF-8") from e

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401 -- as the base class
        """Execute a statement for each of many rows of values; raises as `execute`."""
        self.steps.count = 0
        return super().executemany(*arguments)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Execute a statement, and iterate over its rows.

        Raises:
            UnsafeDatabaseError: they have more bytes than the database, since some share their place in the file.
        """
        total, limit = 0, _FREE_BYTES
        for row in self.execute(statement, values):
            for value in row:
                if value.__class__ is str or value.__class__ is bytes:
                    total += len(value)
            if total > limit and total > (limit := _FREE_BYTES + self.steps.file_bytes()):
                raise UnsafeDatabaseError("its rows have more bytes than its file")
            yield row


class _Steps:
    """The steps of a connection's last statement, counted by SQLite's progress handler."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def __call__(self) -> bool:
        """Count; return whether SQLite should interrupt the statement."""
        self.count += _STEPS_AT_A_TIME
        return self.count > _FREE_STEPS and self.count > _FREE_STEPS + _STEPS_A_BYTE * self.file_bytes()

    def file_bytes(self) -> int:
        """Return the bytes of the database and its log."""
        total = 0
        for name in (self.path, _beside(self.path, "-wal")):
            try:
                total += name.stat().st_size
            except OSError:
                continue
        return total


def connect(path: Path, schema: str, *, optional: str = "", mode: str = "mode=rwc", timeout: float = 5.0) -> Connection:
    """Open a database with the tables of a schema, or an empty one.

    Transactions begin explicitly, and any one thread may use the connection.

    Args:
        path: of the database. Links are not followed.
        schema: the statements that create its tables and indexes. It has all of them, or is empty.
        optional: the statements that create other tables, which it may have.
        mode: parameters of SQLite's URI.
        timeout: seconds to wait for another process.

    Raises:
        UnsafeDatabaseError: it has a link or a hard link, or a table, index, view or trigger that is not in the schema.
        sqlite3.Error: it cannot be opened, or is not a database.
    """
    check_files(path)
    sql = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    try:
        sql.steps = _Steps(path)
        sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
        sql.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MAX_STATEMENT)
        sql.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        sql.set_progress_handler(sql.steps, _STEPS_AT_A_TIME)
        sql.execute("PRAGMA trusted_schema = OFF")
        sql.execute("PRAGMA cell_size_check = ON")
        _check_schema(sql, schema, optional)
    except BaseException:
        sql.close()
        raise
    return sql


def check_files(path: Path) -> None:
    """Check the file of a database and the files beside it, before SQLite opens them.

    Raises:
        HardLinkError: one has a second name.
        UnsafeDatabaseError: one is a link or a device, or a rollback journal names another file, which SQLite would delete.
    """
    for name in (path, *(_beside(path, suffix) for suffix in _BESIDE)):
        try:
            status = name.lstat()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as e:
            raise UnsafeDatabaseError(f"{name.name} cannot be read: {e}") from e
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeDatabaseError(f"{name.name} is a link or a device, not a file")
        if status.st_nlink > 1:
            raise HardLinkError(
                f"{name.name} is a hard link, and a change would overwrite its other name. Copy the folder and use the copy"
            )
    try:
        with _beside(path, "-journal").open("rb") as journal:
            journal.seek(-min(len(_JOURNAL_MAGIC), journal.seek(0, os.SEEK_END)), os.SEEK_END)
            if journal.read() == _JOURNAL_MAGIC:
                raise UnsafeDatabaseError(f"{path.name}-journal names another file")
    except FileNotFoundError:
        pass
    except OSError as e:
        raise UnsafeDatabaseError(f"{path.name}-journal cannot be read: {e.strerror}") from e


def error_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, such as `sqlite3.SQLITE_BUSY`; 0 for an error of Python's module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def remove(path: Path) -> None:
    """Delete a database and the files beside it."""
    for name in (path, *(_beside(path, suffix) for suffix in _BESIDE)):
        name.unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _check_schema(sql: Connection, schema: str, optional: str) -> None:
    """Compare all tables, indexes, views and triggers with those that a schema creates."""
    required, known = _statements(schema), _statements(schema) | _statements(optional) | {_SEQUENCE}
    found = set[str]()
    for kind, name, text in sql.execute("SELECT type, name, sql FROM sqlite_master"):
        if text is None and kind == "index" and str(name).startswith("sqlite_autoindex_"):
            continue  # of a UNIQUE column
        statement = _normalise(text) if isinstance(text, str) else ""
        if statement not in known:
            raise UnsafeDatabaseError(f"it has an unknown {str(kind)[:_MAX_QUOTE]}, {str(name)[:_MAX_QUOTE]!r}")
        found.add(statement)
    if found and not required <= found:
        missing = min(required - found)
        raise UnsafeDatabaseError(f"it lacks the {missing.partition('(')[0].removeprefix('CREATE ').lower()}")


@cache
def _statements(schema: str) -> frozenset[str]:
    """Return the statements of a schema that create something, as SQLite keeps them."""
    statements = (_normalise(statement) for statement in _COMMENT.sub("", schema).split(";"))
    return frozenset(s.replace("IF NOT EXISTS ", "") for s in statements if s.startswith("CREATE "))


@lru_cache(64)
def _normalise(statement: str) -> str:
    """Remove comments, and white space that makes no difference."""
    return _SPACE.sub(lambda found: found[1] or " ", _COMMENT.sub("", statement)).strip()
