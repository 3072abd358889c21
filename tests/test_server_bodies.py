"""Hostile and unusual request bodies."""

import base64
import io
import json
import os
import resource
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.exceptions import HTTPException

from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import UnreadableImageError
from lookalike.server import create_app, pixels
from lookalike.server.forms import FormFile, parse_form
from lookalike.server.json_limits import MAX_JSON
from pocket_server import serving

TYPE = "multipart/form-data; boundary=x"


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(pocket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    path = tmp_path_factory.mktemp("bodies") / "shop.lookalike"
    with Collection.create(path, Encoder.open(pocket)) as shop:
        ident = shop.add_image(png()).id
        with serving(create_app([shop])) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield SimpleNamespace(url=url, client=client, search="/api/collections/shop/search", id=ident)


# ---- forms


def part(headers: str, content: bytes, boundary: str = "x") -> bytes:
    return f"--{boundary}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"


def field(name: str, content: bytes, more: str = "") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"{more}', content)


END = b"--x--\r\n"


def test_a_form_has_fields_and_files() -> None:
    content = b"\r\n--\r\n--y\0\xff\r\n"
    body = field("k", b"3") + field("image", content, '; filename="a b.png"\r\nContent-Type: image/png') + END
    form = parse_form(TYPE, body, 1)
    assert form.fields == {"k": "3"}
    assert form.files == {"image": FormFile("a b.png", content)}
    assert parse_form(TYPE, b"\r\n" + body + b"epilogue", 1) == form
    assert parse_form('Multipart/Form-Data; charset=utf-8; Boundary="x"', body, 1) == form
    assert parse_form(TYPE, field("k", b"") + END, 0).fields == {"k": ""}
    assert parse_form(TYPE, field("k", b"a") + field("k", b"b") + END, 0).fields == {"k": "b"}
    assert parse_form(TYPE, b"--x--", 1).fields == {}


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ('; filename=""', ""),
        ("; filename=a.png", "a.png"),
        ('; filename="käse.png"', "käse.png"),
        ('; filename="a%22b.png"', 'a"b.png'),
        (r'; filename="a\"b.png"', 'a"b.png'),
        (r'; filename="C:\\a.png"', "a.png"),
        ("; FileName=a.png", "a.png"),
    ],
)
def test_the_name_of_a_file(parameters: str, name: str) -> None:
    assert parse_form(TYPE, field("image", b"x", parameters) + END, 1).files["image"].filename == name


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", field("k", b"3") + END),
        ("multipart/form-data; boundary=", field("k", b"3") + END),
        (TYPE, b""),
        (TYPE, b"hello"),
        (TYPE, b"\r\n--"),
        (TYPE, b"--x"),
        (TYPE, b"--x\r\n" * 1000),
        (TYPE, field("k", b"3")),
        (TYPE, field("k", b"3")[:-1]),
        (TYPE, part("Content-Type: image/png", b"x") + END),
        (TYPE, part("Content-Disposition: form-data", b"x") + END),
        (TYPE, part("", b"x") + END),
        (TYPE, part("X: " + "y" * 10_000, b"x") + END),
        (TYPE, field("k", b"\xff") + END),
        (TYPE, b"--x\r\n\xff\r\n\r\n\r\n--x--"),
        (TYPE, field("k", b"1") * 21 + END),
        (TYPE, field("k", b"1", "; filename=a") * 2 + END),
    ],
)
def test_a_malformed_form_is_refused(server: SimpleNamespace, kind: str, body: bytes) -> None:
    with pytest.raises(HTTPException):
        parse_form(kind, body, 1)
    answer = server.client.post(server.search, content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-7", "rot13", "zlib", "x" * 1000])
def test_the_charset_of_a_form_does_not_matter(server: SimpleNamespace, charset: str) -> None:
    body = field("item", server.id.encode()) + END
    headers = {"content-type": f"{TYPE}; charset={charset}"}
    assert server.client.post(server.search, content=body, headers=headers).status_code == 200


def test_an_upload_keeps_the_name_of_its_file(server: SimpleNamespace) -> None:
    answer = server.client.post("/api/collections/shop/items", files={"image": (r"C:\my folder/käse.png", png())})
    assert answer.json()["name"] == "käse.png"
    assert server.client.get(answer.json()["uri"]).content == png()


# ---- limits of JSON


@contextmanager
def answering(url: str, seconds: float) -> Iterator[None]:
    """Check that /health answers within a time while the block runs."""
    stop, slowest = threading.Event(), [0.0]

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                began = time.perf_counter()
                client.get("/health").raise_for_status()
                slowest[0] = max(slowest[0], time.perf_counter() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert slowest[0] < seconds


def labels(values: bytes) -> bytes:
    return b'{"item":"x","filter":{"labels":[' + values + b"]}}"


MANY = 30 * 2**20
HOSTILE: dict[str, tuple[bytes, int]] = {
    "objects": (labels(b",".join([b"{}"] * (MANY // 3))), 413),
    "texts": (labels(b",".join([b'"a"'] * (MANY // 4))), 413),
    "long texts": (labels(b",".join([b'"' + b"a" * 70_000 + b'"'] * 400)), 413),
    "brackets": (b"[" * MANY, 413),
    "numbers": (b"[" + b"1," * (MANY // 2) + b"1]", 413),
    "one number": (b'{"k":' + b"9" * MANY + b"}", 413),
    "spaces": (b" " * MANY, 413),
    "backslashes": (b'"' + b"\\" * MANY, 422),
    "escaped quotes": (b'{"image":"' + b'\\"' * (MANY // 2) + b'"}', 413),
    "few objects": (labels(b",".join([b"{}"] * 100_000)), 422),
    "few brackets": (b"[" * 400_000, 422),
    "few keys": (b"{" + b",".join(b'"%d":0' % i for i in range(40_000)) + b"}", 422),
    "attributes": (
        b'{"item":"x","filter":{"attributes":{' + b",".join(b'"%d":[]' % i for i in range(40_000)) + b"}}}",
        422,
    ),
    "a long number": (b'{"item":"x","k":' + b"9" * 6000 + b"}", 422),
    "a text without an end": (b'{"item":"' + b"a" * MANY, 422),
    "not UTF-8": (b'{"item":"\xff"}', 422),
    "UTF-16": ('{"item":"x"}'.encode("utf-16"), 422),
    "a key twice": (b'{"item":"x","item":"y"}', 422),
    "NUL": (b'{"item":"\0"}', 422),
    "NaN": (b'{"item":"x","within":NaN}', 422),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused_soon_and_others_are_answered_meanwhile(server: SimpleNamespace, name: str) -> None:
    body, status = HOSTILE[name]
    with answering(server.url, 2):
        began = time.perf_counter()
        answer = server.client.post(server.search, content=body, headers={"content-type": "application/json"})
        took = time.perf_counter() - began
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 3_000_000
    assert took < 6


@pytest.mark.parametrize(
    "path", ["/search", "/api/verify", "/api/collections/shop/classify", "/api/collections/shop/items"]
)
def test_all_routes_that_take_json_have_the_limit(server: SimpleNamespace, path: str) -> None:
    for name in ("objects", "escaped quotes", "few brackets"):
        content, status = HOSTILE[name]
        if path == "/search" and content[:1] == b"[":
            continue  # not JSON there, but text in Base64
        answer = server.client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == status


@pytest.mark.parametrize(
    "text", ["[" * 400_000, '{"labels":[' + "{}," * 100_000 + "{}]}", '{"labels":["' + "a" * MAX_JSON + '"]}']
)
def test_the_fields_of_a_form_have_the_same_limits(server: SimpleNamespace, text: str) -> None:
    with answering(server.url, 2):
        answer = server.client.post(server.search, data={"filter": text}, files={"image": png()})
    assert answer.status_code in {413, 422}
    many = {f"f{i}": "a" * (MAX_JSON // 10) for i in range(15)}
    assert server.client.post(server.search, data=many, files={"image": png()}).status_code == 413


def test_a_large_image_passes_in_json_and_in_a_field(server: SimpleNamespace) -> None:
    file = io.BytesIO()
    Image.frombytes("RGB", (1500, 1500), os.urandom(3 * 1500 * 1500)).save(file, "BMP")
    text = base64.b64encode(file.getvalue()).decode()
    assert len(text) > 8 * 2**20
    bodies: list[dict[str, Any]] = [
        {"json": {"image": text}},
        {"content": json.dumps({"image": text}).replace("/", "\\/"), "headers": {"content-type": "application/json"}},
        {"files": {"image": file.getvalue()}},
    ]
    with answering(server.url, 2):
        for body in bodies:
            assert server.client.post(server.search, **body).status_code == 200
    form = field("image", text.encode()) + END
    assert server.client.post(server.search, content=form, headers={"content-type": TYPE}).status_code == 200
    assert server.client.post("/search", json=text).status_code == 200
    assert server.client.post("/api/verify", json={"left": text, "right": text}).json()["distance"] == 0


def test_a_filter_of_ten_thousand_ids_and_labels_is_allowed(server: SimpleNamespace) -> None:
    where = {"ids": [server.id, *(f"{i:020}" for i in range(9999))], "labels": None}
    body = {"image": base64.b64encode(png()).decode(), "filter": where}
    assert [hit["id"] for hit in server.client.post(server.search, json=body).json()["hits"]] == [server.id]


# ---- pixels in flight


def animation(side: int, frames: int = 2) -> bytes:
    """An animated WebP of some 150 bytes that claims a square canvas."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(file, "WEBP", lossless=True)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    edge = struct.pack("<I", side - 1)[:3]
    body = chunk(b"VP8X", b"\x02\0\0\0" + edge + edge) + chunk(b"ANIM", bytes(6))
    body += chunk(b"ANMF", bytes(16) + file.getvalue()[12:]) * frames
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.slow
def test_twelve_small_uploads_of_huge_images_leave_the_server_answering(server: SimpleNamespace) -> None:
    image, items = animation(10_000), "/api/collections/shop/items"
    assert len(image) < 200

    def upload(number: int) -> httpx.Response:
        path, name = ((items, "image"), (server.search, "image"), ("/api/verify", "left"))[number % 3]
        files = {name: image} | ({"right": image} if name == "left" else {})
        return httpx.post(server.url + path, files=files, timeout=120)

    before = memory()
    with answering(server.url, 3), ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(upload, range(12)))
    assert {answer.status_code for answer in answers} <= {200, 201, 503}
    assert any(answer.is_success for answer in answers)
    refused = [answer for answer in answers if answer.status_code == 503]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert all("pixels" in answer.json()["detail"] for answer in refused)
    assert memory() - before < 16 * 200_000_000
    assert httpx.post(server.url + server.search, files={"image": png()}).status_code == 200


def memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_budget_of_pixels_lets_as_many_images_in_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_TIMEOUT", 0.05)
    budget, image = pixels.PixelBudget(2500), png()  # 1,200 pixels
    with budget.hold(image, image, at_least=32):
        with pytest.raises(HTTPException) as refused, budget.hold(image, at_least=32):
            pass
        assert refused.value.status_code == 503
        assert refused.value.headers == {"Retry-After": "1"}
    with budget.hold(image, at_least=32), budget.hold(image, at_least=32):
        pass
    with budget.hold(image, image, image, at_least=32):  # more than the budget, but alone
        pass
    with pytest.raises(RuntimeError), budget.hold(image, image, at_least=32):
        raise RuntimeError
    with budget.hold(image, image, at_least=32):
        pass
    with pytest.raises(UnreadableImageError), budget.hold(b"text", at_least=32):
        pass


def test_requests_wait_a_moment_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, image = pixels.PixelBudget(1200), png()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with budget.hold(image, at_least=32):
            entered.set()
            leave.wait(10)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hold)
        assert entered.wait(10)
        second = pool.submit(hold)
        leave.set()
        first.result()
        second.result()
    monkeypatch.setattr(pixels, "_MAX_WAITING", 0)
    with budget.hold(image, at_least=32), pytest.raises(HTTPException), budget.hold(image, at_least=32):
        pass
