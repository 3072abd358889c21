"""Outlines: the few curves that products are drawn from.

Everything is an ``(n, 2)`` array of x, y in a product's own units: about -1 to 1, x to the right, y **down**. Angles are
degrees, clockwise from three o'clock.
"""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
XY = tuple[float, float]


def points(*xy: XY) -> Points:
    """The corners as they are given."""
    return np.array(xy, dtype=np.float64)


def arc(x: float, y: float, rx: float, ry: float, angles: tuple[float, float]) -> Points:
    """The arc of an ellipse round (x, y) from one angle to another, both ends included."""
    start, stop = angles
    count = max(6, int(abs(stop - start) / 9))
    turn = np.radians(np.linspace(start, stop, count + 1))
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> Points:
    """A whole ellipse round (x, y); a circle without ``ry``."""
    return arc(x, y, rx, rx if ry is None else ry, (-90, 270))[:-1]


def rounded(corners: Points, radius: float) -> Points:
    """The closed polygon with every corner cut round, by at most a third of its shorter side."""
    before, after = np.roll(corners, 1, axis=0) - corners, np.roll(corners, -1, axis=0) - corners
    length_before, length_after = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    reach = np.minimum(radius, 0.49 * np.minimum(length_before, length_after))[:, None]
    start = corners + before / length_before[:, None] * reach
    stop = corners + after / length_after[:, None] * reach
    t = np.linspace(0, 1, 6)[None, :, None]
    bent: Points = (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * corners[:, None] + t**2 * stop[:, None]
    return bent.reshape(-1, 2)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Points:
    """An upright rectangle, its corners rounded by ``radius``."""
    corners = points((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return rounded(corners, radius) if radius > 0 else corners


def curve(*xy: XY, closed: bool = False, steps: int = 7) -> Points:
    """A smooth curve through the points (Catmull-Rom spline)."""
    knots = np.array(xy, dtype=np.float64)
    if closed:
        knots = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    a, b, c, d = knots[:-3, None], knots[1:-2, None], knots[2:-1, None], knots[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    path = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    path = path.reshape(-1, 2)
    return path if closed else np.concatenate([path, knots[-2:-1]])


def path(*pieces: Points) -> Points:
    """Pieces one after the other."""
    return np.concatenate(pieces)


def flipped(outline: Points) -> Points:
    """The mirror image in x = 0, walked backwards so that it can follow the original."""
    return (outline * (-1.0, 1.0))[::-1]


def symmetric(right: Points) -> Points:
    """A closed outline from its right half, given from top to bottom."""
    return np.concatenate([right, flipped(right)])


def lathe(*profile: XY, bulge: float = 0.0, smooth: bool = True) -> Points:
    """A turned body (a vase, a cup) from (radius, y) pairs, top to bottom; ``bulge`` rounds its foot as seen from above."""
    side = curve(*profile) if smooth else np.array(profile, dtype=np.float64)
    radius, foot = side[-1]
    bottom = arc(0, foot, radius, bulge * radius, (0, 180)) if bulge > 0 else side[-1:]
    return np.concatenate([side, bottom, flipped(side)])


def band(middle: Points, width: float, end_width: float | None = None) -> Points:
    """The outline of a thick line with flat ends, which may taper to ``end_width``."""
    ahead = np.gradient(middle, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    half = np.linspace(width, width if end_width is None else end_width, len(middle))[:, None] / 2
    side = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * half
    return np.concatenate([middle + side, (middle - side)[::-1]])


def bar(start: XY, stop: XY, width: float, end_width: float | None = None) -> Points:
    """A straight bar from one point to the other."""
    return band(points(start, stop), width, end_width)


def moved(outline: Points, x: float, y: float) -> Points:
    """The outline, shifted."""
    shifted: Points = outline + np.array((x, y))
    return shifted


def turned(outline: Points, degrees: float, about: XY = (0.0, 0.0)) -> Points:
    """The outline, turned clockwise round a point."""
    angle = np.radians(degrees)
    matrix: Points = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    placed: Points = (outline - about) @ matrix + about
    return placed
