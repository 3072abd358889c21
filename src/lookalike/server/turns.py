"""Turns for requests that compute: about as many at a time as the machine has cores.

More of them would not be faster. They would keep the event loop from the interpreter's lock, and from a core, for seconds. A
request waits for its turn on the event loop, so it occupies no thread.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import HTTPException

from lookalike.parallel import available_cores

# Seconds that a request waits for its turn.
_TIMEOUT = 20.0


class Turns:
    """Lets a number of requests compute at a time, in the order in which they came."""

    def __init__(self, count: int | None = None) -> None:
        """Allow a number of requests at a time, by default as many as there are cores."""
        self._free = asyncio.Semaphore(count or available_cores())

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while the block runs.

        Raises:
            HTTPException: 503: too many requests came before.
        """
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._free.acquire()
        except TimeoutError as e:
            retry = {"Retry-After": str(math.ceil(_TIMEOUT / 4))}
            raise HTTPException(503, "The server is busy with other requests. Try again soon.", retry) from e
        try:
            yield
        finally:
            self._free.release()
