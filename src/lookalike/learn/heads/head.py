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

    Or the main axes of the projection beside an earlier embedding ``e``, if ``[e, x]`` are the features:
    ``unit([unit(e), unit((x - centre) @ projection)] @ axes)``

    Attributes:
        centre: subtracted from features.
        projection: of centred features.
        scale: of the projected part beside the prototypes; without classes it does not matter.
        classes: the classes; None for the projection alone.
        axes: of an earlier embedding and the projection beside it; None for the projection alone.
    """

    centre: Float32[np.ndarray, " f"]
    projection: Float32[np.ndarray, "f d"]
    scale: float = 1.0
    classes: Classes | None = None
    axes: Float32[np.ndarray, "b d"] | None = None

    @property
    def kept(self) -> int:
        """Length of the earlier embedding that stays beside the projection; 0 if there is none."""
        return 0 if self.axes is None else len(self.axes) - self.projection.shape[1]

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        size: int = (self.projection if self.axes is None else self.axes).shape[1]
        return size

    def apply(self, features: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n d"]:
        """Compute embeddings with NumPy; a row of zeros stays zero."""
        if self.axes is not None:
            earlier, inner = unit_vectors(features[:, : self.kept]), features[:, self.kept :]
            out = unit_vectors((inner - self.centre) @ self.projection)
            return unit_vectors(np.concatenate([earlier, out], axis=1) @ self.axes)
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


@dataclass(frozen=True, eq=False)
class Features:
    """What a head can be fitted to.

    Attributes:
        embeddings: of an encoder.
        inner: the features before the last layers of its network; none if it has no such layers.
    """

    embeddings: Float32[np.ndarray, "n d"]
    inner: Float32[np.ndarray, "n f"] | None = None

    def take(self, rows: np.ndarray) -> "Features":
        """Return these rows."""
        return Features(self.embeddings[rows], None if self.inner is None else self.inner[rows])

    def apply(self, head: Head | None) -> Float32[np.ndarray, "n d"]:
        """Compute the embeddings of a head; without one, those of the encoder."""
        if head is None:
            return self.embeddings
        return head.apply(self.both() if head.kept else self.embeddings)

    def both(self) -> Float32[np.ndarray, "n b"]:
        """Return the embeddings with the inner features beside them."""
        assert self.inner is not None  # noqa: S101 -- the caller knows
        return np.concatenate([self.embeddings, self.inner], axis=1)
