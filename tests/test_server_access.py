"""Who may use a server: hosts, sites, other machines; and how fast a connection answers."""

import io
import logging
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from lookalike.cli.serve import PrintableFormatter, listen
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import StorageError, UsageError
from lookalike.server import create_app
from lookalike.server.hosts import is_loopback, parse_host
from pocket_server import running, serving

SEARCH = "/api/collections/shop/search"
ITEMS = "/api/collections/shop/items"


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shop(pocket: Path, tmp_path: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as shop:
        shop.add_image(png())
        yield shop


def own_address() -> str:
    """An address of this machine by which others would reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but the loopback")
        return str(probe.getsockname()[0])


# ---- connections


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_more_data(shop: Collection, host: str) -> None:
    try:
        listener = listen(host, 0)
    except UsageError:
        pytest.skip(f"this machine has no {host}")
    with running(create_app([shop]), listener) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://{f'[{host}]' if ':' in host else host}:{port}") as client:
            assert client.get("/health").json()["status"] == "ok"
            accepted = [c.transport.get_extra_info("socket") for c in server.server_state.connections]
            assert [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for s in accepted] == [1]


@contextmanager
def command(*arguments: str) -> Iterator[tuple[str, list[str]]]:
    """Run ``lookalike serve``, and yield its address and the lines it printed; it must log nothing."""
    line = [sys.executable, "-m", "lookalike", "serve", *arguments, "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        address = re.search(r"http://\S+", lines[0])
        assert address
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{httpx.URL(address[0]).port}/health")
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        try:
            yield address[0], lines
        finally:
            process.send_signal(signal.SIGINT)
            assert process.communicate()[1] == ""


def test_a_kept_connection_answers_in_a_few_milliseconds(shop: Collection) -> None:
    with command(str(shop.path)) as (url, _), httpx.Client(base_url=url) as client:
        times = []
        for _ in range(30):
            began = time.perf_counter()
            assert client.get("/health").status_code == 200
            times.append(time.perf_counter() - began)
    assert statistics.quantiles(times, n=4)[0] < 0.03  # Nagle's algorithm takes 0.04 s each time


# ---- other machines


def test_a_server_that_other_machines_reach_is_read_only_unless_it_is_told_otherwise(shop: Collection) -> None:
    def add(url: str) -> int:
        local = httpx.URL(url).copy_with(host="127.0.0.1", path=ITEMS)
        return httpx.post(local, files={"image": png("blue")}).status_code

    with command(str(shop.path), "--host", "0.0.0.0") as (url, lines):
        assert add(url) == 403
        assert "read-only" in lines[1]
        assert "--writable" in lines[1]
    with command(str(shop.path), "--host", "0.0.0.0", "--read-only") as (url, lines):
        assert add(url) == 403
        assert "read-only" in lines[1]
    with command(str(shop.path), "--host", "0.0.0.0", "--writable") as (url, lines):
        assert add(url) == 201
        assert "everyone" in lines[1]
    with command(str(shop.path)) as (url, lines):
        assert add(url) == 201
        assert len(lines) == 2
    with command(str(shop.path), "--read-only") as (url, _):
        assert add(url) == 403


# ---- hosts


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8000", "localhost"),
        ("Shop.Example.:80", "shop.example"),
        ("[::1]:8000", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::FFFF:127.0.0.1]:1", "127.0.0.1"),
        ("127.0.0.1:", "127.0.0.1"),
        ("[localhost]", None),
        ("[1.2.3]", None),
        ("a/b", None),
        ("a b", None),
        ("user@host", None),
        ("host:http", None),
        ("", None),
        (".", None),
        ("[::1", None),
        ("::1", None),
    ],
)
def test_the_host_of_a_header(header: str, host: str | None) -> None:
    assert parse_host(header) == host


def test_loopback_names_lead_to_this_machine_only() -> None:
    assert all(map(is_loopback, ["localhost", "shop.localhost", "127.0.0.1", "127.9.8.7", "::1"]))
    assert not any(map(is_loopback, ["localhost.example", "xlocalhost", "0.0.0.0", "10.0.0.1", "example"]))


@pytest.fixture
def get(shop: Collection) -> Iterator[Callable[[str], httpx.Response]]:
    app = create_app([shop], allowed_hosts=["Shop.example.", "10.1.2.3", "fd00::7"])
    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield lambda host: client.get("/health", headers={"host": host})


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:1234",
        "LocalHost.",
        "shop.localhost",
        "127.0.0.1",
        "[::1]:80",
        "shop.example",
        "SHOP.EXAMPLE.:8000",
        "10.1.2.3:8000",
        "[FD00::0:7]:8000",
    ],
)
def test_a_server_answers_to_loopback_names_and_allowed_hosts(get: Callable[[str], httpx.Response], host: str) -> None:
    assert get(host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "10.1.2.4",
        "0.0.0.0",
        "[fd00::8]",
        "x.shop.example",
    ],
)
def test_a_server_does_not_answer_to_other_hosts(get: Callable[[str], httpx.Response], host: str) -> None:
    answer = get(host)
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"--allowed-host {parse_host(host)}" in answer.json()["detail"]


def test_the_host_that_a_proxy_forwarded_does_not_count(shop: Collection) -> None:
    with serving(create_app([shop])) as url:
        for name in ("x-forwarded-host", "forwarded", "x-host", "x-original-host"):
            value = "host=localhost" if name == "forwarded" else "localhost"
            headers = {"host": "evil.example", name: value}
            for path in ("/health", "/", "/api/collections", "/openapi.json"):
                assert httpx.get(url + path, headers=headers).status_code == 421
        assert httpx.get(f"{url}/health", headers={"x-forwarded-host": "evil.example"}).status_code == 200


def test_any_host_can_be_allowed_and_a_malformed_one_is_refused(shop: Collection) -> None:
    with serving(create_app([shop], allowed_hosts=["*"])) as url:
        assert httpx.get(f"{url}/health", headers={"host": "evil.example"}).status_code == 200
        assert httpx.get(f"{url}/health", headers={"host": "a/b"}).status_code == 400
    for host in ("https://shop.example", "a b", ""):
        with pytest.raises(UsageError, match=re.escape(f"“{host}”")):
            create_app([shop], allowed_hosts=[host])


def test_the_bound_address_is_a_host_of_the_server(shop: Collection) -> None:
    address = own_address()
    with command(str(shop.path), "--host", "0.0.0.0", "--allowed-host", "shop.example") as (url, _):
        port = httpx.URL(url).port
        assert httpx.get(f"http://{address}:{port}/health").status_code == 200
        assert httpx.get(url + "health").status_code == 200
        local = f"http://127.0.0.1:{port}/health"
        assert httpx.get(local, headers={"host": "shop.example"}).status_code == 200
        assert httpx.get(local, headers={"host": "evil.example"}).status_code == 421
        assert httpx.get(local, headers={"host": address}).status_code == 421


# ---- sites


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "nonsense"])
def test_requests_of_other_sites_are_refused_without_an_origin_too(shop: Collection, site: str) -> None:
    with serving(create_app([shop])) as url, httpx.Client(base_url=url, headers={"sec-fetch-site": site}) as client:
        ident = next(iter(shop)).id
        for path in (ITEMS, SEARCH, "/search", "/api/verify", "/api/collections/shop/classify"):
            assert client.post(path, files={"image": png()}).status_code == 403
        assert client.delete(f"{ITEMS}/{ident}").status_code == 403
        assert client.get("/").status_code == client.get(ITEMS).status_code == 200
    assert len(shop) == 1


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_requests_of_the_own_page_and_of_programs_are_answered(shop: Collection, site: str) -> None:
    with serving(create_app([shop])) as url:
        assert httpx.post(url + SEARCH, files={"image": png()}, headers={"sec-fetch-site": site}).status_code == 200
        assert httpx.post(url + SEARCH, files={"image": png()}).status_code == 200


def test_a_malformed_origin_is_refused(shop: Collection) -> None:
    with serving(create_app([shop])) as url:
        extension = url.replace("http://", "chrome-extension://")
        for origin in ("http://[", "null", "", "http://127.0.0.1", "evil", extension):
            answer = httpx.post(url + SEARCH, files={"image": png()}, headers={"origin": origin})
            assert answer.status_code == 403


def test_each_header_must_allow_a_request_that_has_it_twice(shop: Collection) -> None:
    with serving(create_app([shop], origins=["https://shop.example"])) as url:
        for headers, status in (
            ([("origin", url), ("origin", url)], 200),
            ([("origin", url), ("origin", "https://evil.example")], 403),
            ([("origin", "https://shop.example"), ("origin", "https://evil.example")], 403),
            ([("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], 403),
            ([("sec-fetch-site", ""), ("sec-fetch-site", "cross-site")], 403),
            ([("sec-fetch-site", ""), ("origin", "https://evil.example")], 403),
        ):
            assert httpx.post(url + SEARCH, files={"image": png()}, headers=headers).status_code == status


def test_the_host_header_counts_and_not_the_target_of_the_request(shop: Collection) -> None:
    def ask(target: str, *headers: str) -> bytes:
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 80), timeout=30) as client:
            lines = [f"GET {target} HTTP/1.1", *headers, "Connection: close"]
            client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return client.makefile("rb").readline()

    with serving(create_app([shop])) as url:
        assert b" 200 " in ask("/health", "Host: localhost")
        assert b" 421 " in ask("http://localhost/health", "Host: evil.example")
        assert b" 400 " in ask("/health", "Host: localhost", "Host: evil.example")
        assert b" 400 " in ask("/health", "Host: evil.example", " localhost")  # a folded line
        assert b" 400 " in ask("/health", "Host: localhost, evil.example")
        assert b" 400 " in ask("http://localhost/health")
        assert b" 400 " in ask("/health", "Host : localhost")


def test_a_refused_client_can_send_its_whole_body_before_it_reads_the_answer(shop: Collection) -> None:
    body = b"A" * 20_000_000
    with serving(create_app([shop], read_only=True)) as url, httpx.Client(base_url=url) as client:
        for headers in ({"host": "evil.example"}, {"sec-fetch-site": "cross-site"}, {"content-type": "text/plain"}):
            for _ in range(3):
                answer = client.post(SEARCH, content=body, headers=headers)
                assert answer.status_code in {403, 415, 421}
        assert client.get("/health").status_code == 200


# ---- broken connections


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_a_broken_off_upload_is_one_line_of_the_log(
    shop: Collection, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = "/search" if kind == "text/plain" else f"{SEARCH}?a%0Ab"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 100000\r\n\r\n"
    part = '--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    with serving(create_app([shop])) as url, caplog.at_level(logging.INFO):
        port = httpx.URL(url).port
        assert port
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall((head + part).encode() + b"A" * 5000)
            time.sleep(0.3)
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.02)
        assert httpx.get(f"{url}/health").status_code == 200
    lines = [record for record in caplog.records if record.name.startswith(("lookalike", "uvicorn"))]
    assert [record.exc_info for record in lines] == [None]
    assert "closed the connection" in lines[0].getMessage()
    assert "\n" not in lines[0].getMessage()


def test_the_log_escapes_control_characters(
    shop: Collection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise errors.pop()

    monkeypatch.setattr(shop.store, "get", fail)
    errors = [RuntimeError("x\n\x1b[31m"), StorageError(f"{shop.path}\n\x1b[31m: damaged")]
    with serving(create_app([shop])) as url:
        while errors:
            assert httpx.get(f"{url}{ITEMS}/a%0Dforged%1B%5B31m%E2%80%AE").status_code >= 500
    lines = [record for record in caplog.records if record.name.startswith("lookalike")]
    assert len(lines) == 2
    assert all(r"a\rforged\x1b[31m\u202e" in line.getMessage() for line in lines)
    assert all("\n" not in line.getMessage() for line in lines)
    assert r"\n\x1b[31m: damaged" in lines[0].getMessage()
    shown = PrintableFormatter().format(lines[1])
    assert "Traceback" in shown
    assert "\x1b" not in shown
