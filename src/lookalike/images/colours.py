"""Conversion of any Pillow mode to RGB: transparency on a ground that shows the image, high bit depths to 8 bits."""

from collections.abc import Iterator
from typing import cast

import numpy as np
from PIL import Image

from lookalike.shapes import UInt8

# The bits of cameras and scanners. A value of 16 bits that uses fewer was stored unscaled.
_DEPTHS = (8, 10, 12, 14)

# The largest float of an image whose white is its maximum, such as a linear image with highlights.
_MAX_FLOAT_WHITE = 16.0

# An image is invisible on white if no colour channel is darker than this.
_NEARLY_WHITE = 240


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to plain RGB, without a file or metadata. It may share the pixels of the image.

    Transparency lies on white; if that leaves nothing darker than nearly white, as white icons do, it lies on black.

    Values of 16 bits keep their high 8 bits. If the largest value has fewer than 15 bits, white is the largest value of 14,
    12, 10 or 8 bits. Integers of 32 bits and floats have no standard white. Their range is the smallest of 0…1 (floats
    only), 0…255, 0…1023, 0…4095, 0…16383 and 0…65535 that holds all values, else minimum…maximum. Floats up to a maximum
    between 1 and 16 have this maximum as their white.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.has_transparency_data:
        return _on_ground(_straight_alpha(image))
    return _plain(image if image.mode == "RGB" else image.convert("RGB"))


def _plain(image: Image.Image) -> Image.Image:
    """Return an image that shares the pixels of another, but not its file and metadata."""
    plain = Image.Image()._new(image.im)  # noqa: SLF001 -- `copy` would need the memory twice
    plain.info = {}
    return plain


def _straight_alpha(image: Image.Image) -> Image.Image:
    if image.mode == "RGBA":
        return image
    # Pillow converts premultiplied alpha ("RGBa", "La") only to its straight form.
    return image.convert({"RGBa": "RGBA", "La": "LA"}.get(image.mode, "RGBA")).convert("RGBA")


def _on_ground(image: Image.Image) -> Image.Image:
    rgb = Image.new("RGB", image.size, "white")
    rgb.paste(image, mask=image)
    bands = cast("tuple[tuple[int, int], ...]", rgb.getextrema())
    if min(low for low, _high in bands) >= _NEARLY_WHITE:
        lowest, highest = cast("tuple[int, int]", image.getchannel("A").getextrema())
        if lowest < 255 and highest > 0:  # noqa: PLR2004 -- neither opaque nor empty
            rgb = Image.new("RGB", image.size, "black")
            rgb.paste(image, mask=image)
    return rgb


def _eight_bits(values: np.ndarray, mode: str) -> UInt8[np.ndarray, "h w"]:
    if mode.startswith("I;16"):
        return (values >> excess_bits(int(values.max()))).astype(np.uint8)
    low, high = _range(values, mode)
    grey = np.empty(values.size, np.uint8)
    # In chunks: the largest image would take gigabytes in 64-bit floats.
    for chunk, out in zip(_chunks(values.reshape(-1)), _chunks(grey), strict=True):
        clean = np.nan_to_num(chunk.astype(np.float64), nan=low, posinf=high, neginf=low)
        out[:] = np.rint((clean - low) * (255 / ((high - low) or 1)))
    return grey.reshape(values.shape)


def excess_bits(largest: int) -> int:
    """Return the number of bits to drop from values of 16 bits, whose largest is given, for 8 bits."""
    return next((depth for depth in _DEPTHS if largest < 2**depth), 16) - 8


def _range(values: np.ndarray, mode: str) -> tuple[float, float]:
    """Return the values of black and white."""
    low, high = np.inf, -np.inf
    for chunk in _chunks(values.reshape(-1)):
        if (finite := chunk[np.isfinite(chunk)]).size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        return 0.0, 0.0
    whites = (*(2.0**depth - 1 for depth in _DEPTHS), 65535.0)
    if low < 0 or high > whites[-1]:
        return low, high
    if mode == "F" and high < _MAX_FLOAT_WHITE:
        return 0.0, max(high, 1.0)
    return 0.0, next(white for white in whites if high <= white)


def _chunks(flat: np.ndarray) -> Iterator[np.ndarray]:
    return (flat[at : at + 2**20] for at in range(0, len(flat), 2**20))
