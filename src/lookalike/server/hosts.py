"""The names by which a server may be addressed, against DNS rebinding.

A page of another site can make its own name resolve to the address of this server. The browser then takes the server for a part
of that site, and lets the page read its answers. The Host header of the request still has the name of the other site.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from lookalike.errors import UsageError
from lookalike.server.problems import problem

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{0,5})?", re.ASCII)


def parse_host(header: str) -> str | None:
    """Return the host of a Host header in its usual form, without port; None if it is malformed.

    The usual form is in lower case, without a dot at its end; an address of IPv4 in IPv6 is one of IPv4.

    Example:
        >>> parse_host("Shop.Example.:8000"), parse_host("[::1]:80"), parse_host("a/b")
        ('shop.example', '::1', None)
    """
    match = _HOST.fullmatch(header)
    if match is None:
        return None
    name, bracketed = match[1].strip("[]"), header.startswith("[")
    try:
        return _usual(name)
    except ValueError:
        return None if bracketed else name.removesuffix(".").lower() or None


def _usual(address: str) -> str:
    parsed = ip_address(address.partition("%")[0])  # without the name of the network interface
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def is_loopback(host: str) -> bool:
    """Return whether a host, as `parse_host` returns it, is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class AllowedHosts:
    """Refuses a request whose Host is neither a loopback name, nor the address that it came to, nor on the list.

    Only the Host header counts: a proxy that sets X-Forwarded-Host must pass Host on, or use a name that is allowed.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it."""
        if scope["type"] == "http":
            for header in Headers(scope=scope).getlist("host"):
                host = parse_host(header)
                if host is None:
                    await problem(400, "The Host header is not the name of a host.")(scope, receive, send)
                    return
                if not (is_loopback(host) or self.hosts & {host, "*"} or host == _own_address(scope)):
                    detail = (
                        f"This server does not answer for the host {host}. Use the server's own address, or ask the server's"
                        f" owner to allow {host} (--allowed-host {host})."
                    )
                    await problem(421, detail)(scope, receive, send)
                    return
        await self.app(scope, receive, send)


def check_hosts(hosts: Sequence[str]) -> frozenset[str]:
    """Convert names and addresses to the form of `parse_host`; keep ``*``.

    Raises:
        UsageError: one of them is malformed.
    """
    return frozenset("*" if host == "*" else _check_host(host) for host in hosts)


def _check_host(host: str) -> str:
    parsed = parse_host(f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host)
    if parsed is None:
        raise UsageError(f"“{host}” is not the name or the address of a host. Give one such as shop.example.")
    return parsed


def _own_address(scope: Scope) -> str | None:
    """Return the address of this machine that the connection came to."""
    server = scope.get("server")
    try:
        return _usual(server[0]) if server else None
    except ValueError:
        return None
