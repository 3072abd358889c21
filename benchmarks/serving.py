"""Measure a server with one client over a kept connection: the time of each answer, from request to last byte.

    python benchmarks/serving.py [--rounds 100] [--items 320] [--seconds 10]

`lookalike serve` serves a collection of the toy shop. The requests take turns, so that other load on the machine affects all
of them alike; the times are medians. Then it measures /health while another process keeps 12 uploads of 12 megapixels, 60
searches, or a body in chunks of one byte on their way. The benchmark exits with 1 if /health takes 20 ms or more: an answer
that waits for the client's acknowledgement (Nagle's algorithm) takes 40 ms.
"""

import argparse
import io
import multiprocessing
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from PIL import Image

from lookalike import sample
from lookalike.collection import open_collection

COMMAND = [sys.executable, "-m", "lookalike"]
TARGET = 20.0
SHOP = "/api/collections/shop"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="requests of each kind (default 100)")
    parser.add_argument("--items", type=int, default=320, help="images in the collection (default 320)")
    parser.add_argument("--seconds", type=float, default=10, help="time of each load beside /health (default 10)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = prepare(Path(folder), given.items)
        with serving(Path(folder) / "shop.lookalike") as url, httpx.Client(base_url=url) as client:
            times = measure(to_requests(client, image), given.rounds)
            times |= measure_beside(url, image, given.seconds)
    lines = [f"{'request':34}{'median':>9}{'fastest':>9}{'slowest 5%':>12}{'slowest':>10}"]
    for name, seconds in times.items():
        figures = (
            statistics.median(seconds),
            min(seconds),
            statistics.quantiles(seconds, n=20, method="inclusive")[-1],
            max(seconds),
        )
        lines.append(f"{name:34}{{:6.1f}} ms{{:6.1f}} ms{{:9.1f}} ms{{:7.1f}} ms".format(*(1e3 * f for f in figures)))
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(1e3 * statistics.median(times["/health"]) >= TARGET)


def prepare(folder: Path, count: int) -> bytes:
    """Make a collection of the toy shop; return an image of it."""
    sample.write(folder, count, 0)
    with open_collection(folder / "shop.lookalike", "toyshop") as shop:
        shop.add(folder / "photos", labels="folder")
    return next((folder / "photos").rglob("*.jpg")).read_bytes()


@contextmanager
def serving(collection: Path) -> Iterator[str]:
    """Run ``lookalike serve``, and yield its address."""
    command = [*COMMAND, "serve", str(collection), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 -- ours
        assert process.stdout  # noqa: S101 -- for the type checker
        address = re.search(r"http://\S+", process.stdout.readline())
        if address is None:
            sys.exit("The server did not start.")
        wait_for(address[0])
        try:
            yield address[0]
        finally:
            process.send_signal(signal.SIGINT)


def wait_for(url: str) -> None:
    """Wait until a server accepts connections."""
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}health")
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def to_requests(client: httpx.Client, image: bytes) -> dict[str, Callable[[], httpx.Response]]:
    """Return the requests by name."""
    item = client.get(f"{SHOP}/items?limit=1").json()["items"][0]
    return {
        "/health": lambda: client.get("/health"),
        "search by image": lambda: client.post(f"{SHOP}/search", files={"image": image}),
        "search by item": lambda: client.post(f"{SHOP}/search", json={"item": item["id"]}),
        "a page of 50 items": lambda: client.get(f"{SHOP}/items"),
        "a thumbnail": lambda: client.get(item["thumbnail"]),
    }


def measure(requests: dict[str, Callable[[], httpx.Response]], rounds: int) -> dict[str, list[float]]:
    """Send the requests in turns; return the seconds of each, without those of the first round."""
    times: dict[str, list[float]] = {name: [] for name in requests}
    for turn in range(1 + rounds):
        for name, send in requests.items():
            began = time.perf_counter()
            send().raise_for_status()
            if turn:
                times[name].append(time.perf_counter() - began)
    return times


def measure_beside(url: str, image: bytes, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of each answer of /health under loads; the client waits 20 ms after each."""
    file = io.BytesIO()
    Image.effect_noise((4000, 3000), 4).save(file, "PNG", compress_level=1)
    loads: dict[str, tuple[Callable[..., None], tuple[object, ...]]] = {
        "/health beside 12 uploads": (post, (url, f"{SHOP}/items", file.getvalue(), 12)),
        "/health beside 60 searches": (post, (url, f"{SHOP}/search", image, 60)),
        "/health beside one-byte chunks": (send_chunks, (url,)),
    }
    times: dict[str, list[float]] = {}
    for name, (load, arguments) in loads.items():
        process = multiprocessing.get_context("spawn").Process(target=load, args=[*arguments, seconds + 1], daemon=True)
        process.start()
        time.sleep(1)
        times[name], end = [], time.perf_counter() + seconds
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.perf_counter() < end:
                began = time.perf_counter()
                client.get("/health").raise_for_status()
                times[name].append(time.perf_counter() - began)
                time.sleep(0.02)
        process.join()
    return times


def post(url: str, path: str, image: bytes, clients: int, seconds: float) -> None:
    """Send an image again and again, from several clients at once."""
    end = time.perf_counter() + seconds

    def run(_: int) -> None:
        with httpx.Client(base_url=url, timeout=600) as client:
            while time.perf_counter() < end:
                client.post(path, files={"image": image})

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))


def send_chunks(url: str, seconds: float) -> None:
    """Send bodies in chunks of one byte, until the server closes the connection."""
    address, end = httpx.URL(url), time.perf_counter() + seconds
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    while time.perf_counter() < end:
        with suppress(OSError), socket.create_connection((address.host, address.port or 80)) as client:
            client.sendall(head)
            while time.perf_counter() < end:
                client.sendall(b"1\r\nA\r\n" * 10_000)


if __name__ == "__main__":
    main()
