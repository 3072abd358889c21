import base64
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.routing import APIRoute
from PIL import Image

from lookalike import sample
from lookalike.collection import Collection, Entry
from lookalike.encoders import Encoder
from lookalike.errors import (
    AlreadyExistsError,
    EncoderError,
    ImageError,
    ImageTooLargeError,
    LookalikeError,
    MismatchError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UnreadableImageError,
    UsageError,
)
from lookalike.query import Query
from lookalike.server import classify, collections, create_app, images, items, search, verify
from lookalike.server.problems import public_message
from lookalike.stores.settings import IndexSettings
from pocket_encoder import calibrated, make
from pocket_server import serving

DOCS = Path(__file__).parent.parent / "docs" / "reference" / "http.md"
MAX_BODY = 300_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, encoders, and collections of them that no test changes."""
    folder = tmp_path_factory.mktemp("secretplace")
    sample.write(folder / "toys", 40, seed=1)
    calibrated(make(folder / "both"))
    make(folder / "photos-only", ("photo",))
    shop = Collection.create(folder / "shop.lookalike", Encoder.open(folder / "both"))
    shop.add(folder / "toys" / "photos", labels="folder")
    shop.close()
    plain = Collection.create(folder / "plain.lookalike", Encoder.open(folder / "photos-only"))
    plain.add([Entry(p, attributes={"colour": "red"}, id=p.stem) for p in sorted(photos(folder))[:5]])
    plain.close()
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[SimpleNamespace]:
    """The collections that no test changes, behind HTTP."""
    with Collection.open(home / "shop.lookalike") as shop, Collection.open(home / "plain.lookalike") as plain:
        app = create_app([shop, plain], read_only=True, max_body=MAX_BODY)
        with serving(app) as url, checking_client(url, home) as client:
            yield SimpleNamespace(app=app, shop=shop, client=client, url=url, api="/api/collections/shop")


@pytest.fixture
def writable(home: Path, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """An empty collection behind HTTP."""
    Collection.create(tmp_path / "new.lookalike", Encoder.open(home / "both")).close()
    with Collection.open(tmp_path / "new.lookalike") as new:
        app = create_app([new], origins=["https://shop.example"], max_body=MAX_BODY)
        with serving(app) as url, checking_client(url, tmp_path) as client:
            yield SimpleNamespace(app=app, new=new, client=client, items="/api/collections/new/items", path=new.path)


def checking_client(url: str, secret: Path) -> httpx.Client:
    """A client that checks each response: it has no path of the server, has nosniff, and problem details if it failed."""

    def check(response: httpx.Response) -> None:
        response.read()
        everything = response.content + repr(response.headers).encode()
        for part in {str(secret), secret.name, str(Path(__file__).parent.parent)}:
            assert part.encode() not in everything
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in response.headers["content-security-policy"]
        if response.status_code >= 400 and response.request.method != "HEAD":
            assert response.headers["content-type"] == "application/problem+json"
            body = response.json()
            assert {"type", "title", "status", "detail"} <= set(body)
            assert body["status"] == response.status_code
            assert len(body["detail"]) > 10

    return httpx.Client(base_url=url, event_hooks={"response": [check]}, timeout=20)


def photos(folder: Path) -> list[Path]:
    return sorted((folder / "toys" / "photos").rglob("*.jpg"))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and contains one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def small(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


# ---- the simple contract


def test_each_image_comes_first_at_distance_zero(server: SimpleNamespace, home: Path) -> None:
    for path in photos(home)[:20]:
        results = server.client.post("/search", content=encoded(path.read_bytes())).json()["results"]
        assert len(results) == 10
        first, nearest = next(iter(results.items()))
        assert nearest == 0.0
        assert httpx.get(first).content == path.read_bytes()
        assert list(results.values()) == sorted(results.values())
        assert all(url.startswith(server.url + "/api/collections/shop/items/") for url in results)


def test_the_simple_contract_takes_base64_in_any_wrapping(server: SimpleNamespace, home: Path) -> None:
    text = encoded(photos(home)[0].read_bytes())
    plain = server.client.post("/search", content=text).json()
    bodies: list[dict[str, Any]] = [
        {"content": text, "headers": {"content-type": "text/plain"}},
        {"content": text, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": f"data:image/jpeg;base64,{text}\n"},
        {"json": text},
        {"json": {"image": text}},
        {"json": f"data:image/jpeg;base64,{text}"},
    ]
    for body in bodies:
        assert server.client.post("/search", **body).json() == plain


@pytest.mark.parametrize(
    "body", [b"", b"not base64!", b"{", b'"', b"{}", b'{"image": 3}', b"[]", b"\xff\xfe", b"aGVsbG8="]
)
def test_the_simple_contract_refuses_a_body_that_is_not_an_image(server: SimpleNamespace, body: bytes) -> None:
    assert server.client.post("/search", content=body).status_code == 422


# ---- search


def test_search_by_image_sketch_and_item(server: SimpleNamespace, home: Path) -> None:
    data = photos(home)[3].read_bytes()
    by_file = server.client.post(f"{server.api}/search", files={"image": data}).json()
    by_json = server.client.post(f"{server.api}/search", json={"image": encoded(data)}).json()
    assert by_file["hits"] == by_json["hits"]
    assert by_file["metric"] == "euclidean"
    assert by_file["exact"] is by_file["complete"] is True
    assert by_file["took_ms"] > 0
    assert len(by_file["hits"]) == 10
    first = by_file["hits"][0]
    assert (first["distance"], first["similarity"], first["label"]) == (0.0, 1.0, photos(home)[3].parent.name)
    assert server.client.get(first["uri"]).content == data
    by_item = server.client.post(f"{server.api}/search", json={"item": first["id"], "k": 9}).json()
    assert [h["id"] for h in by_item["hits"]] == [h["id"] for h in by_file["hits"][1:]]
    sketched = server.client.post(f"{server.api}/search", files={"sketch": data}, data={"k": "3"}).json()
    assert len(sketched["hits"]) == 3
    assert server.client.post(f"{server.api}/search", data={"item": first["id"]}, files={"x": b""}).status_code == 422


def test_search_within_a_distance_by_another_metric_and_with_a_filter(server: SimpleNamespace, home: Path) -> None:
    data = photos(home)[5].read_bytes()
    label = photos(home)[5].parent.name

    def search(**options: object) -> Any:  # noqa: ANN401 -- JSON
        return server.client.post(f"{server.api}/search", json={"image": encoded(data), **options}).json()

    near = search(within=0.12)["hits"]
    assert near == [h for h in search(k=40)["hits"] if h["distance"] <= 0.12]
    assert 0 < len(near) < 40
    assert search(metric="cosine")["metric"] == "cosine"
    assert {h["label"] for h in search(filter={"labels": [label]})["hits"]} == {label}
    assert search(filter={"labels": []})["hits"] == []
    form = {"within": "0.12", "filter": json.dumps({"labels": [label]})}
    filtered = server.client.post(f"{server.api}/search", files={"image": data}, data=form).json()["hits"]
    assert filtered == [h for h in near if h["label"] == label]
    red = {"image": encoded(data), "filter": {"attributes": {"colour": "red"}}}
    assert len(server.client.post("/api/collections/plain/search", json=red).json()["hits"]) == 5


def test_an_answer_that_is_cut_off_is_not_complete(home: Path) -> None:
    with Collection.open(home / "shop.lookalike") as shop, serving(create_app([shop], max_hits=7)) as url:
        body = {"image": encoded(photos(home)[0].read_bytes()), "within": 2}
        answer = httpx.post(f"{url}/api/collections/shop/search", json=body).json()
    assert len(answer["hits"]) == 7
    assert answer["complete"] is False


def test_the_cursor_of_a_range_search_leads_to_all_hits_also_at_equal_distances(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "plain.lookalike", tmp_path / "plain.lookalike")
    with Collection.open(tmp_path / "plain.lookalike") as plain:
        (first, *_) = plain.store.scan()
        vectors = np.repeat(plain.store.vectors([first.id]), 20, axis=0)
        plain.store.upsert([replace(first, id=f"copy {i:02}") for i in range(20)], vectors)
        expected = plain.search(item=first.id, within=2)
        assert len(expected) == 24
        with serving(create_app([plain], max_hits=7)) as url:
            body: dict[str, Any] = {"item": first.id, "within": 2}
            pages: list[dict[str, Any]] = []
            while not pages or body["cursor"] is not None:
                pages.append(httpx.post(f"{url}/api/collections/plain/search", json=body).json())
                body["cursor"] = pages[-1]["cursor"]
    assert [len(page["hits"]) for page in pages] == [7, 7, 7, 3]
    assert [page["complete"] for page in pages] == [False, False, False, True]
    found = [(hit["distance"], hit["id"]) for page in pages for hit in page["hits"]]
    assert found == [(hit.distance, hit.item.id) for hit in expected]


@pytest.mark.parametrize(
    ("within", "cursor"), [(0.5, "0.9 x"), (0.5, "x"), (0.5, ""), (0.5, "nan x"), (0.5, "-1 x"), (None, "0.1 x")]
)
def test_a_cursor_of_another_search_is_refused(server: SimpleNamespace, within: float | None, cursor: str) -> None:
    item = server.client.get(f"{server.api}/items?limit=1").json()["items"][0]
    body = {"item": item["id"], "within": within, "cursor": cursor}
    answer = server.client.post(f"{server.api}/search", json=body)
    assert answer.status_code == 422
    assert "cursor" in answer.json()["detail"]


def test_search_within_a_range_of_distances(server: SimpleNamespace, home: Path) -> None:
    data = photos(home)[0].read_bytes()
    body = {"image": encoded(data), "within": 2}
    everything = server.client.post(f"{server.api}/search", json=body).json()["hits"]
    low, high = everything[2]["distance"], everything[-3]["distance"]
    expected = [hit for hit in everything if low <= hit["distance"] <= high]
    for within in ([low, high], f"{low!r}..{high!r}"):
        answer = server.client.post(f"{server.api}/search", json=body | {"within": within}).json()
        assert (answer["hits"], answer["complete"]) == (expected, True)
    for text in (f"[{low!r}, {high!r}]", f"{low!r}..{high!r}"):
        form = server.client.post(f"{server.api}/search", files={"image": data}, data={"within": text})
        assert form.json()["hits"] == expected


def test_search_within_a_similarity(server: SimpleNamespace, home: Path) -> None:
    data = photos(home)[5].read_bytes()
    hits = server.client.post(f"{server.api}/search", json={"image": encoded(data), "k": 40}).json()["hits"]
    similar = [hit for hit in hits if hit["similarity"] >= 0.9]
    assert 0 < len(similar) < 40
    by_json = server.client.post(f"{server.api}/search", json={"image": encoded(data), "within": "90%"})
    assert by_json.json()["hits"] == similar
    by_form = server.client.post(f"{server.api}/search", files={"image": data}, data={"within": "90%"})
    assert by_form.json()["hits"] == similar


def test_a_search_is_limited_to_ids(server: SimpleNamespace, home: Path) -> None:
    body = {"image": encoded(photos(home)[0].read_bytes()), "k": 5}
    hits = server.client.post(f"{server.api}/search", json=body).json()["hits"]
    only = {"filter": {"ids": [hits[3]["id"], "none"]}}
    assert server.client.post(f"{server.api}/search", json=body | only).json()["hits"] == [hits[3]]


def builders() -> int:
    """The number of threads that build indexes; the server above has one."""
    return sum(thread.name == "indexes" for thread in threading.enumerate())


def test_an_index_is_built_in_the_background_and_answers_say_whether_they_are_exact(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "plain.lookalike", tmp_path / "plain.lookalike")
    with Collection.open(tmp_path / "plain.lookalike") as plain:
        (first, *_) = plain.store.scan()
        vectors = np.random.default_rng(0).standard_normal((1500, plain.store.space.dimension)).astype(np.float32)
        plain.store.upsert([replace(first, id=f"copy{i}") for i in range(1500)], vectors)
        plain.tune(IndexSettings(budget=0))
        before = builders()
        with serving(create_app([plain])) as url:
            body = {"item": "copy7", "k": 3}
            deadline = time.monotonic() + 60
            while (answer := httpx.post(f"{url}/api/collections/plain/search", json=body).json())["exact"]:
                assert (len(answer["hits"]), answer["recall"]) == (3, None)
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert (len(answer["hits"]), answer["complete"]) == (3, True)
            assert 0.5 < answer["recall"] <= 1
            exactly = httpx.post(f"{url}/api/collections/plain/search", json=body | {"exact": True}).json()
            assert (exactly["exact"], exactly["recall"]) == (True, None)
        assert builders() == before


def test_a_server_that_stops_leaves_an_index_unbuilt(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "plain.lookalike", tmp_path / "plain.lookalike")
    with Collection.open(tmp_path / "plain.lookalike") as plain:
        (first, *_) = plain.store.scan()
        vectors = np.random.default_rng(0).standard_normal((20_000, plain.store.space.dimension)).astype(np.float32)
        plain.store.upsert([replace(first, id=f"copy{i}") for i in range(20_000)], vectors)
        plain.tune(IndexSettings(budget=0))
        before = builders()
        with serving(create_app([plain])) as url:
            assert httpx.get(f"{url}/health").json()["status"] == "ok"
        assert builders() == before
        assert plain.answer(Query(vectors=vectors[:1]))[0].exact


@pytest.mark.parametrize(
    "within", [[0.3, 0.1], [0.1], [0.1, 0.2, 0.3], [-1, 1], ["a", "b"], "0.2..0.1", "120%", "near", "", [], [None, 1]]
)
def test_a_wrong_range_is_refused(server: SimpleNamespace, home: Path, within: object) -> None:
    body = {"image": encoded(photos(home)[0].read_bytes()), "within": within}
    answer = server.client.post(f"{server.api}/search", json=body)
    assert answer.status_code == 422
    assert "within" in answer.json()["detail"]


def test_a_form_with_a_deeply_nested_range_is_refused(server: SimpleNamespace, home: Path) -> None:
    files = {"image": photos(home)[0].read_bytes()}
    answer = server.client.post(f"{server.api}/search", files=files, data={"within": "[" * 100_000})
    assert answer.status_code == 422
    assert "within" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"k": 0}, 422),
        ({"k": -1}, 422),
        ({"k": 10**9}, 422),
        ({"k": 1.5}, 422),
        ({"k": "many"}, 422),
        ({"within": -0.1}, 422),
        ({"within": 1e999}, 422),
        ({"within": float("nan")}, 422),
        ({"k": 3, "within": 0.5}, 422),
        ({"metric": "manhattan"}, 422),
        ({"metric": "hamming"}, 422),
        ({"filter": {"colour": "red"}}, 422),
        ({"filter": 3}, 422),
        ({"surprise": 1}, 422),
        ({"item": "x"}, 422),
        ({"image": None}, 422),
        ({"image": None, "item": "../../etc/passwd"}, 404),
        ({"image": None, "item": "\0"}, 404),
        ({"image": None, "item": "\ud800"}, 422),
        ({"image": "no base64"}, 422),
        ({"image": ""}, 422),
        ({"image": encoded(b"some text")}, 422),
        ({"image": encoded(small()[:60])}, 422),
        ({"image": encoded(png(30_000, 30_000))}, 413),
    ],
)
def test_a_bad_search_is_refused(server: SimpleNamespace, change: dict[str, Any], status: int) -> None:
    body = {k: v for k, v in {"image": encoded(small()), **change}.items() if v is not None}
    response = server.client.post(
        f"{server.api}/search", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert response.status_code == status


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{", 422),
        ("application/json", b"", 422),
        ("application/json", b"[]", 422),
        ("application/json", b"[" * 5000, 422),
        ("text/plain", b"hello", 415),
        ("application/x-www-form-urlencoded", b"k=3", 415),
        ("", b"hello", 415),
        ("multipart/form-data", b"hello", 400),
        ("multipart/form-data; boundary=x", b"hello", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n!\r\n--x--\r\n',
            422,
        ),
    ],
)
def test_a_bad_body_is_refused(server: SimpleNamespace, kind: str, body: bytes, status: int) -> None:
    response = server.client.post(f"{server.api}/search", content=body, headers={"content-type": kind} if kind else {})
    assert response.status_code == status


@pytest.mark.parametrize("name", ["k", "within", "filter", "metric", "other"])
def test_a_form_is_checked_like_json(server: SimpleNamespace, name: str) -> None:
    response = server.client.post(f"{server.api}/search", files={"image": small()}, data={name: "nan"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].startswith(name)


def test_a_form_has_one_file_and_few_fields(server: SimpleNamespace) -> None:
    files = [("image", small()), ("sketch", small())]
    assert server.client.post(f"{server.api}/search", files=files).status_code == 400
    assert server.client.post(f"{server.api}/search", files={"x": small()}).status_code == 422
    many = {f"f{i}": "x" for i in range(50)}
    assert server.client.post(f"{server.api}/search", files={"image": small()}, data=many).status_code == 400
    for data in (b"", b"text", small()[:50]):
        assert server.client.post(f"{server.api}/search", files={"image": data}).status_code == 422


def test_a_sketch_needs_an_encoder_with_a_sketch_branch(server: SimpleNamespace) -> None:
    response = server.client.post("/api/collections/plain/search", files={"sketch": small()})
    assert response.status_code == 422
    assert "sketch" in response.json()["detail"]


def test_too_many_bytes_are_refused_with_and_without_a_stated_length(server: SimpleNamespace) -> None:
    def flood() -> Iterator[bytes]:
        for _ in range(40):
            yield b"A" * 10_000

    for path in ("/search", f"{server.api}/search"):
        headers = {"content-type": "application/json"}
        assert server.client.post(path, content=b"A" * (MAX_BODY + 1), headers=headers).status_code == 413
        assert server.client.post(path, content=flood(), headers=headers).status_code == 413
    form = {"content-type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    endless = (head if i == 0 else part for i, part in enumerate(flood()))
    assert server.client.post(f"{server.api}/search", content=endless, headers=form).status_code == 413
    # Unread bytes do not break the connection for the next request.
    for kind in ("text/plain", "multipart/form-data; boundary=x"):
        headers = {"content-type": kind}
        assert server.client.post(f"{server.api}/search", content=b"A" * 290_000, headers=headers).status_code in {
            400,
            415,
        }
        assert server.client.post("/search", content=flood()).status_code == 413
    assert server.client.post(f"{server.api}/search", files={"image": b"A" * MAX_BODY}).status_code == 413


# ---- verify and classify


def test_hits_have_a_probability_if_the_encoder_is_calibrated(server: SimpleNamespace, home: Path) -> None:
    image = encoded(photos(home)[3].read_bytes())
    hits = server.client.post(f"{server.api}/search", json={"image": image}).json()["hits"]
    assert hits[0]["probability"] == 1
    assert all(hit["probability"] == pytest.approx(max(0, 1 - hit["distance"])) for hit in hits)
    for options in ({"image": image, "metric": "cosine"}, {"sketch": image}):
        answer = server.client.post(f"{server.api}/search", json=options).json()
        assert {hit["probability"] for hit in answer["hits"]} == {None}
    plain = server.client.post("/api/collections/plain/search", json={"image": image}).json()
    assert {hit["probability"] for hit in plain["hits"]} == {None}


def test_two_images_are_compared_as_files_base64_or_items(server: SimpleNamespace, home: Path) -> None:
    one, other = (photos(home)[i].read_bytes() for i in (3, 30))
    by_file = server.client.post("/api/verify", files={"left": one, "right": other}).json()
    found = server.client.post(f"{server.api}/search", json={"image": encoded(one), "k": 40}).json()["hits"]
    ids = {server.client.get(hit["uri"]).content: hit["id"] for hit in found}
    distance = next(hit["distance"] for hit in found if hit["id"] == ids[other])
    assert by_file == {
        "distance": distance,
        "similarity": pytest.approx(1 / (1 + distance)),
        "probability": pytest.approx(max(0, 1 - distance)),
        "metric": "euclidean",
        "threshold": 0.4,
        "same": distance <= 0.4,
        "calibrated_on": "classes",
    }
    for body in (
        {"left": encoded(one), "right": encoded(other)},
        {"left": {"item": ids[one]}, "right": {"item": ids[other], "collection": "shop"}},
        {"left": {"item": ids[one]}, "right": encoded(other), "collection": "shop"},
    ):
        assert server.client.post("/api/verify", json=body).json() == by_file
    form = {"false_accept_rate": "0.01", "metric": "euclidean", "collection": "shop"}
    by_rate = server.client.post("/api/verify", files={"left": one, "right": one}, data=form).json()
    assert (by_rate["threshold"], by_rate["same"]) == (0.25, True)
    similar = server.client.post("/api/verify", files={"left": one, "right": one}, data={"within": "80%"}).json()
    assert (similar["threshold"], similar["same"]) == (pytest.approx(0.25), True)
    unknown = server.client.post(
        "/api/verify", files={"left": one, "right": other}, data={"collection": "plain"}
    ).json()
    assert (unknown["probability"], unknown["threshold"], unknown["same"]) == (None, None, None)
    drawn = server.client.post("/api/verify", files={"left": one, "right": other}, data={"sketch": "true"}).json()
    assert (drawn["probability"], drawn["same"]) == (None, None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"left": encoded(small())}, 422),
        ({"left": encoded(small()), "right": "no base64"}, 422),
        ({"left": encoded(small()), "right": {"item": "gone"}}, 404),
        ({"left": encoded(small()), "right": {"item": "x", "collection": "gone"}}, 404),
        ({"left": encoded(small()), "right": encoded(small()), "collection": "gone"}, 404),
        ({"left": encoded(small()), "right": {"item": "x", "collection": "plain"}}, 409),
        ({"left": encoded(small()), "right": encoded(small()), "false_accept_rate": 0.02}, 422),
        ({"left": encoded(small()), "right": encoded(small()), "false_accept_rate": 0.01, "within": 1}, 422),
        ({"left": encoded(small()), "right": encoded(small()), "within": -1}, 422),
        ({"left": encoded(small()), "right": encoded(small()), "within": "0.1..0.2"}, 422),
        ({"left": encoded(small()), "right": encoded(small()), "within": "near"}, 422),
        ({"left": encoded(small()), "right": encoded(small()), "metric": "hamming"}, 422),
        ({"left": encoded(small()), "right": encoded(small()), "metric": "cosine", "false_accept_rate": 0.01}, 422),
        ({"left": {"item": "x"}, "right": encoded(small()), "sketch": True}, 422),
        ({"left": encoded(small()), "right": encoded(small()), "surprise": 1}, 422),
    ],
)
def test_a_bad_pair_is_refused(server: SimpleNamespace, body: dict[str, Any], status: int) -> None:
    assert server.client.post("/api/verify", json=body).status_code == status


def test_a_pair_is_two_files_named_left_and_right(server: SimpleNamespace) -> None:
    for names in (["left"], ["left", "x"], ["left", "left"]):
        files = [(name, small()) for name in names]
        assert server.client.post("/api/verify", files=files).status_code == 422
    three = [("left", small()), ("right", small()), ("right", small())]
    assert server.client.post("/api/verify", files=three).status_code == 400


def test_an_image_is_classified_by_the_labels_of_a_collection(server: SimpleNamespace, home: Path) -> None:
    path = photos(home)[3]
    by_file = server.client.post(f"{server.api}/classify", files={"image": path.read_bytes()}).json()
    assert (by_file["metric"], by_file["by"], len(by_file["classes"])) == ("euclidean", "example", 5)
    assert by_file["classes"][0] == {"label": path.parent.name, "distance": 0, "similarity": 1, "probability": 1}
    image = encoded(path.read_bytes())
    assert server.client.post(f"{server.api}/classify", json={"image": image}).json() == by_file
    many = server.client.post(f"{server.api}/classify", json={"image": image, "k": 100, "by": "prototype"}).json()
    assert {one["label"] for one in many["classes"]} == {p.parent.name for p in photos(home)}
    assert {one["probability"] for one in many["classes"]} == {None}
    drawn = server.client.post(f"{server.api}/classify", files={"sketch": path.read_bytes()}, data={"k": "1"}).json()
    assert [one["probability"] for one in drawn["classes"]] == [None]
    for bad in ({}, {"image": image, "sketch": image}, {"image": image, "k": 0}, {"image": image, "by": "vote"}):
        assert server.client.post(f"{server.api}/classify", json=bad).status_code == 422
    assert server.client.post(f"{server.api}/classify", files={"x": small()}).status_code == 422
    no_labels = server.client.post("/api/collections/plain/classify", json={"image": image})
    assert no_labels.status_code == 422
    assert "label" in no_labels.json()["detail"]


# ---- collections and items


def test_collections_are_described(server: SimpleNamespace) -> None:
    shop, plain = server.client.get("/api/collections").json()["collections"]
    assert shop == server.client.get("/api/collections/shop").json()
    assert (shop["name"], shop["items"], shop["dimension"], shop["metric"]) == ("shop", 40, 48, "euclidean")
    assert shop["encoder"]["branches"] == ["photo", "sketch"]
    assert shop["encoder"]["size"] == 32
    assert sum(shop["labels"].values()) == 40
    assert plain["labels"] == {}
    assert server.client.get("/health").json()["collections"] == {"shop": 40, "plain": 5}


@pytest.mark.parametrize("shuffle", [None, 0, 7])
def test_pages_have_each_item_once(server: SimpleNamespace, shuffle: int | None) -> None:
    options = {} if shuffle is None else {"shuffle": shuffle}

    def all_pages() -> list[str]:
        found, cursor = [], ""
        while cursor is not None:
            page = server.client.get(f"{server.api}/items", params={"limit": 7, "cursor": cursor, **options}).json()
            assert page["total"] == 40
            found += [item["id"] for item in page["items"]]
            cursor = page["cursor"]
        return found

    found = all_pages()
    assert found == all_pages()
    assert len(found) == len(set(found)) == 40
    assert (found == sorted(found)) == (shuffle is None)


def test_items_of_a_label(server: SimpleNamespace) -> None:
    page = server.client.get(f"{server.api}/items", params={"label": ["chair", "mug"], "shuffle": 1}).json()
    assert {item["label"] for item in page["items"]} == {"chair", "mug"}
    assert page["cursor"] is None
    assert page["total"] == len(page["items"])
    assert server.client.get(f"{server.api}/items?label=nothing").json() == {"items": [], "cursor": None, "total": 0}


@pytest.mark.parametrize("query", ["limit=0", "limit=5000", "limit=x", "shuffle=-1", "shuffle=99999999999999999999"])
def test_bad_paging_is_refused(server: SimpleNamespace, query: str) -> None:
    assert server.client.get(f"{server.api}/items?{query}").status_code == 422


def test_images_and_thumbnails_are_sent_unless_the_client_has_them(server: SimpleNamespace) -> None:
    item = server.client.get(f"{server.api}/items?limit=1").json()["items"][0]
    assert server.client.get(f"{server.api}/items/{item['id']}").json() == item
    for address in (item["uri"], item["thumbnail"]):
        response = server.client.get(address)
        assert response.headers["content-type"] == "image/jpeg"
        Image.open(io.BytesIO(response.content)).verify()
        tag = response.headers["etag"]
        again = server.client.get(address, headers={"if-none-match": f'W/"x", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert server.client.get(address, headers={"if-none-match": '"other"'}).status_code == 200
        head = server.client.head(address)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(response.content))
    for path in ("/", "/health", "/api/collections"):
        assert server.client.head(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/collections/other",
        "/api/collections/other/items",
        "/api/collections/%2e%2e",
        "/api/collections/shop/items/x",
        "/api/collections/shop/items/x/image",
        "/api/collections/shop/items/%2e%2e%2f%2e%2e%2fetc%2fpasswd/image",
        "/api/collections/shop/items/../../../../etc/passwd/thumbnail",
        "/api/collections/shop/items/%00/image",
        "/api/collections/shop/items/%ff%fe/thumbnail",
        "/api/collections/shop/items//etc/passwd/image",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/%2fetc%2fpasswd",
        "/%00",
        "//etc/passwd",
    ],
)
def test_an_unknown_address_is_404(server: SimpleNamespace, path: str) -> None:
    url = httpx.URL(server.url).copy_with(raw_path=path.encode())  # httpx would normalise the path
    assert server.client.get(url).status_code == 404


@pytest.mark.parametrize("value", ["bytes=0-3", "bytes=9-1", "bytes=999999999-", "x", "bytes=" + "0-1," * 1000])
def test_an_answer_is_whole_whatever_range_is_asked_for(server: SimpleNamespace, value: str) -> None:
    item = server.client.get(f"{server.api}/items?limit=1").json()["items"][0]
    for path in ("/", "/health", item["uri"]):
        answer = server.client.get(path, headers={"range": value})
        assert (answer.status_code, len(answer.content)) == (200, len(server.client.get(path).content))


def test_a_wrong_method_or_host(server: SimpleNamespace) -> None:
    assert server.client.put("/search").status_code == 405
    assert server.client.delete("/").status_code == 405
    assert server.client.get("/health", headers={"host": "[bad"}).status_code == 400
    assert server.client.get("/health", headers={"host": "a/b@c"}).status_code == 400


def test_an_item_whose_file_is_missing_or_not_an_image(writable: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(small())
    writable.new.add([Entry(path, id="x")])
    path.write_text("root:x:0:0")
    assert writable.client.get(f"{writable.items}/x/image").status_code == 422
    path.unlink()
    assert writable.client.get(f"{writable.items}/x/image").status_code == 404
    assert writable.client.get(f"{writable.items}/x/thumbnail").status_code == 404
    assert writable.client.get(f"{writable.items}/x").status_code == 200


# ---- add and remove


def test_items_are_added_and_removed(writable: SimpleNamespace) -> None:
    form = {"label": "red", "attributes": '{"title": "All red"}'}
    response = writable.client.post(writable.items, files={"image": small("red")}, data=form)
    assert response.status_code == 201
    red = response.json()
    assert (red["label"], red["attributes"]) == ("red", {"title": "All red", "filename": "upload"})
    assert writable.client.get(response.headers["location"]).json() == red
    blue = writable.client.post(writable.items, json={"image": encoded(small("blue")), "label": "blue"}).json()
    assert writable.client.get(blue["uri"]).content == small("blue")
    results = writable.client.post("/search", content=encoded(small("blue"))).json()["results"]
    assert list(results.values())[0] == 0.0  # noqa: RUF015 -- order matters here
    assert len(results) == 2
    drawing = b'{"strokes": [{"points": [[0, 0, 0.5], [1000, 1000, 0.5]]}]}'
    refused = writable.client.post(writable.items, files={"image": ("drawing.jpg", drawing)})
    assert (refused.status_code, "(drawing)" in refused.json()["detail"]) == (422, True)
    assert writable.client.delete(f"{writable.items}/{blue['id']}").status_code == 204
    assert writable.client.delete(f"{writable.items}/{blue['id']}").status_code == 404
    assert writable.client.get(blue["uri"]).status_code == 404
    assert len(writable.client.post("/search", content=encoded(small("blue"))).json()["results"]) == 1
    assert len(list((writable.path / "images").iterdir())) == 1


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ({"files": {"image": b"text"}}, {}, 422),
        ({"files": {"image": png(30_000, 30_000)}}, {}, 413),
        ({"files": {"other": small()}}, {}, 422),
        ({"files": {"image": small()}}, {"attributes": "{"}, 422),
        ({"files": {"image": small()}}, {"attributes": '{"a": 1}'}, 422),
        ({"files": {"image": small()}}, {"label": "x" * 3000}, 422),
        ({"json": {"image": encoded(small()), "uri": "/etc/passwd"}}, None, 422),
        ({"json": {"label": "x"}}, None, 422),
    ],
)
def test_bad_items_are_refused(
    writable: SimpleNamespace, kind: dict[str, Any], body: dict[str, str] | None, status: int
) -> None:
    assert writable.client.post(writable.items, data=body, **kind).status_code == status
    assert writable.new.store.count() == 0


def test_a_read_only_server(server: SimpleNamespace) -> None:
    item = server.client.get(f"{server.api}/items?limit=1").json()["items"][0]
    assert server.client.post(f"{server.api}/items", files={"image": small()}).status_code == 403
    assert server.client.delete(f"{server.api}/items/{item['id']}").status_code == 403
    assert server.client.get("/api/collections/shop").json()["read_only"] is True


def test_pages_of_other_sites_may_write_only_if_they_are_allowed(writable: SimpleNamespace) -> None:
    def send(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response: httpx.Response = writable.client.post(writable.items, files={"image": small()}, headers=named)
        return response

    assert send(origin="https://evil.example").status_code == 403
    assert send(origin="https://evil.example", sec_fetch_site="cross-site").status_code == 403
    assert send(origin="null").status_code == 403
    assert send(origin=str(writable.client.base_url).rstrip("/")).status_code == 201
    allowed = send(origin="https://shop.example", sec_fetch_site="cross-site")
    assert allowed.status_code == 201
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    headers = {"origin": "https://evil.example", "access-control-request-method": "DELETE"}
    assert (
        "access-control-allow-origin"
        not in httpx.options(f"{writable.client.base_url}/search", headers=headers).headers
    )


def test_changes_by_another_process_are_seen(writable: SimpleNamespace, home: Path) -> None:
    path = photos(home)[0]
    with Collection.open(writable.path) as other:
        other.add([Entry(path, id="other")])
        found = writable.client.post("/search", content=encoded(path.read_bytes())).json()["results"]
        assert [url.split("/")[-2] for url in found] == ["other"]
        other.remove(["other"])
    assert writable.client.post("/search", content=encoded(path.read_bytes())).json() == {"results": {}}
    assert writable.client.get("/health").json()["collections"] == {"new": 0}


def test_many_requests_at_once(writable: SimpleNamespace) -> None:
    colours = [f"rgb({9 * i}, {255 - 9 * i}, {40 * (i % 3)})" for i in range(24)]

    def one(colour: str) -> tuple[int, list[float], str]:
        added = writable.client.post(writable.items, files={"image": small(colour)})
        found = writable.client.post("/search", content=encoded(small(colour))).json()["results"]
        return added.status_code, list(found.values()), next(iter(found)).split("/")[-2]

    with ThreadPoolExecutor(8) as pool:
        for status, distances, _ in pool.map(one, colours):
            assert status == 201
            assert distances[0] == 0.0
            assert distances == sorted(distances)
    assert writable.new.store.count() == 24


# ---- errors and the application


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageError("{path}/catalog.sqlite is damaged: x."), 507),
        (EncoderError("The network photo.onnx of “x” fails: {path}"), 500),
        (NotFoundError("There is no file '{path}/a b.jpg'. Check the path."), 404),
        (LookalikeError("{path}"), 500),
        (RuntimeError("{path}"), 500),
    ],
)
def test_errors_show_no_paths(
    writable: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise type(error)(str(error).replace("{path}", str(writable.path)))

    monkeypatch.setattr(writable.new.store, "count", fail)
    assert writable.client.get("/health").status_code == status  # the client looks for the path


def test_a_message_is_public_if_it_names_no_file(home: Path) -> None:
    with Collection.open(home / "shop.lookalike") as shop:
        served = {"shop": shop}
        assert public_message(UsageError("k must be at least 1, not 0."), served) == "k must be at least 1, not 0."
        assert public_message(UsageError(f"{shop.path} holds vectors."), served) == "“shop” holds vectors."
        for internal in (
            "/etc/passwd",
            "see '/srv/x'",
            "C:\\x",
            "~/x",
            "../x/y",
            "shop.lookalike",
            "<_Reader at 0x7f>",
        ):
            assert public_message(UsageError(f"It is {internal}."), served) is None


@pytest.mark.parametrize(
    ("error", "public"),
    [
        (ImageTooLargeError("Use a smaller one.", "LOOKALIKE_MAX_PIXELS raises it."), "Use a smaller one."),
        (UsageError("It is not calibrated. Run lookalike calibrate."), None),
        (UsageError("No item has a label. Index with --labels."), None),
        (UnreadableImageError("It needs the extra “heif”: pip install 'lookalike[heif]'."), None),
        (MissingExtraError("learn", "Training"), None),
        (UsageError("A value is well-known -- by 4 to 5. Give k."), "A value is well-known -- by 4 to 5. Give k."),
        (NotFoundError("“a. B c” has no item “x”. Choose another."), "“a. B c” has no item “x”. Choose another."),
    ],
)
def test_a_message_has_no_advice_that_only_the_owner_of_the_server_can_follow(
    error: LookalikeError, public: str | None
) -> None:
    assert public_message(error, {}) == public


def test_a_client_gets_advice_instead_of_a_message_for_the_owner(
    writable: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kinds: list[type[LookalikeError]] = [LookalikeError, *LookalikeError.__subclasses__(), *ImageError.__subclasses__()]
    assert {MismatchError, NotFoundError, AlreadyExistsError} < set(kinds)
    for kind in kinds:

        def fail(kind: type[LookalikeError] = kind) -> None:
            raise kind("It is stale. Run lookalike index again.", "--prune helps.")

        monkeypatch.setattr(writable.new.store, "count", fail)
        answer = writable.client.get("/health")
        assert answer.status_code == kind.http_status
        detail = answer.json()["detail"]
        assert re.search(r"\b(Ask|Choose|Send|Try|GET) ", detail), detail
        assert not re.search("stale|lookalike index|--prune", detail), detail
        assert "It is stale. Run lookalike index again. --prune helps." in caplog.text
        caplog.clear()


def test_a_client_with_too_large_an_image_is_told_to_send_a_smaller_one(
    server: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    file = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(file, "PNG")
    answer = server.client.post(f"{server.api}/search", files={"image": file.getvalue()})
    assert answer.status_code == 413
    assert "20,000 by 10,000" in answer.json()["detail"]
    assert answer.json()["detail"].endswith("Use a smaller image.")
    assert not caplog.records


def test_an_application_needs_collections_with_different_names(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        create_app([])
    (tmp_path / "other").mkdir()
    other_path = Path(shutil.copytree(home / "shop.lookalike", tmp_path / "other" / "shop.lookalike"))
    with Collection.open(home / "shop.lookalike") as shop, Collection.open(other_path) as other:
        with pytest.raises(UsageError, match="given twice"):
            create_app([shop, shop])
        with pytest.raises(UsageError, match=f"named “shop”: {shop.path} and {other_path}. Rename"):
            create_app([shop, other])


def test_every_route_is_documented(server: SimpleNamespace) -> None:
    schema = server.client.get("/openapi.json").json()
    page, reference = server.client.get("/docs").text, DOCS.read_text(encoding="utf-8")
    assert "<script" not in page
    routes = [(m, path, operation) for path, methods in schema["paths"].items() for m, operation in methods.items()]
    for method, path, operation in routes:
        name = f"{method.upper()} {path}"
        assert operation["description"], name
        assert f"`{name}`" in reference
        assert f"<code>{path}</code>" in page
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
        if "requestBody" in operation:
            assert {"400", "408", "413"} <= operation["responses"].keys(), name
    assert len(routes) == 13
    documented = set(re.findall(r"^### `([A-Z]+ \S+)`$", reference, re.MULTILINE))
    assert documented == {f"{m.upper()} {path}" for m, path, _ in routes} | {"GET /docs", "GET /openapi.json", "GET /"}


def test_no_route_that_computes_is_a_coroutine() -> None:
    # Searching and decoding would block the event loop, so routes run in the thread pool. Two only wait on the loop.
    modules = (classify, collections, images, items, search, verify)
    endpoints = [route.endpoint for m in modules for route in m.router.routes if isinstance(route, APIRoute)]
    assert len(endpoints) == 13
    assert {e.__name__ for e in endpoints if e.__code__.co_flags & 0x80} == {"health", "get_thumbnail"}


def test_the_server_loads_no_torch() -> None:
    code = "import sys, lookalike.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0
