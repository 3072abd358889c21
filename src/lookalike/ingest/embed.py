"""A queue that embeds images in batches, in threads."""

from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from lookalike.shapes import UInt8

EmbedBatch = Callable[[np.ndarray], np.ndarray]
"""A function that embeds fitted images ``(n, s, s, 3)`` as rows ``(n, r)`` of a store in the calling thread."""


class EmbeddingQueue:
    """Images that wait for a batch, and batches in flight. One thread uses the queue; others embed.

    Attributes:
        unfinished: contents of images that are not embedded yet.
    """

    def __init__(
        self, embed_batch: EmbedBatch, threads: ThreadPoolExecutor, rows: MutableMapping[str, np.ndarray]
    ) -> None:
        """Make an empty queue.

        Args:
            embed_batch: embeds a batch.
            threads: run the function; they may have other work, too.
            rows: receives the rows, by content.
        """
        self.unfinished: set[str] = set()
        self._embed_batch, self._threads, self._rows = embed_batch, threads, rows
        self._waiting: dict[str, np.ndarray] = {}
        self._in_flight: deque[tuple[Sequence[str], Future[np.ndarray]]] = deque()

    @property
    def waiting(self) -> int:
        """Number of images that wait for a batch."""
        return len(self._waiting)

    def put(self, content: str, fitted: UInt8[np.ndarray, "s s 3"]) -> None:
        """Add an image to the next batch."""
        self._waiting[content] = fitted
        self.unfinished.add(content)

    def submit(self) -> None:
        """Submit the waiting images to the threads as one batch."""
        if self._waiting:
            batch = np.stack(list(self._waiting.values()))
            self._in_flight.append((tuple(self._waiting), self._threads.submit(self._embed_batch, batch)))
            self._waiting = {}

    def collect(self, limit: int) -> None:
        """Collect the rows of finished batches, and wait until at most ``limit`` batches are in flight.

        Raises:
            EncoderError: the encoder fails.
        """
        while len(self._in_flight) > limit or (self._in_flight and self._in_flight[0][1].done()):
            contents, future = self._in_flight[0]
            self._record(contents, future.result())
            self._in_flight.popleft()

    def shut_down(self) -> None:
        """Shut the threads down, collect the rows of all batches that have started, and drop the other images."""
        self._threads.shutdown(cancel_futures=True)
        for contents, future in self._in_flight:
            if not future.cancelled() and future.exception() is None:
                self._record(contents, future.result())
        self.unfinished.clear()

    def _record(self, contents: Sequence[str], rows: np.ndarray) -> None:
        self._rows.update(zip(contents, rows, strict=True))
        self.unfinished.difference_update(contents)
