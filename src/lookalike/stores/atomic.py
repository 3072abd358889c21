"""Files that others see whole or not at all."""

import secrets
from pathlib import Path


def replace(path: Path, *parts: "bytes | memoryview") -> None:
    """Write a file, in place of one that may be there; killed halfway, it leaves that one as it was.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("wb") as file:
            for content in parts:
                file.write(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
