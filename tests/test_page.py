import base64
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from lookalike import encoders, images, sample
from lookalike.collection import Collection
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.server import create_app
from pocket_encoder import COLOURS, calibrated, make
from pocket_server import serving

# The tests need Chromium. Coverage leaves them out: the server, of which they load hundreds of images, has its own tests.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

DRAWINGS = Path(__file__).parent / "drawings"
STATIC = Path(__file__).parent.parent / "src" / "lookalike" / "server" / "static"
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
DESKTOP, PHONE = (1280, 900), (390, 844)
PATIENCE = 30_000  # milliseconds; the machine may be busy
MAX_HITS = 15  # of a range search, so that 40 images need three answers
AWKWARD = (
    "<img src=x onerror=alert(1)> & “a very long name of a picture from the holidays in the mountains” (copy 2).png"
)


@dataclass
class Shop:
    """A server with five collections.

    They are of photos and sketches, of photos only, empty, of a person's own images, and of colours that texts describe.
    """

    url: str
    photos: list[Path]
    own: Path
    collections: list[Collection]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("page")
    sample.write(folder / "toys", 40, seed=1)
    both, photos = Encoder.open(calibrated(make(folder / "both"))), Encoder.open(make(folder / "one", ("photo",)))
    made = [
        Collection.create(folder / f"{name}.lookalike", encoder)
        for name, encoder in (("shop", both), ("photos", photos), ("empty", both))
    ]
    for one in made[:2]:
        one.add(folder / "toys" / "photos", labels="folder")
    own = folder / "own"
    own.mkdir()
    Image.new("RGB", (60, 120), "teal").save(own / "portrait.png")
    Image.new("RGB", (160, 40), "orange").save(own / "panorama.png")
    Image.new("RGB", (50, 50), "purple").save(own / AWKWARD)
    Image.new("RGB", (50, 50), "pink").save(own / "gone.png")
    made.append(Collection.create(folder / "own.lookalike", photos))
    made[-1].add(own)
    (own / "gone.png").unlink()
    (folder / "colours").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (32, 32), tuple(255 * c for c in colour)).save(folder / "colours" / f"{name}.png")
    reader = Encoder.open(make(folder / "reader", ("photo", "sketch", "text")))
    made.append(Collection.create(folder / "colours.lookalike", reader))
    made[-1].add(folder / "colours")
    with serving(create_app(made, max_hits=MAX_HITS)) as url:
        yield Shop(url, sorted((folder / "toys" / "photos").rglob("*.jpg")), own, made)
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET.split())
        yield browser
        browser.close()


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, shop: Shop) -> Iterator[Visit]:
    """Open the page; a warning or an error in the console fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(
        where: str = "", size: tuple[int, int] = DESKTOP, *, complain: bool = True, touch: bool = False, **options: str
    ) -> Page:
        locale = options.get("locale", "en-GB")
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            locale=locale,
            reduced_motion="reduce",
            has_touch=touch,
            is_mobile=touch,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        if complain:
            page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
            page.on("pageerror", lambda e: complaints.append(str(e)))
        page.goto(f"{shop.url}/{where}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


LOADED = "() => document.querySelector('#query-image img')?.naturalWidth > 0"


def ready(page: Page) -> None:
    expect(page.locator("#grid .card:not(.skeleton)").first).to_be_visible()


def hits(page: Page) -> list[str]:
    """Wait for the answer of a search, and return the names of its hits."""
    expect(page.locator("#status")).to_have_text(re.compile(r"\d"))
    expect(page.locator("#grid:not([aria-busy])")).to_be_visible()
    expect(page.locator("#grid .card:not(.skeleton) .distance").first).to_be_visible()
    return page.locator("#grid .name").all_inner_texts()


def search(page: Page, file: Path) -> list[str]:
    ready(page)
    page.set_input_files("#file", file)
    return hits(page)


def spot(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return the place on the screen of a point of the canvas, whose sides have length 1."""
    box = page.locator("#canvas").bounding_box()
    assert box
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def draw(page: Page) -> None:
    page.get_by_role("tab", name="Sketch").click()
    corners = [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.3)]
    points = [spot(page, x, y) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def ink(page: Page) -> int:
    """Count the dark pixels of the canvas."""
    count = """() => {
      const canvas = document.getElementById("canvas");
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, i) => i % 4 === 0 && value < 128).length;
    }"""
    return int(page.evaluate(count))


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.className"))


def change_answers(page: Page, change: Callable[[dict[str, Any]], None], address: str = "**/search") -> None:
    """Change the server's answers on their way to the page. Chromium does not pass on files, so search by an item."""

    def answer(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        change(body)
        route.fulfill(response=response, body=json.dumps(body))

    page.route(address, answer)


def test_an_uploaded_image_finds_itself_first(visit: Visit, shop: Shop) -> None:
    page = visit()
    expect(page.locator("#model")).to_have_text("pocket")
    expect(page.locator("#grid .card.plain:not(.skeleton)")).to_have_count(30)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose an image").click()
    chooser.value.set_files(shop.photos[7])
    assert hits(page)[0] == shop.photos[7].name
    assert len(hits(page)) == 10
    expect(page.locator("#grid .distance").first).to_have_text("0.00")
    expect(page.locator(".badge").first).to_have_text("Identical")
    expect(page.get_by_role("status")).to_contain_text("10 results")
    expect(page.locator("#query-name")).to_have_text(shop.photos[7].name)
    distances = [float(text) for text in page.locator("#grid .distance").all_inner_texts()]
    assert distances == sorted(distances)
    page.get_by_label("Start over").click()
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()


def test_people_see_distances_and_bars_but_no_per_cent(visit: Visit, shop: Shop) -> None:
    page = visit()
    page.set_input_files("#file", shop.photos[7])
    hits(page)
    expect(page.locator("#grid .bar")).to_have_count(10)
    with page.expect_response("**/search"):
        page.get_by_label("Metric", exact=True).select_option("cosine")
    hits(page)
    expect(page.locator("#grid .distance").nth(1)).to_have_attribute("title", "Distance")
    page.locator("#grid .image").first.click()
    expect(page.locator("#viewer-distance")).to_have_text("Cosine distance 0.00")
    assert "%" not in page.locator("body").inner_text()


def test_count_metric_and_labels_are_chosen(visit: Visit, shop: Shop) -> None:
    page = visit()
    page.set_input_files("#file", shop.photos[7])
    hits(page)
    page.get_by_label("Show", exact=True).select_option("20")
    expect(page.locator("#grid .name")).to_have_count(20)
    page.get_by_label("Metric", exact=True).select_option("cosine")
    expect(page.locator("#grid .name")).to_have_count(20)
    page.get_by_label("Show", exact=True).select_option("within")
    page.get_by_label("Distance", exact=True).fill("0.001")
    page.get_by_label("Distance", exact=True).press("Enter")
    expect(page.locator("#grid .name")).to_have_count(1)
    page.get_by_text("Only some labels").click()
    page.locator(".chip", has_text="chair").click()
    if shop.photos[7].parent.name != "chair":
        expect(page.locator("#empty")).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("0 results")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(visit: Visit, shop: Shop, event: str) -> None:
    page = visit()
    ready(page)
    image = (page.locator("#grid img").last.get_attribute("src") or "").replace("thumbnail", "image")
    page.locator("#grid .image").first.click()
    hits(page)
    page.locator("#grid .image").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.evaluate(
        """async ([event, url]) => {
          const blob = await (await fetch(url)).blob();
          const data = new DataTransfer();
          data.items.add(new File([blob], "x.jpg", { type: "image/jpeg" }));
          if (event === "drop") window.dispatchEvent(new DragEvent("dragenter", { dataTransfer: data }));
          if (event === "drop" && document.getElementById("overlay").hidden) throw Error("no overlay");
          window.dispatchEvent(event === "drop" ? new DragEvent(event, { dataTransfer: data, cancelable: true })
            : new ClipboardEvent(event, { clipboardData: data, cancelable: true }));
        }""",
        [event, image],
    )
    expect(page.locator("#query-name")).to_have_text("x.jpg")
    expect(page.get_by_role("dialog")).to_be_hidden()
    hits(page)
    expect(page.locator("#grid .distance").first).to_have_text("0.00")
    expect(page.locator("#overlay")).to_be_hidden()


def test_a_sketch_is_searched_and_undone(visit: Visit) -> None:
    page = visit()
    draw(page)
    assert len(hits(page)) == 10
    before = page.locator("#grid .distance").all_inner_texts()
    page.get_by_label("Width of the brush").fill("40")
    draw(page)
    expect(page.locator("#grid .distance").first).not_to_have_text(before[0])
    page.get_by_role("button", name="Undo the last stroke").click()
    expect(page.locator("#grid .distance").first).to_have_text(before[0])
    page.get_by_role("button", name="Clear the drawing").click()
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()
    expect(page.get_by_role("button", name="Clear the drawing")).to_be_disabled()


def test_a_search_also_searches_near_its_first_results(visit: Visit) -> None:
    page = visit()
    draw(page)
    with page.expect_response("**/search") as answer:
        page.get_by_label("Also search near the first results").check()
    assert answer.value.json()["hits"][0]["closeness"] is None  # unlike that of a query of one image
    expect(page).to_have_url(re.compile("expand=1"))


def test_an_image_that_looks_drawn_is_searched_for_as_a_sketch(visit: Visit, shop: Shop) -> None:
    page = visit()
    search(page, next((shop.photos[0].parents[2] / "sketches").rglob("*.png")))
    expect(page.locator("#status")).to_contain_text("searched for as a sketch")
    search(page, shop.photos[7])
    expect(page.locator("#status")).not_to_contain_text("sketch")


def test_the_strokes_of_three_products_find_their_types(browser: Browser, tmp_path: Path) -> None:
    sample.write(tmp_path, 160, seed=5)
    with Collection.create(tmp_path / "toys.lookalike", encoders.load("toyshop")) as toys:
        toys.add(tmp_path / "photos", labels="folder")
        with serving(create_app([toys])) as url:
            page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
            page.goto(url)
            for drawing, label in (("heel-1", "shoe"), ("sunglasses-1", "glasses"), ("tshirt-1", "t-shirt")):
                ready(page)
                page.get_by_role("tab", name="Sketch").click()
                for stroke in images.read_strokes((DRAWINGS / f"{drawing}.json").read_bytes()).strokes:
                    places = [spot(page, x / 1000, y / 1000) for x, y, _ in stroke.points.tolist()]
                    page.mouse.move(*places[0])
                    page.mouse.down()
                    for place in (*places[2:-1:2], places[-1]):  # each move redraws and takes a while
                        page.mouse.move(*place)
                    page.mouse.up()
                assert len(hits(page)) == 10
                assert label in page.locator("#grid .label").all_inner_texts(), drawing
                page.get_by_role("button", name="Clear the drawing").click()
            page.close()


def saved(page: Page, folder: Path) -> Path:
    """Save the drawing on the page as a file."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    path = folder / f"{len(list(folder.iterdir()))}-{download.value.suggested_filename}"
    download.value.save_as(path)
    return path


def test_strokes_are_erased_redone_and_cleared(visit: Visit) -> None:
    page = visit()
    draw(page)
    hits(page)
    dark = ink(page)
    page.get_by_role("button", name="Eraser").click()
    page.mouse.move(*spot(page, 0.3, 0.2))
    page.mouse.down()
    page.mouse.move(*spot(page, 0.3, 0.8), steps=4)
    page.mouse.up()
    erased = ink(page)
    assert erased < 0.85 * dark  # the left side of the square
    page.get_by_role("button", name="Clear the drawing").click()
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()
    page.locator("#canvas").focus()
    for keys, expected in (("Control+z", erased), ("Control+z", dark), ("Control+Shift+z", erased), ("Control+y", 0)):
        page.keyboard.press(keys)
        assert ink(page) == expected
    expect(page.get_by_role("button", name="Redo the last stroke")).to_be_disabled()


def test_a_drawing_is_made_by_keyboard(visit: Visit) -> None:
    page = visit()
    page.get_by_role("tab", name="Sketch").click()
    page.locator("#canvas").focus()
    for key in ("ArrowLeft", "Space", "Shift+ArrowUp", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#cursor")).to_have_class("cursor down")
    page.keyboard.press("Space")
    hits(page)
    column = (
        "canvas.getContext('2d').getImageData(492, 0, 1, 1024).data.filter((v, i) => i % 4 === 0 && v < 128).length"
    )
    assert page.locator("#canvas").evaluate(f"(canvas) => {column}") == pytest.approx(0.14 * 1024, abs=20)


def test_results_follow_a_stroke_that_goes_on(visit: Visit) -> None:
    page = visit()
    draw(page)
    hits(page)
    before = page.locator("#grid").inner_text()
    expect(page.locator("#grid")).to_have_text(before, use_inner_text=True)
    page.get_by_label("Width of the brush").fill("40")
    page.mouse.move(*spot(page, 0.1, 0.5))
    page.mouse.down()
    page.mouse.move(*spot(page, 0.9, 0.5), steps=8)
    expect(page.locator("#grid")).not_to_have_text(before, use_inner_text=True)
    assert page.get_by_role("button", name="Undo the last stroke").is_enabled()
    page.mouse.up()


def test_the_pressure_of_a_stylus_sets_the_width_of_a_stroke(visit: Visit) -> None:
    page = visit()
    page.get_by_role("tab", name="Sketch").click()
    page.get_by_label("Width of the brush").fill("40")
    session = page.context.new_cdp_session(page)

    def stroke(device: str, y: float, pressure: float) -> int:
        """Draw a level stroke, and return its width in the middle, in pixels of the canvas."""
        for kind, x in (("mousePressed", 0.2), ("mouseMoved", 0.5), ("mouseMoved", 0.8), ("mouseReleased", 0.8)):
            place = dict(zip("xy", spot(page, x, y), strict=True))
            buttons = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
            event = {"type": kind, "pointerType": device, "force": pressure, **place, **buttons}
            session.send("Input.dispatchMouseEvent", event)
        column = """(canvas) => {
          const copy = new OffscreenCanvas(1, 1024).getContext("2d");
          copy.drawImage(canvas, 512, 0, 1, 1024, 0, 0, 1, 1024);
          return copy.getImageData(0, 0, 1, 1024).data.filter((v, i) => i % 4 === 0 && v < 128).length;
        }"""
        return int(page.locator("#canvas").evaluate(column))

    light = stroke("pen", 0.2, 0.1)
    firm = stroke("pen", 0.5, 0.9) - light
    mouse = stroke("mouse", 0.8, 0.9) - light - firm
    # The width is 0.5 + pressure of the brush; a mouse presses with 0.5, whatever it reports.
    for width, pressure in ((light, 0.1), (firm, 0.9), (mouse, 0.5)):
        assert width == pytest.approx((0.5 + pressure) * 40 * 1.024, abs=2)


def test_hits_stay_until_the_newest_answer_is_there(visit: Visit) -> None:
    page = visit()
    draw(page)
    first = hits(page)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/search", hold)
    changes = """() => {
      window.counts = [];
      new MutationObserver(() => window.counts.push(document.querySelectorAll("#grid .card:not(.skeleton)").length))
        .observe(document.getElementById("grid"), { childList: true, subtree: true });
    }"""
    page.evaluate(changes)

    def add_stroke(width: str, y: float) -> None:
        page.get_by_label("Width of the brush").fill(width)
        page.mouse.move(*spot(page, 0.1, y))
        page.mouse.down()
        page.mouse.move(*spot(page, 0.9, y), steps=4)
        with page.expect_request("**/search"):
            page.mouse.up()

    add_stroke("40", 0.5)
    add_stroke("40", 0.9)
    expect(page.locator("#grid[aria-busy]")).to_be_visible()
    assert page.locator("#grid .name").all_inner_texts() == first  # no placeholders, no empty grid
    older, newer = held
    # The answer to the first stroke comes last: it must not replace the answer to both.
    answer = newer.fetch().json()
    newer.fulfill(json=answer)
    expected = [f"{hit['distance']:.2f}" for hit in answer["hits"]]
    expect(page.locator("#grid:not([aria-busy])")).to_be_visible()
    expect(page.locator("#grid .distance")).to_have_text(expected)
    older.fulfill(json=answer | {"hits": answer["hits"][:1]})
    page.evaluate("() => fetch('health')")  # whatever the older answer does has begun
    expect(page.locator("#grid .distance")).to_have_text(expected)
    assert set(page.evaluate("window.counts")) == {10}


def test_every_screen_and_python_see_the_same_drawing(visit: Visit, tmp_path: Path) -> None:
    encoder = Embedder.of(encoders.load("toyshop"))
    queries: list[images.ImageSource] = []
    shapes: list[images.ImageSource] = []
    for size, touch in ((DESKTOP, False), (PHONE, True)):
        page = visit(size=size, touch=touch)
        ready(page)
        draw(page)
        path = saved(page, tmp_path)
        shown = base64.b64decode(page.locator("#canvas").evaluate("(canvas) => canvas.toDataURL().split(',')[1]"))
        queries.append(path)
        shapes += [shown, images.render_strokes(images.read_strokes(path.read_bytes()), 512)]
    for vectors in (encoder.embed(queries, "sketch"), encoder.embed(shapes, "sketch")):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        assert (unit @ unit.T).min() > 0.99


def test_a_saved_drawing_is_opened_again(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    draw(page)
    names, dark = hits(page), ink(page)
    path = saved(page, tmp_path)
    page = visit()
    ready(page)
    page.set_input_files("#file", path)  # as a file that is dropped on the page
    assert (hits(page), ink(page)) == (names, dark)
    (tmp_path / "bad.json").write_text('{"strokes": [{"points": []}]}')
    page.set_input_files("#file", tmp_path / "bad.json")
    expect(page.locator("#alert")).to_contain_text("bad.json")


def test_an_image_is_traced_and_not_searched_for(visit: Visit, shop: Shop) -> None:
    page = visit()
    ready(page)
    page.get_by_role("tab", name="Sketch").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Trace").click()
    chooser.value.set_files(shop.photos[0])
    expect(page.locator("#traced")).to_be_visible()
    assert ink(page) == 0
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()
    draw(page)
    hits(page)
    page.reload()
    hits(page)
    expect(page.locator("#traced")).to_be_visible()
    page.wait_for_function("document.getElementById('traced').naturalWidth > 0")
    page.get_by_role("button", name="Trace").click()
    expect(page.locator("#traced")).to_be_hidden()
    page.reload()
    hits(page)
    expect(page.locator("#traced")).to_be_hidden()


def test_the_chosen_tab_is_legible_under_the_mouse(visit: Visit) -> None:
    page = visit()
    tab = page.locator("#tab-sketch")
    tab.click()
    expect(tab).to_have_css("color", page.evaluate("getComputedStyle(document.querySelector('#pen')).color"))


def test_a_file_that_is_not_a_drawing_is_refused(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"strokes": 3}')
    page = visit()
    page.get_by_role("tab", name="Sketch").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a drawing").click()
    chooser.value.set_files(tmp_path / "plan.json")
    expect(page.locator("#alert")).to_contain_text("“plan.json” is not a drawing")


def test_a_drawing_is_opened_from_a_file(visit: Visit, shop: Shop) -> None:
    page = visit()
    page.get_by_role("tab", name="Sketch").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a drawing").click()
    chooser.value.set_files(shop.photos[0])
    hits(page)


def test_a_result_is_searched_for_and_the_back_button_returns(visit: Visit) -> None:
    page = visit()
    page.locator("#grid .card:not(.skeleton) .image").first.click()
    first = hits(page)
    address = page.url
    assert re.search(r"#.*item=\w+", address)
    page.locator(".card").nth(2).hover()
    page.locator(".card .search-again").nth(2).click()
    expect(page.locator("#query-name")).to_have_text(first[2])
    page.go_back()
    expect(page).to_have_url(address)
    expect(page.locator("#grid .name").nth(2)).to_have_text(first[2])
    again = visit(page.url.split("/")[-1])
    assert hits(again) == first


def test_an_image_is_opened_by_keyboard(visit: Visit) -> None:
    page = visit()
    page.locator("#grid .card:not(.skeleton) .image").first.focus()
    page.keyboard.press("Enter")
    names = hits(page)
    page.locator("#grid .image").first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(page.locator("#viewer-name")).to_have_text(names[0])
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-name")).to_have_text(names[2])
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#viewer-name")).to_have_text(names[1])
    expect(page.locator("#viewer-image img")).to_have_attribute("src", re.compile("/image$"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "image"


def test_back_closes_the_viewer_and_forward_opens_it(visit: Visit, shop: Shop) -> None:
    page = visit()
    names = search(page, shop.photos[7])
    results = page.url
    dialog = page.get_by_role("dialog")
    page.locator("#grid .image").nth(2).click()
    expect(page.locator("#viewer-name")).to_have_text(names[2])
    page.go_back()
    expect(dialog).to_be_hidden()
    assert page.url == results
    assert hits(page) == names
    page.go_forward()
    expect(page.locator("#viewer-name")).to_have_text(names[2])
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-name")).to_have_text(names[3])
    page.reload()  # the viewer and the uploaded image are still there
    expect(page.locator("#viewer-name")).to_have_text(names[3])
    for backdrop in (True, False):
        if backdrop:
            page.mouse.click(3, 3)
        else:
            page.get_by_role("button", name="Close").click()
        expect(dialog).to_be_hidden()
        expect(page).to_have_url(results)
        page.go_forward()
        expect(dialog).to_be_visible()
    page.get_by_role("button", name="Search by this image").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#query-name")).to_have_text(names[3])
    page.go_back()
    expect(page).to_have_url(results)
    expect(dialog).to_be_hidden()
    expect(page.locator("#query-name")).to_have_text(names[0])


def test_a_held_arrow_key_does_not_exceed_the_browsers_limit(visit: Visit, shop: Shop) -> None:
    page = visit()
    names = search(page, shop.photos[7])
    page.locator("#grid .image").first.click()
    expect(page.locator("#viewer-name")).to_have_text(names[0])
    press = """async (keys) => {
      for (const key of keys) {
        document.getElementById("viewer-close").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        await new Promise((resolve) => setTimeout(resolve));
      }
    }"""
    page.evaluate(press, ["ArrowRight", "ArrowLeft"] * 130)
    page.evaluate(press, ["ArrowRight"])
    expect(page.locator("#viewer-name")).to_have_text(names[1])
    last = page.locator("#grid .card").nth(1).get_attribute("data-id")
    expect(page).to_have_url(re.compile(f"open={last}"))
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_link_opens_the_viewer(visit: Visit) -> None:
    page = visit()
    ready(page)
    page.locator("#grid .image").first.click()
    names = hits(page)
    page.locator("#grid .image").nth(1).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    link = page.url.split("/")[-1]
    other = visit(link)
    expect(other.locator("#viewer-name")).to_have_text(names[1])
    other.keyboard.press("Escape")
    expect(other.get_by_role("dialog")).to_be_hidden()
    expect(other).not_to_have_url(re.compile("open="))
    assert hits(other) == names


def test_back_restores_results_and_scroll_position(visit: Visit, shop: Shop) -> None:
    page = visit("#k=100", size=PHONE)
    ready(page)
    sample = page.locator("#grid .name").all_inner_texts()
    page.evaluate("scrollTo(0, 700)")
    page.set_input_files("#file", shop.photos[7])
    names = hits(page)
    page.evaluate("scrollTo(0, 900)")
    page.locator("#grid .card").nth(8).hover()
    y = page.evaluate("scrollY")
    page.locator("#grid .search-again").nth(8).click()
    expect(page.locator("#query-name")).to_have_text(names[8])
    hits(page)
    page.go_back()
    expect(page.locator("#query-name")).to_have_text(shop.photos[7].name)
    expect(page.locator("#grid .name").nth(8)).to_have_text(names[8])
    assert hits(page) == names
    assert page.evaluate("scrollY") == pytest.approx(y, abs=2)
    page.go_back()
    for _ in range(2):
        expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()
        expect(page.locator("#grid .name").first).to_have_text(sample[0])
        assert page.locator("#grid .name").all_inner_texts() == sample
        assert page.evaluate("scrollY") == pytest.approx(700, abs=2)
        page.reload()


def test_reload_and_back_restore_an_uploaded_image(visit: Visit, shop: Shop) -> None:
    page = visit()
    first = search(page, shop.photos[7])
    page.set_input_files("#file", shop.photos[20])
    expect(page.locator("#query-name")).to_have_text(shop.photos[20].name)
    expect(page.locator("#grid .distance").first).to_have_text("0.00")
    page.wait_for_function(LOADED)  # its address ends with this document
    page.reload()
    assert hits(page)[0] == shop.photos[20].name
    page.wait_for_function(LOADED)
    page.go_back()
    expect(page.locator("#query-name")).to_have_text(shop.photos[7].name)
    expect(page.locator("#grid .name").first).to_have_text(first[0])
    assert hits(page) == first
    page.go_forward()
    expect(page.locator("#query-name")).to_have_text(shop.photos[20].name)
    page.wait_for_function(LOADED)
    elsewhere = visit(page.url.split("/")[-1])  # another browser, which never had the image
    expect(elsewhere.get_by_role("alert")).to_contain_text("no longer has the image")
    ready(elsewhere)


def test_reload_and_back_restore_a_sketch(visit: Visit, shop: Shop) -> None:
    page = visit()
    ready(page)
    draw(page)
    names = hits(page)
    dark = ink(page)
    assert dark > 0
    page.reload()
    assert hits(page) == names
    expect(page.locator("#canvas")).to_be_visible()
    assert ink(page) == dark
    search(page, shop.photos[7])  # the tab for sketches is open: the file becomes a drawing
    expect(page.locator("#grid .name").first).not_to_have_text(names[0])
    page.get_by_role("tab", name="Photo").click()
    page.locator("#grid .image").first.hover()
    page.locator("#grid .search-again").first.click()
    expect(page.locator("#query-name")).to_be_visible()
    page.go_back()
    expect(page.locator("#canvas")).to_be_visible()
    expect(page.get_by_role("button", name="Undo the last stroke")).to_be_enabled()
    page.reload()
    hits(page)
    assert ink(page) not in {0, dark}


class Finger:
    """A finger on the canvas of a page."""

    def __init__(self, page: Page) -> None:
        self._page, self._session = page, page.context.new_cdp_session(page)

    def down(self, x: float, y: float) -> None:
        self._send("touchStart", [(x, y)])

    def move(self, x: float, y: float) -> None:
        self._send("touchMove", [(x, y)])

    def up(self) -> None:
        self._send("touchEnd", [])

    def _send(self, kind: str, places: list[tuple[float, float]]) -> None:
        points = [dict(zip("xy", spot(self._page, *place), strict=True)) for place in places]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.parametrize("size", [(375, 812), (414, 896), (768, 1024), (820, 1180), (1024, 768)])
def test_the_canvas_stays_in_its_place_while_the_user_draws(visit: Visit, size: tuple[int, int]) -> None:
    page = visit(size=size, touch=True)
    ready(page)
    page.get_by_role("tab", name="Sketch").click()
    page.evaluate("scrollTo(0, 40)")
    box = page.locator("#canvas").bounding_box()
    assert box
    assert page.locator("#canvas").evaluate("(canvas) => getComputedStyle(canvas).touchAction") == "none"
    waiting: list[Route] = []
    holds = True
    page.route("**/search", lambda route: waiting.append(route) if holds else route.continue_())
    finger = Finger(page)
    with page.expect_request("**/search"):
        finger.down(0.2, 0.2)
        for step in range(1, 6):
            finger.move(0.2, 0.2 + step / 10)
        finger.up()
    finger.down(0.8, 0.2)
    for step in range(1, 4):
        finger.move(0.8, 0.2 + step / 10)
    holds = False
    for route in waiting:
        route.continue_()  # the answer to the first stroke arrives in the middle of the second one
    hits(page)
    expect(page.locator("#strip .image").first).to_be_visible(visible=size[0] <= 860)  # the grid is below the screen
    assert page.locator("#canvas").bounding_box() == box
    for step in range(4, 7):
        finger.move(0.8, 0.2 + step / 10)
    with page.expect_response("**/search"):
        finger.up()
    column = """() => {
      const { data } = document.getElementById("canvas").getContext("2d").getImageData(819, 0, 1, 1024);
      return [...Array(1024).keys()].filter((y) => data[y * 4] < 128);
    }"""
    dark = page.evaluate(column)
    assert dark == list(range(dark[0], dark[-1] + 1))  # one unbroken, straight stroke
    assert dark[-1] - dark[0] == pytest.approx(0.6 * 1024, abs=24)
    hits(page)
    assert page.locator("#canvas").bounding_box() == box
    assert page.evaluate("history.length") <= 3  # a drawing is one entry, however many strokes it has


def test_images_are_shown_whole(visit: Visit, shop: Shop) -> None:
    page = visit("#c=own")
    ready(page)
    page.set_input_files("#file", shop.own / "portrait.png")
    assert hits(page)[0] == "portrait.png"
    page.locator("#grid .image").first.click()
    page.wait_for_load_state("networkidle")
    shown = page.evaluate(
        """() => ["#grid img", "#query-image img", "#viewer-image img"].map((where) => {
          const img = document.querySelector(where), box = img.getBoundingClientRect();
          const frame = img.closest(".image-frame").getBoundingClientRect();
          const inside = box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
          return [getComputedStyle(img).objectFit, img.naturalHeight / img.naturalWidth, inside];
        })"""
    )
    assert shown == [["contain", 2, True]] * 3
    tiles = page.locator("#grid .image").evaluate_all("(tiles) => tiles.map((tile) => tile.offsetHeight)")
    assert len(set(tiles)) == 1


def test_a_range_shows_more_until_it_has_shown_all(visit: Visit, shop: Shop) -> None:
    page = visit()
    search(page, shop.photos[7])
    page.get_by_label("Show", exact=True).select_option("within")
    page.get_by_label("Distance", exact=True).fill("2")
    page.get_by_label("Distance", exact=True).press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("more than 15 results")
    expect(page.locator("#shown")).to_have_text("15 of more than 15")
    more = page.get_by_role("button", name="Show more")
    more.press("Enter")
    expect(page.locator("#grid .card")).to_have_count(30)
    assert page.evaluate("document.activeElement.closest('.card') === document.querySelectorAll('.card')[15]")
    more.click()
    expect(page.locator("#grid .card")).to_have_count(40)
    expect(page.get_by_role("status").first).to_contain_text("40 results")
    expect(more).to_be_hidden()
    names = hits(page)
    assert len(set(names)) == 40
    distances = [float(text) for text in page.locator("#grid .distance").all_inner_texts()]
    assert distances == sorted(distances)
    page.locator("#grid .image").nth(35).click()
    expect(page.locator("#viewer-name")).to_have_text(names[35])
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.reload()
    expect(page.locator("#grid .card")).to_have_count(40)


def test_the_sample_shows_more(visit: Visit) -> None:
    page = visit()
    ready(page)
    expect(page.locator("#shown")).to_have_text("30 of 40")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#grid .card")).to_have_count(40)
    assert len(set(page.locator("#grid .name").all_inner_texts())) == 40
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


@pytest.mark.parametrize("text", ["-1", "abc", "", "1e999", "0.1.2"])
def test_an_invalid_distance_is_refused_beside_its_field(visit: Visit, shop: Shop, text: str) -> None:
    page = visit()
    search(page, shop.photos[7])
    page.get_by_label("Show", exact=True).select_option("within")
    hits(page)
    field = page.get_by_label("Distance", exact=True)
    field.fill(text)
    field.press("Enter")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#distance-error")).to_contain_text("0 or a larger number")
    assert field.get_attribute("aria-describedby") == "distance-error"
    expect(page.locator("#grid .card")).to_have_count(0)  # the results of another distance would mislead
    expect(page.locator("#empty")).to_be_visible()
    field.fill("0,3")
    field.press("Enter")
    hits(page)
    expect(field).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#distance-error")).to_be_hidden()
    item = page.locator("#grid .card").first.get_attribute("data-id")
    linked = visit(f"#item={item}&within={text or 'x'}")
    expect(linked.locator("#distance-error")).to_be_visible()


def test_a_failed_upload_shows_the_reason_and_no_broken_image(visit: Visit, shop: Shop, tmp_path: Path) -> None:
    broken = "[...document.images].filter((i) => i.checkVisibility() && i.complete && !i.naturalWidth).length"
    for name, content in (("notes.png", b"text"), ("IMG_1.heic", b"\0\0\0\x18ftypheic"), ("empty.jpg", b"")):
        page = visit(complain=False)
        ready(page)
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        alert = page.locator("#alert")
        expect(alert).to_be_visible()
        expect(alert).to_contain_text(name)
        expect(page.locator("#query-name")).to_have_text(name)
        expect(page.locator("#query-image .tile")).to_be_visible()
        expect(page.locator("#results-heading")).to_have_text("That did not work")
        assert page.evaluate(broken) == 0
        with page.expect_file_chooser() as chooser:
            alert.get_by_role("button", name="Another image").click()
        chooser.value.set_files(shop.photos[3])
        assert hits(page)[0] == shop.photos[3].name
        expect(alert).to_be_hidden()
        assert page.evaluate(broken) == 0


def test_a_folder_or_a_file_that_cannot_be_read_is_refused(visit: Visit, shop: Shop) -> None:
    page = visit()
    ready(page)
    page.evaluate("File.prototype.slice = () => ({ arrayBuffer: () => Promise.reject(new Error()) })")
    page.set_input_files("#file", shop.photos[3])
    expect(page.locator("#alert")).to_contain_text(shop.photos[3].name)
    ready(page)


def test_a_heic_file_is_searched_without_a_preview(visit: Visit, shop: Shop, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    Image.open(shop.photos[3]).save(tmp_path / "IMG_2034.heic")
    page = visit()
    search(page, tmp_path / "IMG_2034.heic")
    expect(page.locator("#query-image .tile")).to_contain_text("IMG_2034.heic")
    expect(page.locator("#grid .name").first).to_have_text(shop.photos[3].name)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_image_that_cannot_be_loaded_is_a_tile_with_its_name(visit: Visit, status: int) -> None:
    page = visit("#c=own", complain=False)
    page.route(re.compile("/(thumbnail|image)$"), lambda route: route.fulfill(status=status, body="no"))
    page.reload()
    expect(page.locator("#grid .tile")).to_have_count(4)
    assert {"portrait.png", "panorama.png", AWKWARD} < set(page.locator("#grid .tile-name").all_inner_texts())
    portrait = page.locator("#grid .card", has_text="portrait").locator(".image")
    portrait.click()
    hits(page)
    expect(page.locator("#query-image .tile")).to_contain_text("No preview")
    page.locator("#grid .card", has_text="panorama").locator(".image").click()
    expect(page.locator("#viewer-image .tile")).to_contain_text("No preview")
    assert page.evaluate("[...document.images].filter((i) => i.checkVisibility()).length") == 0


def test_items_whose_file_cannot_be_shown_say_why(visit: Visit, shop: Shop) -> None:
    page = visit("#c=own")  # which must not ask for the files, or the console would have errors
    ready(page)
    expect(page.locator("#grid .card", has_text="gone.png").locator(".tile-reason")).to_have_text("The file is missing")
    page.set_input_files("#file", shop.own / "portrait.png")
    hits(page)
    card = page.locator("#grid .card", has_text="gone.png")
    expect(card.locator(".tile-reason")).to_have_text("The file is missing")
    expect(card.locator("img")).to_have_count(0)
    expect(page.locator("#grid img")).to_have_count(3)
    card.locator(".image").click()
    expect(page.locator("#viewer-image")).to_contain_text("The file is missing")
    expect(page.locator("#original")).to_be_hidden()
    page.get_by_role("button", name="Search by this image").click()
    expect(page.locator("#query-image")).to_contain_text("The file is missing")
    change_answers(page, lambda body: body["hits"][0].update(missing=None))
    page.get_by_label("Metric", exact=True).select_option("cosine")
    expect(page.locator("#grid .tile-reason")).to_have_text("This server may not show it")


def test_the_focus_stays_in_the_page_when_its_element_goes(visit: Visit, shop: Shop) -> None:
    page = visit()
    ready(page)
    page.locator("#grid .image").first.press("Enter")
    names = hits(page)
    assert focused(page) == "results-heading"
    expect(page.get_by_role("status").first).to_contain_text("10 results")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement === document.querySelector('#grid .image')")
    page.locator("#grid .search-again").nth(2).press("Enter")
    expect(page.locator("#query-name")).to_have_text(names[2])
    names = hits(page)
    assert focused(page) == "results-heading"
    page.locator("#grid .image").nth(3).press("Enter")
    expect(page.locator("#viewer-name")).to_have_text(names[3])
    for _ in range(8):
        page.get_by_role("button", name="Next").press("Enter")
    expect(page.locator("#viewer-name")).to_have_text(names[9])
    page.keyboard.press("ArrowLeft")  # the last “next” left the focus where the arrow keys work
    expect(page.locator("#viewer-name")).to_have_text(names[8])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("document.activeElement === document.querySelectorAll('#grid .image')[8]")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Search by this image").press("Enter")
    expect(page.locator("#query-name")).to_have_text(names[8])
    hits(page)
    assert focused(page) == "results-heading"
    page.get_by_label("Start over").press("Enter")
    ready(page)
    assert focused(page) == "drop"
    page.locator("#shuffle").press("Enter")
    assert focused(page) == "shuffle"
    draw(page)
    hits(page)
    page.get_by_role("button", name="Clear the drawing").press("Enter")
    assert focused(page) == "canvas"
    page.get_by_role("link", name="Skip to the results").press("Enter")
    assert focused(page) == "results-heading"


def test_cards_and_viewer_show_the_file_name(visit: Visit, shop: Shop) -> None:
    page = visit("#c=own")
    ready(page)
    page.set_input_files("#file", shop.own / AWKWARD)
    assert hits(page)[0] == AWKWARD  # as text, not as HTML
    name = page.locator("#grid .name").first
    expect(name).to_have_attribute("title", AWKWARD)
    assert name.evaluate("(e) => e.scrollWidth > e.clientWidth && getComputedStyle(e).textOverflow") == "ellipsis"
    assert name.evaluate("(e) => e.offsetHeight") < 30
    assert AWKWARD in (page.locator("#grid .image").first.text_content() or "")
    page.locator("#grid .image").first.click()
    expect(page.locator("#viewer-name")).to_have_text(AWKWARD)
    expect(page.locator("#viewer-facts")).to_contain_text(re.compile(r"\d+ byte.* · \d+ \w+ \d{4}$"))
    expect(page.locator("#viewer-path")).to_be_hidden()
    assert page.locator("#grid script, #grid .name *").count() == 0
    page.keyboard.press("Escape")
    page.locator("#language").select_option("cs")

    def add(body: dict[str, Any]) -> None:
        body["hits"][1]["name"] = "\u202egnp.exe\n.png"
        body["hits"][0].update(
            path="/home/anna/x.png", size=2_345_678, modified="2024-03-09T10:00:00+00:00", label="moře"
        )

    change_answers(page, add)
    page.locator("#grid .search-again").nth(1).click()
    expect(page.locator("#query-name")).not_to_have_text(AWKWARD)
    assert hits(page)[1] == "\ufffdgnp.exe\ufffd.png"
    page.locator("#grid .image").first.click()
    expect(page.locator("#viewer-facts")).to_have_text("moře · 2,3 MB · 9. 3. 2024")
    expect(page.locator("#viewer-path")).to_have_text("/home/anna/x.png")


def test_closeness_is_a_bar_and_no_match_is_said(visit: Visit) -> None:
    page = visit("#c=photos")
    ready(page)

    def far(body: dict[str, Any]) -> None:
        body["no_match"] = True
        for hit in body["hits"]:
            hit["closeness"] = 0.25
        body["hits"][9]["closeness"] = None

    change_answers(page, far)
    page.locator("#grid .image").first.click()
    hits(page)
    expect(page.get_by_role("heading", name="Nothing here looks like it")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("no nearer than unrelated")
    assert float(page.locator("#grid img").last.evaluate("(img) => getComputedStyle(img).opacity")) < 0.6
    expect(page.locator("#grid .bar")).to_have_count(9)
    share = "(bar) => parseFloat(getComputedStyle(bar, '::before').width) / bar.offsetWidth"
    assert page.locator("#grid .bar").first.evaluate(share) == pytest.approx(0.25, abs=0.01)
    assert "%" not in page.locator("body").inner_text()
    page.unroute("**/search")
    page.get_by_label("Metric", exact=True).select_option("cosine")
    expect(page.get_by_role("heading", name="Looks alike")).to_be_visible()


def test_the_page_says_what_the_encoder_has_seen(visit: Visit, shop: Shop) -> None:
    page = visit()
    expect(page.locator("#scope")).to_have_text(shop.collections[0].embedder.scope)
    assert page.locator("#scope").inner_text()


def test_nothing_moves_for_those_who_prefer_it(visit: Visit, shop: Shop) -> None:
    page = visit()
    page.emulate_media(reduced_motion="no-preference")
    search(page, shop.photos[7])
    moves = "getComputedStyle(document.querySelector('#grid .card')).animationName"
    assert page.evaluate(moves) == "arrive"
    page.emulate_media(reduced_motion="reduce")
    page.locator("#grid .search-again").nth(2).click()
    expect(page.locator("#query-name")).not_to_have_text(shop.photos[7].name)
    hits(page)
    assert page.evaluate(moves) == "none"
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("locale", ["en-GB", "pt-BR", "es-ES", "cs-CZ"])
def test_a_collection_without_a_sketch_branch_offers_no_drawing(visit: Visit, shop: Shop, locale: str) -> None:
    drawing = re.compile(r"draw|sketch|desenh|trac|dibúj|dibuj|traz|kresl|kresb|kresli", re.IGNORECASE)
    page = visit("#c=photos", locale=locale)
    ready(page)
    for _ in range(2):
        expect(page.get_by_role("heading", level=1)).not_to_be_empty()
        words = page.locator("body").aria_snapshot() + page.locator("body").inner_text()
        assert drawing.findall(words) == []
        search(page, shop.photos[7])
    page.locator("#collection").select_option("shop")
    expect(page.get_by_role("tab")).to_have_count(2)
    assert drawing.search(page.get_by_role("heading", level=1).inner_text())
    page.get_by_role("tab").nth(1).click()
    expect(page.locator("#canvas")).to_be_visible()
    page.locator("#collection").select_option("photos")
    expect(page.locator("#canvas")).to_be_hidden()
    expect(page.locator("#drop, #query").locator("visible=true")).to_have_count(1)


def test_a_text_finds_images(visit: Visit) -> None:
    page = visit("#c=colours")
    ready(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Describe it, show it, or draw it.")
    field = page.get_by_role("search").get_by_role("searchbox", name="Describe it")
    field.fill("  Red ")
    field.press("Enter")
    expect(page.get_by_role("heading", name="Closest to “Red”")).to_be_visible()
    assert hits(page)[0] == "red.png"
    assert "text=Red" in page.url
    expect(field).to_be_focused()
    field.fill("blue")
    page.get_by_role("button", name="Search by this text").click()
    expect(page.get_by_role("heading", name="Closest to “blue”")).to_be_visible()
    assert hits(page)[0] == "blue.png"
    page.go_back()
    expect(field).to_have_value("Red")
    expect(page.locator("#grid .name").first).to_have_text("red.png")
    page.reload()
    expect(field).to_have_value("Red")
    assert hits(page)[0] == "red.png"
    page.get_by_label("Metric", exact=True).select_option("cosine")
    expect(page).to_have_url(re.compile("metric=cosine"))
    assert hits(page)[0] == "red.png"
    page.locator("#grid .search-again").nth(1).click()
    expect(page.get_by_role("heading", name="Looks alike")).to_be_visible()
    expect(field).to_have_value("")
    assert "text=" not in page.url
    page.go_back()
    expect(field).to_have_value("Red")
    field.fill("")
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()
    field.press("Enter")  # searches for nothing
    assert "text=" not in page.url


def test_a_range_around_a_text_continues(visit: Visit) -> None:
    page = visit("#c=colours&text=red&within=1.2")
    names = hits(page)
    assert names[0] == "red.png"
    assert 1 < len(names) < 6


def test_a_text_that_is_no_name_of_anything_is_shown_as_it_is(visit: Visit) -> None:
    page = visit("#c=colours")
    text = "<img src=x onerror=alert(1)> $& {text} 100%+red"
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")
    expect(page.locator("#results-heading")).to_have_text(f"Closest to “{text}”")
    hits(page)
    page.locator("#text").fill("[" + "red " * 400)
    page.locator("#text").press("Enter")
    expect(page.locator("#results-heading")).to_contain_text("…”")
    assert hits(page)[0] == "red.png"


def test_a_collection_without_a_text_branch_has_no_field_for_text(visit: Visit) -> None:
    page = visit("#c=colours&text=red")
    hits(page)
    page.locator("#collection").select_option("shop")
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text("Show it, or draw it.")


@pytest.mark.parametrize(
    ("locale", "words"), [("pt-BR", "sapato vermelho"), ("es-ES", "zapato rojo"), ("cs-CZ", "červená bota")]
)
def test_the_field_for_text_is_translated(visit: Visit, locale: str, words: str) -> None:
    page = visit("#c=colours", locale=locale)
    ready(page)
    expect(page.locator("#text")).to_have_attribute("placeholder", re.compile(words))
    expect(page.get_by_role("searchbox")).not_to_have_accessible_name("")


def test_errors_are_shown(visit: Visit, shop: Shop, tmp_path: Path) -> None:
    page = visit("#c=empty", complain=False)
    expect(page.locator("#empty")).to_contain_text("empty")
    page = visit(complain=False)
    (tmp_path / "x.png").write_text("text")
    page.set_input_files("#file", tmp_path / "x.png")
    expect(page.get_by_role("alert")).to_contain_text("not an image")
    page = visit("#item=gone", complain=False)
    expect(page.get_by_role("alert")).to_contain_text("no longer exists")
    page.route("**/api/**", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/api/**")
    page.goto(shop.url)
    ready(page)
    page.route("**/api/**", lambda route: route.abort())
    page.set_input_files("#file", shop.photos[0])
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try again").click()
    hits(page)
    page.route("**/search", lambda route: route.fulfill(status=503, json={"status": 503, "title": "Busy"}))
    page.get_by_label("Metric", exact=True).select_option("cosine")
    expect(page.get_by_role("alert")).to_contain_text("busy")
    expect(page.get_by_role("heading", name="That did not work")).to_be_visible()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_a_static_host_can_serve_the_page(visit: Visit, shop: Shop) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=STATIC)) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{host.server_address[1]}"
        with serving(create_app([shop.collections[1]], origins=[here])) as other:
            page = visit()
            page.goto(f"{here}/?api={other}")
            expect(page.locator("#collection")).to_have_value("photos")
            page.set_input_files("#file", shop.photos[3])
            hits(page)
            assert (page.locator("#grid img").first.get_attribute("src") or "").startswith(other)
            page.wait_for_load_state("networkidle")  # thumbnails that load after the server stops would fail
        host.shutdown()


@pytest.mark.parametrize(
    ("locale", "heading"), [("pt-BR", "Mostre ou"), ("es-ES", "Muéstralo"), ("cs-CZ", "Ukažte"), ("fi-FI", "Show it")]
)
def test_the_page_uses_the_browsers_language(visit: Visit, shop: Shop, locale: str, heading: str) -> None:
    page = visit(locale=locale)
    expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
    assert page.evaluate("document.documentElement.lang") == ("en" if locale == "fi-FI" else locale[:2])
    page.set_input_files("#file", shop.photos[0])
    hits(page)
    page.locator("#language").select_option("cs")
    expect(page.locator("#status")).to_contain_text("10 výsledků")
    expect(page.locator("#grid .distance").first).to_have_text("0,00")


def test_all_languages_have_the_same_texts() -> None:
    words = {
        path.stem: re.findall(r"^  (\w+):.*$", path.read_text(encoding="utf-8"), re.MULTILINE)
        for path in (STATIC / "lang").glob("*.js")
    }
    assert set(words) == {"en", "pt", "es", "cs"}
    assert all(found == words["en"] for found in words.values())
    named = set(re.findall(r'data-t(?:-[a-z-]+)?="(\w+)"', (STATIC / "index.html").read_text(encoding="utf-8")))
    assert named <= set(words["en"])


@pytest.mark.parametrize(("width", "text"), [(320, 16), (375, 16), (640, 32), (768, 16), (1280, 32), (1920, 16)])
def test_nothing_is_wider_than_the_screen(visit: Visit, shop: Shop, width: int, text: int) -> None:
    page = visit("#c=colours&text=" + "x" * 900, size=(width, 844))
    page.evaluate("(size) => (document.documentElement.style.fontSize = `${size}px`)", text)  # 200 % zoom of text
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    hits(page)
    assert page.evaluate(overflow) == 0
    page.locator("#collection").select_option("shop")
    expect(page.locator("#grid .card:not(.skeleton)").first).to_be_visible()
    assert page.evaluate(overflow) == 0
    page.set_input_files("#file", shop.photos[0])
    hits(page)
    assert page.evaluate(overflow) == 0
    draw(page)
    page.get_by_text("Only some labels").click()
    assert page.evaluate(overflow) == 0


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(visit: Visit, shop: Shop) -> None:
    page = visit(size=PHONE)
    page.set_input_files("#file", shop.photos[0])
    hits(page)
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, a, select, input, canvas, dialog")].filter((e) => {
          const name = e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.[0]?.textContent.trim()
            || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent;
          return e.checkVisibility() && !e.hasAttribute("aria-hidden") && !name;
        }).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("[...document.images].filter((i) => !i.hasAttribute('alt')).length") == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    for reference in ("for", "aria-controls", "aria-labelledby"):
        named = page.evaluate(
            f"[...document.querySelectorAll('[{reference}]')].map((e) => e.getAttribute('{reference}'))"
        )
        assert set(named) <= set(ids)
    small = page.evaluate(
        """[...document.querySelectorAll("button, select")].map((e) => [e.id, e.getBoundingClientRect()])
          .filter(([, b]) => b.width && (b.width < 24 || b.height < 24)).map(([id]) => id)"""
    )
    assert small == []  # WCAG 2.2, 2.5.8
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        visible = page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
        assert visible, reached[-1]
    assert {"skip", "collection", "language", "tab-photo", "change", "count", "metric", "image", "search-again"} <= set(
        reached
    )


def contrast(colours: list[list[float]]) -> float:
    """Return the contrast ratio of WCAG 2.2 of two colours, given as red, green and blue in 0…255."""
    luminances = []
    for colour in colours:
        parts = [c / 255 for c in colour[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        luminances.append(sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))
    low, high = sorted(luminances)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_chosen_tab_and_label_stand_out(visit: Visit, scheme: str) -> None:
    page = visit()
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    ready(page)
    page.get_by_text("Only some labels").click()
    page.locator(".chip").first.click()
    rgb = "(e, name) => getComputedStyle(e)[name].match(/[0-9.]+/g).map(Number)"

    def colour(selector: str, name: str) -> list[float]:
        return list(page.locator(selector).first.evaluate(rgb, name))

    for chosen, ground in (("#tab-photo", ".tabs"), ('.chip[aria-pressed="true"]', '.chip[aria-pressed="false"]')):
        state = [colour(chosen, "backgroundColor"), colour(ground, "backgroundColor")]
        assert contrast(state) >= 3, chosen  # WCAG 2.2, 1.4.11
        assert contrast([colour(chosen, "color"), colour(chosen, "backgroundColor")]) >= 4.5, chosen
    other = [colour("#tab-sketch", "color"), colour(".tabs", "backgroundColor")]
    assert contrast(other) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit: Visit, scheme: str) -> None:
    page = visit()
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]

    def colour(name: str) -> list[float]:
        value = page.evaluate("(n) => getComputedStyle(document.documentElement).getPropertyValue(n).trim()", name)
        return [int(value[i : i + 2], 16) for i in (1, 3, 5)]

    pairs = [(text, ground) for text in ("--ink", "--quiet") for ground in ("--paper", "--card", "--sunk", "--mat")]
    for text, ground in [*pairs, ("--ink", "--tint"), ("--on-accent", "--accent"), ("--accent", "--paper")]:
        assert contrast([colour(text), colour(ground)]) >= 4.5, (text, ground)


@pytest.mark.parametrize(
    ("locale", "size", "scheme"),
    [("en-GB", DESKTOP, "light"), ("cs-CZ", DESKTOP, "dark"), ("es-ES", PHONE, "light"), ("pt-BR", PHONE, "dark")],
)
def test_axe_finds_no_violation(visit: Visit, tmp_path: Path, locale: str, size: tuple[int, int], scheme: str) -> None:
    axe = Axe()
    rules = {name: {"enabled": True} for name in ("label-content-name-mismatch", "target-size")}

    def check(state: str) -> None:
        results = axe.run(page, options={"rules": rules, "resultTypes": ["violations"]})
        assert results.violations_count == 0, f"{state}: {results.generate_report()}"

    page = visit("#c=colours&text=red", size, locale=locale, complain=False)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    hits(page)
    check("text")
    page.locator("#collection").select_option("empty")
    expect(page.locator("#empty")).to_be_visible()
    check("empty")
    page.locator("#collection").select_option("shop")
    ready(page)
    page.locator("#labels summary").click()
    page.locator(".chip").first.click()
    check("start")
    page.locator(".chip").first.click()
    expect(page.locator("#grid .card.plain:not(.skeleton)")).to_have_count(30)  # a click on a card that goes is lost
    change_answers(page, lambda body: body["hits"][1].update(missing=True, closeness=0.4))
    page.locator("#grid .image").first.click()
    hits(page)
    check("results")
    page.locator("#grid .image").nth(2).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check("viewer")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.locator("#count").select_option("within")
    page.locator("#max-distance").fill("-1")
    page.locator("#max-distance").press("Enter")
    check("invalid distance")
    page.get_by_role("tab").nth(1).click()
    check("sketch")
    page.get_by_role("tab").nth(0).click()
    page.unroute("**/search")
    (tmp_path / "x.png").write_text("text")
    page.set_input_files("#file", tmp_path / "x.png")
    page.locator("#count").select_option("10")
    expect(page.locator("#alert")).to_be_visible()
    check("error")


# ---- classes and their examples


def card(page: Page, name: str) -> Locator:
    """Return the card of a class."""
    return page.locator(f".class:has([aria-label='Examples of {name}'])")


def named(page: Page, place: int, name: str) -> Locator:
    field = page.get_by_label(f"Name of class {place}")
    field.fill(name)
    field.press("Enter")
    expect(page).to_have_url(re.compile(f"class={name}"))
    return card(page, name)


def order_of_classes(page: Page) -> list[str]:
    """Wait for an answer, and return the names of the classes as they are shown."""
    expect(page.locator("#status")).to_contain_text("Most like")
    expect(page.locator("#classes:not([aria-busy])")).to_be_visible()
    return [field.input_value() for field in page.locator(".class-name").all()]


def test_a_photo_and_a_drawing_are_classified_by_files_items_and_drawings(visit: Visit, shop: Shop) -> None:
    page = visit()
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#status")).to_have_text("Add examples to the classes.")
    by_file = named(page, 1, "files")
    with page.expect_file_chooser() as chooser:
        by_file.get_by_role("button", name="Files", exact=True).click()
    chooser.value.set_files([shop.photos[30], shop.photos[7]])
    expect(by_file.locator(".example img")).to_have_count(2)
    expect(page.locator("#status")).to_have_text("Now give an image to classify.")
    named(page, 2, "items").get_by_role("button", name="Collection", exact=True).press("Enter")
    picker = page.get_by_role("dialog")
    expect(picker.get_by_role("heading")).to_have_text("Examples of items")
    for place in (0, 1):
        picker.locator("#picker-grid .image").nth(place).press("Enter")
    expect(picker.locator("[aria-pressed=true]")).to_have_count(2)
    picker.get_by_role("button", name="Add 2 images").press("Enter")
    expect(card(page, "items").locator(".example img")).to_have_count(2)
    assert focused(page) == "add-example"
    page.get_by_role("button", name="Add a class").press("Enter")
    expect(page.get_by_label("Name of class 3")).to_be_focused()
    named(page, 3, "drawings").get_by_role("button", name="Draw", exact=True).click()
    canvas = page.get_by_role("dialog").locator("#canvas")
    expect(canvas).to_be_focused()
    for key in ("Space", "Shift+ArrowUp", "Shift+ArrowRight", "Space"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Add", exact=True).press("Enter")
    expect(card(page, "drawings").locator(".example canvas")).to_have_count(1)
    expect(page.locator("#panel-sketch #canvas")).to_have_count(1)
    assert ink(page) == 0  # the example is not the query

    page.set_input_files("#file", shop.photos[7])
    assert order_of_classes(page)[0] == "files"
    expect(page.locator("#status")).to_contain_text("Most like files: distance 0.00")
    expect(by_file).to_have_attribute("aria-current", "true")
    expect(by_file.locator(".class-facts")).to_have_text("Distance 0.00 · similarity 1.00")
    first = by_file.get_by_role("listitem").first
    expect(first.get_by_role("button")).to_have_accessible_name(f"Remove {shop.photos[7].name} from files")
    for one in page.locator(".class").all():
        distances = [float(text) for text in one.locator(".distance").all_inner_texts()]
        assert distances == sorted(distances)
    shown = page.locator(".class-facts").all_inner_texts()
    assert shown == sorted(shown)
    expect(card(page, "drawings").locator(".drawn")).to_have_text("taken for a sketch")


def test_reload_and_back_restore_classes(visit: Visit, shop: Shop, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.effect_noise((1600, 1200), 80).save(large)
    page = visit("#view=classes")
    files, drawings = named(page, 1, "files"), named(page, 2, "drawings")
    for one, paths in (
        (files, [large, shop.photos[7]]),
        (drawings, [DRAWINGS / "heel-1.json", DRAWINGS / "tshirt-1.json"]),
    ):
        with page.expect_file_chooser() as chooser:
            one.get_by_role("button", name="Files", exact=True).click()
        chooser.value.set_files(list(paths))
        expect(one.locator(".example")).to_have_count(2)
    page.set_input_files("#file", shop.photos[7])
    assert order_of_classes(page) == ["files", "drawings"]
    shown = page.locator(".class-facts").all_inner_texts()
    page.reload()
    order_of_classes(page)
    assert page.locator(".class-facts").all_inner_texts() == shown
    widths = "[...document.querySelectorAll('.example img')].map((img) => img.naturalWidth)"
    page.wait_for_function(f"{widths}.filter(Boolean).length === 2")
    assert max(page.evaluate(widths)) == 1024  # a smaller copy, since all examples travel with each query
    files.get_by_role("button", name=re.compile("^Remove .* from files")).first.press("Enter")
    expect(page.locator(".example")).to_have_count(3)
    assert focused(page) == "remove-example"
    page.go_back()  # takes it back
    expect(page.locator(".example")).to_have_count(4)
    page.get_by_label("Compare with").select_option("prototype")
    expect(files.locator(".class-facts")).not_to_have_text(shown[0])
    draw(page)  # as a query
    expect(drawings).to_have_attribute("aria-current", "true")
    page.get_by_role("button", name="Search", exact=True).click()
    assert len(hits(page)) == 10
    page.go_back()
    assert order_of_classes(page) == ["drawings", "files"]
    drawings.get_by_role("button", name="Remove drawings").press("Enter")
    expect(page.locator(".class")).to_have_count(1)
    assert focused(page) == "add-class"


def test_the_page_says_which_example_cannot_be_used(visit: Visit, shop: Shop, tmp_path: Path) -> None:
    page = visit("#view=classes", complain=False)
    expect(page.locator(".class")).to_have_count(2)
    page.get_by_role("button", name="From this collection").first.click()
    page.locator("#picker-grid .image").first.click()
    expect(page.locator("#query-name")).not_to_be_empty()
    page.get_by_role("button", name="Fill in from this collection").click()
    assert len(order_of_classes(page)) == 5
    (tmp_path / "notes.png").write_text("text")
    with page.expect_file_chooser() as chooser:
        page.locator(".class").nth(2).get_by_role("button", name="Files", exact=True).click()
    chooser.value.set_files([tmp_path / "notes.png", shop.photos[0]])
    alert = page.locator("#alert")
    expect(alert).to_contain_text("“notes.png” is not an image")
    expect(page.locator(".example .tile")).to_contain_text("notes.png")
    alert.get_by_role("button", name="Remove").click()
    order_of_classes(page)
    expect(alert).to_be_hidden()
    drop = """([card, content]) => {
      const dataTransfer = new DataTransfer();
      for (let i = 0; i < 101; i++) dataTransfer.items.add(new File([content + i], `${i}.png`, { type: "image/png" }));
      card.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, [page.locator(".class").first.element_handle(), "x"])
    expect(alert).to_contain_text("All classes together can have 100 examples.")
    elsewhere = visit(page.url.split("/")[-1])  # another browser, which has the items, but not the file
    order_of_classes(elsewhere)
    expect(elsewhere.locator(".example .tile")).to_contain_text("No longer in this browser")


def test_classes_fit_a_phone_and_axe_finds_no_violation(visit: Visit, shop: Shop) -> None:
    page = visit("#view=classes", PHONE, locale="cs-CZ", touch=True)
    page.emulate_media(color_scheme="dark")
    rules = {name: {"enabled": True} for name in ("label-content-name-mismatch", "target-size")}

    def check(state: str) -> None:
        results = Axe().run(page, options={"rules": rules, "resultTypes": ["violations"]})
        assert results.violations_count == 0, f"{state}: {results.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0

    expect(page.locator(".class")).to_have_count(2)
    check("empty")
    page.locator("#fill-classes").click()
    expect(page.locator(".class")).to_have_count(5)
    page.set_input_files("#file", next((shop.photos[0].parents[2] / "sketches").rglob("*.png")))
    expect(page.locator("#status")).to_contain_text("považován za kresbu")
    expect(page.locator(".nearest")).to_be_visible()
    check("answer")
    page.locator(".add-example").nth(1).click()
    page.locator("#picker-grid .image").first.click()
    check("picker")
    page.keyboard.press("Escape")
    page.locator(".add-example").nth(2).click()
    expect(page.locator("#drawing #canvas")).to_be_visible()
    check("drawing")
    page.keyboard.press("Escape")
    expect(page.locator("#drawing")).to_be_hidden()
    expect(page.locator(".example canvas")).to_have_count(0)
    page.locator("#collection").select_option("photos")  # its encoder knows no sketches
    expect(page.locator(".add-example >> visible=true")).to_have_count(10)
    expect(page.locator(".example")).to_have_count(0)
