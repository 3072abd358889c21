"""Long work in short parts."""

from collections.abc import Iterator


def blocks(length: int, size: int, begin: int = 0) -> Iterator[slice]:
    """Parts of a range, each of a size but the last."""
    size = max(1, size)
    return (slice(start, min(start + size, length)) for start in range(begin, length, size))
