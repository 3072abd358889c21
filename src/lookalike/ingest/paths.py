"""Paths of image files, and the ids of their items."""

import hashlib
import os
import time
from pathlib import Path

# A file that changed so recently may change again without its times showing it (git's “racily clean”).
_RACY_NS = 2 * 10**9

_RECENT = "-recent"


def file_id(path: Path, number: int = 0) -> str:
    """Compute the id of a file's item: 20 hexadecimal digits of a hash of its path, which do not reveal the path.

    Args:
        path: of the file.
        number: of the ids of a path; another one than the first is for a file whose path was that of a file that moved away
            and kept its id.
    """
    suffix = f"\0{number}" if number else ""  # no path has a NUL
    return hashlib.blake2b(os.fsencode(absolute_path(path)) + suffix.encode(), digest_size=10).hexdigest()


def absolute_path(path: Path) -> Path:
    """Make a path absolute, without ``..``; only a path with ``..`` has its links resolved."""
    return Path(os.path.realpath(path)) if ".." in path.parts else path.absolute()


def is_missing(path: Path) -> bool:
    """Return whether a file certainly does not exist; a file in a folder that cannot be searched may exist."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # ValueError: a NUL in the path
        pass
    return False


def signature(path: Path) -> str:
    """Format a file's size and times, as `Item.signature` describes; empty if the file does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ""
    recent = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _RACY_NS
    return format_signature(status) + (_RECENT if recent else "")


def format_signature(status: os.stat_result) -> str:
    """Format the size and times of a file that did not change in the last seconds."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def shows_changes(signature: str) -> bool:
    """Return whether a file with this signature is certainly unchanged as long as it has the signature."""
    return bool(signature) and not signature.endswith(_RECENT)
