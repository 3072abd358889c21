"""Leisure: guitar, camera, ball, duck."""

import numpy as np

from lookalike.sample.geometry import (
    arc,
    band,
    bar,
    box,
    curve,
    ellipse,
    path,
    points,
    rotate,
    round_corners,
    translate,
)
from lookalike.sample.palette import (
    BRASS,
    DARK_STEEL,
    DARK_WOOD,
    GLASS,
    INK,
    PAPER,
    RUBBER,
    STEEL,
    WHITE,
    WOOD,
    paint,
    tint,
)
from lookalike.sample.parts import Look, Part, Role, line, rotate_parts

_BEAK = paint("f28a3c")
_NIGHT = paint("2b2e3f")
"""The colour of black glass and deep shade."""


def guitar(look: Look) -> list[Part]:
    """Draw a guitar, acoustic or electric, leaning."""
    neck_wood = look.one_of(DARK_WOOD, WOOD)
    half = look.vary(0.4, 0.48)
    neck = Part(
        points((-0.065, -0.95), (0.065, -0.95), (0.085, 0.25), (-0.085, 0.25)), neck_wood, shade="tube", lift=0.5
    )
    if look.style == "acoustic":
        body = curve(
            (0, -0.02),
            (half * 0.68, 0.02),
            (half * 0.78, 0.24),
            (half * 0.62, 0.42),
            (half, 0.7),
            (half * 0.86, 1.02),
            (0, 1.12),
            (-half * 0.86, 1.02),
            (-half, 0.7),
            (-half * 0.62, 0.42),
            (-half * 0.78, 0.24),
            (-half * 0.68, 0.02),
            closed=True,
        )
        deco = [
            Part(translate(body * 0.9, 0, 0.055), tint(look.main, 0.12), shade="soft", role="glow", gloss=0.12),
            Part(ellipse(0, 0.42, 0.185), look.second, shade="flat", role="trim", lift=0),
            Part(ellipse(0, 0.42, 0.15), _NIGHT, shade="hollow", lift=0),
            Part(box(-0.2, 0.84, 0.2, 0.91, 0.02), DARK_WOOD, shade="bar", role="trim"),
        ]
        bridge = 0.87
    else:
        horns = ((half * 0.84, 0.0), (-half * 0.9, -0.06))
        if look.style == "electric":
            body = curve(
                (0.1, 0.2),
                (half * 0.6, 0.18),
                horns[0],
                (half * 0.86, 0.32),
                (half * 0.74, 0.5),
                (half * 1.02, 0.82),
                (half * 0.6, 1.08),
                (-half * 0.6, 1.1),
                (-half * 1.05, 0.82),
                (-half * 0.78, 0.45),
                (-half * 0.95, 0.2),
                horns[1],
                (-half * 0.5, 0.16),
                (-0.1, 0.2),
                closed=True,
            )
        else:
            body = round_corners(
                points((-0.14, 0.1), (0.14, 0.1), (0.62, 1.12), (0.34, 1.16), (0, 0.72), (-0.34, 1.16), (-0.62, 1.12)),
                0.08,
            )
        guard = curve((0.05, 0.3), (half * 0.62, 0.3), (half * 0.55, 0.56), (0.3, 0.72), (0.08, 0.66), closed=True)
        deco = [
            *([Part(guard, look.second, shade="flat", role="trim", lift=0.15)] if look.style == "electric" else []),
            *[Part(box(-0.15, y, 0.15, y + 0.07, 0.03), _NIGHT, role="trim", lift=0.1) for y in (0.36, 0.52)],
            Part(box(-0.15, 0.68, 0.15, 0.74, 0.02), STEEL, shade="bar", role="trim", gloss=0.3),
            *[
                Part(ellipse(0.24 + 0.07 * i, 0.78 + 0.09 * i, 0.035), PAPER, shade="round", role="detail", lift=0.2)
                for i in (0, 1)
                if look.style == "electric"
            ],
        ]
        bridge = 0.7
    head = round_corners(points((-0.1, -0.95), (-0.14, -1.3), (0.14, -1.3), (0.1, -0.95)), 0.04)
    pegs = [
        Part(ellipse(s * 0.17, y, 0.045, 0.035), PAPER, shade="round", role="detail")
        for s in (-1, 1)
        for y in (-1.22, -1.12, -1.02)
    ]
    frets = [
        line(points((-0.07, y), (0.07, y)), STEEL, 0.012, role="glow")
        for y in (-0.8, -0.64, -0.48, -0.33, -0.19, -0.06)
    ]
    # A pen is too thick for all strings: two of them suffice in a sketch.
    strung: tuple[tuple[float, Role], ...] = ((-0.05, "glow"), (-0.017, "detail"), (0.017, "detail"), (0.05, "glow"))
    strings = [line(points((x * 0.8, -0.95), (x, bridge)), tint(STEEL, 0.35), 0.009, role=role) for x, role in strung]
    parts = [
        Part(body, look.main, pattern=look.pattern, gloss=0.15),
        *deco,
        *pegs,
        Part(head, neck_wood),
        neck,
        *frets,
        *strings,
    ]
    return rotate_parts(parts, look.vary(14, 42))


def camera(look: Look) -> list[Part]:
    """Draw a camera from the front: compact, reflex or instant."""
    half, high = look.vary(0.85, 0.98), look.vary(0.5, 0.6)
    big = look.vary(0.36, 0.43)
    x = look.vary(-0.05, 0.2)
    silver = look.one_of(STEEL, PAPER, look.second)
    body = box(-half, -high, half, high, 0.14)
    parts = [
        Part(box(-half * 0.72, -high - 0.12, -half * 0.42, -high + 0.1, 0.04), DARK_STEEL, shade="tube", role="trim")
    ]
    if look.style == "reflex":
        parts.append(
            Part(
                round_corners(
                    points(
                        (x - 0.36, -high + 0.05),
                        (x - 0.24, -high - 0.3),
                        (x + 0.24, -high - 0.3),
                        (x + 0.36, -high + 0.05),
                    ),
                    0.08,
                ),
                silver,
            )
        )
    if look.style == "instant":
        high = 0.75
        body = round_corners(
            points((-half * 0.85, -high), (half * 0.85, -high), (half * 0.95, high), (-half * 0.95, high)), 0.18
        )
        parts = [
            Part(box(-half * 0.55, high - 0.1, half * 0.55, high + 0.35, 0.02), PAPER, shade="flat"),
            Part(
                box(-half * 0.45, high, half * 0.45, high + 0.24),
                tint(look.second, -0.3),
                shade="soft",
                role="detail",
                lift=0,
            ),
        ]
        parts.append(Part(body, PAPER if look.maybe(0.3) else look.main, gloss=0.06))
        stripe = look.one_of(look.main, look.second)
        parts.append(
            Part(
                box(-half * 0.93, 0.32, half * 0.93, high - 0.06, 0.08),
                stripe,
                pattern=look.pattern_on(stripe),
                shade="bar",
                role="trim",
                lift=0.1,
            )
        )
        x, cy = 0.0, -0.12
    else:
        parts.append(Part(body, silver, gloss=0.06))
        parts.append(
            Part(
                box(-half, -high * 0.5, half, high * 0.72),
                look.main,
                shade="soft",
                role="trim",
                pattern=look.pattern,
                lift=0.1,
            )
        )
        cy = 0.06
    parts += [
        Part(ellipse(x, cy, big), DARK_STEEL, shade="round", lift=0.8, gloss=0.1),
        Part(ellipse(x, cy, big * 0.84), RUBBER, shade="round", role="trim", lift=0),
        Part(ellipse(x, cy, big * 0.6), _NIGHT, shade="hollow", lift=0),
        Part(ellipse(x, cy, big * 0.42), paint("3f5c8c"), shade="round", role="detail", gloss=0.5, lift=0),
        Part(ellipse(x - big * 0.16, cy - big * 0.2, big * 0.1), WHITE, shade="flat", role="glow", alpha=0.85),
    ]
    flash = box(half * 0.48, -high * 0.88, half * 0.8, -high * 0.6, 0.03)
    parts.append(Part(flash, GLASS, role="trim", gloss=0.4, lift=0.1))
    parts.append(
        Part(
            ellipse(-half * 0.62, -high * 0.74, 0.06),
            look.one_of(paint("d9534f"), BRASS, INK),
            shade="round",
            role="detail",
            gloss=0.3,
        )
    )
    return parts


def ball(look: Look) -> list[Part]:
    """Draw a football, a basketball, a beach ball or a tennis ball."""
    globe = ellipse(0, 0, 0.85)
    spin = look.vary(0, 360)
    if look.style == "football":
        white = tint(look.main, 0.86)
        parts = [Part(globe, white, shade="round")]
        patch = points(*[(float(x), float(y)) for x, y in ellipse(0, 0, 1)[::8]])
        parts.append(Part(rotate(patch * 0.3, spin), look.main, role="trim", lift=0, shade="flat"))
        for fifth in range(5):
            far = rotate(points((0.0, -0.3), (0, -0.55)), spin + fifth * 72)
            parts.append(line(far, tint(look.main, -0.1), 0.02, role="trim"))
            edge = rotate(
                points((-0.16, -0.72), (0, -0.52), (0.16, -0.72), (0.12, -0.83), (-0.12, -0.83)), spin + fifth * 72
            )
            parts.append(Part(edge, look.main, shade="flat", role="trim", lift=0))
            seam = rotate(points((0.16, -0.72), (0.38, -0.54)), spin + fifth * 72)
            parts.append(line(seam, tint(look.main, -0.1), 0.02))
            parts.append(
                line(rotate(points((-0.16, -0.72), (-0.38, -0.54)), spin + fifth * 72), tint(look.main, -0.1), 0.02)
            )
    elif look.style == "basketball":
        groove = tint(look.main, -0.65)
        parts = [Part(globe, look.main, shade="round")]
        curves = [
            points((0, -0.85), (0, 0.85)),
            points((-0.85, 0), (0.85, 0)),
            arc(-0.95, 0, 0.6, 0.66, (-58, 58)),
            arc(0.95, 0, 0.6, 0.66, (122, 238)),
        ]
        parts += [line(rotate(c, spin), groove, 0.035, role="trim") for c in curves]
    elif look.style == "beach":
        parts = [Part(globe, PAPER, shade="round")]
        tones = (look.main, PAPER, look.second, PAPER, look.main, PAPER) if look.maybe() else (look.main, PAPER) * 3
        pole = (0.18, -0.32)
        around = np.linspace(0, 2 * np.pi, 7)
        for panel, tone in enumerate(tones):
            edges = []
            for a in (around[panel], around[panel + 1]):
                rim = (0.85 * np.cos(a), 0.85 * np.sin(a))
                swing = (0.5 * (rim[0] + pole[0]) - 0.12 * np.sin(a), 0.5 * (rim[1] + pole[1]) + 0.12 * np.cos(a))
                edges.append(curve(pole, (float(swing[0]), float(swing[1])), (float(rim[0]), float(rim[1]))))
            rim_arc = arc(0, 0, 0.85, 0.85, (float(np.degrees(around[panel])), float(np.degrees(around[panel + 1]))))
            parts.append(
                Part(
                    rotate(path(edges[0], rim_arc, edges[1][::-1]), spin * 0.15),
                    tone,
                    shade="flat",
                    role="trim",
                    lift=0,
                )
            )
        parts.append(Part(rotate(ellipse(*pole, 0.1), spin * 0.15), look.second, shade="flat", role="trim", lift=0))
    else:
        parts = [Part(globe, look.main, shade="round", pattern=look.pattern)]
        parts += [
            Part(
                rotate(band(arc(s * 1.0, 0, 0.72, 0.8, (90 + s * 30, 90 + s * 150)), 0.055), spin),
                PAPER,
                shade="flat",
                role="trim",
                lift=0,
            )
            for s in (1, -1)
        ]
    shade = Part(globe, _NIGHT, shade="flat", role="glow", alpha=0.16, holes=(ellipse(-0.12, -0.14, 0.74),))
    return [
        *parts,
        shade,
        Part(
            rotate(ellipse(-0.36, -0.42, 0.2, 0.12), -42, (-0.36, -0.42)), WHITE, shade="flat", role="glow", alpha=0.28
        ),
    ]


def duck(look: Look) -> list[Part]:
    """Draw a bath duck that swims to the right."""
    head, plump = look.vary(0.36, 0.44), look.vary(0.92, 1.08)
    beak = _BEAK if look.main != _BEAK else look.second
    body = curve(
        (-0.98, -0.28),
        (-0.7, -0.02),
        (-0.25, -0.06),
        (0.2, -0.2),
        (0.62, -0.02),
        (0.78, 0.3 * plump),
        (0.5, 0.68 * plump),
        (-0.1, 0.78 * plump),
        (-0.62, 0.66 * plump),
        (-0.92, 0.28),
        closed=True,
    )
    cx, cy = 0.4, -0.48
    wing = curve((-0.52, 0.12), (-0.1, 0.08), (0.2, 0.22), (0.02, 0.46), (-0.3, 0.5), (-0.6, 0.34), closed=True)
    parts = [
        Part(body, look.main, shade="round", pattern=look.pattern, gloss=0.25),
        Part(
            curve(
                (cx + head * 0.75, cy - 0.02),
                (cx + head + 0.2, cy + 0.02),
                (cx + head + 0.32, cy + 0.1),
                (cx + head + 0.1, cy + 0.2),
                (cx + head * 0.7, cy + 0.2),
                closed=True,
            ),
            beak,
            shade="bar",
        ),
        Part(ellipse(cx, cy, head), look.main, shade="round", gloss=0.25, lift=0.25),
        line(
            curve((cx + head * 0.85, cy + 0.1), (cx + head + 0.12, cy + 0.12), (cx + head + 0.26, cy + 0.09)),
            tint(beak, -0.3),
            0.02,
        ),
        Part(ellipse(cx + head * 0.38, cy - 0.1, 0.075, 0.095), _NIGHT, shade="flat", role="trim", lift=0),
        Part(ellipse(cx + head * 0.38 + 0.02, cy - 0.13, 0.026), WHITE, shade="flat", role="glow"),
        Part(ellipse(cx + head * 0.1, cy + 0.14, 0.08, 0.05), paint("ee8f7f"), shade="flat", role="glow", alpha=0.4),
        Part(wing, tint(look.main, 0.08), shade="round", lift=0.5),
    ]
    if look.style == "crested":
        parts.insert(
            0,
            Part(
                curve(
                    (cx - 0.16, cy - head + 0.06),
                    (cx - 0.14, cy - head - 0.18),
                    (cx + 0.02, cy - head - 0.1),
                    (cx + 0.14, cy - head - 0.16),
                    (cx + 0.16, cy - head + 0.08),
                    closed=True,
                ),
                look.main,
                role="trim",
            ),
        )
    elif look.style == "hatted":
        parts += [
            Part(
                path(arc(cx - 0.04, cy - head * 0.72, 0.26, 0.3, (180, 360))), look.second, shade="round", role="trim"
            ),
            Part(
                rotate(ellipse(cx - 0.04, cy - head * 0.7, 0.4, 0.085), -6, (cx, cy)),
                look.second,
                shade="bar",
                role="trim",
            ),
        ]
    elif look.style == "scarfed":
        parts += [
            Part(
                band(curve((cx - 0.36, cy + head * 0.66), (cx, cy + head * 1.06), (cx + 0.32, cy + head * 0.66)), 0.13),
                look.second,
                role="trim",
            )
        ]
        parts += [
            Part(
                bar((cx - 0.16, cy + head * 0.95), (cx - 0.22, cy + head * 1.75), 0.13, 0.15), look.second, role="trim"
            )
        ]
    return parts
