"""The report of an evaluation: its page, its JSON and its illustrations."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from lookalike.errors import MissingExtraError, StorageError
from lookalike.evaluation import report
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.evaluate import evaluate_embeddings
from lookalike.evaluation.protocols import EvaluationOptions
from lookalike.evaluation.report import Illustrations, illustrate
from lookalike.evaluation.report import page as page_module
from lookalike.evaluation.report.embedding_map import compute_map, grid_cells, place_names
from lookalike.evaluation.results import About, Evaluation
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


def embedded(each: int = 12, classes: int = 6, noise: float = 0.6) -> EmbeddedDataset:
    """Return clouds around the corners of a simplex, so near that some rankings fail."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(classes), each)
    vectors = np.eye(classes, 8)[labels] + noise * rng.normal(size=(len(labels), 8))
    return EmbeddedDataset(vectors.astype(np.float32), labels, Metric.EUCLIDEAN)


def image(row: int) -> np.ndarray:
    return np.full((20, 30, 3), (row * 37) % 256, np.uint8)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    about = About(Metric.EUCLIDEAN, 7, "<i>pocket</i>", "images & <b>more</b>", {"<u>fact</u>": "<u>value</u>"})
    options = EvaluationOptions(pairs=200, ways=(2, 5), episodes=20, seed=7)
    data = replace(embedded(), classes=HOSTILE, image=image)
    return replace(evaluate_embeddings(data, options, about=about), history=tuple(HISTORY))


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(evaluation, tmp_path_factory.mktemp("report") / "new" / "folder")


@pytest.fixture(scope="module")
def illustrations(evaluation: Evaluation) -> Illustrations:
    return illustrate(evaluation)


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
    """The tags of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_hostile_names_are_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tags = Tags(text).tags
    assert [a.get("type") for t, a in tags if t == "script"] == ["application/json", None]
    assert not [a for _, a in tags if any(name.startswith("on") for name in a)]
    assert not {"u", "i", "iframe", "object"} & {t for t, a in tags if not a}
    assert "49" not in re.findall(r"alt=\"([^\"]*)\"", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<title>&lt;i&gt;pocket&lt;/i&gt; on images &amp; &lt;b&gt;more" in text


def test_the_page_makes_no_requests(page: Path) -> None:
    tags = Tags(page.read_text(encoding="utf-8")).tags
    for tag, attributes in tags:
        for name in ("src", "href", "srcset", "action", "data"):
            url = attributes.get(name)
            assert url is None or url.startswith(("data:", "#")), (tag, url)
    assert "://" not in re.sub(r"data:[^\"')]*", "", page.read_text(encoding="utf-8"))


def test_ids_are_unique_and_all_references_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    ids = [a["id"] for _, a in Tags(text).tags if "id" in a]
    assert len(ids) == len(set(ids))
    referenced = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert referenced <= set(ids)


def test_every_image_has_a_text_and_every_table_has_headers(page: Path) -> None:
    tags = Tags(page.read_text(encoding="utf-8")).tags
    assert len([t for t, _ in tags if t == "img"]) > 30
    assert all(a.get("alt") for t, a in tags if t == "img")
    assert all(a.get("aria-label") for t, a in tags if t == "svg" and a.get("role") == "img")
    assert all(a.get("scope") for t, a in tags if t == "th")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_without_errors(browser: Browser, page: Path, width: int, scheme: str) -> None:
    errors: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme="dark" if scheme == "dark" else "light"
    )
    tab = context.new_page()
    tab.on("console", lambda m: errors.append(m.text))
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.on("request", lambda r: errors.append(r.url) if not r.url.startswith(("data:", "file:")) else None)
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert tab.evaluate("getComputedStyle(document.querySelector('.chart text')).fill") != "rgb(0, 0, 0)"
    context.close()
    assert errors == []


@pytest.mark.slow
def test_the_map_shows_its_points_by_mouse_and_by_keyboard(browser: Browser, page: Path) -> None:
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
    tab.locator(".views").get_by_text("images").click()
    assert tab.locator(".mosaic").is_visible()
    assert not tab.locator(".plane svg").is_visible()
    tab.close()


@pytest.mark.slow
def test_the_map_of_a_report_without_images_shows_names(browser: Browser, tmp_path: Path) -> None:
    errors: list[str] = []
    tab = browser.new_page(viewport={"width": 1280, "height": 1100})
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.goto(report.write(evaluate_embeddings(embedded()), tmp_path).as_uri())
    tab.locator(".plane svg").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".tip span").inner_text() in set("012345")
    tab.locator(".legend button").first.click()
    assert tab.locator(".map.choosing g.chosen").count() == 1
    tab.close()
    assert errors == []


def test_the_json_has_every_score_and_curve_and_no_image(evaluation: Evaluation, page: Path) -> None:
    text = (page.parent / "report.json").read_text(encoding="utf-8")
    tree = json.loads(text)
    assert "data:" not in text
    assert [s["name"] for s in tree["scores"]] == [s.name for s in evaluation.scores]
    assert {"top-1", "mAP", "accuracy", "AUC", "EER", "FAR", "FRR", "5-way 1-shot"} <= {
        s["name"] for s in tree["scores"]
    }
    assert len(tree["retrieval"]["by_class"]["curve"]) == 101
    assert [c["class"] for c in tree["retrieval"]["by_class"]["classes"]] == list(HOSTILE)
    v = tree["verification"]
    assert (
        sum(v["confusion"].values()) == v["pairs"] == sum(v["histogram"]["genuine"]) + sum(v["histogram"]["impostor"])
    )
    assert len(v["roc"]["false_accept_rate"]) == len(v["roc"]["false_reject_rate"]) > 2
    assert v["accuracy"] == (v["confusion"]["true_positives"] + v["confusion"]["true_negatives"]) / v["pairs"]
    assert tree["history"] == HISTORY
    assert tree["about"]["seed"] == 7


def test_a_task_that_was_not_measured_is_left_out_with_its_reason(tmp_path: Path) -> None:
    evaluation = evaluate_embeddings(embedded(each=2, classes=3))
    text = report.write(evaluation, tmp_path).read_text(encoding="utf-8")
    assert 'id="retrieval"' in text
    assert not {'id="few-shot"', 'id="training"', "<img"} & set(re.findall(r'id="[\w-]+"|<img', text))
    assert "few-shot: There are too few classes" in text


def test_a_report_without_scores_shows_the_curves_of_training(tmp_path: Path) -> None:
    evaluation = Evaluation(About(Metric.EUCLIDEAN), history=tuple(HISTORY))
    text = report.write(evaluation, tmp_path).read_text(encoding="utf-8")
    assert 'id="training"' in text
    assert 'id="retrieval"' not in text


def test_example_pairs_are_correct_ones_and_the_largest_errors(
    evaluation: Evaluation, illustrations: Illustrations
) -> None:
    result = evaluation.verification
    assert result is not None
    right = result.accepted == result.pairs.same
    shown = np.array(illustrations.pairs)
    assert right[shown].any()
    false_accepts = np.flatnonzero(result.accepted & ~result.pairs.same)
    assert false_accepts[result.distances[false_accepts].argmin()] in shown
    false_rejects = np.flatnonzero(~result.accepted & result.pairs.same)
    assert false_rejects[result.distances[false_rejects].argmax()] in shown


def test_the_worst_query_is_shown_with_its_neighbours_and_without_itself(
    evaluation: Evaluation, illustrations: Illustrations
) -> None:
    result = evaluation.retrieval
    assert result is not None
    worst = min(illustrations.neighbours, key=lambda n: n.average_precision)
    assert worst.average_precision == np.nanmin(result.by_class.average_precision)
    assert not worst.best
    vectors = embedded().embeddings.astype(np.float64)
    for shown in illustrations.neighbours:
        distances = np.linalg.norm(vectors - vectors[shown.row], axis=1)
        distances[shown.row] = np.inf
        assert shown.hits.tolist() == np.argsort(distances, kind="stable")[: len(shown.hits)].tolist()


def test_an_evaluation_prints_as_a_table(evaluation: Evaluation) -> None:
    lines = str(evaluation).splitlines()
    assert lines[0].split() == ["score", "value", "95%", "interval", "meaning"]
    count = len(evaluation.scores)
    assert [line.split("  ")[0] for line in lines[1 : 1 + count]] == [score.name for score in evaluation.scores]
    assert [line.split(":")[0] for line in lines[1 + count :]] == ["Retrieval", "Verification"]
    assert "Not measured: few-shot" in str(evaluate_embeddings(embedded(each=2, classes=3)))


@pytest.mark.slow
@pytest.mark.parametrize("metric", list(Metric))
def test_the_map_keeps_its_points_inside_and_is_reproducible(metric: Metric) -> None:
    labels = np.repeat(np.arange(3), 20)
    rng = np.random.default_rng(0)
    vectors = np.eye(3, 16)[labels] * 8 + rng.normal(size=(60, 16))
    codes = np.packbits(vectors > 1, axis=1) if metric is Metric.HAMMING else vectors.astype(np.float32)
    drawn = compute_map(codes, labels, metric, 0)
    assert drawn is not None
    assert drawn.points.min() >= 0
    assert drawn.points.max() <= 1
    assert (labels[drawn.rows] == drawn.labels).all()
    assert sorted(drawn.rows.tolist()) == list(range(60))
    again = compute_map(codes, labels, metric, 0)
    assert again is not None
    assert (again.points == drawn.points).all()


@pytest.mark.slow
def test_a_map_samples_its_points_and_needs_distinct_embeddings() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 100
    drawn = compute_map(rng.normal(size=(300, 4)).astype(np.float32), labels, Metric.COSINE, 0, limit=50)
    assert drawn is not None
    assert len(drawn.rows) == 50
    assert len(place_names(drawn, [str(i) for i in range(100)])) == 12
    assert compute_map(np.ones((20, 4), np.float32), labels[:20], Metric.EUCLIDEAN, 0) is None
    assert compute_map(np.zeros((20, 4), np.float32), labels[:20], Metric.COSINE, 0) is None
    assert compute_map(np.ones((2, 4), np.float32), labels[:2], Metric.EUCLIDEAN, 0) is None


@pytest.mark.slow
def test_no_two_images_of_the_mosaic_share_a_cell() -> None:
    labels = np.zeros(80, np.int64)
    drawn = compute_map(np.random.default_rng(1).normal(size=(80, 3)).astype(np.float32), labels, Metric.EUCLIDEAN, 0)
    assert drawn is not None
    cells = grid_cells(drawn, 8)
    assert len({(c, r) for _, c, r in cells}) == len(cells) == len({i for i, _, _ in cells})
    assert all(0 <= c < 8 and 0 <= r < 8 for _, c, r in cells)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"lookalike\[report\]"):
        report.require()


@pytest.mark.slow
def test_a_folder_that_cannot_be_created_is_a_storage_error(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        report.write(evaluation, tmp_path / "file" / "folder")
