import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from lookalike.errors import MissingExtraError, StorageError
from lookalike.evaluation import report
from lookalike.evaluation.protocol import Figures, Plan, wilson
from lookalike.evaluation.report import building
from lookalike.evaluation.report.embedding_map import lattice, lay_out, names
from lookalike.evaluation.subject import Subject
from lookalike.metric import Metric

QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><b>",
    "a" * 80,
    "{{ 7 * 7 }}",
    "' & ü",
)
HISTORY = [
    {"epoch": float(i), "loss": 2 / i, "validation.loss": 2.2 / i, "validation.top_1": 1 - 0.5 / i} for i in range(1, 6)
]


def subject(each: int = 12, classes: int = 6, noise: float = 0.6) -> Subject:
    """Clouds around the corners of a simplex, so near that some rankings fail."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(classes), each)
    vectors = np.eye(classes, 8)[labels] + noise * rng.normal(size=(len(labels), 8))
    return Subject(vectors.astype(np.float32), labels, Metric.EUCLIDEAN)


def picture(row: int) -> np.ndarray:
    return np.full((20, 30, 3), (row * 37) % 256, np.uint8)


@pytest.fixture(scope="module")
def made() -> report.Report:
    about = report.About(
        "<i>pocket</i>", "pictures & <b>more</b>", Metric.EUCLIDEAN, 7, {"<u>fact</u>": "<u>value</u>"}
    )
    plan = Plan(pairs=200, ways=(2, 5), episodes=20, seed=7)
    return report.measure(subject(), HOSTILE, about, picture=picture, history=HISTORY, plan=plan)


@pytest.fixture(scope="module")
def page(made: report.Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(made, tmp_path_factory.mktemp("report") / "new" / "folder")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET.split())
        yield browser
        browser.close()


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_hostile_names_are_text_and_nothing_else(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tags = Tags(text).tags
    assert [a.get("type") for t, a in tags if t == "script"] == ["application/json", None]
    assert not [a for _, a in tags if any(name.startswith("on") for name in a)]
    assert not {"u", "i", "iframe", "object"} & {t for t, a in tags if not a}
    assert "49" not in re.findall(r"alt=\"([^\"]*)\"", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<title>&lt;i&gt;pocket&lt;/i&gt; on pictures &amp; &lt;b&gt;more" in text


def test_nothing_is_asked_of_another_host(page: Path) -> None:
    tags = Tags(page.read_text(encoding="utf-8")).tags
    for tag, attributes in tags:
        for name in ("src", "href", "srcset", "action", "data"):
            where = attributes.get(name)
            assert where is None or where.startswith(("data:", "#")), (tag, where)
    assert "://" not in re.sub(r"data:[^\"')]*", "", page.read_text(encoding="utf-8"))


def test_no_id_stands_twice_and_all_that_is_asked_for_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    ids = [a["id"] for _, a in Tags(text).tags if "id" in a]
    assert len(ids) == len(set(ids))
    asked = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert asked <= set(ids)


def test_every_picture_has_words_and_every_table_heads(page: Path) -> None:
    tags = Tags(page.read_text(encoding="utf-8")).tags
    assert len([t for t, _ in tags if t == "img"]) > 30
    assert all(a.get("alt") for t, a in tags if t == "img")
    assert all(a.get("aria-label") for t, a in tags if t == "svg" and a.get("role") == "img")
    assert all(a.get("scope") for t, a in tags if t == "th")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_a_complaint(browser: Browser, page: Path, width: int, scheme: str) -> None:
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme="dark" if scheme == "dark" else "light"
    )
    tab = context.new_page()
    tab.on("console", lambda m: complaints.append(m.text))
    tab.on("pageerror", lambda e: complaints.append(str(e)))
    tab.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("data:", "file:")) else None)
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert tab.evaluate("getComputedStyle(document.querySelector('.chart text')).fill") != "rgb(0, 0, 0)"
    context.close()
    assert complaints == []


def test_the_map_tells_its_points_by_mouse_and_by_keys(browser: Browser, page: Path) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 1100})
    tab.goto(page.as_uri())
    tab.locator(".plane svg").focus()
    assert not tab.locator(".tip").is_visible()
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".tip span").inner_text() in HOSTILE
    tab.keyboard.press("Escape")
    assert not tab.locator(".tip").is_visible()
    tab.locator(".plane circle").first.hover()
    assert tab.locator(".tip").is_visible()
    name = tab.locator(".legend button").nth(1)
    name.click()
    assert name.get_attribute("aria-pressed") == "true"
    assert tab.locator(".map.choosing g.chosen").count() == 1
    tab.locator(".ways").get_by_text("pictures").click()
    assert tab.locator(".mosaic").is_visible()
    assert not tab.locator(".plane svg").is_visible()
    tab.close()


def test_the_json_has_every_figure_and_curve_and_no_picture(made: report.Report, page: Path) -> None:
    text = (page.parent / "report.json").read_text(encoding="utf-8")
    tree = json.loads(text)
    assert "data:" not in text
    assert [f["name"] for f in tree["figures"]] == [f.name for f in made.key_figures]
    assert {"top-1", "mAP", "accuracy", "AUC", "EER", "FAR", "FRR", "5-way 1-shot"} <= {
        f["name"] for f in tree["figures"]
    }
    assert len(tree["retrieval"]["by_class"]["curve"]) == 101
    assert [c["class"] for c in tree["retrieval"]["by_class"]["classes"]] == list(HOSTILE)
    v = tree["verification"]
    assert (
        sum(v["confusion"].values()) == v["pairs"] == sum(v["histogram"]["genuine"]) + sum(v["histogram"]["impostor"])
    )
    assert len(v["roc"]["far"]) == len(v["roc"]["frr"]) > 2
    assert v["accuracy"] == (v["confusion"]["true_positives"] + v["confusion"]["true_negatives"]) / v["pairs"]
    assert tree["history"] == HISTORY
    assert tree["about"]["seed"] == 7


def test_what_was_not_measured_is_not_there_and_why_is_told(tmp_path: Path) -> None:
    about = report.About("pocket", "few", Metric.EUCLIDEAN, 0)
    made = report.measure(subject(each=2, classes=3), ("a", "b", "c"), about)
    text = report.write(made, tmp_path).read_text(encoding="utf-8")
    assert 'id="retrieval"' in text
    assert not {'id="few-shot"', 'id="training"', "<img"} & set(re.findall(r'id="[\w-]+"|<img', text))
    assert "few-shot: There are too few classes" in text


def test_a_run_without_a_measurement_is_its_curves(tmp_path: Path) -> None:
    about = report.About("pocket", "nothing", Metric.EUCLIDEAN, 0)
    text = report.write(report.Report(about, Figures(), history=tuple(HISTORY)), tmp_path).read_text()
    assert 'id="training"' in text
    assert 'id="retrieval"' not in text


def test_examples_are_right_ones_and_the_most_wrong(made: report.Report) -> None:
    measured = made.figures.verification
    assert measured is not None
    said = measured.distances <= np.float32(measured.verdicts.threshold)
    right = said == measured.pairs.same
    shown = np.array(made.examples)
    accepts = np.flatnonzero(said & ~measured.pairs.same)
    assert right[shown].any()
    assert accepts[measured.distances[accepts].argmin()] in shown
    rejects = np.flatnonzero(~said & measured.pairs.same)
    assert rejects[measured.distances[rejects].argmax()] in shown


def test_the_worst_query_is_shown_with_its_nearest_and_never_with_itself(made: report.Report) -> None:
    ranking = made.figures.retrieval
    assert ranking is not None
    worst = min(made.neighbours, key=lambda n: n.average_precision)
    assert worst.average_precision == np.nanmin(ranking.by_class.average_precision)
    assert not worst.best
    vectors = subject().embeddings.astype(np.float64)
    for shown in made.neighbours:
        far = np.linalg.norm(vectors - vectors[shown.row], axis=1)
        far[shown.row] = np.inf
        assert shown.hits.tolist() == np.argsort(far, kind="stable")[: len(shown.hits)].tolist()


@pytest.mark.parametrize("metric", list(Metric))
def test_the_map_keeps_its_points_inside_and_its_classes_together(metric: Metric) -> None:
    labels = np.repeat(np.arange(3), 20)
    rng = np.random.default_rng(0)
    vectors = np.eye(3, 16)[labels] * 8 + rng.normal(size=(60, 16))
    codes = np.packbits(vectors > 1, axis=1) if metric is Metric.HAMMING else vectors.astype(np.float32)
    drawn = lay_out(codes, labels, metric, 0)
    assert drawn is not None
    assert drawn.points.min() >= 0
    assert drawn.points.max() <= 1
    assert (labels[drawn.rows] == drawn.labels).all()
    assert sorted(drawn.rows.tolist()) == list(range(60))
    again = lay_out(codes, labels, metric, 0)
    assert again is not None
    assert (again.points == drawn.points).all()


def test_a_map_samples_and_a_map_of_nothing_is_none() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 100
    drawn = lay_out(rng.normal(size=(300, 4)).astype(np.float32), labels, Metric.COSINE, 0, most=50)
    assert drawn is not None
    assert len(drawn.rows) == 50
    assert len(names(drawn, [str(i) for i in range(100)])) == 12
    assert lay_out(np.ones((20, 4), np.float32), labels[:20], Metric.EUCLIDEAN, 0) is None
    assert lay_out(np.zeros((20, 4), np.float32), labels[:20], Metric.COSINE, 0) is None
    assert lay_out(np.ones((2, 4), np.float32), labels[:2], Metric.EUCLIDEAN, 0) is None


def test_no_two_pictures_of_the_mosaic_share_a_cell() -> None:
    labels = np.zeros(80, np.int64)
    drawn = lay_out(np.random.default_rng(1).normal(size=(80, 3)).astype(np.float32), labels, Metric.EUCLIDEAN, 0)
    assert drawn is not None
    cells = lattice(drawn, 8)
    assert len({(c, r) for _, c, r in cells}) == len(cells) == len({i for i, _, _ in cells})
    assert all(0 <= c < 8 and 0 <= r < 8 for _, c, r in cells)


def test_wilson_is_the_published_interval() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"lookalike\[report\]"):
        report.require()


def test_a_folder_that_cannot_be_made_is_an_error_of_storage(made: report.Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        report.write(made, tmp_path / "file" / "folder")
