"""Atomic, durable file writes."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Replace a file atomically: readers see the old content or the new content, never a part of it.

    The new content is on the disk before the name changes, and the name before the call returns. A process that is
    killed meanwhile leaves the old file and a hidden ``.part`` file beside it.

    Args:
        path: the file, which may exist already. Its folder must exist.

    Yields:
        The path of a hidden file in the same folder. Write the content there; it takes the place of ``path`` at the end
        of the block, unless the block raises.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):  # it would hide the first error
            part.unlink(missing_ok=True)


def write_bytes(path: Path, *parts: "bytes | memoryview") -> None:
    """Write bytes to a file atomically, as `atomic_write` does."""
    with atomic_write(path) as part, part.open("wb") as file:
        for content in parts:
            file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a file atomically, as `atomic_write` does; line ends stay as they are."""
    write_bytes(path, text.encode())


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk.

    Raises:
        OSError: the file cannot be opened, or the disk reports an error.
    """
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder, and needs no sync of its names
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
