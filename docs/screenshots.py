"""Take the screenshots of the documentation: ``python docs/screenshots.py COLLECTION PHOTO``.

The script writes ``page.png`` (the results of a photo), ``sketch.png`` (the results of a drawing), ``classes.png`` (a drawing
compared with classes) and ``phone.png`` to ``docs/images``. PHOTO should be an image of the collection. ``python docs/screenshots.py --report REPORT.HTML`` writes
``report.png``, a screenshot of a report of `lookalike evaluate`. The script needs Chromium.
"""

import argparse
import math
import shutil
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import uvicorn
from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from lookalike.collection import Collection
from lookalike.server import create_app

IMAGES = Path(__file__).with_name("images")
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 375, "height": 812}
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
Stroke = list[tuple[float, float]]


def main() -> None:
    """Serve the collection, and take all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection", type=Path, nargs="?")
    parser.add_argument("photo", type=Path, nargs="?")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    if arguments.report:
        take_report(arguments.report)
    if not arguments.photo:
        return
    collection = Collection.open(arguments.collection)
    server = uvicorn.Server(uvicorn.Config(create_app([collection], read_only=True), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    take_page(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", arguments.photo, collection)
    server.should_exit = True
    thread.join()
    collection.close()


def take_page(url: str, photo: Path, collection: Collection) -> None:
    """Take the screenshots of the page at an address."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        page = browser.new_page(viewport=DESKTOP, locale="en-GB", color_scheme="light")
        # The first search also loads the network, so its screenshot would show a longer time.
        for _ in range(2):
            page.goto(url)
            page.set_input_files("#file", photo)
            page.locator("#grid .distance").first.wait_for()
        save(page, "page")
        if "sketch" in collection.embedder.encoder.card.branches:
            page.goto(url)
            page.get_by_role("tab", name="Sketch").click()
            for stroke in mug():
                draw(page, stroke)
            save(page, "sketch")
            page.goto(url + classes(collection))
            page.reload()  # only the part after “#” has changed
            page.get_by_role("tab", name="Sketch").click()
            for stroke in mug():
                draw(page, stroke)
            page.locator(".nearest").wait_for()
            save(page, "classes")
        page = browser.new_page(viewport=PHONE, device_scale_factor=1.5, locale="en-GB", color_scheme="light")
        page.goto(url)
        page.set_input_files("#file", photo)
        save(page, "phone")
        browser.close()


def take_report(path: Path) -> None:
    """Take the top of a report, down to the map of the embedding."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1280, "height": 2310}, color_scheme="light")
        page.goto(path.absolute().as_uri())
        write(page, "report")
        browser.close()


def classes(collection: Collection) -> str:
    """Return the part of an address with some labels as classes, and items of each as examples."""
    ids: dict[str, list[str]] = {}
    for item in collection.store.scan():
        ids.setdefault(item.label or "", []).append(item.id)
    chosen = ("teapot", "lamp", "mug", "chair", "shoe")
    values = [",".join([label, *(f"item:{ident}" for ident in ids[label][:4])]) for label in chosen if label in ids]
    return "#" + urlencode([("view", "classes"), *(("class", value) for value in values)])


def mug() -> list[Stroke]:
    """Return the strokes of a mug."""

    def arc(middle: tuple[float, float], radii: tuple[float, float], start: float, end: float) -> Stroke:
        angles = [math.radians(start + (end - start) * i / 40) for i in range(41)]
        return [(middle[0] + radii[0] * math.cos(a), middle[1] + radii[1] * math.sin(a)) for a in angles]

    body = [(0.25, 0.3), (0.26, 0.72), *arc((0.43, 0.72), (0.17, 0.055), 180, 0), (0.6, 0.72), (0.61, 0.3)]
    outer, inner = arc((0.61, 0.5), (0.17, 0.155), -80, 80), arc((0.61, 0.5), (0.11, 0.1), -80, 80)
    return [arc((0.43, 0.3), (0.18, 0.05), 0, 360), body, outer, inner]


def draw(page: Page, stroke: Stroke) -> None:
    """Draw a stroke with the mouse."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None  # noqa: S101 -- for the type checker
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def save(page: Page, name: str) -> None:
    """Write a screenshot once there are results."""
    page.locator(":is(#grid, #classes) .distance:not(:empty)").first.wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # for the search after the last stroke, and for animations
    write(page, name)


def write(page: Page, name: str) -> None:
    """Write a screenshot as a small file."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").save(path, optimize=True)


if __name__ == "__main__":
    main()
