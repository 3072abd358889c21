"""Vectors of images that this process has embedded: the cells of a study share their photos."""

import hashlib
from collections.abc import Callable

import numpy as np

from lookalike.progress import Progress
from lookalike.shapes import Float32, UInt8

_CHUNK = 64

# The vectors of this many sets of images are kept: a stage has training and validation images, of a photo branch and a teacher.
_KEPT = 8

_known: dict[str, Float32[np.ndarray, "n d"]] = {}


def embed_once(
    images: UInt8[np.ndarray, "n s s 3"],
    embed: Callable[[UInt8[np.ndarray, "b s s 3"]], Float32[np.ndarray, "b d"]],
    by: str,
    progress: Progress,
) -> Float32[np.ndarray, "n d"]:
    """Embed images in chunks, or return the vectors that this process made of the same images before.

    Args:
        images: at least one.
        embed: images to vectors.
        by: identifies what embeds: two functions with the same name give the same vectors.
        progress: receives each chunk.
    """
    digest = hashlib.sha256(f"{by}\n{images.shape}\n".encode())
    digest.update(np.ascontiguousarray(images).data)
    key = digest.hexdigest()
    if key not in _known:
        parts = []
        for start in range(0, len(images), _CHUNK):
            parts.append(embed(images[start : start + _CHUNK]))
            progress.advance("photos", min(start + _CHUNK, len(images)), len(images))
        while len(_known) >= _KEPT:
            del _known[next(iter(_known))]  # the oldest
        _known[key] = np.concatenate(parts)
    return _known[key]
