"""A learned codec: a few layers of a network, whose weights `lookalike.learn` or another tool has fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.codecs import packing
from lookalike.codecs.linear import Affine
from lookalike.codecs.protocol import Codec, Codes, Embeddings, check_choice, check_floats, directions
from lookalike.codecs.saved import Arrays, Reader
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace

MAX_LAYERS = 8

MAX_WIDTH = 2**14

METHODS = "learned", "crs", "cbs", "dsh", "dtsh", "parametric-umap"
"""Ways to fit the weights; ``learned`` is any other."""


@dataclass(frozen=True, eq=False)
class Learned(Codec):
    """Apply layers x ↦ x W + b, with a rectifier max(0, x) between two of them, and keep floats or signs.

    One layer to fewer floats is R4's CRS; the signs of one layer are its CBS (a sigmoid, cut at ½), DSH and DTSH. Weights
    are fitted elsewhere, with gradients: `fit` returns the codec unchanged. For cosine, layers read unit vectors.

    Attributes:
        output: the metric of the vectors; hamming keeps the signs of the last layer.
        layers: see `of`.
        method: how the weights were fitted, one of `METHODS`; for people.
    """

    name: ClassVar[str] = "learned"

    output: Metric = Metric.EUCLIDEAN
    layers: tuple[Affine, ...] = ()
    method: str = METHODS[0]

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.name, self.embeddings)
        check_choice("The output of “learned”", self.output, tuple(Metric))
        check_choice("The method of “learned”", self.method, METHODS)
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise UsageError(f"“learned” has 1 to {MAX_LAYERS} layers, not {len(self.layers)}. Train them, and use of.")
        shapes = [layer.matrix.shape for layer in self.layers]
        if shapes[0][0] != self.embeddings.dimension or any(a[1] != b[0] for a, b in pairwise(shapes)):
            raise UsageError(
                f"The layers {' and '.join(f'{a} × {b}' for a, b in shapes)} do not fit together, or do not read"
                f" {self.embeddings.dimension} numbers."
            )
        if any(not 1 <= columns <= MAX_WIDTH for _, columns in shapes):
            raise UsageError(f"A layer of “learned” makes 1 to {MAX_WIDTH:,} numbers.")

    @classmethod
    def of(
        cls,
        embeddings: VectorSpace,
        output: Metric,
        layers: Sequence[tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]],
        method: str = METHODS[0],
    ) -> Self:
        """Make a codec of trained weights.

        Args:
            embeddings: metric and dimension of the embeddings.
            output: the metric of the vectors; hamming keeps signs.
            layers: of each layer the matrix ``(inputs, outputs)``, the transpose of torch's weight, and the bias.
            method: how they were fitted, one of `METHODS`.

        Raises:
            UsageError: the layers do not fit together.
        """
        maps = [Affine.of(np.asarray(matrix, np.float64), np.asarray(bias, np.float64)) for matrix, bias in layers]
        return cls(embeddings, output, tuple(maps), method)

    def __str__(self) -> str:
        """Name the codec and its settings."""
        return f"{self.method} to {self.space.dimension} {'bits' if self.output is Metric.HAMMING else 'floats'}"

    @property
    def space(self) -> VectorSpace:
        """The output of the last layer, or its signs."""
        return VectorSpace(self.output, self.layers[-1].matrix.shape[1])

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return self.space.dtype

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.space.columns

    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Self:  # noqa: ARG002 -- fitted elsewhere
        """Return the codec itself, after checking the embeddings."""
        self.check_sample(embeddings)
        return self

    def _encode(self, embeddings: Embeddings) -> Codes:
        vectors = directions(embeddings, self.embeddings)
        for number, layer in enumerate(self.layers):
            vectors = layer(vectors if number == 0 else np.maximum(vectors, 0))
        return packing.pack((vectors > 0).astype(np.uint8), 1) if self.output is Metric.HAMMING else vectors

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """See `Codec.state`; the arrays of the first layer are called ``0.matrix`` and so on."""
        arrays: Arrays = {}
        for number, layer in enumerate(self.layers):
            arrays |= {f"{number}.{name}": array for name, array in layer.arrays().items()}
        widths = [layer.matrix.shape[1] for layer in self.layers]
        return {"output": str(self.output), "layers": widths, "method": self.method}, arrays

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """See `Codec.restore`."""
        output = Metric(state.choice("output", map(str, Metric)))
        # Codecs of earlier versions do not say it.
        method = state.choice("method", METHODS) if "method" in state.settings else METHODS[0]
        widths = state.settings.pop("layers", None)
        if not isinstance(widths, list) or not 1 <= len(widths) <= MAX_LAYERS:
            raise state.damaged(f"layers is not a list of 1 to {MAX_LAYERS} numbers")
        layers: list[Affine] = []
        inputs = embeddings.dimension
        for number, width in enumerate(widths):
            part = Reader(state.where, {"width": width}, state.take(f"{number}."))
            outputs = part.integer("width", 1, MAX_WIDTH)
            layers.append(Affine.restore(part, inputs, outputs))
            part.finish()
            inputs = outputs
        return cls(embeddings, output, tuple(layers), method)
