"""Files that others see whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to be written in place of one that may be there; killed or failing halfway, that one stays as it was.

    Yields:
        Where to write: a hidden file beside it, which takes its place at the end.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):  # a second failure, where the first one says more
            part.unlink(missing_ok=True)


def replace(path: Path, *parts: "bytes | memoryview") -> None:
    """Write a file in place of one that may be there, as `replacing`."""
    with replacing(path) as part, part.open("wb") as file:
        for content in parts:
            file.write(content)
