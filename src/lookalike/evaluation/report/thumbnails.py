"""Small images of a report, as data URIs: thumbnails, the sprite sheet of a map, and the mosaic."""

import base64
import io

import numpy as np
from PIL import Image

from lookalike import images
from lookalike.evaluation.embedded import ImageOfRow
from lookalike.evaluation.report.embedding_map import EmbeddingMap, grid_cells, sheet_columns
from lookalike.shapes import UInt8

# Pixels a side: of a thumbnail, of a sprite, and of an image in the mosaic.
_THUMBNAIL = 96
SPRITE = 32
_TILE = 28

# Cells along each side of the mosaic.
_CELLS = 44


def thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """Encode an image of at most 96 pixels a side as JPEG."""
    return _uri(images.thumbnail(image, _THUMBNAIL), "jpeg")


def sprite_sheet(embedding_map: EmbeddingMap, image: ImageOfRow) -> str:
    """Encode the images of a map's points in one sheet of `sheet_columns` columns, 32 pixels each."""
    columns = sheet_columns(len(embedding_map.rows))
    sheet = Image.new("RGB", (columns * SPRITE, -(-len(embedding_map.rows) // columns) * SPRITE), "white")
    for i, row in enumerate(embedding_map.rows.tolist()):
        sheet.paste(_square(image(row), SPRITE), (i % columns * SPRITE, i // columns * SPRITE))
    return _webp(sheet)


def mosaic(embedding_map: EmbeddingMap, image: ImageOfRow) -> str:
    """Encode a map that shows the image of each point, on a transparent background."""
    canvas = Image.new("RGBA", (_CELLS * _TILE, _CELLS * _TILE))
    for i, column, row in grid_cells(embedding_map, _CELLS):
        tile = _square(image(int(embedding_map.rows[i])), _TILE)
        canvas.paste(tile, (column * _TILE, row * _TILE))
    return _webp(canvas)


def _square(image: UInt8[np.ndarray, "h w 3"], size: int) -> Image.Image:
    return Image.fromarray(images.load(image, size, "crop"))


def _webp(image: Image.Image) -> str:
    # WebP has transparency, and takes half the bytes of JPEG for these sheets.
    file = io.BytesIO()
    image.save(file, "WEBP", quality=72, method=4)
    return _uri(file.getvalue(), "webp")


def _uri(data: bytes, media_type: str) -> str:
    return f"data:image/{media_type};base64,{base64.b64encode(data).decode()}"
