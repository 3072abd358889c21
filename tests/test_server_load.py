"""A busy server: a limited number of requests compute at once, and the health check answers meanwhile."""

import asyncio
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.exceptions import HTTPException

from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.parallel import available_cores
from lookalike.server import concurrency, counts, create_app
from pocket_server import serving

SHOP = "/api/collections/shop"


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shop(pocket: Path, tmp_path: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as shop:
        shop.add_image(png())
        yield shop


class Blocked:
    """A function that waits until it is released, and counts the threads in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.release = function, threading.Event()
        self.inside = threading.Semaphore(0)
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, *args: object, **kwargs: object) -> object:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.inside.release()
        assert self.release.wait(60)
        with self._lock:
            self._now -= 1
        return self.function(*args, **kwargs)


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object, str], Blocked]]:
    blocked = list[Blocked]()

    def block(place: object, name: str) -> Blocked:
        blocked.append(Blocked(getattr(place, name)))
        monkeypatch.setattr(place, name, blocked[-1])
        return blocked[-1]

    yield block
    for each in blocked:
        each.release.set()


def test_as_many_requests_compute_at_once_as_there_are_cores(
    shop: Collection, block: Callable[[object, str], Blocked]
) -> None:
    item, cores = next(iter(shop)), available_cores()
    searches = block(shop, "answer")
    with serving(create_app([shop])) as url, ThreadPoolExecutor(60) as pool:
        assert httpx.get(f"{url}{SHOP}/items/{item.id}/thumbnail").status_code == 200
        sent = [pool.submit(httpx.post, f"{url}{SHOP}/search", json={"item": item.id}, timeout=60) for _ in range(60)]
        for _ in range(cores):
            assert searches.inside.acquire(timeout=30)
        for path in ("/health", "/", f"{SHOP}/items/{item.id}", f"{SHOP}/items/{item.id}/thumbnail"):  # need no slot
            assert httpx.get(url + path, timeout=30).status_code == 200
        searches.release.set()
        assert {answer.result().status_code for answer in sent} == {200}
    assert searches.most == cores


def test_the_health_check_answers_while_all_threads_are_blocked(
    shop: Collection, block: Callable[[object, str], Blocked]
) -> None:
    path = f"{SHOP}/items/{next(iter(shop)).id}"
    reads = block(shop.store, "get")
    with serving(create_app([shop])) as url, ThreadPoolExecutor(60) as pool:
        sent = [pool.submit(httpx.get, url + path, timeout=60) for _ in range(60)]
        for _ in range(40):  # the threads of Starlette's pool
            assert reads.inside.acquire(timeout=30)
        assert httpx.get(f"{url}/health", timeout=30).json()["collections"] == {"shop": 1}
        reads.release.set()
        assert {answer.result().status_code for answer in sent} == {200}


def test_the_health_check_has_the_last_count_while_a_collection_does_not_answer(
    shop: Collection, block: Callable[[object, str], Blocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "_TIMEOUT", 0.05)
    count = block(shop.store, "count")
    with serving(create_app([shop])) as url:

        def health() -> object:
            return httpx.get(f"{url}/health", timeout=30).json()["collections"]

        assert health() == health() == {"shop": None}
        assert count.most == 1
        monkeypatch.setattr(counts, "_TIMEOUT", 30)
        count.release.set()
        health()
        assert health() == {"shop": 1}


def test_a_request_that_stops_waiting_for_a_count_does_not_cancel_it_for_others(
    shop: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, pool = threading.Event(), ThreadPoolExecutor(1)
    pool.submit(release.wait, 60)  # the count has not begun when the first request stops waiting
    monkeypatch.setattr(counts, "ThreadPoolExecutor", lambda *_: pool)
    monkeypatch.setattr(counts, "_TIMEOUT", 0.05)

    async def main() -> None:
        numbers = counts.ItemCounts({"shop": shop})
        first = asyncio.create_task(numbers.get())
        await asyncio.sleep(0.01)
        monkeypatch.setattr(counts, "_TIMEOUT", 30)
        second = asyncio.create_task(numbers.get())
        assert await first == {"shop": None}
        release.set()
        assert await second == {"shop": 1}

    asyncio.run(main())


def test_slots_are_given_in_order_and_a_request_that_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    order = list[int]()

    async def hold(among: concurrency.ConcurrencyLimit, number: int) -> None:
        async with among.hold_slot():
            order.append(number)
            await asyncio.sleep(0.001)

    async def main() -> None:
        among = concurrency.ConcurrencyLimit(1)
        await asyncio.gather(*(hold(among, number) for number in range(5)))
        monkeypatch.setattr(concurrency, "_TIMEOUT", 0.01)
        async with among.hold_slot():
            with pytest.raises(HTTPException) as refused:
                await hold(among, 5)
        assert refused.value.status_code == 503
        assert refused.value.headers == {"Retry-After": "1"}
        with pytest.raises(RuntimeError):
            async with among.hold_slot():
                raise RuntimeError
        await hold(among, 6)

    asyncio.run(main())
    assert order == [0, 1, 2, 3, 4, 6]


@pytest.mark.parametrize("kind", ["a body that does not end", "an answer that is not read"])
def test_a_slow_client_holds_no_slot(shop: Collection, kind: str) -> None:
    with serving(create_app([shop])) as url, ExitStack() as stack:
        for _ in range(available_cores() + 1):
            address = httpx.URL(url).host, httpx.URL(url).port or 80
            client = stack.enter_context(socket.create_connection(address, timeout=30))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            length = 100 if kind.startswith("a body") else 0
            head = f"GET {SHOP}/items HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            client.sendall(head.encode() * (1 if length else 1000))
        time.sleep(0.2)
        assert httpx.get(f"{url}{SHOP}/items", timeout=8).status_code == 200  # less than a slow body may take
