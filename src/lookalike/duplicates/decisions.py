"""Decisions by people that two images are not duplicates.

A decision names two contents by their SHA-256, and is stored in the collection's folder. So it still holds after files are
moved and after the images are indexed again.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from lookalike import atomic, locks
from lookalike.duplicates.source import Source
from lookalike.errors import MismatchError, StorageError, UsageError, reason_of
from lookalike.stores import Item
from lookalike.untrusted.parsing import ParseError, parse_json
from lookalike.untrusted.paths import read_inside

FORMAT = 1

# The limit of the file; a decision has 140 bytes.
_MAX_BYTES = 1 << 27

# Seconds to wait for another process; a decision takes milliseconds.
_TIMEOUT = 10.0

# An item may have no SHA-256.
_DIGEST = re.compile("([0-9a-f]{64})?")

Decision = tuple[str, str]
"""The SHA-256 of two contents that are not duplicates of each other, the lower value first."""


class _File(BaseModel):
    """The content of ``decisions.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    distinct: tuple[Decision, ...] = ()

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if any(a >= b for a, b in self.distinct):
            raise ValueError("a pair names its lower SHA-256 first")
        if not all(_DIGEST.fullmatch(digest) for pair in self.distinct for digest in pair):
            raise ValueError("a SHA-256 has 64 hexadecimal digits")
        return self


def read(source: Source) -> frozenset[Decision]:
    """Read all decisions of a collection.

    Raises:
        MismatchError: another version of lookalike wrote them.
        StorageError: the file cannot be read.
    """
    path = source.folder.decisions
    try:
        tree = parse_json(read_inside(path.parent, path.name, _MAX_BYTES), _MAX_BYTES)
    except FileNotFoundError:
        return frozenset()
    except (OSError, ParseError) as e:
        raise StorageError(
            f"{path} cannot be read: {reason_of(e)}. Put back a copy, or delete it to decide again."
        ) from e
    found = tree.get("format", FORMAT) if isinstance(tree, dict) else FORMAT
    if isinstance(found, int) and found != FORMAT:
        raise MismatchError(f"{path} has format {found}; this lookalike reads format {FORMAT}.")
    try:
        return frozenset(_File.model_validate(tree).distinct)
    except ValidationError as e:
        reason = e.errors()[0]["msg"]
        raise StorageError(f"{path} is damaged: {reason}. Put back a copy, or delete it to decide again.") from e


def mark_distinct(source: Source, items: Iterable[Item]) -> int:
    """Remember that no two of these items are duplicates.

    Returns:
        The number of pairs of contents that were not known to be distinct.

    Raises:
        UsageError: there are fewer than two items, or two items have the same bytes.
        StorageError, BusyError: the decisions cannot be written.
    """
    chosen = {item.id: item for item in items}.values()
    if len(chosen) < 2:  # noqa: PLR2004 -- a pair
        raise UsageError("Name at least two images that are not duplicates of each other.")
    for a, b in combinations(chosen, 2):
        if a.sha256 == b.sha256:
            raise UsageError(
                f"“{a.uri}” and “{b.uri}” are the same bytes. To keep both, give their folder as --reference."
            )
    with _locked(source):
        known = read(source)
        new = {_decision(a.sha256, b.sha256) for a, b in combinations(chosen, 2)} - known
        _write(source, known | new)
    return len(new)


def forget(source: Source, digests: Iterable[str]) -> int:
    """Forget the decisions about one content or between several contents; return how many there were.

    Args:
        source: the collection.
        digests: the SHA-256 of the contents.

    Raises:
        StorageError, BusyError: the decisions cannot be written.
    """
    chosen = set(digests)
    needed = 1 if len(chosen) == 1 else 2
    with _locked(source):
        known = read(source)
        forgotten = {pair for pair in known if len(chosen.intersection(pair)) >= needed}
        _write(source, known - forgotten)
    return len(forgotten)


@contextmanager
def _locked(source: Source) -> Iterator[None]:
    """Let one process at a time change the decisions.

    Raises:
        BusyError: another process has held the lock for too long.
        StorageError: the folder cannot be written.
    """
    with locks.exclusive(source.folder.decisions.with_suffix(".lock"), _TIMEOUT):
        yield


def _decision(a: str, b: str) -> Decision:
    return (a, b) if a < b else (b, a)


def _write(source: Source, decisions: frozenset[Decision]) -> None:
    path = source.folder.decisions
    text = _File(distinct=tuple(sorted(decisions))).model_dump_json(indent=1) + "\n"
    try:
        atomic.write_text(path, text)
    except OSError as e:
        raise StorageError(
            f"{path} cannot be written: {e.strerror}. Nothing was decided; free some space, or check who may write in its"
            " folder."
        ) from e
