"""ASGI middleware that limits the size, rate and memory of request bodies."""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.server.problems import busy, problem

# Bytes of a body that take nothing from the budget: a search by item is answered while others use it up, and Uvicorn receives
# as many anyway.
_FREE = 2**16

# Seconds that a body waits for memory.
_TIMEOUT = 2.0

# The lowest rate of a body: 16 KiB in 10 s.
_MIN_RATE_BYTES, _MIN_RATE_SECONDS = 2**14, 10.0


class ByteBudget:
    """The bytes that all bodies together may take."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = 0
        self._freed = asyncio.Event()

    async def hold(self, count: int) -> None:
        """Take a number of bytes.

        Raises:
            HTTPException: 503: others take them, and did not finish in time.
        """
        try:
            async with asyncio.timeout(_TIMEOUT):
                while self._held + count > self.size:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError as e:
            detail = (
                f"The server is receiving {self.size:,} bytes of other requests, as many as it keeps. Try again soon."
            )
            raise busy(detail, _TIMEOUT) from e
        self._held += count

    def free(self, count: int) -> None:
        """Give a number of bytes back."""
        self._held -= count
        self._freed.set()


class BodyLimit:
    """Refuses bodies that are too large, with or without a stated length, or too slow, or that find no free memory in time.

    All bodies together take at most four times the largest one. Nothing is received while a body waits for memory.
    """

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self.app, self.max_body, self.budget = app, max_body, ByteBudget(4 * max_body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, and count its bytes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        stated = headers.get("content-length", "0")
        body = _LimitedBody(headers, receive, send, self.max_body, self.budget)
        try:
            if stated.isdecimal() and int(stated) > self.max_body:
                await problem(413, body.too_large())(scope, body.receive, body.send)
            else:
                await self.app(scope, body.receive, body.send)
        finally:
            body.free()


class _LimitedBody:
    """The body of one request.

    Attributes:
        is_finished: whether all of it arrived, or the rest is given up.
        waits_for_continue: whether the client sends it only after the server asks for it (Expect: 100-continue).
    """

    def __init__(self, headers: Headers, receive: Receive, send: Send, max_body: int, budget: ByteBudget) -> None:
        self._receive, self._send, self._max_body, self._budget = receive, send, max_body, budget
        self._size = self._held = self._window_start = 0
        self._deadline: float | None = None
        self.is_finished = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self.waits_for_continue = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        """Receive a part for the application.

        Raises:
            HTTPException: 408: it arrives too slowly. 413: it is too large. 503: no memory is free in time.
        """
        try:
            message = await self._next()
        except TimeoutError as e:
            detail = f"The body is too slow: less than {_MIN_RATE_BYTES:,} bytes in {_MIN_RATE_SECONDS:.0f} seconds. Send it again."
            raise HTTPException(408, detail, {"Connection": "close"}) from e
        if self._size > self._max_body:
            raise HTTPException(413, self.too_large())
        missing = max(0, self._size - _FREE) - self._held
        if missing > 0:
            await self._budget.hold(missing)
            self._held += missing
            self._deadline = None  # the client could not send meanwhile
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; receive and discard the rest of the body before.

        A client that is cut off while it sends would see a broken connection, not the answer. Unread bytes would also be
        taken for the next request.
        """
        if message["type"] == "http.response.start":
            self.free()
            if not self.is_finished and not await self._drain():
                MutableHeaders(scope=message)["Connection"] = "close"
            self.is_finished = True
        await self._send(message)

    def free(self) -> None:
        """Give the memory of the body back."""
        self._budget.free(self._held)
        self._held = 0

    def too_large(self) -> str:
        """Describe a body that is too large."""
        return f"The request has more than {self._max_body:,} bytes, the limit of this server. Send a smaller image."

    async def _next(self) -> Message:
        """Receive a part.

        Raises:
            TimeoutError: the last parts came too slowly.
        """
        if self.is_finished:
            return await self._receive()  # that the client has gone
        if self._deadline is None or self._size - self._window_start >= _MIN_RATE_BYTES:
            self._deadline, self._window_start = asyncio.get_running_loop().time() + _MIN_RATE_SECONDS, self._size
        self.waits_for_continue = False
        async with asyncio.timeout_at(self._deadline):
            message = await self._receive()
        self._size += len(message.get("body", b""))
        self.is_finished = not message.get("more_body", False)
        return message

    async def _drain(self) -> bool:
        """Discard the rest of the body, up to the limit; return whether that was all of it."""
        if self.waits_for_continue:
            return False
        end = self._size + self._max_body
        try:
            while self._size < end and not self.is_finished:
                await self._next()
        except TimeoutError:
            pass
        return self.is_finished
