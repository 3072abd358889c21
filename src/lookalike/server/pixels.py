"""A budget of the pixels that a server decodes at once, over all requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic

from lookalike import images
from lookalike.images import DEFAULT_LIMITS
from lookalike.server.problems import busy

# Seconds that a request waits for others to finish, and the number of requests that may wait: each of them holds its slot
# to compute, see `concurrency`.
_TIMEOUT = 2.0
_MAX_WAITING = 12


class PixelBudget:
    """Lets requests decode images while all images in flight together have at most a number of pixels.

    A larger image than the budget is decoded alone; the limits of `lookalike.images` apply to it. The default allows two
    of the largest images, or a hundred of 2 megapixels. They take at most 16 bytes a pixel: 3.2 GB.
    """

    def __init__(self, pixels: int = 2 * DEFAULT_LIMITS.pixels) -> None:
        self.pixels = pixels
        self._in_flight = self._waiting = 0
        self._freed = Condition()

    @contextmanager
    def hold(self, *contents: bytes, at_least: int) -> Iterator[None]:
        """Reserve the pixels of image files while the block decodes them.

        Args:
            contents: of the files.
            at_least: the side that the decoded images are shrunk to, see `lookalike.images.open_image`.

        Raises:
            HTTPException: 503: other requests need the budget, and did not finish in time.
            UnreadableImageError: a content is not an image.
        """
        pixels = sum(images.claimed_pixels(content, at_least) for content in contents)
        with self._freed:
            self._wait_for(pixels)
            self._in_flight += pixels
        try:
            yield
        finally:
            with self._freed:
                self._in_flight -= pixels
                self._freed.notify_all()

    def _wait_for(self, pixels: int) -> None:
        deadline = monotonic() + _TIMEOUT
        while self._in_flight and self._in_flight + pixels > self.pixels:
            remaining = deadline - monotonic()
            if remaining <= 0 or self._waiting >= _MAX_WAITING:
                raise busy(
                    f"The server is decoding as many images as fit into its memory, {self.pixels:,} pixels. Try again soon,"
                    " or send a smaller image.",
                    _TIMEOUT,
                )
            self._waiting += 1
            try:
                self._freed.wait(remaining)
            finally:
                self._waiting -= 1
