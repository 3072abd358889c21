"""A limit of the requests that compute at once: as many as the machine has cores.

More requests would not be faster; the event loop would wait seconds for the GIL and a core. A request waits for a slot on the
event loop, so it occupies no thread.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lookalike.parallel import available_cores
from lookalike.server.problems import busy

# Seconds that a request waits for a slot.
_TIMEOUT = 20.0


class ConcurrencyLimit:
    """Lets a number of requests compute at once, in the order in which they came."""

    def __init__(self, count: int | None = None) -> None:
        """Allow a number of requests at once, by default as many as there are cores."""
        self._free = asyncio.Semaphore(count or available_cores())

    @asynccontextmanager
    async def hold_slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it while the block runs.

        Raises:
            HTTPException: 503: too many requests came before.
        """
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._free.acquire()
        except TimeoutError as e:
            raise busy("The server is busy with other requests. Try again soon.", _TIMEOUT / 4) from e
        try:
            yield
        finally:
            self._free.release()
