"""Drawings as strokes: what is read, what is refused, and the shape that is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike import images
from lookalike.errors import UnreadableImageError, UsageError
from lookalike.images import Stroke, Strokes, read_strokes, render_strokes
from lookalike.images.strokes import MAX_BYTES, MAX_POINTS, MAX_STROKES

MUG = [
    [[300, 300, 0.5], [310, 700, 0.5], [590, 700, 0.5], [600, 300, 0.5], [300, 300, 0.5]],
    [[600, 400, 0.5], [720, 420, 0.5], [720, 580, 0.5], [598, 600, 0.5]],
]


def drawing(*strokes: list[list[float]], size: float = 8, eraser: bool = False) -> Strokes:
    return Strokes(tuple(Stroke(np.array(points, dtype=float), size, eraser) for points in strokes))


def pixels(strokes: Strokes, size: int = 200) -> np.ndarray:
    return np.asarray(render_strokes(strokes, size).convert("L"))


def ink(strokes: Strokes) -> float:
    """Return the area of the ink in units of the canvas."""
    return float((255 - pixels(strokes, 250).astype(float)).sum() / 255 * 16)


coordinates = st.floats(0, 1000)
points = st.tuples(coordinates, coordinates, st.floats(0, 1)).map(list)
strokes = st.lists(
    st.builds(
        lambda points, size, eraser: Stroke(np.array(points), size, eraser),
        st.lists(points, min_size=1, max_size=8),
        st.floats(0.5, 200),
        st.booleans(),
    ),
    max_size=4,
).map(lambda strokes: Strokes(tuple(strokes)))


@given(strokes)
@settings(max_examples=30, deadline=None)
def test_a_drawing_is_read_as_it_was_written(drawn: Strokes) -> None:
    read = read_strokes(json.dumps(drawn.to_dict()))
    assert len(read.strokes) == len(drawn.strokes)
    for one, other in zip(read.strokes, drawn.strokes, strict=True):
        assert np.allclose(one.points, other.points, atol=0.051)
        assert (one.size, one.eraser) == (other.size, other.eraser)


@given(strokes, st.integers(1, 80))
@settings(max_examples=30, deadline=None)
def test_any_drawing_is_drawn_in_grey_of_the_size_asked_for(drawn: Strokes, size: int) -> None:
    image = render_strokes(drawn, size)
    assert (image.mode, image.size) == ("RGB", (size, size))
    array = np.asarray(image)
    assert (array == array[..., :1]).all()


@given(st.floats(4, 200), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_width_of_a_line_follows_size_and_pressure(size: float, pressure: float) -> None:
    width = size * (0.5 + pressure)
    line = drawing([[300, 500, pressure], [700, 500, pressure]], size=size)
    assert ink(line) == pytest.approx(400 * width + np.pi * width**2 / 4, rel=0.03, abs=500)


def test_a_dot_is_a_disc_and_no_pen_draws_nothing() -> None:
    assert ink(drawing([[500, 500, 0.5]], size=100)) == pytest.approx(np.pi * 50**2, rel=0.03)
    assert (pixels(Strokes(())) == 255).all()
    assert pixels(drawing([[500, 500, 0.5]], size=1)).min() < 255


def test_a_curve_is_smooth_and_ends_where_the_pen_was_lifted() -> None:
    corner = pixels(drawing([[200, 800, 0.5], [200, 200, 0.5], [800, 200, 0.5]], size=20))
    assert corner[160, 40] < 50  # both ends
    assert corner[40, 160] < 50
    assert corner[40, 40] == 255  # the corner is cut


def test_an_eraser_is_white_and_order_counts() -> None:
    line = Stroke(np.array([[100, 500, 0.5], [900, 500, 0.5]]), 20.0)
    eraser = Stroke(np.array([[500, 100, 0.5], [500, 900, 0.5]]), 60.0, eraser=True)
    erased, over = pixels(Strokes((line, eraser))), pixels(Strokes((eraser, line)))
    assert (erased[100, 100], erased[100, 50]) == (255, 0)
    assert over[100, 100] == 0


def test_a_point_beside_the_canvas_draws_the_part_inside() -> None:
    assert pixels(drawing([[-500, 500, 0.5], [500, 500, 0.5]], size=20))[100, 0] == 0


@given(st.floats(0.5, 1.8), st.floats(-100, 100), st.floats(-100, 100))
@settings(max_examples=15, deadline=None)
def test_a_query_is_the_same_wherever_and_however_large_it_is_drawn(scale: float, x: float, y: float) -> None:
    moved = [[[(a - 500) * scale + 500 + x, (b - 500) * scale + 500 + y, p] for a, b, p in s] for s in MUG]
    here = images.open_image(json.dumps({"strokes": [{"points": points} for points in MUG]}).encode())
    there = images.open_image(json.dumps({"strokes": [{"points": points} for points in moved]}).encode())
    blurred = [np.asarray(image.convert("L").reduce(16), dtype=float) for image in (here, there)]
    difference = float(np.abs(blurred[0] - blurred[1]).mean())
    assert difference < 1.5  # of 255 grey levels


def test_what_was_erased_does_not_count_as_part_of_a_query() -> None:
    line = {"points": [[50, 50, 0.5], [50, 950, 0.5]]}
    eraser = {"points": [[50, 0, 0.5], [50, 1000, 0.5]], "size": 60, "eraser": True}
    mug = [{"points": points} for points in MUG]
    one, other = (images.load(json.dumps({"strokes": s}).encode(), 128) for s in (mug, [line, eraser, *mug]))
    assert np.array_equal(one, other)


def test_a_drawing_is_an_image_wherever_one_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "mug.json"
    path.write_text(json.dumps({"strokes": [{"points": points} for points in MUG]}))
    assert images.open_image(path).size == (512, 512)
    assert images.load(path, 64).shape == (64, 64, 3)
    assert images.claimed_pixels(path.read_bytes()) == 512**2
    assert path not in images.find(tmp_path)  # only a query is a drawing, never an item
    wide = images.load(path, 1000)
    assert wide.shape == (1000, 1000, 3)


POINT = [500, 500, 0.5]
HOSTILE = {
    "no JSON": ("{", "line 1"),
    "a list": ("[]", "strokes"),
    "no strokes": ('{"points": []}', "strokes"),
    "strokes of another type": ('{"strokes": 3}', "strokes"),
    "a stroke of another type": ('{"strokes": [[]]}', "stroke 1 has no points"),
    "a stroke without points": ('{"strokes": [{"points": []}]}', "stroke 1 has no points"),
    "two values": ('{"strokes": [{"points": [[1, 2]]}]}', "pressure"),
    "a text": ('{"strokes": [{"points": [[1, "2", 0]]}]}', "pressure"),
    "true": ('{"strokes": [{"points": [[1, true, 0]]}]}', "pressure"),
    "NaN": ('{"strokes": [{"points": [[1, NaN, 0]]}]}', "NaN"),
    "infinity": ('{"strokes": [{"points": [[1, 1e999, 0]]}]}', "too large"),
    "a huge number": ('{"strokes": [{"points": [[1, 1' + "0" * 90 + ", 0]]}]}", "far outside"),
    "far away": ('{"strokes": [{"points": [[1, 5000, 0]]}]}', "far outside"),
    "too much pressure": ('{"strokes": [{"points": [[1, 2, 1.5]]}]}', "pressure"),
    "a size of 0": ('{"strokes": [{"points": [[1, 2, 0]], "size": 0}]}', "size"),
    "a huge size": ('{"strokes": [{"points": [[1, 2, 0]], "size": 1e9}]}', "size"),
    "another eraser": ('{"strokes": [{"points": [[1, 2, 0]], "eraser": 1}]}', "eraser"),
    "deep": ('{"strokes": ' + "[" * 10_000 + "]" * 10_000 + "}", "inside each other"),
    "many strokes": (json.dumps({"strokes": [{"points": [POINT]}] * (MAX_STROKES + 1)}), "strokes, more than"),
    "many points": (json.dumps({"strokes": [{"points": [POINT] * (MAX_POINTS + 1)}]}), "points, more than"),
    "long": (json.dumps({"strokes": [{"points": [[0, 0, 0.5], [1000, 1000, 0.5]] * 100}]}), "units long"),
    "large": ('{"strokes": []}' + " " * MAX_BYTES, "bytes"),
}


@pytest.mark.parametrize(("content", "word"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_a_drawing_is_refused_in_one_line(content: str, word: str) -> None:
    with pytest.raises(UnreadableImageError, match=word) as refused:
        read_strokes(content)
    assert "\n" not in str(refused.value)
    with pytest.raises(UnreadableImageError):
        images.open_image(content.encode())


def test_a_side_below_1_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 pixel"):
        render_strokes(Strokes(()), 0)
