"""Pictures for tests: a grid of 4 by 4 colours that follow from a number, so that no two look alike."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def png(number: int) -> bytes:
    """The picture of this number, as a file's content."""
    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours.repeat(8, axis=0).repeat(8, axis=1)).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, names: dict[str, int]) -> None:
    """Files of these names, with the pictures of these numbers."""
    for name, number in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
