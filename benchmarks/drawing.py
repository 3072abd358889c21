"""Measure the time from the end of a stroke on the web page to the results that follow from it.

::

    python benchmarks/drawing.py shop.lookalike tests/drawings/tshirt-1.json [MORE.json …]

The script serves the collection, draws the drawings in Chromium with the mouse, and prints medians and the slowest tenth over all strokes: the page as a whole, which
includes the pause of 200 ms after a stroke; the server's answer (`took_ms`); and in Python, without a browser, the drawing of the strokes and the
search of a whole drawing.
"""

import argparse
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uvicorn
from playwright.sync_api import Page, sync_playwright

from lookalike import images
from lookalike.collection import Collection
from lookalike.server import create_app

_CANVAS = 1000
_REPEATS = 5
# Resolves at the end of the refresh that follows a stroke, with the time since the pen was lifted.
_WAIT = """() => new Promise((done) => {
  const grid = document.getElementById("grid");
  document.getElementById("canvas").addEventListener("pointerup", () => {
    const start = performance.now();
    const seen = new MutationObserver(() => {
      if (grid.hasAttribute("aria-busy")) return;
      seen.disconnect();
      requestAnimationFrame(() => done(performance.now() - start));
    });
    seen.observe(grid, { attributes: true });
  }, { once: true });
})"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("drawings", type=Path, nargs="+")
    given = parser.parse_args()
    with Collection.open(given.collection) as collection:
        print(f"{len(collection):,} images, encoder {collection.embedder.name}")  # noqa: T201
        server = uvicorn.Server(uvicorn.Config(create_app([collection], read_only=True), port=0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        page, took = measure_page(address, given.drawings)
        server.should_exit = True
        thread.join()
        report("page, from the end of a stroke to its results", page)
        report("server", took)
        drawings = [path.read_bytes() for path in given.drawings] * _REPEATS
        side = collection.embedder.encoder.card.input.side
        report("Python: draw the strokes", [timed(lambda d: images.load(d, side), drawing) for drawing in drawings])
        search = [timed(lambda d: collection.search(d, sketch=True), drawing) for drawing in drawings]
        report("Python: draw, embed and search", search)


def timed(act: Callable[[bytes], object], drawing: bytes) -> float:
    """Return how long a call takes, in milliseconds."""
    start = time.perf_counter()
    act(drawing)
    return (time.perf_counter() - start) * 1000


def report(name: str, milliseconds: list[float]) -> None:
    """Print a median, and the slowest tenth."""
    median, slow = np.percentile(milliseconds, [50, 90])
    print(f"{name}: median {median:.0f} ms, 90 % within {slow:.0f} ms ({len(milliseconds)} measured)")  # noqa: T201


def measure_page(address: str, drawings: list[Path]) -> tuple[list[float], list[float]]:
    """Draw in a browser, and return the times of the page and of the server after each stroke."""
    times, took = list[float](), list[float]()
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for drawing in drawings:
            page.goto(address)
            page.locator("#grid .card:not(.skeleton)").first.wait_for()
            page.get_by_role("tab").nth(1).click()
            for stroke in json.loads(drawing.read_text(encoding="utf-8"))["strokes"]:
                with page.expect_response("**/search") as answer:
                    times.append(draw(page, stroke["points"]))
                took.append(answer.value.json()["took_ms"])
            page.goto("about:blank")
        browser.close()
    return times, took


def draw(page: Page, points: list[list[float]]) -> float:
    """Draw a stroke with the mouse, and return the time from its end to its results, in milliseconds."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None  # noqa: S101 -- for the type checker
    places = [(box["x"] + x / _CANVAS * box["width"], box["y"] + y / _CANVAS * box["height"]) for x, y, _ in points]
    page.evaluate(f"() => {{ window.drawn = ({_WAIT})(); }}")
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    return float(page.evaluate("window.drawn"))


if __name__ == "__main__":
    main()
