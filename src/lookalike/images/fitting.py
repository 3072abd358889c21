"""From a picture to what an encoder sees, and to a thumbnail."""

import io
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lookalike.errors import (
    UsageError,
)
from lookalike.images.opening import DEFAULT_LIMITS, THE_UPLOAD, Limits, decode, quote, read_bytes, to_rgb

Fit = Literal["squash", "crop", "pad"]
"""How a picture becomes square: ignoring its aspect, cut at the longer side's ends, or on a white square."""


def fit(image: Image.Image, size: int, how: Fit = "squash") -> UInt8[np.ndarray, "size size 3"]:
    """Make a picture a square of `size` pixels; one that is already is left as it is.

    Resizing is bicubic, stretched over all the pixels that become one (so it does not alias): what image networks are
    trained with, and less prone to halos than Lanczos. Reductions above 6 first take whole-pixel means to thrice the
    size, which is much faster; the result differs by a fraction of a grey level.

    Args:
        image: In any mode.
        size: The side, in pixels.
        how: "squash" ignores the aspect. "crop" resizes the shorter side to `size` and keeps the middle. "pad" resizes
            the longer side and centres it on white.

    Raises:
        UsageError: `size` is below 1 or `how` is none of these.
    """
    if size < 1:
        raise UsageError(f"The size is {size}; a side has at least 1 pixel.")
    if how not in get_args(Fit):
        raise UsageError(f"There is no fit {how!r}. Choose one of {', '.join(get_args(Fit))}.")
    if image.mode != "RGB":
        image = to_rgb(image)
    width, height = image.size
    if how == "squash":
        return np.array(_resize(image, (size, size)))
    if how == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return np.array(_resize(image, (size, size), (left, top, left + side, top + side)))
    small = _resize(image, _inside(image.size, size))
    square = Image.new("RGB", (size, size), "white")
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return np.array(square)


def _inside(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The largest size of the same aspect whose longer side is `side`."""
    width, height = size
    longer = max(size)
    return max(1, round(width * side / longer)), max(1, round(height * side / longer))


def _resize(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    if image.size == size and box is None:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def load(
    source: Path | bytes,
    size: int,
    how: Fit = "squash",
    limits: Limits = DEFAULT_LIMITS,
) -> UInt8[np.ndarray, "size size 3"]:
    """Read, decode (no larger than needed) and fit a picture: what an encoder sees.

    Raises:
        NotFoundError: There is no such file.
        UnreadableImageError: No image, or a damaged one.
        ImageTooLargeError: Over a limit.
        UsageError: As `fit`.
    """
    data = read_bytes(source, limits)
    name = THE_UPLOAD if isinstance(source, bytes) else quote(source)
    return fit(decode(data, name=name, at_least=size, limits=limits), size, how)


def thumbnail(image: Image.Image, size: int = 256) -> bytes:
    """Shrink a picture to fit into a square of `size` pixels: a JPEG file's bytes, without metadata.

    The aspect is kept; a smaller picture is not enlarged.

    Raises:
        UsageError: `size` is below 1.
    """
    if size < 1:
        raise UsageError(f"The size is {size}; a side has at least 1 pixel.")
    if image.mode != "RGB":
        image = to_rgb(image)
    small = to_rgb(_resize(image, _inside(image.size, min(size, max(image.size)))))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()
