"""Drawings as strokes: JSON from the web page or a file, and their image.

A drawing is ``{"strokes": [{"points": [[x, y, pressure], …], "size": 8, "eraser": false}, …]}``. The canvas is a square whose
sides have the length 1000, and y points down. A stroke is a smooth curve near its points. Its width at a point is ``size``
times (0.5 + pressure): a mouse has no pressure, counts as 0.5, and draws a line that is ``size`` wide. An eraser is white.

``server/static/strokes.js`` draws the same shape in the browser.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from lookalike.errors import UnreadableImageError, UsageError
from lookalike.shapes import Float64
from lookalike.untrusted.parsing import ParseError, parse_json

CANVAS = 1000.0
"""The side of the canvas, in the unit of all coordinates and sizes."""

SIDE = 512
"""The largest side of the image of a drawing that is opened as an image, in pixels."""

DEFAULT_SIZE = 8.0
"""The size of a stroke that states none."""

MAX_BYTES = 1 << 21
"""The limit of a drawing, in bytes."""

MAX_STROKES, MAX_POINTS, MAX_LENGTH, MAX_SIZE = 2_000, 20_000, 200_000.0, 200.0
"""The limits of a drawing: its strokes, its points, the length of all lines, and the size of a stroke.

They bound the time to draw it. A detailed drawing has 200 strokes, 5,000 points and a length of 40,000.
"""

_OUTSIDE = CANVAS  # a hand runs over the edge: points may lie this far beside the canvas
_STEP = 8.0  # distance of two samples of a curve
_MOST_STEPS = 16  # between two points
_SAMPLING = 4  # samples of a pixel, each way

# In the images that encoders learn from, a product fills this share of the frame. A drawing is scaled to it, within limits.
_FILL = 0.78
_SCALES = (0.7, 4.0)
_THIN = 2.0  # size of the lines whose extent is measured


@dataclass(frozen=True, eq=False)
class Stroke:
    """A line that was drawn without lifting the pen.

    Attributes:
        points: ``(n, 3)``, at least one: x, y, and pressure in 0…1.
        size: its width at the pressure 0.5.
        eraser: whether it is white.
    """

    points: Float64[np.ndarray, "n 3"]
    size: float = DEFAULT_SIZE
    eraser: bool = False

    @property
    def length(self) -> float:
        """The length of the line from point to point."""
        return float(np.hypot(*np.diff(self.points[:, :2], axis=0).T).sum())


@dataclass(frozen=True)
class Strokes:
    """A drawing.

    Attributes:
        strokes: in the order in which they were drawn.
    """

    strokes: tuple[Stroke, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON, rounded to a tenth of a unit and a hundredth of the pressure."""
        return {
            "strokes": [
                {
                    "points": [[round(x, 1), round(y, 1), round(p, 2)] for x, y, p in stroke.points.tolist()],
                    "size": stroke.size,
                    "eraser": stroke.eraser,
                }
                for stroke in self.strokes
            ]
        }


# ---- reading


def is_drawing(data: bytes) -> bool:
    """Return whether a file holds a drawing: JSON with the key “strokes”, while no image begins with a brace."""
    return data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" and b'"strokes"' in data


def read_strokes(content: str | bytes, name: str = "The drawing") -> Strokes:
    """Read a drawing from JSON. Other keys than those of the format are ignored.

    Args:
        content: the JSON.
        name: its name in messages.

    Raises:
        UnreadableImageError: it is not a drawing, or exceeds a limit.
    """
    try:
        return _to_strokes(parse_json(content, MAX_BYTES))
    except ParseError as e:
        raise UnreadableImageError(f"{name} is not a drawing: {e}. Save it from the web page again.") from e


def _to_strokes(tree: object) -> Strokes:
    if not isinstance(tree, dict) or not isinstance(trees := tree.get("strokes"), list):
        raise ParseError("it has no list “strokes”")
    if len(trees) > MAX_STROKES:
        raise ParseError(f"it has {len(trees):,} strokes, more than {MAX_STROKES:,}")
    strokes = tuple(_to_stroke(one, number) for number, one in enumerate(trees, start=1))
    if (points := sum(len(stroke.points) for stroke in strokes)) > MAX_POINTS:
        raise ParseError(f"it has {points:,} points, more than {MAX_POINTS:,}")
    if (length := sum(stroke.length for stroke in strokes)) > MAX_LENGTH:
        raise ParseError(f"its lines are {length:,.0f} units long, more than {MAX_LENGTH:,.0f}")
    return Strokes(strokes)


def _to_stroke(tree: object, number: int) -> Stroke:
    if not isinstance(tree, dict) or not isinstance(points := tree.get("points"), list) or not points:
        raise ParseError(f"stroke {number} has no points")
    for point in points:
        if not isinstance(point, list) or len(point) != 3 or not all(map(_is_number, point)):  # noqa: PLR2004 -- x, y, pressure
            raise ParseError(f"a point of stroke {number} is not [x, y, pressure]")
    array = np.asarray(points, dtype=np.float64)
    if not ((array[:, :2] >= -_OUTSIDE) & (array[:, :2] <= CANVAS + _OUTSIDE)).all():
        raise ParseError(
            f"a point of stroke {number} is far outside the canvas, whose sides have the length {CANVAS:g}"
        )
    if not ((array[:, 2] >= 0) & (array[:, 2] <= 1)).all():
        raise ParseError(f"a pressure of stroke {number} is not between 0 and 1")
    size, eraser = tree.get("size", DEFAULT_SIZE), tree.get("eraser", False)
    if not _is_number(size) or not 0 < size <= MAX_SIZE:
        raise ParseError(f"the size of stroke {number} is not a number above 0, up to {MAX_SIZE:g}")
    if not isinstance(eraser, bool):
        raise ParseError(f"“eraser” of stroke {number} is neither true nor false")
    return Stroke(array, float(size), eraser)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- drawing


def render_strokes(strokes: Strokes, size: int) -> Image.Image:
    """Draw strokes as they lie on the canvas: RGB, black on white, antialiased, ``size`` by ``size`` pixels.

    Raises:
        UsageError: ``size`` is below 1.
    """
    if size < 1:
        raise UsageError(f"The size is {size}; a side has at least 1 pixel.")
    return _draw(strokes, size * _SAMPLING).reduce(_SAMPLING).convert("RGB")


def open_strokes(strokes: Strokes, side: int | None = None) -> Image.Image:
    """Draw strokes as a query, centred and scaled like the products in the images of a catalogue.

    A small drawing in a corner then finds the same items as a large one. The lines keep their width.

    Args:
        strokes: the drawing.
        side: of the square that the image will be fitted to; the image has this side, if it is at most `SIDE`.
    """
    return render_strokes(_fit_to_frame(strokes), min(side or SIDE, SIDE))


def _draw(strokes: Strokes, side: int) -> Image.Image:
    """Return the strokes in black and white."""
    paper = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(paper)
    for stroke in strokes.strokes:
        _draw_stroke(pen, stroke, side / CANVAS)
    return paper


def _draw_stroke(pen: ImageDraw.ImageDraw, stroke: Stroke, scale: float) -> None:
    """Draw a disc at each sample of the curve, and between two of them the quadrilateral that joins their diameters."""
    curve = _sample(stroke.points)
    fill = 255 if stroke.eraser else 0
    # Pillow paints all pixels between two corners and those of the corners, so a shape is a pixel larger than its size.
    centres, radii = curve[:, :2] * scale - 0.5, np.maximum((0.5 + curve[:, 2]) * stroke.size * scale / 2 - 0.5, 0.5)
    for box in np.concatenate([centres - radii[:, None], centres + radii[:, None]], axis=1).tolist():
        pen.ellipse(box, fill=fill)
    along = np.diff(centres, axis=0)
    length = np.hypot(along[:, 0], along[:, 1])
    across = along[:, ::-1] * (-1.0, 1.0) / np.maximum(length, 1e-9)[:, None]
    left, right = across * radii[:-1, None], across * radii[1:, None]
    corners = [centres[:-1] + left, centres[1:] + right, centres[1:] - right, centres[:-1] - left]
    for quadrilateral in np.concatenate(corners, axis=1)[length > 0].tolist():
        pen.polygon(quadrilateral, fill=fill)


def _sample(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "m 3"]:
    """Return points on a smooth curve: quadratic Bézier curves from middle to middle, controlled by the points between."""
    middles = (points[:-1] + points[1:]) / 2
    starts = np.concatenate([points[:1], middles[:-1]]) if len(middles) else middles
    lengths = np.hypot(*(middles - starts)[:, :2].T)
    steps = np.clip(np.ceil(lengths / _STEP), 1, _MOST_STEPS).astype(np.int64)
    curve = np.repeat(np.arange(len(steps)), steps)
    first = np.repeat(np.cumsum(steps) - steps, steps)
    t = ((np.arange(len(curve)) - first + 1) / steps[curve])[:, None]
    inner = (1 - t) ** 2 * starts[curve] + 2 * t * (1 - t) * points[curve] + t**2 * middles[curve]
    return np.concatenate([points[:1], inner, points[-1:]])


def _fit_to_frame(strokes: Strokes) -> Strokes:
    """Centre a drawing, and scale it to the size of products in the images that encoders learn from."""
    thin = [stroke if stroke.eraser else Stroke(stroke.points, _THIN) for stroke in strokes.strokes]
    # At one pixel a unit. What was erased does not count, nor does the width of the lines, which stays.
    if (box := ImageChops.invert(_draw(Strokes(tuple(thin)), int(CANVAS))).getbbox()) is None:
        return strokes
    left, top, right, bottom = box
    scale = min(max(_FILL * CANVAS / max(right - left, bottom - top), _SCALES[0]), _SCALES[1])
    shift = CANVAS / 2 - scale * np.array([(left + right) / 2, (top + bottom) / 2])
    return Strokes(
        tuple(
            Stroke(
                np.concatenate([stroke.points[:, :2] * scale + shift, stroke.points[:, 2:]], axis=1),
                stroke.size * scale if stroke.eraser else stroke.size,
                stroke.eraser,
            )
            for stroke in strokes.strokes
        )
    )
