"""Measure a server with one client over a kept connection: the time of each answer, from request to last byte.

    python benchmarks/serving.py [--rounds 100] [--items 320]

`lookalike serve` serves a collection of the toy shop. The requests take turns, so that other load on the machine affects all
of them alike; the times are medians. The benchmark exits with 1 if /health takes 20 ms or more: an answer that waits for the
client's acknowledgement (Nagle's algorithm) takes 40 ms.
"""

import argparse
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from lookalike import sample
from lookalike.collection import open_collection

COMMAND = [sys.executable, "-m", "lookalike"]
TARGET = 20.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="requests of each kind (default 100)")
    parser.add_argument("--items", type=int, default=320, help="images in the collection (default 320)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = prepare(Path(folder), given.items)
        with serving(Path(folder) / "shop.lookalike") as url, httpx.Client(base_url=url) as client:
            times = measure(to_requests(client, image), given.rounds)
    lines = [f"{'request':24}{'median':>9}{'fastest':>9}{'slowest 5%':>12}"]
    for name, seconds in times.items():
        median, slow = statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]
        lines.append(f"{name:24}{1e3 * median:6.1f} ms{1e3 * min(seconds):6.1f} ms{1e3 * slow:9.1f} ms")
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
    shop = "/api/collections/shop"
    item = client.get(f"{shop}/items?limit=1").json()["items"][0]
    return {
        "/health": lambda: client.get("/health"),
        "search by image": lambda: client.post(f"{shop}/search", files={"image": image}),
        "search by item": lambda: client.post(f"{shop}/search", json={"item": item["id"]}),
        "a page of 50 items": lambda: client.get(f"{shop}/items"),
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


if __name__ == "__main__":
    main()
