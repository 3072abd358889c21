"""Paths of image files, and the ids of their items."""

import hashlib
import os
from pathlib import Path


def file_id(path: Path) -> str:
    """Compute the id of a file's item: 20 hexadecimal digits of a hash of its path, which do not reveal the path."""
    return hashlib.blake2b(os.fsencode(absolute_path(path)), digest_size=10).hexdigest()


def absolute_path(path: Path) -> Path:
    """Make a path absolute, without ``..``; only a path with ``..`` has its links resolved."""
    return Path(os.path.realpath(path)) if ".." in path.parts else path.absolute()
