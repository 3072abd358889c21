"""What stands before every route, as plain ASGI: a limit of size, a check of origin, and headers."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers as Fields
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.server.problems import problem

_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'self'"
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


class BodyLimit:
    """Ends a request whose body grows too large, whether or not it said so beforehand."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = Fields(scope=scope).get("content-length", "0")
        detail = f"The request has more than {self.most:,} bytes, which is the most this server takes. Send less."
        if stated.isdecimal() and int(stated) > self.most:
            await self._drain(receive)
            await problem(413, detail)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                await self._drain(receive)
                raise HTTPException(413, detail)
            return message

        await self.app(scope, counted, send)

    async def _drain(self, receive: Receive) -> None:
        # Whoever is cut off while sending sees a broken connection in place of the answer; so some more is read, and
        # thrown away.
        left = self.most
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return


class SameSite:
    """Refuses requests that another site makes a visitor's browser send, where they could change something.

    A page anywhere may post a form to a server that only the visitor can reach; browsers then say where it came from.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self.app, self.origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            fields = Fields(scope=scope)
            if not _HOST.fullmatch(fields.get("host", "localhost")):
                await problem(400, "The Host header names no host.")(scope, receive, send)
                return
            if scope["method"] not in _SAFE_METHODS and not self._welcome(fields):
                await problem(403, "Pages of this origin may not use this server.")(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _welcome(self, fields: Fields) -> bool:
        origin = fields.get("origin")
        if origin is None or origin in self.origins or "*" in self.origins:
            return True
        if site := fields.get("sec-fetch-site"):
            return site in {"same-origin", "none"}
        return urlsplit(origin).netloc == fields.get("host")  # browsers leave the former out over plain HTTP


class Headers:
    """Headers of every answer; and HEAD wherever there is GET."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields = MutableHeaders(scope=message)
                fields["Content-Security-Policy"] = _POLICY
                fields["X-Content-Type-Options"] = "nosniff"
                fields["Referrer-Policy"] = "same-origin"
                fields.setdefault("Cache-Control", "no-cache")
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"} if head else scope, receive, dressed)
