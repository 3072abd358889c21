"""Image files for tests: grids of 4 by 4 random colours. The number of an image is its seed."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def png(number: int) -> bytes:
    """Return the image of a number, as the content of a PNG file."""
    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours.repeat(8, axis=0).repeat(8, axis=1)).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, names: dict[str, int]) -> None:
    """Write files of these names, with the images of these numbers."""
    for name, number in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
