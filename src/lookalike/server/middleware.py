"""ASGI middleware of all routes: a check of the origin, and response headers; see also `hosts` and `body_limit`."""

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers as RequestHeaders
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.server.problems import problem, unexpected
from lookalike.tables import printable

log = logging.getLogger(__name__)

_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'self'"
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SameSite:
    """Refuses requests other than GET if a page of another site made the browser send them (CSRF).

    Any page can post a form to a server that only its visitor can reach. Browsers state the site of the page, or its origin.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self.app, self.origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it."""
        is_safe = scope["type"] != "http" or scope["method"] in _SAFE_METHODS
        if is_safe or self._is_allowed(RequestHeaders(scope=scope)):
            await self.app(scope, receive, send)
        else:
            detail = (
                "Pages of this origin may not use this server. Open the server's own page, or ask the server's owner to allow"
                " this origin (--origin)."
            )
            await problem(403, detail)(scope, receive, send)

    def _is_allowed(self, headers: RequestHeaders) -> bool:
        origins, sites = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        if "*" in self.origins or (origins and self.origins.issuperset(origins)):
            return True
        if any(sites):
            return all(site.strip().lower() in {"same-origin", "none"} for site in sites)
        # Browsers omit Sec-Fetch-Site over plain HTTP; programs omit both.
        host = headers.get("host", "").lower()
        return all(_host_of(origin) == host for origin in origins)


def _host_of(origin: str) -> str | None:
    """Return the host and port of a web page's origin; None if it is not one."""
    try:
        scheme, host, *_ = urlsplit(origin.lower())
    except ValueError:  # such as http://[
        return None
    return host if scheme in {"http", "https"} and host else None


class Headers:
    """Adds security headers to every response, answers HEAD like GET, and turns unexpected errors into problems."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head, started = scope["method"] == "HEAD", False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-cache")
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app(_without_range({**scope, "method": "GET"} if head else scope), receive, send_with_headers)
        except ClientDisconnect:
            log.warning("%s %s: the client closed the connection.", scope["method"], printable(scope["path"]))
        except Exception:
            if started:
                raise
            log.exception("%s %s failed.", scope["method"], printable(scope["path"]))
            await unexpected()(scope, receive, send_with_headers)


def _without_range(scope: Scope) -> Scope:
    """Remove a Range header: answers are whole. Starlette's files would answer a malformed one without problem details."""
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
