"""A file of arrays with checksums, written atomically and memory-mapped.

The file has the arrays, a CRC-32 checksum for each 64 KiB of them, a JSON text with metadata and the names and places of
the arrays, and last the length and the checksum of the part after the arrays.
"""

import json
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import atomic
from lookalike.shapes import Shaped, UInt8, UInt32

# Bytes of a block, which has one checksum.
_BLOCK = 2**16

# Blocks checked in a large file by default: the first, the last, and random ones.
_SAMPLE = 64

# Magic number, bytes of the arrays, bytes of the rest, checksum of the rest.
_END = struct.Struct("<8sQQI")
_MAGIC = b"lookarr1"
_ALIGNMENT = 64

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


def write(path: Path, metadata: Mapping[str, Any], arrays: Arrays, begin: Callable[[Path], None] | None = None) -> None:
    """Write a file atomically.

    Args:
        path: the file, which is replaced if it exists.
        metadata: values for JSON.
        arrays: by name.
        begin: writes other bytes to the start of the file, for a reader that expects them there.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic.atomic_write(path) as part:
        if begin is not None:
            begin(part)
        places: dict[str, Any] = {}
        with part.open("ab") as file:
            for name, array in arrays.items():
                file.write(bytes(-file.tell() % _ALIGNMENT))
                places[name] = [file.tell(), array.dtype.str, list(array.shape)]
                if array.size:
                    file.write(np.ascontiguousarray(array).data.cast("B"))
            size = file.tell()
        sums = _checksums(np.memmap(part, np.uint8, "r") if size else np.empty(0, np.uint8))
        tail = sums.tobytes() + json.dumps({"facts": metadata, "arrays": places}).encode()
        with part.open("ab") as file:
            file.write(tail + _END.pack(_MAGIC, size, len(tail), zlib.crc32(tail)))


def read(path: Path, *, check_all: bool = False) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]] | None:
    """Map a file into memory and check it.

    Args:
        path: the file.
        check_all: check all blocks instead of a sample, which takes as long as reading the file. A note beside the file
            records the check, so that later calls check a sample until the file is written to.

    Returns:
        (metadata, arrays by name); none if the file is missing, damaged, or of another kind.
    """
    identity = _identity(path) if check_all else None
    known = identity is not None and _read_note(path) == identity
    content = _read(path, check_all=check_all and not known)
    if content is not None and identity is not None and not known and _identity(path) == identity:
        with suppress(OSError):  # without the note, the next call checks all blocks again
            atomic.write_bytes(_note(path), identity)
    return content


def _identity(path: Path) -> bytes | None:
    """Return a text that changes with any write to a file; none if the file is missing."""
    try:
        file = path.stat()
    except OSError:
        return None
    # A copy may have the old modification time (mtime), but not the old change time (ctime).
    return f"{file.st_ino} {file.st_size} {file.st_mtime_ns} {file.st_ctime_ns}".encode()


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.checked")


def _read_note(path: Path) -> bytes | None:
    try:
        return _note(path).read_bytes()
    except OSError:
        return None


def _read(path: Path, *, check_all: bool) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]] | None:
    try:
        content = np.memmap(path, np.uint8, "r").view(np.ndarray)
    except (OSError, ValueError):  # missing; empty
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
    blocks = _choose_blocks(count, check_all=check_all)
    if any(zlib.crc32(body[i * _BLOCK : (i + 1) * _BLOCK].data) != sums[i] for i in blocks):
        return None
    head = json.loads(tail[4 * count :])
    return head["facts"], {name: _array(body, *place) for name, place in head["arrays"].items()}


def _checksums(body: UInt8[np.ndarray, " n"]) -> UInt32[np.ndarray, " b"]:
    return np.array([zlib.crc32(body[i : i + _BLOCK].data) for i in range(0, len(body), _BLOCK)], np.uint32)


def _choose_blocks(count: int, *, check_all: bool) -> Iterator[int]:
    if check_all or count <= _SAMPLE:
        return iter(range(count))
    return iter({0, count - 1, *(secrets.randbelow(count) for _ in range(_SAMPLE - 2))})


def _array(body: UInt8[np.ndarray, " n"], start: int, dtype: str, shape: list[int]) -> Shaped[np.ndarray, "..."]:
    kind = np.dtype(dtype)
    return body[start : start + kind.itemsize * int(np.prod(shape))].view(kind).reshape(shape)
