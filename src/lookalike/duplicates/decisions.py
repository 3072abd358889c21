"""What people decided: these two are no duplicates.

Decisions are about contents, by their SHA-256, and lie in the collection's folder. So they hold wherever the files are
moved, and when the pictures are indexed again.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from lookalike import atomic
from lookalike.collection import Collection
from lookalike.errors import BusyError, MismatchError, StorageError, UsageError
from lookalike.stores import Item

FORMAT = 1

# Seconds to wait for another process: a decision takes milliseconds.
_PATIENCE = 10.0

Decision = tuple[str, str]
"""The SHA-256 of two contents that are no duplicates of each other, the lower one first."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    distinct: tuple[Decision, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(a >= b for a, b in self.distinct):
            raise ValueError("a pair names its lower SHA-256 first")
        return self


def read(collection: Collection) -> frozenset[Decision]:
    """All decisions.

    Raises:
        MismatchError: another version wrote them.
        StorageError: they cannot be read.
    """
    path = _path(collection)
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text)
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as e:
        raise StorageError(f"{path} cannot be read: {e}. Put back a copy, or delete it to decide anew.") from e
    if isinstance(tree, dict) and tree.get("format", FORMAT) != FORMAT:
        raise MismatchError(f"{path} has format {tree['format']}; this lookalike reads format {FORMAT}.")
    try:
        return frozenset(_File.model_validate_json(text).distinct)
    except ValidationError as e:
        raise StorageError(
            f"{path} is damaged: {e.errors()[0]['msg']}. Put back a copy, or delete it to decide anew."
        ) from e


def separate(collection: Collection, items: Iterable[Item]) -> int:
    """Remember that no two of these items are duplicates; returns how many pairs of contents are new.

    Raises:
        UsageError: fewer than two items, or two of the same bytes.
        StorageError, BusyError: it cannot be written down.
    """
    chosen = {item.id: item for item in items}.values()
    if len(chosen) < 2:  # noqa: PLR2004 -- a pair
        raise UsageError("Name two pictures at least that are no duplicates of each other.")
    for one, other in combinations(chosen, 2):
        if one.sha256 == other.sha256:
            raise UsageError(
                f"“{one.uri}” and “{other.uri}” are the same bytes; to keep both, give their folder as --reference."
            )
    with _deciding(collection):
        known = read(collection)
        new = {_decision(one.sha256, other.sha256) for one, other in combinations(chosen, 2)} - known
        _write(collection, known | new)
    return len(new)


def revoke(collection: Collection, contents: Iterable[str]) -> int:
    """Forget what was decided of these contents, given by SHA-256; returns how many pairs.

    Of one content all its decisions go, of several those between them.

    Raises:
        StorageError, BusyError: it cannot be written down.
    """
    chosen = set(contents)
    least = max(1, min(len(chosen), 2))
    with _deciding(collection):
        known = read(collection)
        gone = {pair for pair in known if len(chosen.intersection(pair)) >= least}
        _write(collection, known - gone)
    return len(gone)


@contextmanager
def _deciding(collection: Collection) -> Iterator[None]:
    """One process at a time; a lock of SQLite's, which every system has and a kill lets go of.

    Raises:
        BusyError: another one has been deciding for too long.
        StorageError: the folder cannot be written.
    """
    path = collection.path / "decisions.lock"
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield
    except sqlite3.Error as e:
        if e.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise BusyError(
                f"Another process has been deciding in {collection.path} for {_PATIENCE:g} seconds. Nothing was decided;"
                " try again."
            ) from e
        raise StorageError(
            f"{path} cannot be written: {e}. Nothing was decided; see who may write in its folder."
        ) from e


def _decision(one: str, other: str) -> Decision:
    return (one, other) if one < other else (other, one)


def _path(collection: Collection) -> Path:
    return collection.path / "decisions.json"


def _write(collection: Collection, decisions: frozenset[Decision]) -> None:
    path = _path(collection)
    text = _File(distinct=tuple(sorted(decisions))).model_dump_json(indent=1) + "\n"
    try:
        with atomic.atomic_write(path) as part, part.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise StorageError(
            f"{path} cannot be written: {e.strerror}. Nothing was decided; make room, or see who may write in its folder."
        ) from e
