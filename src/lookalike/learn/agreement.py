"""Agreement of an exported network with the network that it was made from."""

from pathlib import Path

import numpy as np
import onnx

from lookalike import atomic
from lookalike.encoders import Encoder
from lookalike.errors import EncoderError
from lookalike.query import Branch
from lookalike.shapes import Float32, Float64, UInt8

COMPARED = 64
"""Images to compare embeddings of, at most."""

# The largest difference between the embeddings of torch and of ONNX Runtime with float16 weights, relative to their length.
_TOLERANCE = 1e-2


def save_network(model: onnx.ModelProto, path: Path) -> None:
    """Write an ONNX file atomically; raises an OSError."""
    with atomic.atomic_write(path) as part:
        onnx.save(model, part)


def check_float(
    folder: Path,
    branch: Branch,
    model: onnx.ModelProto,
    images: UInt8[np.ndarray, "n s s 3"],
    expected: Float32[np.ndarray, "n d"],
    advice: str,
) -> float:
    """Return how far an encoder's embeddings are from torch's; with float32 weights if float16 ones move them too far.

    Args:
        folder: of the encoder, with float16 weights.
        branch: to check.
        model: the branch's network with float32 weights.
        images: fitted, up to `COMPARED`.
        expected: their embeddings by torch.
        advice: what to do if they disagree.

    Raises:
        EncoderError: both are too far.
    """
    difference = relative_difference(Encoder.open(folder).embed(images, branch), expected)
    if difference > _TOLERANCE:
        # The embeddings of a deep network after little training depend on the last bits of its weights.
        save_network(model, folder / f"{branch}.onnx")
        difference = relative_difference(Encoder.open(folder).embed(images, branch), expected)
    if difference > _TOLERANCE:
        raise EncoderError(
            f"ONNX and torch disagree on {branch} embeddings by {difference:.4f} of their length (limit {_TOLERANCE}). {advice}"
        )
    return difference


def relative_difference(found: Float32[np.ndarray, "n d"], expected: Float32[np.ndarray, "n d"]) -> float:
    """Return the largest distance between embeddings, row for row, relative to the mean length of the expected ones."""
    return float(np.linalg.norm(found - expected, axis=1).max() / np.linalg.norm(expected, axis=1).mean())


def cosines(found: Float32[np.ndarray, "n d"], expected: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Return the cosine of embeddings, row for row; 0 for a row of zeros."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    both: np.ndarray = np.sum(found * expected, axis=1, dtype=np.float64) / np.maximum(
        lengths, np.finfo(np.float32).tiny
    )
    return both
