"""The protocol of a codec."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self

from lookalike.metric import VectorSpace
from lookalike.query import Vectors


class Codec(Protocol):
    """A map from embeddings to codes, fitted once and then fixed.

    Encoding needs only NumPy or ONNX Runtime. `lookalike.learn` fits codecs that need gradients.
    """

    name: ClassVar[str]
    """Its name in manifests and calibrations."""

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the codes: floats, or bits for Hamming."""
        ...

    def fit(self, embeddings: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Fit the codec to embeddings, and return the fitted codec.

        Args:
            embeddings: ``(n, d)``, float32.
            labels: the class of each, for codecs that learn from classes.

        Raises:
            UsageError: too few embeddings, or of another dimension.
        """
        ...

    def encode(self, embeddings: Vectors) -> Vectors:
        """Convert embeddings ``(n, d)`` to codes ``(n, space.columns)``."""
        ...

    def save(self, folder: Path) -> None:
        """Write the codec into an existing folder, as safetensors and JSON."""
        ...

    @classmethod
    def load(cls, folder: Path, embeddings: VectorSpace) -> Self:
        """Load a saved codec.

        Args:
            folder: the folder that `save` wrote to.
            embeddings: the space of the embeddings that it encodes.

        Raises:
            MismatchError: it was fitted on embeddings of another space.
            StorageError: a file is missing or damaged.
        """
        ...
