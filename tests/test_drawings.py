"""The kept drawings of products: strokes in tests/drawings, drawn by hand for the canvas."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DRAWINGS = sorted((Path(__file__).parent / "drawings").glob("*.json"))


def kind(path: Path) -> str:
    return path.stem.rpartition("-")[0]


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["strokes"]


def test_twelve_types_have_five_drawings_each() -> None:
    counts = Counter(map(kind, DRAWINGS))
    assert len(counts) == 12
    assert min(counts.values()) >= 5


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_small_and_its_strokes_stay_on_the_canvas(path: Path) -> None:
    strokes = read(path)
    assert path.stat().st_size <= 6_000
    assert 3 <= len(strokes) <= 25
    for stroke in strokes:
        assert len(stroke["points"]) >= 2
        assert 1 <= stroke["size"] <= 100
        for x, y, pressure in stroke["points"]:
            assert {type(x), type(y)} == {int}
            assert 0 <= min(x, y) <= max(x, y) <= 1000
            assert 0 <= pressure <= 1


def test_no_drawing_is_a_copy_of_another() -> None:
    outlines = [json.dumps([stroke["points"] for stroke in read(path)]) for path in DRAWINGS]
    assert len(set(outlines)) == len(DRAWINGS)
