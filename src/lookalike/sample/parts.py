"""Parts of a product, from the farthest to the nearest: a photo fills them, a sketch outlines them."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from lookalike.sample.geometry import Points, rotate
from lookalike.sample.palette import Paint

Role = Literal["body", "trim", "detail", "glow"]
"""The role of a part in a sketch.

Every hand draws ``body`` and ``trim``, and some hands leave ``detail`` out; ``glow`` (light, glass, sheen) is in photos alone.
"""
Shade = Literal["flat", "soft", "round", "tube", "bar", "hollow", "halo"]
"""The shading of a part.

``flat``: none; ``soft``: a board; ``round``: a ball; ``tube``: an upright cylinder; ``bar``: a lying one; ``hollow``: the
inside of a bowl; ``halo``: light that fades towards its edge.
"""
PatternKind = Literal["plain", "stripes", "dots", "checks", "zigzag"]


@dataclass(frozen=True)
class Pattern:
    """A pattern printed on a part.

    Attributes:
        kind: ``plain`` for none.
        paint: its colour.
        pitch: distance from one stripe or dot to the next, in product units.
        angle: its direction, in degrees.
    """

    kind: PatternKind
    paint: Paint
    pitch: float = 0.3
    angle: float = 0.0


@dataclass(frozen=True)
class Part:
    """One piece of a product.

    Attributes:
        outline: ``(n, 2)``, a closed outline; or the middle of a line if ``width`` is set.
        paint: its colour.
        shade: its shading.
        role: its role in a sketch.
        pattern: printed on it.
        holes: outlines cut out of it.
        width: thickness of a line in product units; 0 for a filled outline.
        alpha: opacity, 0…1. Parts behind a translucent part are visible in a sketch too.
        gloss: strength of the highlight, 0…1.
        lift: strength of the shadow on the parts behind it, 0…1.
    """

    outline: Points
    paint: Paint
    shade: Shade = "soft"
    role: Role = "body"
    pattern: Pattern | None = None
    holes: tuple[Points, ...] = field(default=())
    width: float = 0.0
    alpha: float = 1.0
    gloss: float = 0.0
    lift: float = 0.4


def line(path: Points, paint: Paint, width: float, role: Role = "detail") -> Part:
    """Make a line: as thick as ``width`` in a photo, one stroke in a sketch."""
    return Part(path, paint, shade="flat", role=role, width=width, lift=0.0)


def rotate_parts(parts: list[Part], degrees: float) -> list[Part]:
    """Rotate parts clockwise around the origin."""
    return [
        replace(part, outline=rotate(part.outline, degrees), holes=tuple(rotate(hole, degrees) for hole in part.holes))
        for part in parts
    ]


@dataclass(frozen=True)
class Look:
    """The choices for a product, from which it is drawn.

    Attributes:
        style: one of its class's variants.
        main: the colour in its title.
        second: a colour that goes with it.
        pattern: the print; none if it is plain.
        rng: draws its proportions.
    """

    style: str
    main: Paint
    second: Paint
    pattern: Pattern | None
    rng: np.random.Generator

    def vary(self, low: float, high: float) -> float:
        """Draw a proportion between two bounds."""
        return float(self.rng.uniform(low, high))

    def count(self, low: int, high: int) -> int:
        """Draw a whole number between two bounds, both included."""
        return int(self.rng.integers(low, high + 1))

    def maybe(self, chance: float = 0.5) -> bool:
        """Draw whether it has an extra."""
        return bool(self.rng.random() < chance)

    def pattern_on(self, ground: Paint) -> Pattern | None:
        """Return the print for a part of this colour, in the main colour if the print would be invisible."""
        if self.pattern is None or self.pattern.paint != ground:
            return self.pattern
        return replace(self.pattern, paint=self.main)

    def one_of(self, *paints: Paint) -> Paint:
        """Draw one of several colours."""
        return paints[int(self.rng.integers(len(paints)))]
