"""Sketches: parts drawn by hand, in wobbly strokes that overlap at the corners.

Parts are drawn from the farthest to the nearest. Each is first wiped out of the paper and then outlined, so that lines
behind it disappear. Every variant is another hand: another pen, a steadier or shakier line, more or less detail.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lookalike.sample.geometry import Points
from lookalike.sample.parts import Part, Pattern
from lookalike.sample.render import Pose, Scene

_CORNER = np.cos(np.radians(50))
"""The pen is lifted where an outline turns by more than 50 degrees."""
_DETAILING, _PRINTING, _DOUBLING = 0.75, 0.7, 0.22
"""Shares of the hands that draw details, hint at prints, and go over their lines twice."""
_WAVES = np.array([0.75, 0.5, 0.2])
"""Amplitudes of the three waves of a wobble, the slowest first."""
_STEP = 0.017
"""Distance between two points of a stroke, in frame units."""
_SAME_POINT = 1e-6
"""Two points closer than this (frame units) are one."""
_SMALL = 0.03
"""Strokes shorter than this (frame units) do not wobble."""


@dataclass(frozen=True)
class _Hand:
    """A drawing hand.

    Attributes:
        pen: stroke width in frame units.
        shake: amplitude of the wobble in frame units.
        overshoot: distance that strokes run past their ends, in frame units.
        dark: grey of the ink, 0 is black.
        detail: it draws details.
        prints: it hints at patterns.
        twice: it goes over outlines a second time.
        matrix: distortion of the whole drawing.
        offset: shift of the whole drawing.
    """

    pen: float
    shake: float
    overshoot: float
    dark: int
    detail: bool
    prints: bool
    twice: bool
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]


def _draw_hand(rng: np.random.Generator) -> _Hand:
    askew = rng.normal(0, 0.018, (2, 2)) + np.eye(2) * rng.uniform(0.93, 1.04)
    return _Hand(
        pen=float(rng.uniform(0.007, 0.0135)),
        shake=float(rng.uniform(0.002, 0.0062)),
        overshoot=float(rng.uniform(0.0, 0.012)),
        dark=int(rng.integers(15, 75)),
        detail=bool(rng.random() < _DETAILING),
        prints=bool(rng.random() < _PRINTING),
        twice=bool(rng.random() < _DOUBLING),
        matrix=askew,
        offset=rng.normal(0, 0.012, 2),
    )


def _resample(outline: Points, step: float) -> Points:
    """Resample an outline to points at an even distance, at least two."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*(outline[1:] - outline[:-1]).T))])
    count = max(2, int(length[-1] / step) + 1)
    at = np.linspace(0, length[-1], count)
    return np.stack([np.interp(at, length, outline[:, 0]), np.interp(at, length, outline[:, 1])], axis=1)


def _strokes(outline: Points, closed: bool) -> list[Points]:
    """Cut an outline into strokes at its corners, where the pen is lifted."""
    if closed:
        outline = np.concatenate([outline, outline[:1]])
    ahead = outline[1:] - outline[:-1]
    length = np.hypot(ahead[:, 0], ahead[:, 1])
    keep = np.concatenate([[True], length > _SAME_POINT])
    outline, ahead, length = outline[keep], ahead[keep[1:]], length[keep[1:]]
    if len(ahead) == 0:
        return []
    ahead = ahead / length[:, None]
    turn = (ahead[:-1] * ahead[1:]).sum(axis=1)
    cuts = (np.flatnonzero(turn < _CORNER) + 1).tolist()
    if closed and float(ahead[-1] @ ahead[0]) < _CORNER:
        cuts.insert(0, 0)
    if closed and cuts:
        # Begin at a corner, so that no side is cut in two.
        outline = np.concatenate([outline[cuts[0] : -1], outline[: cuts[0] + 1]])
        cuts = [cut - cuts[0] for cut in cuts[1:]]
    edges = [0, *cuts, len(outline) - 1]
    return [outline[start : stop + 1] for start, stop in pairwise(edges) if stop > start]


class _Sheet:
    """Paper, a pen and a hand."""

    def __init__(self, hand: _Hand, pose: Pose, size: int, rng: np.random.Generator) -> None:
        self.hand, self.pose, self.rng = hand, pose, rng
        self.sampling = 3
        self.side = size * self.sampling
        self.paper = Image.new("L", (self.side, self.side), 255)
        self.pen = ImageDraw.Draw(self.paper)

    def place(self, outline: Points) -> Points:
        """Convert product units to frame units, distorted by the hand."""
        placed = self.pose.place(outline) - 0.5
        return placed @ self.hand.matrix + self.hand.offset + 0.5

    def wobble(self, stroke: Points, strength: float) -> Points:
        """Shake a stroke by three slow waves each way; ``strength`` is their share of the hand's shake."""
        waves = self.rng.uniform((1.2, 3, 7), (3, 7, 13))[:, None] * (2 * np.pi, 1.8 * np.pi)
        phase = self.rng.uniform(0, 2 * np.pi, (3, 2))
        long = 0.3 + float(np.abs(stroke[-1] - stroke[0]).sum())
        along = np.linspace(0, long, len(stroke))[:, None, None]
        shaken: Points = stroke + np.einsum(
            "nwx,w->nx", np.sin(along * waves + phase), _WAVES * (self.hand.shake * strength)
        )
        return shaken

    def draw(self, stroke: Points, weight: float, pen: ImageDraw.ImageDraw) -> None:
        """Draw a stroke, thinner at its ends, which runs past them by the hand's overshoot."""
        ahead = np.empty_like(stroke)
        ahead[:-1] = stroke[1:] - stroke[:-1]
        ahead[-1] = ahead[-2]
        ahead /= np.maximum(np.hypot(ahead[:, :1], ahead[:, 1:]), 1e-9)
        past = self.rng.uniform(0, self.hand.overshoot, 2)
        stroke = np.concatenate([stroke[:1] - ahead[:1] * past[0], stroke, stroke[-1:] + ahead[-1:] * past[1]])
        ahead = np.concatenate([ahead[:1], ahead, ahead[-1:]])
        t = np.linspace(0, 1, len(stroke))
        press = 1 + 0.22 * np.sin(t * self.rng.uniform(4, 9) + self.rng.uniform(0, 6))
        half = self.hand.pen * weight * press * np.minimum(1, 0.62 + 2.5 * np.minimum(t, 1 - t)) / 2
        side = ahead[:, ::-1] * half[:, None] * (-1.0, 1.0)
        outline = np.concatenate([stroke + side, (stroke - side)[::-1]]) * self.side
        pen.polygon(outline.ravel().tolist(), fill=self.hand.dark)

    def outline(self, outline: Points, *, closed: bool, wipe: bool, weight: float) -> None:
        """Wipe the area of an outline if asked to, then draw it."""
        placed = self.place(outline)
        extent = float((placed.max(axis=0) - placed.min(axis=0)).max())
        strength = min(1.0, 0.25 + extent * 2.5)
        strokes = []
        for stroke in _strokes(placed, closed):
            even = _resample(stroke, _STEP)
            strokes.append(self.wobble(even, strength) if extent > _SMALL else even)
        if not strokes:
            return
        if wipe:
            self.pen.polygon((np.concatenate(strokes) * self.side).ravel().tolist(), fill=255)
        for _ in range(2 if self.hand.twice and extent > 4 * _SMALL else 1):
            for stroke in strokes:
                again = self.wobble(stroke, 0.5 * strength) if self.hand.twice else stroke
                if closed and len(strokes) == 1:
                    # A round outline takes two strokes: the pen starts anywhere and runs past its start.
                    first = int(self.rng.integers(len(again)))
                    whole = np.concatenate([again[first:-1], again[: first + 2]])
                    middle = len(whole) // 2
                    self.draw(whole[: middle + 2], weight, self.pen)
                    self.draw(whole[middle:], weight, self.pen)
                else:
                    self.draw(again, weight, self.pen)

    def part(self, part: Part) -> None:
        """Draw a part: its outline, its holes and a hint of its print."""
        weight = 0.8 if part.role == "detail" else 1.0
        if part.width > 0:
            self.outline(part.outline, closed=False, wipe=False, weight=weight)
            return
        if part.holes:
            ring = [part.outline, part.outline[:1]]
            for hole in part.holes:
                ring += [hole, hole[:1], part.outline[:1]]
            self.pen.polygon((self.place(np.concatenate(ring)) * self.side).ravel().tolist(), fill=255)
        self.outline(part.outline, closed=True, wipe=not part.holes and part.alpha == 1, weight=weight)
        for hole in part.holes:
            self.outline(hole, closed=True, wipe=False, weight=weight)
        if part.pattern is not None and self.hand.prints:
            self.print(part, part.pattern)

    def print(self, part: Part, pattern: Pattern) -> None:
        """Draw a hint of a part's print: a few thin strokes within its outline."""
        inside = Image.new("L", self.paper.size)
        ImageDraw.Draw(inside).polygon((self.place(part.outline) * self.side).ravel().tolist(), fill=255)
        layer = self.paper.copy()
        pen = ImageDraw.Draw(layer)
        for mark in _marks(part.outline, pattern):
            self.draw(self.wobble(_resample(self.place(mark), _STEP), 0.5), 0.62, pen)
        self.paper.paste(layer, mask=inside)


def _marks(outline: Points, pattern: Pattern) -> list[Points]:
    """Return the lines of a print within the bounds of an outline."""
    angle = np.radians(pattern.angle)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    u, v, pitch = outline @ along, outline @ across, pattern.pitch
    columns = np.arange(np.floor(u.min() / pitch), np.ceil(u.max() / pitch) + 1) * pitch
    rows = np.arange(np.floor(v.min() / pitch), np.ceil(v.max() / pitch) + 1) * pitch
    ends = np.array([columns[0], columns[-1]])
    if pattern.kind == "dots":
        turn = np.linspace(0, 2 * np.pi, 12)
        circle = 0.25 * pitch * (np.cos(turn)[:, None] * along + np.sin(turn)[:, None] * across)
        return [
            circle + along * (x + (0.5 - 0.5 * (round(y / pitch) % 2)) * pitch) + across * (y + 0.5 * pitch)
            for y in rows
            for x in columns
        ]
    if pattern.kind == "zigzag":
        teeth = np.arange(columns[0] - pitch, columns[-1] + 2 * pitch, 0.625 * pitch)
        rise = np.where(np.arange(len(teeth)) % 2, 0.14, -0.14) * pitch
        return [teeth[:, None] * along + (y + rise)[:, None] * across for y in rows]
    lines = [ends[:, None] * along + (y + shift * pitch) * across for y in rows for shift in (0.27, 0.73)]
    if pattern.kind == "checks":
        tops = np.array([rows[0], rows[-1]])
        lines += [along * (x + shift * pitch) + tops[:, None] * across for x in columns for shift in (0.27, 0.73)]
    return lines


def render_sketch(scene: Scene, size: int, rng: np.random.Generator) -> Image.Image:
    """Draw a scene by one hand: RGB, dark strokes on white, ``size`` by ``size`` pixels."""
    hand = _draw_hand(rng)
    sheet = _Sheet(hand, scene.pose, size, rng)
    for part in scene.parts:
        if part.role == "glow" or (part.role == "detail" and not hand.detail):
            continue
        sheet.part(part)
    return sheet.paper.reduce(sheet.sampling).convert("RGB")
