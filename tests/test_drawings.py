"""The kept drawings of products, strokes in tests/drawings, and the benchmark that searches with them."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import shop_sketches  # noqa: E402

from lookalike import images  # noqa: E402
from lookalike.images.strokes import read_strokes  # noqa: E402

DRAWINGS = sorted(shop_sketches.DRAWINGS.glob("*.json"))


def test_twelve_types_have_five_drawings_each() -> None:
    paths, articles = shop_sketches.read_drawings(shop_sketches.DRAWINGS)
    assert paths == DRAWINGS
    counts = Counter(articles)
    assert set(counts) == set(shop_sketches.ARTICLES.values())
    assert len(counts) == 12
    assert min(counts.values()) >= 5


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_small_and_its_strokes_stay_on_the_canvas(path: Path) -> None:
    strokes = read_strokes(path.read_bytes()).strokes
    assert path.stat().st_size <= 6_000
    assert 3 <= len(strokes) <= 25
    for stroke in strokes:
        assert len(stroke.points) >= 2
        assert 1 <= stroke.size <= 100
        places = stroke.points[:, :2]
        assert (places == places.round()).all()
        assert 0 <= places.min() <= places.max() <= 1000


def test_no_drawing_is_a_copy_of_another() -> None:
    assert len({path.read_bytes() for path in DRAWINGS}) == len(DRAWINGS)


def small(paths: shop_sketches.Paths) -> np.ndarray:
    """Describe images by their grey pixels."""
    return np.stack([255 - images.load(path, 16)[:, :, 0].astype(np.float32).ravel() for path in paths])


def test_a_search_for_the_drawings_among_themselves_is_measured_and_shown() -> None:
    paths, articles = shop_sketches.read_drawings(shop_sketches.DRAWINGS)
    known = paths[:10], articles[:10]  # of two types
    exact = shop_sketches.find(shop_sketches.Model("pixels", small, small), known, known)
    chance = shop_sketches.find(
        shop_sketches.Model("chance", shop_sketches.embed_equally, shop_sketches.embed_equally), known, known
    )
    assert exact.scores[:, 0] == pytest.approx(1)  # each drawing finds itself first
    assert (exact.hits[:, 0] == np.arange(10)).all()
    assert chance.scores[:, 1] == pytest.approx(5 / 10)
    assert "| 1.000 (1.000–1.000) |" in shop_sketches.line(exact, known[1])
    assert "against chance: MRR +" in shop_sketches.gain(chance, exact, known[1])
    sheet = shop_sketches.draw(exact, known, known)
    assert isinstance(sheet, Image.Image)
    saved = shop_sketches.summary(exact, known[1])
    assert saved["MRR"] == [1, 1, 1]
    assert set(saved["articles"]) == set(known[1])


def test_the_results_file_keeps_other_models(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    shop_sketches.save(path, {"one": 1, "two": 2})
    shop_sketches.save(path, {"two": 3})
    assert json.loads(path.read_text(encoding="utf-8")) == {"one": 1, "two": 3}


def test_drawings_are_drawn_anew_within_their_articles() -> None:
    articles = ["belt"] * 5 + ["sock"] * 5
    same = np.repeat([[0.2], [0.6]], 5, axis=0)  # all drawings of an article are alike: nothing to vary
    assert shop_sketches.resample(same, articles) == pytest.approx(0.4)
    varied = np.arange(10.0)[:, None]
    means = shop_sketches.resample(varied, articles)
    assert means.mean() == pytest.approx(4.5, abs=0.05)
    assert means.std() == pytest.approx(np.sqrt(2 / 10), rel=0.05)  # a variance of 2 in each article, 10 drawings
