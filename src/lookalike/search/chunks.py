"""Split a range into chunks of bounded size."""

from collections.abc import Iterator


def chunks(length: int, size: int, begin: int = 0) -> Iterator[slice]:
    """Split a range into slices of one size; the last one may be shorter.

    Args:
        length: end of the range.
        size: of a slice; less than 1 counts as 1.
        begin: start of the range.
    """
    size = max(1, size)
    return (slice(start, min(start + size, length)) for start in range(begin, length, size))
