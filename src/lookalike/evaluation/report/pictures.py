"""Small pictures for a report, each as a data URI."""

import base64
import io
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lookalike import images
from lookalike.evaluation.report.embedding_map import Map, lattice, sheet_columns

Picture = Callable[[int], UInt8[np.ndarray, "h w 3"]]
"""Row → its picture, RGB."""

# Sides, in pixels: of an example, of a point's picture, of a picture upon the map; and cells along the map.
_EXAMPLE = 96
POINT = 32
_TILE = 28
_CELLS = 44


def example(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture of at most 96 pixels, JPEG."""
    return _uri(images.thumbnail(picture, _EXAMPLE), "jpeg")


def sheet(drawn: Map, picture: Picture) -> str:
    """The pictures of a map's points, 32 pixels each, in lines of `sheet_columns`."""
    columns = sheet_columns(len(drawn.rows))
    whole = Image.new("RGB", (columns * POINT, -(-len(drawn.rows) // columns) * POINT), "white")
    for i, row in enumerate(drawn.rows.tolist()):
        whole.paste(_square(picture(row), POINT), (i % columns * POINT, i // columns * POINT))
    return _webp(whole)


def mosaic(drawn: Map, picture: Picture) -> str:
    """A map made of the pictures themselves, transparent between them."""
    whole = Image.new("RGBA", (_CELLS * _TILE, _CELLS * _TILE))
    for i, column, row in lattice(drawn, _CELLS):
        tile = _square(picture(int(drawn.rows[i])), _TILE)
        whole.paste(tile, (column * _TILE, row * _TILE))
    return _webp(whole)


def _square(picture: UInt8[np.ndarray, "h w 3"], side: int) -> Image.Image:
    return Image.fromarray(images.load(picture, side, "crop"))


def _webp(image: Image.Image) -> str:
    # For these sheets half of what JPEG takes, and it has transparency.
    file = io.BytesIO()
    image.save(file, "WEBP", quality=72, method=4)
    return _uri(file.getvalue(), "webp")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
