"""Paths inside a folder that may come from a stranger: no name leads outside, and no link is followed."""

import errno
import os
from pathlib import Path

from lookalike.untrusted.parsing import ParseError, read_bytes


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the path of a file below a folder, which need not exist.

    The folder itself may be a link, since its user named it. Everything below it may come from a stranger.

    Args:
        folder: the folder.
        name: the names of the file and of the folders on the way, separated by ``/``.

    Raises:
        OSError: the name leads outside of the folder, or a link is on the way.

    Example:
        >>> from lookalike.untrusted.paths import resolve_inside
        >>> resolve_inside(Path("shop.lookalike"), "images/../../secret")
        Traceback (most recent call last):
        OSError: [Errno 22] the name leads outside of its folder: 'images/../../secret'
    """
    path = folder
    for part in name.split("/"):
        if part in ("", ".", "..") or "\0" in part or (os.name == "nt" and set(part) & set('\\:"<>|?*')):
            raise OSError(errno.EINVAL, "the name leads outside of its folder", name)
        path /= part
        if path.is_symlink():
            raise OSError(errno.ELOOP, "links are not followed here", str(path))
    return path


def read_inside(folder: Path, name: str, limit: int) -> bytes:
    """Read a regular file below a folder, as `resolve_inside` finds it.

    Args:
        folder: the folder.
        name: of the file.
        limit: the most bytes that it may have.

    Raises:
        OSError: it cannot be read, is not a regular file, or has more bytes.
    """
    path = resolve_inside(folder, name)
    try:
        return read_bytes(path, limit)
    except ParseError as e:
        raise OSError(errno.EINVAL, str(e), str(path)) from e
