"""The protocol of a codec."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self

from lookalike.metric import VectorSpace
from lookalike.query import Vectors


class Codec(Protocol):
    """A map from embeddings to codes, fitted once and then fixed.

    To encode takes NumPy or ONNX Runtime alone. A codec whose fit needs gradients is fitted by `lookalike.learn`.
    """

    name: ClassVar[str]
    """What a manifest and a calibration call it."""

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the codes: floats, or bits for Hamming."""
        ...

    def fit(self, embeddings: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Return a codec that is fitted to embeddings.

        Args:
            embeddings: ``(n, d)``, float32.
            labels: the class of each, for codecs that learn from classes.

        Raises:
            UsageError: too few embeddings, or of another dimension.
        """
        ...

    def encode(self, embeddings: Vectors) -> Vectors:
        """Turn embeddings ``(n, d)`` into codes ``(n, space.columns)``."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs into a folder, which exists. Formats are safetensors and JSON."""
        ...

    @classmethod
    def load(cls, folder: Path, embeddings: VectorSpace) -> Self:
        """Read what `save` wrote; ``embeddings`` is the space of what it will encode.

        Raises:
            MismatchError: it was fitted on embeddings of another space.
            StorageError: a file is missing or damaged.
        """
        ...
