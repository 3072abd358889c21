"""A correction of sketch embeddings, which moves them to the photos that the sketches show."""

from dataclasses import dataclass

import numpy as np

from lookalike.learn.heads.head import unit_vectors
from lookalike.shapes import Float32, Int64

RIDGE = 1.0
"""The penalty, in the mean variance of the features. Strong, since people's sketches differ from those that it is fitted to."""


@dataclass(frozen=True)
class Correction:
    """A linear correction of embeddings: ``length · unit(unit(embedding) + features @ projection + bias)``.

    Attributes:
        projection: of the features of a sketch.
        bias: of all sketches.
        length: of corrected embeddings.
    """

    projection: Float32[np.ndarray, "f d"]
    bias: Float32[np.ndarray, " d"]
    length: float = 1.0

    def apply(
        self, features: Float32[np.ndarray, "n f"], embeddings: Float32[np.ndarray, "n d"]
    ) -> Float32[np.ndarray, "n d"]:
        """Compute corrected embeddings with NumPy."""
        moved = unit_vectors(embeddings) + features @ self.projection + self.bias
        return (np.float32(self.length) * unit_vectors(moved)).astype(np.float32)


def fit_correction(
    features: Float32[np.ndarray, "m f"],
    embeddings: Float32[np.ndarray, "m d"],
    shown: Int64[np.ndarray, " m"],
    photos: Float32[np.ndarray, "n d"],
    *,
    centred: bool,
    ridge: float = RIDGE,
) -> Correction:
    """Fit a ridge regression (Hoerl and Kennard 1970) from the features of sketches to what their embeddings lack to those of their photos.

    Directions in which sketches of the collection hardly differ keep the embedding that they have.

    Args:
        features: of sketches, before the last layer.
        embeddings: of the same sketches.
        shown: for each sketch the row of its photo.
        photos: embeddings of the photos; their mean length becomes that of sketches.
        centred: leave the mean of the photos out. A network of photos embeds all sketches far from the photos; with that mean, which they
            would share, they are drawn to the photos near to it. A sketch branch has learned where the photos are.
        ridge: the penalty, in the mean variance of the features.
    """
    directions = unit_vectors(photos).astype(np.float64)
    if centred:
        directions -= directions.mean(axis=0)
    wanted = directions[shown] - unit_vectors(embeddings)
    centre, mean = features.mean(axis=0, dtype=np.float64), wanted.mean(axis=0)
    spread = features - centre
    moment = spread.T @ spread
    penalty = max(ridge * float(np.trace(moment)) / len(moment), float(np.finfo(np.float32).tiny))
    projection = np.linalg.solve(moment + penalty * np.eye(len(moment)), spread.T @ (wanted - mean))
    bias, length = mean - centre @ projection, float(np.linalg.norm(photos, axis=1).mean())
    return Correction(projection.astype(np.float32), bias.astype(np.float32), length)
