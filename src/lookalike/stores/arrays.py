"""Arrays in one file, written whole or not at all and mapped into memory in milliseconds.

The arrays come one after the other; then a checksum (CRC-32) for each 64 KiB, then a JSON text that names the arrays and
whatever else belongs to them, and last the length and the checksum of what follows the arrays.
"""

import json
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8, UInt32

from lookalike import atomic

_BLOCK = 2**16
_SOME = 64
"""Blocks checked in a large file: the first, the last, and others that are drawn anew each time."""

_END = struct.Struct("<8sQQI")
_MAGIC = b"lookarr1"
_ALIGNED = 64

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


def write(path: Path, facts: Mapping[str, Any], arrays: Arrays, begin: Callable[[Path], None] | None = None) -> None:
    """Write a file in place of one that may be there.

    Args:
        path: where.
        facts: anything that JSON takes.
        arrays: by name.
        begin: writes what the file begins with, for others who read it from there.

    Raises:
        OSError: it cannot be written.
    """
    with atomic.atomic_write(path) as part:
        if begin is not None:
            begin(part)
        table: dict[str, Any] = {}
        with part.open("ab") as file:
            for name, array in arrays.items():
                file.write(bytes(-file.tell() % _ALIGNED))
                table[name] = [file.tell(), array.dtype.str, list(array.shape)]
                if array.size:
                    file.write(np.ascontiguousarray(array).data.cast("B"))
            size = file.tell()
        sums = _sums(np.memmap(part, np.uint8, "r") if size else np.empty(0, np.uint8))
        tail = sums.tobytes() + json.dumps({"facts": facts, "arrays": table}).encode()
        with part.open("ab") as file:
            file.write(tail + _END.pack(_MAGIC, size, len(tail), zlib.crc32(tail)))
            file.flush()
            os.fsync(file.fileno())


def read(path: Path, *, whole: bool = False) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]] | None:
    """(the facts, the arrays) of a file, mapped into memory; none where it is not there, damaged, or of another kind.

    Args:
        path: where.
        whole: check all of it and not only some blocks, which takes as long as reading it. That is done once: which file
            it was is noted beside it, and while it is the same one, to which nobody has written, some blocks are enough.
    """
    known = _identity(path) if whole else None
    seen = known is not None and _noted(path) == known
    found = _read(path, whole=whole and not seen)
    if found is not None and known is not None and not seen and _identity(path) == known:
        with suppress(OSError):  # then it is checked again the next time
            atomic.write_bytes(_note(path), known)
    return found


def _identity(path: Path) -> bytes | None:
    """What another file, or this one once somebody has written to it, has differently; none where it is not there."""
    try:
        file = path.stat()
    except OSError:
        return None
    # The time of the last modification can be set back, as copying does, and that of the last change cannot.
    return f"{file.st_ino} {file.st_size} {file.st_mtime_ns} {file.st_ctime_ns}".encode()


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.checked")


def _noted(path: Path) -> bytes | None:
    try:
        return _note(path).read_bytes()
    except OSError:
        return None


def _read(path: Path, *, whole: bool) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]] | None:
    try:
        content = np.memmap(path, np.uint8, "r").view(np.ndarray)
    except (OSError, ValueError):  # nothing there; an empty file
        return None
    if len(content) < _END.size:
        return None
    magic, size, length, checksum = _END.unpack(content[-_END.size :].tobytes())
    if magic != _MAGIC or size + length + _END.size != len(content):
        return None
    tail = content[size : -_END.size].tobytes()
    count = -(-size // _BLOCK)
    if zlib.crc32(tail) != checksum or len(tail) < 4 * count:
        return None
    body, sums = content[:size], np.frombuffer(tail[: 4 * count], np.uint32)
    if any(zlib.crc32(body[i * _BLOCK : (i + 1) * _BLOCK].data) != sums[i] for i in _chosen(count, whole)):
        return None
    head = json.loads(tail[4 * count :])
    return head["facts"], {name: _array(body, *place) for name, place in head["arrays"].items()}


def _sums(body: UInt8[np.ndarray, " n"]) -> UInt32[np.ndarray, " b"]:
    return np.array([zlib.crc32(body[i : i + _BLOCK].data) for i in range(0, len(body), _BLOCK)], np.uint32)


def _chosen(count: int, whole: bool) -> Iterator[int]:
    if whole or count <= _SOME:
        return iter(range(count))
    return iter({0, count - 1, *(secrets.randbelow(count) for _ in range(_SOME - 2))})


def _array(body: UInt8[np.ndarray, " n"], start: int, dtype: str, shape: list[int]) -> Shaped[np.ndarray, "..."]:
    kind = np.dtype(dtype)
    return body[start : start + kind.itemsize * int(np.prod(shape))].view(kind).reshape(shape)
