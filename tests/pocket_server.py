"""A server for tests: Uvicorn in a thread, on a free port."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from lookalike.cli.serve import listen
from lookalike.server.protocol import LimitedProtocol


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application while the block runs, and yield its address without a slash at the end."""
    with running(app, listen("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@contextmanager
def running(app: FastAPI, listener: socket.socket) -> Iterator[uvicorn.Server]:
    """Serve an application on a socket while the block runs."""
    server = uvicorn.Server(uvicorn.Config(app, http=LimitedProtocol, ws="none", log_level="critical"))
    thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(timeout=120)  # the building of an index stops at its next step
