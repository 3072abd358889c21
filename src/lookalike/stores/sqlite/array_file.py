"""A file of arrays with checksums, written atomically and memory-mapped.

The file has the arrays, a CRC-32 checksum for each 64 KiB of them, a JSON text with metadata and the names and places of
the arrays, and last the length and the checksum of the part after the arrays.

Checksums detect damage, not malice. A file that is read by a library without checks of its own is signed with a key that
only its user has.
"""

import hashlib
import hmac
import json
import math
import re
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
from lookalike.untrusted import parsing
from lookalike.untrusted.paths import read_inside, resolve_inside

# Bytes of a block, which has one checksum.
_BLOCK = 2**16

# Blocks checked in a large file by default: the first, the last, and random ones.
_SAMPLE = 64

# Magic number, bytes of the arrays, bytes of the rest, checksum of the rest.
_END = struct.Struct("<8sQQI")
_MAGIC = b"lookarr1"
_ALIGNMENT = 64

# Bytes of the JSON text, and of a note.
_MAX_HEAD = 2**20
_MAX_NOTE = 2**10

# Arrays of numbers in the byte order of this machine, and never of objects.
_DTYPE = re.compile("[<>|=][fiub][1248]")
_MAX_DIMENSIONS = 4

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


def write(
    path: Path,
    metadata: Mapping[str, Any],
    arrays: Arrays,
    begin: Callable[[Path], None] | None = None,
    key: bytes | None = None,
) -> None:
    """Write a file atomically.

    Args:
        path: the file, which is replaced if it exists.
        metadata: values for JSON.
        arrays: by name.
        begin: writes other bytes to the start of the file, for a reader that expects them there.
        key: signs the file, if it is given.

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
        body = np.memmap(part, np.uint8, "r") if size else np.empty(0, np.uint8)
        head: dict[str, Any] = {"facts": dict(metadata), "arrays": places}
        if key is not None:
            head["signature"] = _sign(key, body, head)
        tail = _checksums(body).tobytes() + json.dumps(head).encode()
        with part.open("ab") as file:
            file.write(tail + _END.pack(_MAGIC, size, len(tail), zlib.crc32(tail)))


def read(path: Path, *, key: bytes | None = None) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]] | None:
    """Map a file into memory and check it.

    Args:
        path: the file.
        key: if it is given, the file must be signed with it. All bytes are then checked, which takes as long as reading the
            file. A note beside the file records the check, so that later calls check a sample until the file is written to.

    Returns:
        (metadata, arrays by name); none if the file is missing, damaged, not signed, or of another kind.
    """
    identity = None if key is None else _identity(path)
    note = None if key is None or identity is None else hashlib.blake2b(identity, key=key).hexdigest().encode()
    known = note is not None and hmac.compare_digest(_read_note(path), note)
    try:
        content = _read(path, None if known else key)
    except (OSError, AttributeError, LookupError, TypeError, ValueError):  # missing, damaged, or a stranger wrote it
        return None
    if note is not None and not known and _identity(path) == identity:
        with suppress(OSError):  # without the note, the next call checks all bytes again
            atomic.write_bytes(_note(path), note)
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


def _read_note(path: Path) -> bytes:
    try:
        return read_inside(path.parent, _note(path).name, _MAX_NOTE)
    except OSError:
        return b""


def _read(path: Path, key: bytes | None) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]]:
    """Read a file as `read` does, and check all of it if there is a key.

    Raises:
        OSError, AttributeError, LookupError, TypeError, ValueError: it cannot be used.
    """
    content = np.memmap(resolve_inside(path.parent, path.name), np.uint8, "r").view(np.ndarray)
    magic, size, length, checksum = _END.unpack(content[-_END.size :].tobytes().rjust(_END.size))
    count = -(-size // _BLOCK)
    if magic != _MAGIC or size + length + _END.size != len(content) or not 4 * count <= length <= 4 * count + _MAX_HEAD:
        raise ValueError("it is another kind of file")
    tail = content[size : -_END.size].tobytes()
    if zlib.crc32(tail) != checksum:
        raise ValueError("its end is damaged")
    body, sums = content[:size], np.frombuffer(tail[: 4 * count], np.uint32)
    blocks = _choose_blocks(count, check_all=key is not None)
    if any(zlib.crc32(body[i * _BLOCK : (i + 1) * _BLOCK].data) != sums[i] for i in blocks):
        raise ValueError("a block is damaged")
    head = parsing.parse_json(tail[4 * count :])
    signature = head.pop("signature", "")
    if key is not None and not hmac.compare_digest(signature, _sign(key, body, head)):
        raise ValueError("it is not signed with the key")
    return dict(head["facts"]), {name: _array(body, *place) for name, place in head["arrays"].items()}


def _sign(key: bytes, body: UInt8[np.ndarray, " n"], head: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(body.data, key=key)
    digest.update(json.dumps(head, sort_keys=True).encode())
    return digest.hexdigest()


def _checksums(body: UInt8[np.ndarray, " n"]) -> UInt32[np.ndarray, " b"]:
    return np.array([zlib.crc32(body[i : i + _BLOCK].data) for i in range(0, len(body), _BLOCK)], np.uint32)


def _choose_blocks(count: int, *, check_all: bool) -> Iterator[int]:
    if check_all or count <= _SAMPLE:
        return iter(range(count))
    return iter({0, count - 1, *(secrets.randbelow(count) for _ in range(_SAMPLE - 2))})


def _array(body: UInt8[np.ndarray, " n"], start: int, dtype: str, shape: list[int]) -> Shaped[np.ndarray, "..."]:
    """Return a part of the file as an array.

    Raises:
        TypeError, ValueError: it is not an array of numbers in the file.
    """
    if not _DTYPE.fullmatch(dtype) or any(type(n) is not int or n < 0 for n in (start, *shape)):
        raise ValueError("it is not an array of numbers")
    kind = np.dtype(dtype)
    end = start + kind.itemsize * math.prod(shape)
    if start % _ALIGNMENT or end > len(body) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError("it does not lie in the file")
    return body[start:end].view(kind).reshape(shape)
