"""What stands before every route, as plain ASGI: a limit of size, a check of origin, and headers."""

import logging
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers as Fields
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.server.problems import problem, unexpected

log = logging.getLogger(__name__)

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
        fields = Fields(scope=scope)
        stated = fields.get("content-length", "0")
        detail = f"The request has more than {self.most:,} bytes, which is the most this server takes. Send less."
        seen, whole = 0, stated == "0" and "transfer-encoding" not in fields

        async def counted() -> Message:
            nonlocal seen, whole
            message = await receive()
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self.most:
                raise HTTPException(413, detail)
            return message

        async def after_the_body(message: Message) -> None:
            nonlocal whole
            if message["type"] == "http.response.start" and not whole:
                whole = True
                if not await self._drained(receive):
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        if stated.isdecimal() and int(stated) > self.most:
            await problem(413, detail)(scope, counted, after_the_body)
        else:
            await self.app(scope, counted, after_the_body)

    async def _drained(self, receive: Receive) -> bool:
        # Whoever is cut off while sending sees a broken connection in place of the answer, and what is left of a body
        # must not stand before the next request. So some more is read, and thrown away.
        left = self.most
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return True
        return False


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
    """Headers of every answer, the one to an unexpected error included; and HEAD wherever there is GET."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head, started = scope["method"] == "HEAD", False

        async def dressed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                fields = MutableHeaders(scope=message)
                fields["Content-Security-Policy"] = _POLICY
                fields["X-Content-Type-Options"] = "nosniff"
                fields["Referrer-Policy"] = "same-origin"
                fields.setdefault("Cache-Control", "no-cache")
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app({**scope, "method": "GET"} if head else scope, receive, dressed)
        except Exception:
            if started:
                raise
            log.exception("%s %s", scope["method"], scope["path"])
            await unexpected()(scope, receive, dressed)
