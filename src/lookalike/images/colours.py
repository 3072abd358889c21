"""Conversion of any Pillow mode to RGB: transparency on white, high bit depths to 8 bits."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from lookalike.shapes import UInt8


def to_rgb(image: Image.Image) -> Image.Image:
    """Copy an image to plain RGB, without a file or metadata.

    Values of 16 bits keep their high 8 bits. Integers of 32 bits and floats have no standard white. Their range is the
    smallest of 0…1 (floats only), 0…255 and 0…65535 that holds all values, else minimum…maximum.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.has_transparency_data:
        # Pillow converts premultiplied alpha ("RGBa", "La") only to its straight form.
        image = image.convert({"RGBa": "RGBA", "La": "LA"}.get(image.mode, "RGBA")).convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(image, mask=image)
        return rgb
    rgb = image.convert("RGB")
    rgb.info = {}
    return rgb


def _eight_bits(values: np.ndarray, mode: str) -> UInt8[np.ndarray, "h w"]:
    if mode.startswith("I;16"):
        return (values >> 8).astype(np.uint8)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    whites = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    if low >= 0 and high <= whites[-1]:
        low, high = 0.0, next(white for white in whites if high <= white)
    grey = np.empty(values.size, np.uint8)
    # In chunks: the largest image would take gigabytes in 64-bit floats.
    for chunk, out in zip(_chunks(values.reshape(-1)), _chunks(grey), strict=True):
        clean = np.nan_to_num(chunk.astype(np.float64), nan=low, posinf=high, neginf=low)
        out[:] = np.rint((clean - low) * (255 / ((high - low) or 1)))
    return grey.reshape(values.shape)


def _chunks(flat: np.ndarray) -> Iterator[np.ndarray]:
    return (flat[at : at + 2**20] for at in range(0, len(flat), 2**20))
