"""Outlines: the curves that products are drawn from.

An outline is an ``(n, 2)`` array of x, y in product units: about -1 to 1, x to the right, y **down**. Angles are in
degrees, clockwise from three o'clock.
"""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
XY = tuple[float, float]


def points(*xy: XY) -> Points:
    """Make an outline of its corners."""
    return np.array(xy, dtype=np.float64)


def arc(x: float, y: float, rx: float, ry: float, angles: tuple[float, float]) -> Points:
    """Make the arc of an ellipse around (x, y), from one angle to another, both ends included."""
    start, stop = angles
    count = max(6, int(abs(stop - start) / 9))
    turn = np.radians(np.linspace(start, stop, count + 1))
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float | None = None) -> Points:
    """Make an ellipse around (x, y); a circle if ``ry`` is none."""
    return arc(x, y, rx, rx if ry is None else ry, (-90, 270))[:-1]


def round_corners(corners: Points, radius: float) -> Points:
    """Round the corners of a closed polygon, by less than half of the shorter side of each."""
    before, after = np.roll(corners, 1, axis=0) - corners, np.roll(corners, -1, axis=0) - corners
    length_before, length_after = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    reach = np.minimum(radius, 0.49 * np.minimum(length_before, length_after))[:, None]
    start = corners + before / length_before[:, None] * reach
    stop = corners + after / length_after[:, None] * reach
    t = np.linspace(0, 1, 6)[None, :, None]
    bent: Points = (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * corners[:, None] + t**2 * stop[:, None]
    return bent.reshape(-1, 2)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Points:
    """Make an upright rectangle with corners rounded by ``radius``."""
    corners = points((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return round_corners(corners, radius) if radius > 0 else corners


def curve(*xy: XY, closed: bool = False, steps: int = 7) -> Points:
    """Make a smooth curve through points (Catmull-Rom spline)."""
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
    """Join pieces end to end."""
    return np.concatenate(pieces)


def mirror(outline: Points) -> Points:
    """Mirror an outline in x = 0, and reverse it so that it can follow the original."""
    return (outline * (-1.0, 1.0))[::-1]


def symmetric(right: Points) -> Points:
    """Make a closed outline of its right half, which runs from top to bottom."""
    return np.concatenate([right, mirror(right)])


def lathe(*profile: XY, bulge: float = 0.0, smooth: bool = True) -> Points:
    """Make a body of revolution, such as a vase, of (radius, y) pairs from top to bottom; ``bulge`` rounds its foot."""
    side = curve(*profile) if smooth else np.array(profile, dtype=np.float64)
    radius, foot = side[-1]
    bottom = arc(0, foot, radius, bulge * radius, (0, 180)) if bulge > 0 else side[-1:]
    return np.concatenate([side, bottom, mirror(side)])


def band(middle: Points, width: float, end_width: float | None = None) -> Points:
    """Make the outline of a thick line with flat ends, which may taper to ``end_width``."""
    ahead = np.gradient(middle, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    half = np.linspace(width, width if end_width is None else end_width, len(middle))[:, None] / 2
    side = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * half
    return np.concatenate([middle + side, (middle - side)[::-1]])


def bar(start: XY, stop: XY, width: float, end_width: float | None = None) -> Points:
    """Make a straight bar between two points."""
    return band(points(start, stop), width, end_width)


def translate(outline: Points, x: float, y: float) -> Points:
    """Shift an outline."""
    shifted: Points = outline + np.array((x, y))
    return shifted


def rotate(outline: Points, degrees: float, about: XY = (0.0, 0.0)) -> Points:
    """Rotate an outline clockwise around a point."""
    angle = np.radians(degrees)
    matrix: Points = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    placed: Points = (outline - about) @ matrix + about
    return placed
