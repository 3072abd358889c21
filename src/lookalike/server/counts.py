"""The numbers of items of collections, for an answer that must come soon however busy the server is."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from lookalike.collection import Collection

# Seconds that an answer waits for the items to be counted.
_TIMEOUT = 0.25


class ItemCounts:
    """Counts the items of collections in a thread of its own."""

    def __init__(self, collections: Mapping[str, Collection]) -> None:
        self._collections = collections
        self._known: dict[str, int | None] = dict.fromkeys(collections)
        self._thread = ThreadPoolExecutor(1, "counts")
        self._counting: Future[None] | None = None

    async def get(self) -> dict[str, int | None]:
        """Return the numbers of items: those of now, or those last counted if counting takes long; None before the first.

        Raises:
            StorageError: a collection cannot be read.
        """
        if self._counting is None or self._counting.done():
            self._counting = self._thread.submit(self._count)
        with suppress(TimeoutError):  # other requests wait for the same count, so a timeout must not cancel it
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._counting)), _TIMEOUT)
        return self._known

    def _count(self) -> None:
        self._known = {name: collection.store.count() for name, collection in self._collections.items()}
