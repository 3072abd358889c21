"""Fitting of images to the square input of an encoder."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from lookalike.errors import UsageError
from lookalike.images.decoding import open_image
from lookalike.images.limits import DEFAULT_LIMITS, Limits
from lookalike.images.sources import ImageSource
from lookalike.shapes import UInt8

Fit = Literal["squash", "crop", "pad"]
"""How an image becomes square: stretched, cropped at the centre, or padded with white."""

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""How pixels are interpolated; Pillow's filters, with antialiasing."""


@dataclass(frozen=True)
class Resizing:
    """A resize to whole pixels, then a crop of the middle, exactly as torchvision does both.

    Public encoders were trained with it. A `Fit` differs by up to half a pixel, and by the filter.

    Attributes:
        fit: ``"squash"`` resizes to ``side`` × ``side``, ``"crop"`` the shorter side to ``side``.
        side: in pixels; at least the size of the square that is cropped.
        interpolation: the filter.
    """

    fit: Literal["squash", "crop"]
    side: int
    interpolation: Interpolation = "bicubic"


Fitting = Fit | Resizing
"""How an image is fitted to the square input of an encoder."""


def load(
    source: ImageSource,
    size: int,
    fit: Fitting = "squash",
    *,
    name: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> UInt8[np.ndarray, "size size 3"]:
    """Open an image and fit it to a square, the input of an encoder.

    Resizing is bicubic with antialiasing, as image networks are trained, and shows fewer halos than Lanczos. Reductions
    by more than 6 first average whole pixels to three times the size. That is much faster, and the result differs by a
    fraction of a grey level. An image of the right size keeps its pixels.

    Args:
        source: the image.
        size: side of the square, in pixels.
        fit: ``"squash"`` ignores the aspect ratio. ``"crop"`` resizes the shorter side to ``size`` and keeps the middle.
            ``"pad"`` resizes the longer side and centres the image on white. A `Resizing` follows a public encoder.
        name: its name in messages; by default its quoted path, or “The image”.
        limits: maximum bytes and pixels.

    Raises:
        NotFoundError: the file does not exist.
        UnreadableImageError: the source is not an image, or it is damaged.
        ImageTooLargeError: the image exceeds a limit.
        UsageError: ``source`` has a wrong type or shape, ``size`` is below 1 or ``fit`` is unknown.
    """
    check_size(size)
    if isinstance(fit, Resizing):
        image = open_image(source, name=name, at_least=max(size, fit.side), limits=limits)
        return _resize_and_crop(image, size, fit)
    if fit not in get_args(Fit):
        raise UsageError(f"The fit {fit!r} is unknown. Choose one of {', '.join(get_args(Fit))}.")
    return _fit(open_image(source, name=name, at_least=size, limits=limits), size, fit)


def _fit(image: Image.Image, size: int, fit: Fit) -> UInt8[np.ndarray, "size size 3"]:
    width, height = image.size
    if fit == "squash":
        return np.array(resize(image, (size, size)))
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return np.array(resize(image, (size, size), (left, top, left + side, top + side)))
    small = resize(image, size_within(image.size, size))
    square = Image.new("RGB", (size, size), "white")
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return np.array(square)


def _resize_and_crop(image: Image.Image, size: int, how: Resizing) -> UInt8[np.ndarray, "size size 3"]:
    width, height = image.size
    if how.fit == "squash":
        resized = (how.side, how.side)
    else:  # torchvision cuts off fractions of a pixel
        resized = (how.side * width // min(image.size), how.side * height // min(image.size))
    # Python rounds halves to even numbers, as torchvision does.
    left, top = (round((side - size) / 2) for side in resized)
    # Only the crop is computed: of a long and narrow image, the rest could fill the memory.
    across, down = width / resized[0], height / resized[1]
    box = (left * across, top * down, min((left + size) * across, width), min((top + size) * down, height))
    return np.array(image.resize((size, size), Image.Resampling[how.interpolation.upper()], box))


def check_size(size: int) -> None:
    """Check that a side has at least 1 pixel.

    Raises:
        UsageError: it is below 1.
    """
    if size < 1:
        raise UsageError(f"The size is {size}; a side has at least 1 pixel.")


def size_within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Scale (width, height) so that the longer one is ``side``."""
    width, height = size
    longer = max(size)
    return max(1, round(width * side / longer)), max(1, round(height * side / longer))


def resize(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    """Resize an image, or a box of it, as `load` does."""
    if image.size == size and box is None:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
