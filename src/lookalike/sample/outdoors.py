"""Outdoors: bicycle, car, tent, umbrella."""

import numpy as np

from lookalike.sample.geometry import arc, band, bar, box, curve, ellipse, path, points, round_corners
from lookalike.sample.palette import (
    BRASS,
    DARK_STEEL,
    DARK_WOOD,
    INK,
    LEATHER,
    PAPER,
    RUBBER,
    STEEL,
    WHITE,
    WOOD,
    paint,
    tint,
)
from lookalike.sample.parts import Look, Part, line


def _wheel(x: float, y: float, radius: float, look: Look, spokes: int) -> list[Part]:
    rods = [
        line(points((x, y), (x + 0.9 * radius * np.cos(a), y + 0.9 * radius * np.sin(a))), STEEL, 0.014)
        for a in np.linspace(0, 2 * np.pi, spokes, endpoint=False) + 0.2
    ]
    return [
        *rods,
        Part(ellipse(x, y, radius), RUBBER, holes=(ellipse(x, y, radius * 0.86),), lift=0),
        Part(
            ellipse(x, y, radius * 0.87),
            tint(look.second, 0.3),
            shade="flat",
            role="glow",
            holes=(ellipse(x, y, radius * 0.81),),
        ),
        Part(ellipse(x, y, 0.06), DARK_STEEL, shade="round", role="trim"),
    ]


def bicycle(look: Look) -> list[Part]:
    """Draw a bicycle from the side, facing right."""
    radius = look.vary(0.42, 0.5) if look.style != "folding" else look.vary(0.27, 0.31)
    back, front, hub = (-0.72, 0.4), (0.74, 0.4), (-0.12, 0.42)
    saddle, head = (-0.32, -0.3), (0.5, -0.34)
    low = (0.57, -0.1)
    tube, leather = 0.07, look.one_of(LEATHER, RUBBER, DARK_WOOD)
    frame = [(back, hub), (hub, saddle), (back, (-0.27, -0.12))]
    frame += {
        "diamond": [((-0.29, -0.22), head), (hub, low)],
        "step-through": [((-0.22, 0.12), (0.53, -0.22)), (hub, low)],
        "folding": [((-0.2, 0.24), (0.56, 0.0))],
    }[look.style]
    wheels = [*_wheel(*back, radius, look, 10), *_wheel(*front, radius, look, 10)]
    parts = [*wheels, Part(bar(low, front, tube * 0.9), tint(look.main, -0.1), lift=0)]
    parts += [Part(bar(a, b, tube), look.main, shade="soft", lift=0) for a, b in frame]
    parts.append(
        Part(bar((head[0] - 0.03, head[1] - 0.12), (low[0] + 0.01, low[1] + 0.03), tube * 1.15), look.main, lift=0)
    )
    parts.append(Part(bar(saddle, (-0.36, -0.46), 0.05), STEEL, role="trim", lift=0))
    parts.append(
        Part(curve((-0.6, -0.52), (-0.36, -0.55), (-0.12, -0.49), (-0.3, -0.44), (-0.5, -0.4), closed=True), leather)
    )
    stem = (head[0] - 0.04, head[1] - 0.2)
    grip = (
        curve(stem, (stem[0] + 0.2, stem[1] - 0.02), (stem[0] + 0.26, stem[1] + 0.14), (stem[0] + 0.1, stem[1] + 0.2))
        if look.maybe()
        else curve((stem[0] - 0.22, stem[1] - 0.04), (stem[0], stem[1] - 0.08), (stem[0] + 0.12, stem[1] + 0.02))
    )
    parts += [
        Part(bar(head, stem, 0.05), STEEL, role="trim", lift=0),
        Part(band(grip, 0.06), leather, role="trim", lift=0),
    ]
    parts += [
        Part(ellipse(*hub, 0.12), DARK_STEEL, holes=(ellipse(*hub, 0.07),), role="trim", lift=0),
        Part(bar(hub, (hub[0] + 0.12, hub[1] + 0.2), 0.035), DARK_STEEL, role="detail", lift=0),
        Part(box(hub[0] + 0.03, hub[1] + 0.18, hub[0] + 0.23, hub[1] + 0.22), INK, role="detail", lift=0),
    ]
    if look.style != "diamond" and look.maybe(0.7):
        basket = points((0.62, -0.5), (1.0, -0.5), (0.94, -0.16), (0.66, -0.16))
        parts += [
            Part(basket, paint("cfa06b"), role="trim"),
            *[line(points((0.62, y), (0.98, y)), DARK_WOOD, 0.014) for y in (-0.4, -0.28)],
        ]
    return parts


def car(look: Look) -> list[Part]:
    """Draw a car from the side, facing right."""
    shapes = {
        "beetle": curve(
            (-1.0, 0.3),
            (-0.95, 0.0),
            (-0.72, -0.22),
            (-0.42, -0.6),
            (0.0, -0.7),
            (0.36, -0.52),
            (0.52, -0.18),
            (0.85, -0.08),
            (1.02, 0.12),
            (1.02, 0.32),
        ),
        "hatchback": path(
            points((-1.0, 0.32)),
            curve(
                (-1.0, 0.05),
                (-0.94, -0.12),
                (-0.82, -0.5),
                (-0.62, -0.6),
                (0.02, -0.6),
                (0.2, -0.52),
                (0.5, -0.16),
                (0.92, -0.06),
                (1.04, 0.1),
                (1.05, 0.32),
            ),
        ),
        "van": path(
            points((-1.05, 0.32)),
            curve(
                (-1.05, -0.1),
                (-1.04, -0.6),
                (-0.95, -0.72),
                (0.3, -0.72),
                (0.55, -0.66),
                (0.85, -0.16),
                (1.05, -0.02),
                (1.06, 0.32),
            ),
        ),
        "pickup": path(
            points((-1.08, 0.32), (-1.08, -0.1), (-0.22, -0.1)),
            curve(
                (-0.2, -0.1),
                (-0.12, -0.52),
                (0.0, -0.58),
                (0.32, -0.58),
                (0.58, -0.14),
                (0.96, -0.06),
                (1.05, 0.08),
                (1.06, 0.32),
            ),
        ),
    }
    windows = {
        "beetle": [
            curve((-0.44, -0.2), (-0.34, -0.5), (-0.06, -0.57), (-0.05, -0.2), closed=False),
            curve((0.04, -0.2), (0.04, -0.57), (0.26, -0.46), (0.4, -0.2)),
        ],
        "hatchback": [
            points((-0.78, -0.16), (-0.7, -0.46), (-0.36, -0.49), (-0.36, -0.16)),
            points((-0.27, -0.16), (-0.27, -0.49), (0.06, -0.48), (0.36, -0.16)),
        ],
        "van": [
            points((-0.92, -0.2), (-0.92, -0.58), (-0.5, -0.58), (-0.5, -0.2)),
            points((-0.4, -0.2), (-0.4, -0.58), (0.04, -0.58), (0.04, -0.2)),
            points((0.14, -0.2), (0.14, -0.58), (0.46, -0.57), (0.7, -0.2)),
        ],
        "pickup": [points((-0.1, -0.14), (-0.05, -0.46), (0.24, -0.48), (0.45, -0.14))],
    }
    body = path(shapes[look.style], points((-1.0, 0.34)))
    radius = look.vary(0.2, 0.25)
    parts = [
        Part(body, look.main, gloss=0.16),
        Part(
            path(arc(0, 0.2, 1.04, 0.01, (180, 360)), points((1.05, 0.35), (-1.02, 0.35))),
            look.second,
            shade="bar",
            role="trim",
            lift=0,
        ),
    ]
    parts += [
        Part(round_corners(window, 0.05), paint("a9c9d8"), role="trim", lift=0, gloss=0.35)
        for window in windows[look.style]
    ]
    parts.append(line(points((-0.2, 0.04), (-0.08, 0.04)), tint(look.main, -0.4), 0.03))
    parts.append(
        line(curve((-0.31, -0.16), (-0.31, 0.2)), tint(look.main, -0.25), 0.016)
        if look.style != "pickup"
        else line(points((-0.16, -0.1), (-0.16, 0.2)), tint(look.main, -0.25), 0.016)
    )
    if look.style == "van" and look.maybe():
        parts.insert(0, Part(box(-0.8, -0.9, 0.1, -0.74, 0.05), look.second, role="trim"))
    parts += [
        Part(ellipse(0.98, 0.08, 0.06, 0.075), paint("ffe6a3"), shade="round", role="trim", gloss=0.4, lift=0),
        Part(box(-1.05, 0.02, -0.97, 0.16, 0.03), paint("d5524c"), role="detail", lift=0),
    ]
    for x in (-0.58, 0.6):
        parts += [
            Part(ellipse(x, 0.36, radius * 1.18), tint(look.main, -0.55), shade="flat", role="glow"),
            Part(ellipse(x, 0.38, radius), RUBBER, shade="round", lift=0),
            Part(
                ellipse(x, 0.38, radius * 0.55),
                look.one_of(STEEL, PAPER),
                shade="round",
                role="trim",
                gloss=0.3,
                lift=0,
            ),
            Part(ellipse(x, 0.38, radius * 0.16), DARK_STEEL, shade="flat", role="detail", lift=0),
        ]
    return parts


def tent(look: Look) -> list[Part]:
    """Draw a tent, its entrance to the front."""
    half, high = look.vary(0.9, 1.08), look.vary(0.95, 1.15)
    inside = tint(look.main, -0.62)
    if look.style == "dome":
        body = path(arc(0, 0.6, half, high * 1.05, (180, 360)))
        door = path(arc(0, 0.6, half * 0.42, high * 0.72, (180, 360)))
        flap = path(
            arc(0, 0.6, half * 0.42, high * 0.72, (180, 262)), points((-half * 0.2, 0.1)), points((-half * 0.3, 0.6))
        )
        ribs = [
            line(
                curve((x * half * 0.96, 0.55), (x * half * 0.72, -high * 0.25 + 0.2), (0, 0.6 - high * 1.05)),
                tint(look.main, -0.25),
                0.03,
                role="trim",
            )
            for x in (-0.75, 0.75)
        ]
    else:
        peak = 0.6 - high * (1.5 if look.style == "tipi" else 1.28)
        half *= 1.0 if look.style == "tipi" else 0.86
        body = points((0, peak), (half, 0.6), (-half, 0.6))
        door = points((0, peak + (0.6 - peak) * 0.32), (half * 0.4, 0.6), (-half * 0.4, 0.6))
        flap = points((0, peak + (0.6 - peak) * 0.32), (-half * 0.12, 0.35), (-half * 0.36, 0.6), (-half * 0.46, 0.6))
        ribs = []
        if look.style == "tipi":
            poles = [
                Part(bar((-x * 0.2, peak - 0.26), (x * 0.3, peak + 0.3), 0.04), WOOD, role="trim")
                for x in (-0.8, 0.2, 0.8)
            ]
            return [
                *poles,
                Part(body, look.main, shade="tube", pattern=look.pattern),
                Part(door, inside, shade="soft", lift=0),
                Part(flap, look.second, role="trim"),
                Part(flap * (-1, 1), look.second, role="trim"),
            ]
        side = points((0, peak), (0.5, peak - 0.06), (half + 0.46, 0.5), (half, 0.6))
        ropes = [
            line(points(a, b), PAPER, 0.016)
            for a, b in (((0, peak), (-half - 0.16, 0.62)), ((0.5, peak - 0.06), (half + 0.72, 0.5)))
        ]
        return [
            *ropes,
            Part(side, tint(look.main, -0.2), pattern=look.pattern),
            Part(body, look.main, pattern=look.pattern),
            Part(door, inside, lift=0),
            Part(flap, look.second, role="trim"),
            Part(flap * (-1, 1), look.second, role="trim"),
        ]
    return [
        Part(body, look.main, shade="round", pattern=look.pattern), *ribs, Part(door, inside, shade="soft", lift=0),
        Part(flap, look.second, role="trim"), line(points((0, 0.6 - high * 0.7), (0.02, 0.58)), WHITE, 0.014),
    ]  # fmt: skip


def umbrella(look: Look) -> list[Part]:
    """Draw an open, upright umbrella with a crook or a straight handle."""
    panels, high = look.count(4, 6), {"dome": 0.98, "classic": 0.78, "parasol": 0.55}[look.style]
    half, wood = 1.05, look.one_of(WOOD, DARK_WOOD, RUBBER, BRASS)
    edges = np.cos(np.linspace(np.pi, 0, panels + 1)) * half
    rim = [
        arc((a + b) / 2, 0, (b - a) / 2, 0.1, (0, -180)) for a, b in zip(edges[::-1][1:], edges[::-1][:-1], strict=True)
    ]
    parts = [Part(box(-0.03, -0.2, 0.03, 0.9), look.one_of(wood, STEEL), shade="tube")]
    if look.maybe(0.65):
        crook = path(points((0, 0.62), (0, 0.9)), arc(-0.16, 0.92, 0.16, 0.18, (0, 175)))
        parts.append(Part(band(crook, 0.085), wood))
    else:
        parts.append(Part(box(-0.065, 0.68, 0.065, 1.05, 0.05), wood, shade="tube"))
    parts.append(Part(bar((0, -high), (0, -high - 0.16), 0.05, 0.025), wood, role="trim"))
    canopy = path(arc(0, 0, half, high, (180, 360)), *rim)
    parts.append(Part(canopy, look.main, shade="soft", pattern=look.pattern, gloss=0.1))
    two_tone = look.pattern is None and look.maybe()
    for panel in range(panels):
        a, b = float(edges[panel]), float(edges[panel + 1])
        t = np.linspace(0, np.pi / 2, 12)
        left = np.stack([a * np.sin(t), -high * np.cos(t)], axis=1)
        right = np.stack([b * np.sin(t), -high * np.cos(t)], axis=1)[::-1]
        scallop = arc((a + b) / 2, 0, (b - a) / 2, 0.1, (180, 360))
        if panel % 2 == 0:
            colour, alpha = (look.second, 1.0) if two_tone else (tint(look.main, -0.25), 0.3)
            parts.append(
                Part(
                    path(left, scallop, right),
                    colour,
                    shade="soft",
                    role="trim" if two_tone else "glow",
                    alpha=alpha,
                    lift=0,
                )
            )
        if panel > 0:
            parts.append(line(left, tint(look.main, -0.25), 0.016, role="trim"))
    return parts
