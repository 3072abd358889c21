"""Codecs in sequence, such as principal components in 4 bits each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.codecs.binary import Binary
from lookalike.codecs.learned import Learned
from lookalike.codecs.pca import Pca
from lookalike.codecs.product import Product
from lookalike.codecs.protocol import Codec, Codes, Embeddings
from lookalike.codecs.rabitq import RaBitQ
from lookalike.codecs.saved import Arrays, Reader
from lookalike.codecs.scalar import Scalar
from lookalike.codecs.umap import Umap
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.query import Vectors

PARTS: dict[str, type[Codec]] = {part.name: part for part in (Pca, Scalar, Binary, Product, RaBitQ, Umap, Learned)}
"""The codecs that a chain can have, by name. Codes of all but the last are float32: they are the embeddings of the next."""

MAX_STEPS = 4

_KEEPS = 1.01
"""The largest stretch of a codec that keeps distances: a rotation, whose numbers are rounded."""


@dataclass(frozen=True, eq=False)
class Chain(Codec):
    """Several codecs in sequence: each encodes the codes of the one before.

    Attributes:
        steps: the codecs; the space of each is that of the next one's embeddings.
    """

    name: ClassVar[str] = "chain"

    steps: tuple[Codec, ...] = ()

    def __post_init__(self) -> None:
        """Check that the steps fit together."""
        if not 1 <= len(self.steps) <= MAX_STEPS or any(step.name not in PARTS for step in self.steps):
            raise UsageError(f"A chain has 1 to {MAX_STEPS} codecs, each one of {', '.join(PARTS)}.")
        if self.steps[0].embeddings != self.embeddings:
            raise UsageError("The first codec of a chain encodes other embeddings than the chain.")
        for step, following in pairwise(self.steps):
            if step.code_dtype != np.float32 or step.space != following.embeddings:
                raise UsageError(f"In a chain, “{following.name}” cannot encode the codes of “{step.name}”.")

    def __str__(self) -> str:
        """Name the steps."""
        return ", ".join(map(str, self.steps))

    @property
    def _last(self) -> Codec:
        return self.steps[-1]

    @property
    def space(self) -> VectorSpace:
        """The space of the last codec."""
        return self._last.space

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return self._last.code_dtype

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self._last.code_columns

    @property
    def stretch(self) -> float | None:
        """See `Codec.stretch`; that of the first codec, if all later ones keep distances.

        It is unknown for cosine, where each codec divides its vectors by their lengths.
        """
        first, *others = (step.stretch for step in self.steps)
        if first is None or (others and self.embeddings.metric is Metric.COSINE):
            return None
        total = first
        for other in others:
            if other is None or other > _KEEPS:
                return None
            total *= other
        return total

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:
        """Fit each codec to the codes of the one before; see `Codec.fit`."""
        steps, vectors = [], embeddings
        for step in self.steps:
            steps.append(step.fit(vectors, labels))
            if step is not self._last:
                vectors = steps[-1].encode(vectors)
        return replace(self, steps=tuple(steps))

    def _before(self, embeddings: Embeddings) -> Vectors:
        vectors = embeddings
        for step in self.steps[:-1]:
            vectors = step.encode(vectors)
        return vectors

    def _encode(self, embeddings: Embeddings) -> Codes:
        return self._last.encode(self._before(embeddings))

    def _decode(self, codes: Codes) -> Vectors:
        return self._last.decode(codes)

    def _project(self, embeddings: Embeddings) -> Vectors:
        return self._last.project(self._before(embeddings))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`; the arrays of the first step are called ``0.matrix`` and so on."""
        described: list[dict[str, Any]] = []
        arrays: Arrays = {}
        for number, step in enumerate(self.steps):
            settings, own = step.state()
            described.append({"codec": step.name, "settings": settings})
            arrays |= {f"{number}.{name}": array for name, array in own.items()}
        return {"steps": described}, arrays

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        described = state.settings.pop("steps", None)
        if not isinstance(described, list) or not 1 <= len(described) <= MAX_STEPS:
            raise state.damaged(f"steps is not a list of 1 to {MAX_STEPS} codecs")
        steps: list[Codec] = []
        for number, one in enumerate(described):
            reader = Reader(state.where, dict(one) if isinstance(one, dict) else {})
            part = PARTS[reader.choice("codec", PARTS)]
            settings = reader.settings.pop("settings", None)
            reader.finish()
            inner = Reader(state.where, settings if isinstance(settings, dict) else {}, state.take(f"{number}."))
            steps.append(part.restore(inner, steps[-1].space if steps else embeddings))
            inner.finish()
        return cls(embeddings, tuple(steps))
