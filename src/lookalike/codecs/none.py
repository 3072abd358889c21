"""The codec that leaves embeddings unchanged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from lookalike.metric import VectorSpace
from lookalike.query import Vectors


@dataclass(frozen=True)
class NoCodec:
    """A codec that leaves embeddings unchanged.

    Attributes:
        space: of the embeddings, and so of the codes.
    """

    name: ClassVar[str] = "none"
    space: VectorSpace

    def fit(self, embeddings: Vectors, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- nothing to fit
        """Return the codec itself."""
        return self

    def encode(self, embeddings: Vectors) -> Vectors:
        """Return the embeddings unchanged."""
        return embeddings

    def save(self, folder: Path) -> None:
        """Write nothing: the codec has no parameters."""

    @classmethod
    def load(cls, folder: Path, embeddings: VectorSpace) -> Self:  # noqa: ARG003 -- nothing to read
        """Return the codec for these embeddings."""
        return cls(embeddings)
