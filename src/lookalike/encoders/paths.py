"""Paths of an artefact's files, which may come from a stranger."""

from pathlib import Path

from lookalike.encoders import hub
from lookalike.errors import EncoderError


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
