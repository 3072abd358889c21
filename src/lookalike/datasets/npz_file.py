"""Reading of npz files; the size of each array is checked before memory is allocated."""

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Self

import numpy as np

from lookalike.errors import DataError, reason_of

MAX_RATIO = 250
"""The limit of an array's bytes for each byte in the file, beyond `FREE_BYTES`. Drawings of one bit a pixel have about 50."""

FREE_BYTES = 1 << 28

# zipfile raises these for damaged content; RuntimeError means encryption or an unknown compression.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    # Version 3 differs in the encoding of the names of fields, which labelled images do not have.
}


class NpzFile:
    """The arrays of an npz file, by name. Close it, or use it in a ``with``.

    Attributes:
        names: of the arrays.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            DataError: the file does not exist, or is not an npz.
        """
        self._path = path
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is not a file. Give an npz file.")
        try:
            with path.open("rb") as file:
                if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                    raise DataError(f"{path} is a single array; save images and labels together with np.savez.")
            self._zip = zipfile.ZipFile(path)
        except OSError as e:
            raise DataError(f"{path} cannot be read: {reason_of(e)}.") from e
        except (ValueError, NotImplementedError, *_DAMAGE) as e:
            raise DataError(f"{path} is not an npz file, or is damaged; save it with np.savez.") from e
        self.names = tuple(name.removesuffix(".npy") for name in self._zip.namelist())

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """Read an array.

        Raises:
            DataError: it is damaged, holds Python objects, or claims more than the file can hold or this machine's memory.
        """
        place = f"“{name}” in {self._path}"
        try:
            member = self._zip.getinfo(f"{name}.npy")
        except KeyError as e:
            raise DataError(f"{place} is not an array; save the file with np.savez.") from e
        try:
            with self._zip.open(member) as file:
                _check(place, member, *_header(file))
            with self._zip.open(member) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        except MemoryError as e:
            raise DataError(f"{place} needs more memory than this machine has free. Use a smaller file.") from e
        except (ValueError, OSError, *_DAMAGE) as e:
            raise DataError(f"{place} is damaged; save or download it again.") from e
        return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], "np.dtype[np.generic]"]:
    """Read shape and type of an array."""
    try:
        read = _HEADERS[np.lib.format.read_magic(file)]
        shape, _, dtype = read(file)
    except (KeyError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as e:  # of NumPy's parser
        raise ValueError("the header is invalid") from e
    return shape, dtype


def _check(place: str, member: zipfile.ZipInfo, shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> None:
    """Check what an array claims against the size of its content."""
    if dtype.hasobject:
        raise DataError(f"{place} holds Python objects, which could run code when read; save it as numbers or text.")
    count: int = math.prod(int(side) for side in shape)
    size = count * dtype.itemsize
    if min(shape, default=0) < 0 or (count and not dtype.itemsize) or size > member.file_size:
        raise DataError(f"{place} is damaged: it claims more values than it has; save or download it again.")
    if size > FREE_BYTES + MAX_RATIO * member.compress_size:
        raise DataError(
            f"{place} would grow from {member.compress_size:,} to {size:,} bytes, which no real images do. Check its source."
        )
    if hasattr(os, "sysconf") and size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise DataError(f"{place} has {size:,} bytes, more than this machine's memory. Use a smaller file.")
