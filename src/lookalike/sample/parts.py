"""What a product is made of: parts, from the farthest to the nearest, that a photo fills and a sketch outlines."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from lookalike.sample.geometry import Points, turned
from lookalike.sample.palette import Paint

Role = Literal["body", "trim", "detail", "glow"]
"""What a part is to someone drawing it.

``body`` and ``trim`` are always drawn, ``detail`` only by those who take the trouble, ``glow`` (light, glass, sheen) is
in photos alone.
"""
Shade = Literal["flat", "soft", "round", "tube", "bar", "hollow", "halo"]
"""How light falls on a part.

``flat``: not at all; ``soft``: as on a board; ``round``: a ball; ``tube``: an upright cylinder; ``bar``: a lying one;
``hollow``: into a bowl; ``halo``: it is light itself and fades towards its edge.
"""
PatternKind = Literal["plain", "stripes", "dots", "checks", "zigzag"]


@dataclass(frozen=True)
class Pattern:
    """What is printed on a part.

    Attributes:
        kind: The print; ``plain`` for none.
        paint: Its colour.
        pitch: Distance from one stripe or dot to the next, in product units.
        angle: Direction in degrees.
    """

    kind: PatternKind
    paint: Paint
    pitch: float = 0.3
    angle: float = 0.0


@dataclass(frozen=True)
class Part:
    """One piece of a product.

    Attributes:
        outline: ``(n, 2)`` closed outline, or the middle of a line when ``width`` is set.
        paint: Its colour.
        shade: How light falls on it.
        role: What it is to someone drawing it.
        pattern: What is printed on it.
        holes: Outlines cut out of it.
        width: Thickness of a line in product units; 0 for a filled outline.
        alpha: Opacity, 0 to 1. What is behind a translucent part shows in a sketch too.
        gloss: Strength of the highlight, 0 to 1.
        lift: How far it stands out from what is behind it, 0 to 1: the strength of the shadow it casts there.
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
    """A line: in a photo as thick as ``width``, in a sketch one stroke."""
    return Part(path, paint, shade="flat", role=role, width=width, lift=0.0)


def tilted(parts: list[Part], degrees: float) -> list[Part]:
    """All parts turned clockwise round the origin."""
    return [
        replace(part, outline=turned(part.outline, degrees), holes=tuple(turned(hole, degrees) for hole in part.holes))
        for part in parts
    ]


@dataclass(frozen=True)
class Look:
    """What is chosen for a product before it is drawn.

    Attributes:
        style: One of its class's variants.
        main: The colour it is named after.
        second: A colour that goes with it.
        pattern: The print, None when plain.
        rng: Its proportions come from here.
    """

    style: str
    main: Paint
    second: Paint
    pattern: Pattern | None
    rng: np.random.Generator

    def vary(self, low: float, high: float) -> float:
        """A proportion between two figures."""
        return float(self.rng.uniform(low, high))

    def count(self, low: int, high: int) -> int:
        """A number between two, both included."""
        return int(self.rng.integers(low, high + 1))

    def maybe(self, chance: float = 0.5) -> bool:
        """Whether it has some extra."""
        return bool(self.rng.random() < chance)

    def print_on(self, ground: Paint) -> Pattern | None:
        """The print for a part of this colour: in the main colour where the ground has the print's own."""
        if self.pattern is None or self.pattern.paint != ground:
            return self.pattern
        return replace(self.pattern, paint=self.main)

    def one_of(self, *paints: Paint) -> Paint:
        """One of several colours."""
        return paints[int(self.rng.integers(len(paints)))]
