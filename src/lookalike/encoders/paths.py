"""Paths and contents of an encoder's files, which may come from a stranger."""

from pathlib import Path

from lookalike.encoders import hub
from lookalike.errors import EncoderError
from lookalike.untrusted import parsing


def own_file(folder: Path, name: str) -> Path:
    """Return the path of an artefact's file, which need not exist. A link may only lead to a file of the same artefact.

    Raises:
        EncoderError: it is a link to a file elsewhere.
    """
    path = folder / name
    try:
        target, home = path.resolve(), folder.resolve()
    except (OSError, RuntimeError) as e:  # links in a circle
        raise EncoderError(f"{path} is a link that cannot be followed. Copy the file into the folder.") from e
    # The hub's client keeps the files of all revisions in one folder of the repository, and links to them.
    if not target.is_relative_to(hub.repository(home) or home):
        raise EncoderError(f"{path} is a link to a file outside of the encoder. Copy the file into the folder.")
    return path


def read_file(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        EncoderError: it cannot be read, or is larger.
    """
    try:
        return parsing.read_bytes(path, limit)
    except parsing.ParseError as e:
        raise EncoderError(f"{path} cannot be used: {e}.") from e
    except OSError as e:
        raise EncoderError(f"{path} cannot be read: {e.strerror}.") from e
