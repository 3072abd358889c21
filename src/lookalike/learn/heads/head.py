"""A head: the last layers of an encoder, as arrays."""

from dataclasses import dataclass

import numpy as np

from lookalike.shapes import Float32


@dataclass(frozen=True)
class Classes:
    """The classes of a public classifier, each with the direction that it adds to an embedding.

    Attributes:
        weight: of the classifier.
        bias: of the classifier.
        prototypes: the direction of each class.
    """

    weight: Float32[np.ndarray, "c f"]
    bias: Float32[np.ndarray, " c"]
    prototypes: Float32[np.ndarray, "c d"]


@dataclass(frozen=True)
class Head:
    """A projection of features to embeddings of length 1, perhaps with the mean prototype of the classes of an image.

    ``unit(scale · unit((x - centre) @ projection) + softmax(weight @ x + bias) @ prototypes)``

    Attributes:
        centre: subtracted from features.
        projection: of centred features.
        scale: of the projected part beside the prototypes; without classes it does not matter.
        classes: the classes; None for the projection alone.
    """

    centre: Float32[np.ndarray, " f"]
    projection: Float32[np.ndarray, "f d"]
    scale: float = 1.0
    classes: Classes | None = None

    def apply(self, features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n d"]:
        """Compute embeddings with NumPy; a row of zeros stays zero."""
        out = unit_vectors((features - self.centre) @ self.projection)
        if self.classes is None:
            return out
        shares = softmax(features @ self.classes.weight.T + self.classes.bias)
        return unit_vectors(np.float32(self.scale) * out + shares @ self.classes.prototypes)


def softmax(logits: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n c"]:
    """Compute the share of each class."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def unit_vectors(x: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; a row of zeros stays zero."""
    scaled: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return scaled
