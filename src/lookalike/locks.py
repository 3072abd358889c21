"""Locks that hold between threads and between processes."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from lookalike.errors import BusyError, StorageError
from lookalike.untrusted.databases import HardLinkError, connect, error_code

TIMEOUT = 30.0
"""Seconds to wait for another holder."""


@contextmanager
def exclusive(path: Path, timeout: float | None = None, *, busy: str | None = None) -> Iterator[None]:
    """Hold the lock of a file, which is created if it does not exist and stays empty.

    SQLite provides the lock: it works on every system, and a killed process releases it.

    Args:
        path: the lock file; its folder must exist.
        timeout: seconds to wait for another holder; by default `TIMEOUT`.
        busy: the message if another one holds the lock, instead of a general one.

    Raises:
        BusyError: another thread or process has held the lock for too long.
        StorageError: the file cannot be written.
    """
    with closing(_take(path, TIMEOUT if timeout is None else timeout, busy)):
        yield


def _take(path: Path, timeout: float, busy: str | None) -> sqlite3.Connection:
    try:
        with ExitStack() as undo:
            lock = undo.enter_context(closing(connect(path, "", timeout=timeout)))
            lock.execute("BEGIN EXCLUSIVE")
            undo.pop_all()
            return lock
    except sqlite3.Error as e:
        code = error_code(e)
        if code == sqlite3.SQLITE_BUSY:
            general = f"Another process has been changing {path.parent} for {timeout:g} s. Try again later."
            raise BusyError(busy or general) from e
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise StorageError(f"{path.parent} is read-only. Change its permissions, or copy it elsewhere.") from e
        if isinstance(e, HardLinkError):
            raise StorageError(f"{path.parent} cannot be used: {e}.") from e
        raise StorageError(f"The lock {path} cannot be used: {e}. Delete it, and try again.") from e
