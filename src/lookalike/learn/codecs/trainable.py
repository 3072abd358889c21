"""A codec that is not trained yet."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from lookalike.codecs import Codec, Codes, Learned
from lookalike.codecs.learned import MAX_WIDTH
from lookalike.codecs.protocol import SEED, Embeddings, check_floats, check_range
from lookalike.codecs.saved import Arrays, Reader
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np

MAX_EPOCHS = 10_000


@dataclass(frozen=True, eq=False)
class Trainable(Codec):
    """Settings of a codec that is trained with torch. `fit` returns a `Learned`, which encodes with NumPy alone.

    Attributes:
        dimension: floats or bits of a code.
        epochs: times that training sees each embedding.
        seed: of the order of the embeddings, and of other random choices.
        progress: receives the stage ``"training"``.
    """

    name: ClassVar[str] = Learned.name
    method: ClassVar[str]
    """Its name on the command line."""

    output: ClassVar[Metric] = Metric.EUCLIDEAN
    """The metric of its codes."""

    dimension: int = 64
    epochs: int = 10
    seed: int = SEED
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        """Check the settings."""
        check_floats(self.method, self.embeddings)
        check_range(f"The dimension of “{self.method}”", self.dimension, 1, MAX_WIDTH)
        check_range(f"The epochs of “{self.method}”", self.epochs, 1, MAX_EPOCHS)

    def __str__(self) -> str:
        """Name the codec and its settings."""
        return f"{self.method} to {self.dimension} {'bits' if self.output is Metric.HAMMING else 'floats'}"

    @property
    def space(self) -> VectorSpace:
        """The output of the last layer, or its signs."""
        return VectorSpace(self.output, self.dimension)

    @property
    def code_dtype(self) -> "np.dtype[Any]":
        """See `Codec.code_dtype`."""
        return self.space.dtype

    @property
    def code_columns(self) -> int:
        """See `Codec.code_columns`."""
        return self.space.columns

    @abstractmethod
    def fit(self, embeddings: Embeddings, labels: Sequence[str] | None = None) -> Learned:
        """Train the layers; see `Codec.fit`."""

    def _encode(self, embeddings: Embeddings) -> Codes:  # noqa: ARG002 -- nothing encodes before training
        raise self._untrained()

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Raise UsageError, as an untrained codec has no state."""
        raise self._untrained()

    @classmethod
    def restore(cls, state: Reader, embeddings: VectorSpace) -> Self:  # noqa: ARG003 -- as above
        """Raise StorageError, as an untrained codec has no state."""
        raise state.damaged("it is not trained")

    def _untrained(self) -> UsageError:
        return UsageError(f"The codec “{self.method}” is not trained. Call fit, and use the codec that it returns.")


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch, and compute in one thread: sums then do not depend on the number of cores, and small steps do not wait for any."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
