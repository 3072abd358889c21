"""Colours in 16 bits that use fewer, such as the 10, 12 or 14 bits of cameras.

Pillow keeps the high byte of each colour. With 12 bits in 16, this byte is nearly black. So a second pass reads the low bytes: for
Pillow, those are the high bytes of the other byte order.
"""

import sys
from typing import cast

import numpy as np
from PIL import Image, ImageFile

from lookalike.images.colours import excess_bits

_OTHER_ORDER = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_MODES = frozenset({"RGB;16", "RGBX;16", "RGBA;16"})
_HIGHEST = 2**6  # of the high bytes of 14 bits
_ROWS = 256


def has_low_bytes(image: ImageFile.ImageFile) -> bool:
    """Return whether the colours of an image, which is not yet loaded, have 16 bits."""
    return bool(image.tile) and _raw_mode(image.tile[0])[:-1] in _MODES


def is_unscaled(image: Image.Image) -> bool:
    """Return whether the high bytes of all colours are so low that the image uses fewer than 15 bits."""
    bands = cast("tuple[tuple[int, int], ...]", image.getextrema())
    return max(high for _low, high in bands[:3]) < _HIGHEST


def select_low_bytes(image: ImageFile.ImageFile) -> None:
    """Let an image, which is not yet loaded, read the low byte of each colour."""
    image.tile = [tile._replace(args=_swap(tile.args)) for tile in image.tile]


def scale(high: Image.Image, low: Image.Image) -> Image.Image:
    """Combine high and low bytes, and scale the colours by the bits that they use."""
    largest = max(
        int((np.asarray(high.crop(box), np.uint16)[..., :3] << 8 | np.asarray(low.crop(box))[..., :3]).max())
        for box in _strips(high)
    )
    excess = excess_bits(largest)
    scaled = high.copy()  # alpha stays
    for box in _strips(high):
        colours = np.asarray(high.crop(box)).copy()
        values = colours[..., :3].astype(np.uint16) << 8 | np.asarray(low.crop(box))[..., :3]
        colours[..., :3] = values >> excess
        scaled.paste(Image.fromarray(colours), box)
    return scaled


def _strips(image: Image.Image) -> list[tuple[int, int, int, int]]:
    return [(0, top, image.width, min(top + _ROWS, image.height)) for top in range(0, image.height, _ROWS)]


def _raw_mode(tile: ImageFile._Tile) -> str:
    args = tile.args[0] if isinstance(tile.args, tuple) else tile.args
    return args if isinstance(args, str) else ""


def _swap(args: tuple[object, ...] | str | None) -> tuple[object, ...] | str | None:
    if isinstance(args, tuple):
        return (_swap(args[0]), *args[1:]) if isinstance(args[0], str) else args
    return args if args is None else args[:-4] + _OTHER_ORDER.get(args[-4:], args[-4:])
