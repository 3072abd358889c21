"""Uvicorn's HTTP protocol, with limits on what happens before an application sees a request.

::

    uvicorn.run(app, http=LimitedProtocol)
"""

import asyncio
from typing import Any

import h11
from h11._connection import DEFAULT_MAX_INCOMPLETE_EVENT_SIZE  # as Uvicorn does
from uvicorn.protocols.http.h11_impl import H11Protocol

from lookalike.server.problems import problem

# Bytes that are parsed before other connections are served: a quarter of what asyncio reads.
_BUFFER = 2**16

# Seconds in which the headers of a request must arrive.
_HEADER_SECONDS = 10.0

# A body may have 1,000 chunks, and one more for each 64 bytes. A chunk takes 10 µs, however small.
_CHUNKS, _CHUNK_BYTES = 1000, 64


class LimitedProtocol(H11Protocol, asyncio.BufferedProtocol):
    """Drops connections that send no request in time, and refuses bodies in many small chunks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- those of Uvicorn
        super().__init__(*args, **kwargs)
        self.conn: _Connection = _Connection(self.config.h11_max_incomplete_event_size)
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 -- the caller may not ask for more
        """Return the place for the next bytes."""
        self._buffer = bytearray(_BUFFER)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse bytes that have arrived."""
        self.data_received(bytes(memoryview(self._buffer)[:nbytes]))
        self._buffer = bytearray()  # an idle connection keeps no memory
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:  # the next request begins
            self._start_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP with problem details, unless another answer has begun."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            reason = "The body has too many small chunks. Send larger ones, or state its length."
            response = problem(400, reason if self.conn.has_tiny_chunks else f"{msg.removesuffix('.')}. Send HTTP/1.1.")
            headers = [*response.raw_headers, (b"connection", b"close")]
            for event in (
                h11.Response(status_code=400, headers=headers),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Connection(h11.Connection):
    """Counts the chunks of each body.

    Attributes:
        has_tiny_chunks: whether there were too many.
    """

    def __init__(self, max_headers: int | None) -> None:
        """Limit the headers of a request to a number of bytes, by default to h11's 16 KiB."""
        super().__init__(h11.SERVER, DEFAULT_MAX_INCOMPLETE_EVENT_SIZE if max_headers is None else max_headers)
        self.has_tiny_chunks = False
        self._chunks = self._bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event.

        Raises:
            RemoteProtocolError: it is malformed, or the chunks of a body are too small.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            self.has_tiny_chunks = self._chunks > _CHUNKS + self._bytes // _CHUNK_BYTES
            if self.has_tiny_chunks:
                raise h11.RemoteProtocolError(f"{self._chunks:,} chunks of {self._bytes:,} bytes")
        return event
