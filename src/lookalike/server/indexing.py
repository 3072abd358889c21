"""A background thread that builds approximate indexes while the server runs.

Searches are exact until an index is built.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import Event, Thread, get_native_id

from fastapi import FastAPI

from lookalike.collection import Collection
from lookalike.errors import LookalikeError
from lookalike.tables import printable

log = logging.getLogger(__name__)

# Seconds between two checks whether an index is due, and seconds after a failed build.
_CHECK_INTERVAL = 30.0
_RETRY_INTERVAL = 3600.0

# The niceness of a build: searches have a higher priority.
_NICENESS = 10

# Seconds that a stopping server waits for FAISS to return.
_STOP_TIMEOUT = 10


def build_indexes(collections: Sequence[Collection]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Make the lifespan of an application, during which a thread builds the indexes that are due, one at a time."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = Event()
        thread = Thread(target=_run, args=[collections, stop], name="indexes", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_STOP_TIMEOUT)

    return lifespan


def _run(collections: Sequence[Collection], stop: Event) -> None:
    wait = dict.fromkeys((collection.name for collection in collections), 0.0)
    while True:
        for collection in collections:
            if wait[collection.name] <= 0 and not stop.is_set():
                succeeded = _build_if_due(collection, stop)
                wait[collection.name] = _CHECK_INTERVAL if succeeded else _RETRY_INTERVAL
        pause = min(wait.values())
        if stop.wait(pause):
            return
        wait = {name: seconds - pause for name, seconds in wait.items()}


def _lower_priority() -> None:
    if hasattr(os, "setpriority"):
        os.setpriority(
            os.PRIO_PROCESS, get_native_id(), _NICENESS
        )  # on Linux: that of this thread and of the threads that it starts


def _build_if_due(collection: Collection, stop: Event) -> bool:
    """Build the index of a collection if one is due; return false if the build failed."""
    try:
        collection.refresh()
        status = collection.status()
        if status is not None and status.due:
            # A thread cannot raise its priority again, so each build gets a new one.
            with ThreadPoolExecutor(1, "building", _lower_priority) as thread:
                thread.submit(collection.build_index, stopped=stop.is_set).result()
    except LookalikeError as e:
        log.warning("The index of %s cannot be built; searches stay exact: %s", collection.name, printable(str(e)))
        return False
    return True
