import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lookalike import sample
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.server import create_app
from pocket_encoder import calibrated, make
from pocket_server import serving

pytestmark = pytest.mark.slow  # the tests need Chromium

STATIC = Path(__file__).parent.parent / "src" / "lookalike" / "server" / "static"
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
DESKTOP, PHONE = (1280, 900), (390, 844)


@dataclass
class Shop:
    """A server with three collections: of photos and sketches, of photos only, and empty."""

    url: str
    photos: list[Path]
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
    with serving(create_app(made)) as url:
        yield Shop(url, sorted((folder / "toys" / "photos").rglob("*.jpg")), made)
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium")
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

    def open_page(where: str = "", size: tuple[int, int] = DESKTOP, *, complain: bool = True, **options: str) -> Page:
        locale = options.get("locale", "en-GB")
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, locale=locale, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        if complain:
            page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
            page.on("pageerror", lambda e: complaints.append(str(e)))
        page.goto(f"{shop.url}/{where}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def hits(page: Page) -> list[str]:
    expect(page.locator("#grid .card:not(.skeleton) .distance").first).to_be_visible()
    return page.locator("#grid .name").all_inner_texts()


def draw(page: Page) -> None:
    page.get_by_role("tab", name="Sketch").click()
    box = page.locator("#canvas").bounding_box()
    assert box
    corners = [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.3)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def test_an_uploaded_image_finds_itself_first(visit: Visit, shop: Shop) -> None:
    page = visit()
    expect(page.locator("#model")).to_have_text("pocket")
    expect(page.locator("#grid .card.plain:not(.skeleton)")).to_have_count(30)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose an image").click()
    chooser.value.set_files(shop.photos[7])
    assert hits(page)[0] == shop.photos[7].parent.name
    assert len(hits(page)) == 10
    expect(page.locator("#grid .distance").first).to_have_text("0.00")
    expect(page.locator(".badge").first).to_have_text("Identical")
    expect(page.get_by_role("status")).to_contain_text("10 results")
    expect(page.locator("#query-name")).to_have_text(shop.photos[7].name)
    distances = [float(text) for text in page.locator("#grid .distance").all_inner_texts()]
    assert distances == sorted(distances)
    page.get_by_label("Start over").click()
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()


def test_probabilities_are_shown_if_the_encoder_is_calibrated(visit: Visit, shop: Shop) -> None:
    page = visit()
    page.set_input_files("#file", shop.photos[7])
    hits(page)
    expect(page.locator("#grid .probability")).to_have_count(10)
    expect(page.locator("#grid .probability").first).to_have_text("same: >99%")
    expect(page.locator("#grid .probability").first).to_have_attribute("title", re.compile("equally frequent"))
    page.locator("#grid .image").nth(1).click()
    expect(page.locator("#viewer-facts")).to_contain_text(page.locator("#grid .probability").nth(1).inner_text())
    page.keyboard.press("Escape")
    page.get_by_label("Metric", exact=True).select_option("cosine")
    expect(page.locator("#grid .probability")).to_have_count(0)
    page.locator("#grid .image").first.click()
    expect(page.locator("#viewer-facts")).not_to_contain_text("same")


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
    expect(page.locator("#grid .card:not(.skeleton)").first).to_be_visible()
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
        [event, (page.locator("#grid img").first.get_attribute("src") or "").replace("thumbnail", "image")],
    )
    hits(page)
    expect(page.locator("#grid .distance").first).to_have_text("0.00")
    expect(page.locator("#overlay")).to_be_hidden()


def test_a_sketch_is_searched_and_undone(visit: Visit) -> None:
    page = visit()
    draw(page)
    assert len(hits(page)) == 10
    before = page.locator("#grid .distance").all_inner_texts()
    page.get_by_label("Width of the brush").fill("20")
    draw(page)
    expect(page.locator("#grid .distance").first).not_to_have_text(before[0])
    page.get_by_role("button", name="Undo the last stroke").click()
    expect(page.locator("#grid .distance").first).to_have_text(before[0])
    page.get_by_role("button", name="Clear the drawing").click()
    expect(page.get_by_role("heading", name="Or start from one of these")).to_be_visible()
    expect(page.get_by_role("button", name="Clear the drawing")).to_be_disabled()


def test_a_drawing_is_opened_from_a_file(visit: Visit, shop: Shop) -> None:
    page = visit()
    page.get_by_role("tab", name="Sketch").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a drawing").click()
    chooser.value.set_files(shop.photos[0])
    hits(page)


def test_a_collection_without_a_sketch_branch_shows_a_note(visit: Visit) -> None:
    page = visit()
    page.get_by_label("Collection").select_option("photos")
    page.get_by_role("tab", name="Sketch").click()
    expect(page.locator("#no-sketch")).to_contain_text("photos only")
    expect(page.locator("#canvas")).to_be_hidden()


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
    expect(page.locator("#viewer-image")).to_have_attribute("src", re.compile("/image$"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "image"


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
    page.route("**/api/**", lambda route: route.abort())
    page.set_input_files("#file", shop.photos[0])
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try again").click()
    hits(page)


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


@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
def test_nothing_is_wider_than_the_screen(visit: Visit, shop: Shop, width: int) -> None:
    page = visit(size=(width, 844))
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit: Visit, scheme: str) -> None:
    page = visit()
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]

    def luminance(name: str) -> float:
        colour = page.evaluate("(n) => getComputedStyle(document.documentElement).getPropertyValue(n).trim()", name)
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    pairs = [(text, ground) for text in ("--ink", "--quiet") for ground in ("--paper", "--card", "--sunk")]
    for text, ground in [*pairs, ("--ink", "--tint"), ("--on-accent", "--accent")]:
        low, high = sorted((luminance(text), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
