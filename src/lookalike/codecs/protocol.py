"""The protocol of a codec."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from lookalike.codecs import saved
from lookalike.codecs.saved import LARGEST, Arrays, Reader
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.query import Vectors
from lookalike.search.prefilters.directions import unit_vectors
from lookalike.shapes import Float32, Float64, Shaped

T = TypeVar("T")

Embeddings = Shaped[np.ndarray, "n d"]
"""Embeddings, as `lookalike.query.Vectors`; the name of their dimension differs."""

Codes = Shaped[np.ndarray, "n b"]
"""Codes as a collection stores them: ``(n, code_columns)`` of `Codec.code_dtype`."""

SEED = 20
"""Seed of what codecs draw at random."""


@dataclass(frozen=True, eq=False)
class Codec(ABC):
    """A map from embeddings to small codes, fitted once and then fixed.

    A code stands for a vector. A query is a vector too, and is not quantised: the distance of a query q to an item is
    ``metric(project(q), decode(encode(item)))``, in the metric of `space`.

    Encoding needs only NumPy, and gives the same bits for any batch, number of threads and machine. `lookalike.learn`
    fits codecs that need gradients.

    Attributes:
        embeddings: metric and dimension of the embeddings.
    """

    name: ClassVar[str]
    """Its name in manifests and calibrations."""

    embeddings: VectorSpace

    @abstractmethod
    def __str__(self) -> str:
        """Name the codec and its settings, for people: “pca to 64”."""

    # ---- what a codec makes

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the vectors that codes stand for: floats, or bits for Hamming.

        By default those of the embeddings.
        """
        return self.embeddings

    @property
    @abstractmethod
    def code_dtype(self) -> "np.dtype[Any]":
        """The dtype of codes: float32, float16, int8, or uint8 for packed numbers and bits."""

    @property
    @abstractmethod
    def code_columns(self) -> int:
        """Numbers in a code."""

    @property
    def code_bytes(self) -> int:
        """Bytes of a code."""
        return self.code_columns * self.code_dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the files that `save` writes."""
        return saved.size(self.name, self.embeddings, *self.state())

    @property
    def stretch(self) -> float | None:
        """The largest ratio of the Euclidean distance of two projected vectors to that of their embeddings.

        For cosine, to that of the embeddings at length 1. None if it is unknown, as by default.
        """
        return None

    # ---- what a codec does

    @abstractmethod
    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> "Codec":
        """Fit the codec to embeddings, and return the fitted codec.

        Args:
            embeddings: ``(n, d)``, float32.
            labels: the class of each, for codecs that learn from classes.

        Raises:
            UsageError: ``embeddings`` is empty, or one of them has another dimension or is not finite.
        """

    def encode(self, embeddings: Embeddings) -> Codes:
        """Convert embeddings ``(n, d)`` to the codes of items.

        Raises:
            UsageError: an embedding is of another dimension or not finite, or the codec is not fitted.
        """
        return self._encode(self.check(embeddings))

    def decode(self, codes: Codes) -> Vectors:
        """Return the vectors ``(n, space.columns)`` that codes stand for.

        Raises:
            UsageError: codes are of another codec, or the codec is not fitted.
        """
        if codes.dtype != self.code_dtype or codes.ndim != 2 or codes.shape[1] != self.code_columns:  # noqa: PLR2004
            raise UsageError(
                f"These codes are {codes.dtype} with shape {codes.shape}; the codec “{self.name}” makes {self.code_dtype}"
                f" with {self.code_columns} columns."
            )
        return self._decode(codes)

    def project(self, embeddings: Embeddings) -> Vectors:
        """Convert embeddings ``(n, d)`` to queries ``(n, space.columns)``.

        Raises:
            UsageError: an embedding is of another dimension or not finite, or the codec is not fitted.
        """
        return self._project(self.check(embeddings))

    @abstractmethod
    def _encode(self, embeddings: Embeddings) -> Codes: ...

    # By default codes are vectors themselves.

    def _decode(self, codes: Codes) -> Vectors:
        return codes

    def _project(self, embeddings: Embeddings) -> Vectors:
        return self._encode(embeddings)

    # ---- files

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return settings, which JSON can hold, and arrays by name: all that `restore` needs."""

    @classmethod
    @abstractmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:
        """Make a codec of its state, which may come from a stranger.

        Raises:
            StorageError: the state is damaged.
        """

    def save(self, folder: Path, encoder: str | None = None) -> None:
        """Write the codec into an existing folder, as ``codec.json`` and ``codec.safetensors``.

        Args:
            folder: the folder.
            encoder: the fingerprint of the encoder; `load` then refuses other encoders.

        Raises:
            StorageError: the files cannot be written.
        """
        saved.save(folder, self.name, self.embeddings, *self.state(), encoder=encoder)

    @classmethod
    def load(cls, folder: Path, embeddings: VectorSpace, encoder: str | None = None) -> Self:
        """Load a saved codec.

        Args:
            folder: the folder that `save` wrote to.
            embeddings: the space of the embeddings that it encodes.
            encoder: the fingerprint of the encoder of the embeddings, if it is known.

        Raises:
            MismatchError: it was fitted on embeddings of another space or another encoder, or is another codec.
            StorageError: a file is missing or damaged.
        """
        reader = saved.load(folder, cls.name, embeddings, encoder)
        try:
            codec = cls.restore(reader, embeddings)
        except UsageError as e:
            raise reader.damaged("its settings do not fit together") from e
        reader.finish()
        return codec

    # ---- checks for codecs

    def check(self, embeddings: Embeddings) -> Embeddings:
        """Check that embeddings are of the codec's space and finite.

        Raises:
            UsageError: they are not.
        """
        columns, dtype = self.embeddings.columns, self.embeddings.dtype
        if embeddings.ndim != 2 or embeddings.shape[1] != columns or embeddings.dtype != dtype:  # noqa: PLR2004
            raise UsageError(
                f"These embeddings are {embeddings.dtype} with shape {embeddings.shape}; the codec “{self.name}” reads"
                f" {dtype} with {columns} columns."
            )
        if dtype == np.float32 and not (np.abs(embeddings) < LARGEST).all():
            row = int(np.argmin((np.abs(embeddings) < LARGEST).all(axis=1)))
            raise UsageError(f"Embedding {row} has a number that is not finite, or beyond {LARGEST:.0e}. Leave it out.")
        return embeddings

    def check_sample(self, embeddings: Embeddings) -> Embeddings:
        """Check the embeddings that a codec is fitted to.

        Raises:
            UsageError: there are none, or they are not of the codec's space.
        """
        if not len(self.check(embeddings)):
            raise UsageError(f"The codec “{self.name}” needs embeddings to be fitted to. Add images first.")
        return embeddings

    def fitted(self, part: T | None) -> T:
        """Return what `fit` has made.

        Raises:
            UsageError: the codec is not fitted.
        """
        if part is None:
            raise UsageError(f"The codec “{self.name}” is not fitted. Call fit first.")
        return part


def check_floats(name: str, embeddings: VectorSpace) -> None:
    """Check that a codec for floats is made for floats.

    Raises:
        UsageError: the embeddings are bits.
    """
    if embeddings.metric is Metric.HAMMING:
        raise UsageError(f"The codec “{name}” compresses floats; these embeddings are bits. Use the codec “none”.")


def check_choice(what: str, value: object, choices: Sequence[object]) -> None:
    """Check that a setting has one of these values.

    Raises:
        UsageError: it has another.
    """
    if value not in choices or isinstance(value, bool) is not isinstance(choices[0], bool):
        raise UsageError(f"{what} is one of {', '.join(map(str, choices))}, not {value!r}.")


def check_range(what: str, value: object, smallest: int, largest: int) -> None:
    """Check that a setting is a whole number in a range.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise UsageError(f"{what} is a whole number from {smallest} to {largest}, not {value!r}.")


def directions(embeddings: Embeddings, space: VectorSpace) -> Float32[np.ndarray, "n d"]:
    """Return embeddings for a codec that preserves angles: of length 1 for cosine, and unchanged for Euclidean."""
    if space.metric is Metric.EUCLIDEAN:
        return embeddings
    return unit_vectors(embeddings, space.metric).astype(np.float32)


def sample(rows: Float32[np.ndarray, "n d"], count: int) -> Float32[np.ndarray, "m d"]:
    """Return at most this many rows, drawn at random, the same ones each time."""
    if len(rows) <= count:
        return rows
    return rows[np.sort(np.random.default_rng(SEED).choice(len(rows), count, replace=False))]


def random_rotation(dimension: int, random: np.random.Generator) -> Float64[np.ndarray, "d d"]:
    """Draw a rotation uniformly."""
    orthogonal, triangular = np.linalg.qr(random.standard_normal((dimension, dimension)))
    return np.asarray(orthogonal * np.sign(np.diag(triangular)))
