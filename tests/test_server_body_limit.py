"""Bodies and headers that arrive slowly, in small pieces, or in numbers; connections that misbehave."""

import asyncio
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import h11
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from starlette.exceptions import HTTPException
from uvicorn.server import ServerState

from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.server import body_limit, create_app, protocol
from pocket_server import serving

SEARCH = "/api/collections/shop/search"
MAX_BODY = 2_000_000


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(pocket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    path = tmp_path_factory.mktemp("body_limit") / "shop.lookalike"
    with Collection.create(path, Encoder.open(pocket)) as shop:
        ident = shop.add_image(png()).id
        with serving(create_app([shop], max_body=MAX_BODY)) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield SimpleNamespace(url=url, client=client, id=ident)


@contextmanager
def connected(server: SimpleNamespace) -> Iterator[socket.socket]:
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as client:
        yield client


def head(path: str = SEARCH, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_answer(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer: status, headers and body; status 0 if the server closes the connection."""
    data = b""
    with suppress(ConnectionError):
        while b"\r\n\r\n" not in data and (part := client.recv(65536)):
            data += part
        first, _, body = data.partition(b"\r\n\r\n")
        lines = first.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)) and (part := client.recv(65536)):
            body += part
        return (int(lines[0].split()[1]) if data else 0), headers, body
    return 0, {}, b""


def is_closed(client: socket.socket) -> bool:
    """Wait until the server closes the connection."""
    with suppress(ConnectionError):
        while client.recv(65536):
            pass
    return True


# ---- memory


def test_bodies_on_their_way_share_a_budget(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "_TIMEOUT", 0.2)
    monkeypatch.setattr(body_limit, "_MIN_RATE_SECONDS", 300.0)  # a busy machine must not make these bodies too slow
    length = MAX_BODY - 1000
    begin = head(SEARCH, "Content-Type: application/json", f"Content-Length: {length}")
    clients = list[socket.socket]()
    url = httpx.URL(server.url)
    try:
        for _ in range(5):
            clients.append(socket.create_connection((url.host, url.port or 80), timeout=30))
            clients[-1].sendall(begin + b"[" * (length - 1))
            time.sleep(0.1)
        clients[-1].sendall(b"[")  # the refused client sends its whole body before it reads
        status, headers, body = read_answer(clients[-1])
        assert (status, headers["content-type"]) == (503, "application/problem+json")
        assert int(headers["retry-after"]) >= 1
        assert "Try again" in json.loads(body)["detail"]
        # Small bodies take nothing from the budget.
        assert server.client.post(SEARCH, json={"item": server.id}).status_code == 200
        assert server.client.post(SEARCH, files={"image": png()}).status_code == 200
        large = {"image": png() + bytes(MAX_BODY // 2)}
        assert server.client.post(SEARCH, files=large).status_code == 503
        for client in clients[:2]:
            client.close()
        assert wait_for(lambda: server.client.post(SEARCH, files=large).status_code == 200)
        clients[2].sendall(b"[")
        assert read_answer(clients[2])[0] == 413
    finally:
        for client in clients:
            client.close()
    assert wait_for(lambda: all(server.client.post(SEARCH, files=large).status_code == 200 for _ in range(8)))


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_body_waits_a_moment_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        budget = body_limit.ByteBudget(100)
        await budget.hold(60)
        waiting = [asyncio.create_task(budget.hold(50)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        budget.free(60)
        await asyncio.gather(*waiting)
        monkeypatch.setattr(body_limit, "_TIMEOUT", 0.01)
        with pytest.raises(HTTPException) as refused:
            await budget.hold(1)
        assert refused.value.status_code == 503
        budget.free(100)
        await budget.hold(100)

    asyncio.run(main())


# ---- rate


@pytest.mark.parametrize("more", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_slow_sender_is_dropped(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, more: str, method: str
) -> None:
    monkeypatch.setattr(body_limit, "_MIN_RATE_SECONDS", 0.5)
    stop = threading.Event()
    with connected(server) as client:
        path = SEARCH if method == "POST" else "/health"
        client.sendall(head(path, "Content-Type: application/json", more, method=method))

        def trickle() -> None:
            with suppress(OSError):
                while not stop.wait(0.05):
                    client.sendall(b"1\r\n \r\n")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            status, headers, _ = read_answer(client)
            assert status == (408 if method == "POST" else 200)
            assert headers["connection"] == "close"
            assert is_closed(client)
        finally:
            stop.set()
            thread.join()


def test_a_body_at_a_moderate_rate_is_received(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "_MIN_RATE_SECONDS", 2.0)
    monkeypatch.setattr(body_limit, "_MIN_RATE_BYTES", 1000)
    body = json.dumps({"item": server.id}).encode().ljust(6000)
    with connected(server) as client:
        client.sendall(head(SEARCH, "Content-Type: application/json", f"Content-Length: {len(body)}"))
        for begin in range(0, len(body), 500):
            time.sleep(0.25)
            client.sendall(body[begin : begin + 500])
        assert read_answer(client)[0] == 200


def test_a_body_that_was_announced_is_not_received_for_nothing(server: SimpleNamespace) -> None:
    announced = ("Content-Type: application/json", "Content-Length: 100000", "Expect: 100-continue")
    for more in ((*announced, "Sec-Fetch-Site: cross-site"), (*announced[:1], "Content-Length: 9999999", announced[2])):
        with connected(server) as client:
            client.sendall(head(SEARCH, *more))
            status, headers, _ = read_answer(client)
            assert status in {403, 413}
            assert headers["connection"] == "close"
            assert is_closed(client)
    body = json.dumps({"item": server.id}).encode()
    with connected(server) as client:
        client.sendall(head(SEARCH, announced[0], f"Content-Length: {len(body)}", announced[2]))
        assert read_answer(client)[0] == 100
        client.sendall(body)
        assert read_answer(client)[0] == 200


@pytest.mark.parametrize("begin", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n", head("/health", method="GET")])
def test_a_client_that_sends_no_request_in_time_is_dropped(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(protocol, "_HEADER_SECONDS", 0.5)
    stop = threading.Event()
    with connected(server) as client:
        client.sendall(begin)
        if begin.endswith(b"\r\n\r\n"):
            assert read_answer(client)[0] == 200

        def trickle() -> None:
            number = 0
            with suppress(OSError):
                while not stop.wait(0.1):
                    client.sendall(b"GET / HTTP/1.1\r\n" if number == 0 and not begin[-5:-4] else b"X: y\r\n")
                    number += 1

        thread = threading.Thread(target=trickle)
        if begin:
            thread.start()
        try:
            assert is_closed(client)
        finally:
            stop.set()
            if begin:
                thread.join()


def test_a_kept_connection_may_take_longer_than_headers_may(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_HEADER_SECONDS", 0.3)
    with connected(server) as client:
        for _ in range(3):
            client.sendall(head("/health", method="GET"))
            assert read_answer(client)[0] == 200
            time.sleep(0.5)
        client.sendall(head(SEARCH, "Content-Type: application/json", "Content-Length: 100"))
        time.sleep(0.6)  # the body has a limit of its own
        client.sendall(json.dumps({"item": server.id}).encode().ljust(100))
        assert read_answer(client)[0] == 200


@pytest.mark.parametrize(("setting", "size"), [(None, 16_000), (1000, 900), (100_000, 90_000)])
def test_the_limit_of_headers_is_that_of_uvicorn(setting: int | None, size: int) -> None:
    async def main() -> None:
        config = uvicorn.Config(FastAPI(), h11_max_incomplete_event_size=setting, log_config=None)
        connection = protocol.LimitedProtocol(config=config, server_state=ServerState(), app_state={}).conn
        connection.receive_data(b"GET / HTTP/1.1\r\nX: " + b"y" * size)
        assert connection.next_event() is h11.NEED_DATA
        connection.receive_data(b"y" * size)
        with pytest.raises(h11.RemoteProtocolError):
            connection.next_event()

    asyncio.run(main())


# ---- small pieces


def chunked(*chunks: bytes, extension: bytes = b"") -> bytes:
    return b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n\r\n"


def test_a_body_in_tiny_chunks_is_refused_soon(server: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    begin = head(SEARCH, "Content-Type: application/json", "Transfer-Encoding: chunked")
    with caplog.at_level(logging.ERROR), connected(server) as client:
        client.sendall(begin)
        with suppress(OSError):
            client.sendall(b"1\r\nA\r\n" * 1100)
        status, headers, body = read_answer(client)
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert "chunks" in json.loads(body)["detail"]
        assert is_closed(client)
    assert not caplog.records
    for extension in (b"", b";x=" + b"y" * 1000):
        body = json.dumps({"item": server.id}).encode()
        with connected(server) as client:
            client.sendall(begin + chunked(*(body[i : i + 1] for i in range(len(body))), extension=extension))
            assert read_answer(client)[0] == 200
            client.sendall(begin + chunked(*(bytes([c]) * 70 for c in b" " * 5000), body))  # 70 bytes each
            assert read_answer(client)[0] == 200


def test_bytes_are_parsed_in_small_parts(server: SimpleNamespace) -> None:
    sizes = list[int]()
    received = protocol.LimitedProtocol.data_received

    def measure(self: protocol.LimitedProtocol, data: bytes) -> None:
        sizes.append(len(data))
        received(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol.LimitedProtocol, "data_received", measure)
        assert server.client.post(SEARCH, files={"image": png() + bytes(MAX_BODY // 2)}).status_code == 200
    assert sum(sizes) > MAX_BODY // 2
    assert max(sizes) <= 2**16


def test_a_body_in_single_bytes_takes_little_memory(server: SimpleNamespace) -> None:
    body = json.dumps({"item": server.id}).encode()
    with connected(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(head(SEARCH, "Content-Type: application/json", f"Content-Length: {len(body)}"))
        for i in range(len(body)):
            client.sendall(body[i : i + 1])
        assert read_answer(client)[0] == 200
