"""EXIF orientation: read it, and turn an image upright."""

import contextlib
import re
import struct
from typing import Any

from PIL import Image

from lookalike.images.formats import tiff_entries

_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the operation that turns the image upright (EXIF 2.32, 4.6.4 A)."""

_SWAPS_SIDES = frozenset({5, 6, 7, 8})


def read_orientation(info: dict[str | tuple[int, int], Any]) -> int:
    """Read the EXIF orientation from an image's ``info``; 1, which is upright, if it has none.

    It does not use `Image.getexif`, which warns about damage in other tags. The result for a TIFF is 1: Pillow turns it
    upright while loading.
    """
    # Damaged metadata is ignored, and a PNG may have any text under the key "exif".
    with contextlib.suppress(AttributeError, KeyError, OverflowError, TypeError, ValueError, struct.error):
        exif = info.get("exif") or bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
        for tag, _kind, _count, value in tiff_entries(exif.removeprefix(b"Exif\0\0")):
            if tag == _TAG:
                return value
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp) if isinstance(xmp, bytes) else None
    return int(match[1]) if match else 1


def write_orientation(orientation: int) -> bytes:
    """Write EXIF with an orientation, and nothing else."""
    exif = Image.Exif()
    exif[_TAG] = orientation
    return exif.tobytes()


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright; an unknown orientation leaves it unchanged."""
    operation = _TRANSPOSE.get(orientation)
    return image if operation is None else image.transpose(operation)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (width, height) of an image after it is turned upright."""
    width, height = size
    return (height, width) if orientation in _SWAPS_SIDES else (width, height)
