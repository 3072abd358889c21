"""Indexes that are built while the server runs: searches are exact until they are there."""

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import Event, Thread, get_native_id

from fastapi import FastAPI

from lookalike.collection import Collection
from lookalike.errors import LookalikeError

log = logging.getLogger(__name__)

# Seconds between two looks at whether an index is due, and after one that could not be built.
_LOOK = 30.0
_AGAIN = 3600.0

# What a build leaves to searches, which are not as nice.
_NICE = 10

# Seconds that a server which stops waits for FAISS to come back.
_PATIENCE = 10


def building(collections: Sequence[Collection]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Of an application: while it runs, a thread builds the indexes that are due, one at a time."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = Event()
        thread = Thread(target=_keep, args=[collections, stop], name="indexes", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_PATIENCE)

    return lifespan


def _keep(collections: Sequence[Collection], stop: Event) -> None:
    wait = dict.fromkeys((collection.name for collection in collections), 0.0)
    while True:
        for collection in collections:
            if wait[collection.name] <= 0 and not stop.is_set():
                wait[collection.name] = _AGAIN if _failed(collection, stop) else _LOOK
        pause = min(wait.values())
        if stop.wait(pause):
            return
        wait = {name: left - pause for name, left in wait.items()}


def _give_way() -> None:
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)  # on Linux that is this thread, and those it starts


def _failed(collection: Collection, stop: Event) -> bool:
    """Build the index of a collection if one is due."""
    try:
        status = collection.status()
        if status is not None and status.due:
            with ThreadPoolExecutor(1, "building", _give_way) as thread:  # who gives way once, does so for good
                thread.submit(collection.build_index, stopped=stop.is_set).result()
    except LookalikeError as e:
        log.warning("The index of %s cannot be built; searches stay exact: %s", collection.name, e)
        return True
    return False
