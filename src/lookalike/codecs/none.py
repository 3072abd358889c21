"""The codec that leaves embeddings unchanged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np  # noqa: TC002 -- an annotation that tests evaluate

from lookalike.codecs.protocol import Codec, Codes, Embeddings
from lookalike.codecs.saved import Arrays, Reader
from lookalike.metric import VectorSpace


@dataclass(frozen=True)
class NoCodec(Codec):
    """A codec that leaves embeddings unchanged."""

    name: ClassVar[str] = "none"

    def __str__(self) -> str:
        """Name the codec."""
        return "none"

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return self.embeddings.dtype

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.embeddings.columns

    @property
    def size(self) -> int:
        """The codec has no files."""
        return 0

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- nothing to fit
        """Return the codec itself."""
        return self

    def _encode(self, embeddings: Embeddings) -> Codes:
        return embeddings

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`."""
        return {}, {}

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:  # noqa: ARG003 -- nothing to read
        """See `Codec.restore`."""
        return cls(embeddings)

    def save(self, folder: Path, encoder: str | None = None) -> None:
        """Write nothing: the codec has no parameters."""

    @classmethod
    def load(cls, folder: Path, embeddings: VectorSpace, encoder: str | None = None) -> Self:  # noqa: ARG003 -- nothing to read
        """Return the codec for these embeddings."""
        return cls(embeddings)
