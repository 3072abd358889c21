"""What a store keeps of each vector: the vector itself, or a code, with or without the embedding that it was made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike.codecs import Codec, Codes
from lookalike.codecs.protocol import Embeddings
from lookalike.errors import UsageError
from lookalike.metric import VectorSpace
from lookalike.query import Vectors
from lookalike.search import CodedVectors
from lookalike.shapes import Shaped

Rows = Shaped[np.ndarray, "n r"]
"""Rows of a `RowFormat`: vectors; or the bytes of codes, each followed by those of its embedding if it is kept."""


@dataclass(frozen=True, eq=False)
class RowFormat:
    """What a store keeps of each vector.

    Attributes:
        space: of the vectors, in which searches compare them.
        codec: decodes them; none if the store keeps the vectors themselves.
        originals: whether the store keeps the embeddings beside the codes.
    """

    space: VectorSpace
    codec: Codec | None = None
    originals: bool = False

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The dtype of codes, or of vectors."""
        return self.space.dtype if self.codec is None else self.codec.code_dtype

    @property
    def columns(self) -> int:
        """Columns of codes, or of vectors."""
        return self.space.columns if self.codec is None else self.codec.code_columns

    @property
    def bytes(self) -> int:
        """Bytes of a code, or of a vector."""
        return self.columns * self.dtype.itemsize

    @property
    def original(self) -> VectorSpace | None:
        """The space of the embeddings that the store keeps beside the codes; none if it keeps none."""
        return self.codec.embeddings if self.codec is not None and self.originals else None

    def encode(self, embeddings: Embeddings) -> Rows:
        """Convert embeddings to rows."""
        if self.codec is None:
            return embeddings
        return self.join(self.codec.encode(embeddings), embeddings if self.originals else None)

    def join(self, codes: Codes, embeddings: Embeddings | None) -> Rows:
        """Make rows of codes, and of the embeddings that are kept beside them."""
        parts = [codes] if embeddings is None else [codes, embeddings]
        return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], axis=1)

    def check(self, rows: Rows) -> Rows:
        """Check that rows are of this format, whose store keeps codes.

        Raises:
            UsageError: they are not.
        """
        original = self.original
        columns = self.bytes + (0 if original is None else original.columns * original.dtype.itemsize)
        if rows.dtype != np.uint8 or rows.shape[1:] != (columns,):
            raise UsageError(
                f"This collection keeps codes, in rows of {columns} bytes; these rows are {rows.dtype} with shape"
                f" {rows.shape}. Make them by Embedder.embed_items."
            )
        return rows

    def decode(self, codes: Codes) -> Vectors | CodedVectors:
        """Return the vectors of codes, which are decoded where they are read unless they are vectors already."""
        if self.codec is None or self.codec.decode(none := codes[:0]) is none:
            return codes
        return CodedVectors(codes, self.codec.decode, self.space)
