"""Limits on the bytes and pixels of an image."""

from dataclasses import dataclass

from lookalike.errors import ImageTooLargeError, UnreadableImageError


@dataclass(frozen=True)
class Limits:
    """Limits on one image.

    Attributes:
        file_bytes: size of the file, compressed.
        pixels: width times height, as the header states them.
    """

    file_bytes: int = 64 * 2**20
    pixels: int = 100_000_000


DEFAULT_LIMITS = Limits()


def check_bytes(count: int, name: str, limits: Limits) -> None:
    """Refuse a file that is empty or too large.

    Raises:
        UnreadableImageError: the file is empty.
        ImageTooLargeError: the file has more than ``limits.file_bytes``.
    """
    if count > limits.file_bytes:
        raise ImageTooLargeError(
            f"{name} has {count:,} bytes; at most {limits.file_bytes:,} are accepted. Save it smaller.",
        )
    if count == 0:
        raise UnreadableImageError(f"{name} is empty. Export or upload the image again.")


def check_pixels(size: tuple[int, int], name: str, limits: Limits) -> None:
    """Refuse an image with too many pixels.

    Raises:
        ImageTooLargeError: the image has more than ``limits.pixels``.
    """
    width, height = size
    if width * height > limits.pixels:
        raise ImageTooLargeError(
            f"{name} is {width:,} by {height:,} pixels; at most {limits.pixels:,} pixels are accepted. Scale it down.",
        )
