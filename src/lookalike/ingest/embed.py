"""Embed: batches of images on their way through the encoder."""

from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from lookalike.shapes import UInt8

EmbedBatch = Callable[[np.ndarray], np.ndarray]
"""Embeds fitted images ``(n, s, s, 3)`` in the calling thread: vectors ``(n, c)``."""


class EmbeddingQueue:
    """Contents that wait for a batch, and batches in flight. One thread uses it; others embed.

    Attributes:
        coming: contents whose vectors are still to come.
    """

    def __init__(
        self, embed_batch: EmbedBatch, threads: ThreadPoolExecutor, vectors: MutableMapping[str, np.ndarray]
    ) -> None:
        """Make an empty queue.

        Args:
            embed_batch: embeds a batch.
            threads: run it; they may have other work too.
            vectors: gets the vectors, by content, as they are collected.
        """
        self.coming: set[str] = set()
        self._embed_batch, self._threads, self._vectors = embed_batch, threads, vectors
        self._waiting: dict[str, np.ndarray] = {}
        self._in_flight: deque[tuple[Sequence[str], Future[np.ndarray]]] = deque()

    @property
    def waiting(self) -> int:
        """Number of images that wait for their batch."""
        return len(self._waiting)

    def put(self, content: str, fitted: UInt8[np.ndarray, "s s 3"]) -> None:
        """Let an image wait for the next batch."""
        self._waiting[content] = fitted
        self.coming.add(content)

    def submit(self) -> None:
        """Hand the waiting images to the threads, as one batch."""
        if self._waiting:
            batch = np.stack(list(self._waiting.values()))
            self._in_flight.append((tuple(self._waiting), self._threads.submit(self._embed_batch, batch)))
            self._waiting = {}

    def collect(self, limit: int) -> None:
        """Take the vectors of finished batches, and wait until at most ``limit`` batches are in flight.

        Raises:
            EncoderError: the encoder fails.
        """
        while len(self._in_flight) > limit or (self._in_flight and self._in_flight[0][1].done()):
            contents, future = self._in_flight[0]
            self._take(contents, future.result())
            self._in_flight.popleft()

    def rescue(self) -> None:
        """Take the vectors of all batches that are embedded or being embedded, and drop the rest; shuts the threads down."""
        self._threads.shutdown(cancel_futures=True)
        for contents, future in self._in_flight:
            if not future.cancelled() and future.exception() is None:
                self._take(contents, future.result())
        self.coming.clear()

    def _take(self, contents: Sequence[str], vectors: np.ndarray) -> None:
        self._vectors.update(zip(contents, vectors, strict=True))
        self.coming.difference_update(contents)
