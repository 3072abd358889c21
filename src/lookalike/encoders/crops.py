"""Several crops and mirror images of an image, whose embeddings are averaged."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from lookalike.shapes import Float32, UInt8

Crops = Literal[1, 2, 5, 10]
"""How many embeddings of an image are averaged.

1: of the image. 2: of the image and its mirror image. 5: of its corners and its middle, each 7/8 of its sides. 10: of these
and their mirror images (Krizhevsky et al. 2012, section 4.1).
"""


def source_side(size: int, crops: Crops) -> int:
    """Return the pixels a side of a fitted image from which crops of a size are cut."""
    return size if crops <= 2 else -(-size * 8 // 7)  # noqa: PLR2004 -- the image alone


def cut(images: UInt8[np.ndarray, "n s s 3"], size: int, crops: Crops) -> Iterator[UInt8[np.ndarray, "n size size 3"]]:
    """Cut the crops of images: the first of each image, then the second, and so on."""
    rest = images.shape[1] - size
    middle = (rest // 2, rest // 2)
    for top, left in (middle,) if crops <= 2 else ((0, 0), (0, rest), (rest, 0), (rest, rest), middle):  # noqa: PLR2004
        crop = images[:, top : top + size, left : left + size]
        yield crop
        if crops in (2, 10):
            yield crop[:, :, ::-1]


def mean_direction(embeddings: Iterable[Float32[np.ndarray, "n d"]]) -> Float32[np.ndarray, "n d"]:
    """Average the directions of embeddings, to length 1. A zero vector has none."""
    return _unit(np.sum([_unit(each) for each in embeddings], axis=0))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros(vectors.shape), where=norms > 0), np.float32)
