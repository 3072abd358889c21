"""Limits on the bytes and pixels of an image."""

import os
from dataclasses import dataclass

from lookalike.errors import ImageTooLargeError, UnreadableImageError, UsageError

MAX_PIXELS = "LOOKALIKE_MAX_PIXELS"
"""The environment variable that replaces the default of `Limits.pixels`."""

_BYTES = 256 * 2**20
_BYTES_PER_PIXEL = 4
_DIGITS = 18


@dataclass(frozen=True)
class Limits:
    """Limits on one image.

    Decoding takes at most 16 bytes of memory a pixel, and four times the file.

    Attributes:
        file_bytes: size of the file, compressed.
        pixels: width times height, as the header states them. For a JPEG that a decoder reads row by row, those after
            decoding at reduced size: a panorama of 220 megapixels counts as 3.4.
    """

    file_bytes: int = _BYTES
    pixels: int = 100_000_000


def read_limits(value: str | None) -> Limits:
    """Return the default limits, with the pixels that the environment variable `MAX_PIXELS` states.

    Raises:
        UsageError: the value is not a positive whole number.
    """
    if not value:
        return Limits()
    if not value.isdecimal() or len(value) > _DIGITS or int(value) < 1:
        raise UsageError(f"{MAX_PIXELS} is {value!r}: it must be a number of pixels, such as 250000000.")
    return Limits(max(_BYTES, int(value) * _BYTES_PER_PIXEL), int(value))


DEFAULT_LIMITS = read_limits(os.environ.get(MAX_PIXELS))


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
    if count_pixels(size) > limits.pixels:
        raise ImageTooLargeError(
            f"{name} is {width:,} by {height:,} pixels; at most {limits.pixels:,} pixels are accepted. Use a smaller image.",
            f"{MAX_PIXELS} raises the limit.",
        )


def count_pixels(size: tuple[int, int]) -> int:
    """Return width times height."""
    width, height = size
    return width * height
