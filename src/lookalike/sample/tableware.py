"""Tableware: mug, teapot, bottle, vase, pan, candle, cactus."""

import numpy as np

from lookalike.sample.geometry import (
    Points,
    arc,
    band,
    bar,
    box,
    curve,
    ellipse,
    lathe,
    mirror,
    path,
    points,
    rotate,
    round_corners,
    symmetric,
    translate,
)
from lookalike.sample.palette import (
    BRASS,
    DARK_WOOD,
    FLAME,
    GLASS,
    INK,
    LEAF,
    PAPER,
    RUBBER,
    STEEL,
    WOOD,
    paint,
    tint,
)
from lookalike.sample.parts import Look, Part, line

_COFFEE = paint("6b4331")
_TEA = paint("b5703a")


def mug(look: Look) -> list[Part]:
    """Draw a mug slightly from above, its handle to the right."""
    half, tall, lip = look.vary(0.46, 0.62), look.vary(0.5, 0.72), look.vary(0.12, 0.17)
    foot = {"straight": half, "tapered": half * 0.72, "bowl": half * 0.5, "barrel": half * 0.86}[look.style]
    belly = {"straight": half, "tapered": half * 0.88, "bowl": half * 0.98, "barrel": half * 1.12}[look.style]
    wall = curve((half, -tall), (belly, tall * 0.1), (foot, tall))
    # The handle ends slightly inside the wall at each height.
    (top, low), reach = (-tall * 0.58, tall * 0.5), look.vary(0.34, 0.44)
    root, foothold = np.interp((top, low), wall[:, 1], wall[:, 0]) - 0.06
    out = max(half, belly) + reach
    if look.maybe():
        grip = curve((root, top), (out - 0.08, top), (out, -0.05), (out - 0.12, low * 0.9), (foothold, low))
    else:
        knees = round_corners(points((root, top), (out, top), (out, low), (foothold, low)), 0.16)[6:18]
        grip = path(points((root, top)), knees, points((foothold, low)))
    body = path(wall, arc(0, tall, foot, 0.24 * foot, (0, 180)), mirror(wall))
    inner = tint(look.second, 0.1)
    return [
        Part(band(grip, 0.15), look.main, shade="soft"),
        Part(body, look.main, shade="tube", pattern=look.pattern, gloss=0.28),
        Part(ellipse(0, -tall, half, lip), tint(look.main, 0.35), shade="flat", role="trim", lift=0),
        Part(ellipse(0, -tall + 0.012, half * 0.9, lip * 0.84), inner, shade="hollow", role="trim", lift=0),
        Part(
            arc(0, -tall + 0.1, half * 0.8, lip * 0.62, (0, 360)), look.one_of(_COFFEE, _TEA), shade="soft", role="glow"
        ),
    ]


def teapot(look: Look) -> list[Part]:
    """Draw a teapot, spout to the right, handle to the left."""
    wide, tall = {"round": (0.66, 0.58), "tall": (0.52, 0.78), "squat": (0.78, 0.46)}[look.style]
    wide, tall = wide * look.vary(0.94, 1.06), tall * look.vary(0.94, 1.06)
    neck = wide * look.vary(0.42, 0.56)
    body = lathe(
        (neck, -tall),
        (wide * 0.86, -tall * 0.5),
        (wide, tall * 0.15),
        (wide * 0.82, tall * 0.75),
        (wide * 0.5, tall),
        bulge=0.12,
    )
    spout = curve(
        (wide * 0.8, tall * 0.35), (wide * 1.22, tall * 0.05), (wide * 1.36, -tall * 0.55), (wide * 1.62, -tall * 0.8)
    )
    handle = curve(
        (-neck, -tall * 0.72), (-wide * 1.25, -tall * 0.9), (-wide * 1.55, -tall * 0.1), (-wide * 0.86, tall * 0.5)
    )
    lid = lathe((0.03, -tall - 0.22), (neck * 0.7, -tall - 0.15), (neck * 1.04, -tall + 0.01), bulge=0.2)
    trim = look.second if look.maybe(0.6) else look.main
    return [
        Part(band(handle, 0.14), trim),
        Part(band(spout, 0.32, 0.13), look.main, shade="soft"),
        Part(body, look.main, shade="round", pattern=look.pattern, gloss=0.35),
        Part(lid, trim, shade="round", gloss=0.2),
        Part(ellipse(0, -tall - 0.27, 0.09, 0.085), trim, shade="round", gloss=0.4),
    ]


def bottle(look: Look) -> list[Part]:
    """Draw a bottle with a cap and a label."""
    profile, belt = {
        "wine": (((0.13, -1.0), (0.13, -0.55), (0.16, -0.42), (0.34, -0.12), (0.35, 0.2), (0.35, 1.0)), (0.12, 0.68)),
        "milk": (((0.2, -0.9), (0.19, -0.62), (0.3, -0.36), (0.4, -0.02), (0.4, 0.3), (0.4, 0.95)), (0.12, 0.64)),
        "sport": (((0.36, -0.62), (0.38, -0.5), (0.36, -0.1), (0.31, 0.14), (0.37, 0.4), (0.37, 0.95)), (0.46, 0.74)),
        "flask": (((0.14, -0.85), (0.14, -0.4), (0.3, -0.1), (0.56, 0.35), (0.58, 0.65), (0.46, 0.9)), (0.2, 0.62)),
    }[look.style]
    wall = curve(*profile) * (look.vary(0.86, 1.14), 1.0)
    neck, top = wall[0]
    radius, low = wall[-1]
    # The label follows the wall of the bottle.
    heights = np.linspace(*belt, 8)
    side = [(float(r), float(y)) for r, y in zip(np.interp(heights, wall[:, 1], wall[:, 0]), heights, strict=True)]
    label = lathe(*side, bulge=0.14, smooth=False)
    body = path(wall, arc(0, low, radius, 0.16 * radius, (0, 180)), mirror(wall))
    parts = [
        Part(body, look.main, shade="tube", gloss=0.45),
        Part(label, look.second, shade="tube", role="trim", pattern=look.pattern_on(look.second), lift=0.15),
    ]
    if look.style == "sport":
        parts += [
            Part(box(-neck * 0.94, top - 0.16, neck * 0.94, top + 0.04, 0.06), INK, shade="tube"),
            Part(box(-0.11, top - 0.36, 0.11, top - 0.14, 0.05), look.second, shade="tube"),
        ]
    else:
        foot = top + (0.3 if look.style == "wine" else 0.05)
        cap = look.one_of(INK, BRASS, look.second)
        parts.append(Part(box(-neck - 0.02, top - 0.14, neck + 0.02, foot, 0.03), cap, shade="tube", gloss=0.2))
    return parts


def vase(look: Look) -> list[Part]:
    """Draw a vase, empty or with a plant in it."""
    profiles = {
        "amphora": ((0.26, -0.62), (0.16, -0.42), (0.46, -0.02), (0.42, 0.42), (0.2, 0.92)),
        "bulb": ((0.16, -0.5), (0.13, -0.24), (0.44, 0.16), (0.54, 0.52), (0.3, 0.92)),
        "trumpet": ((0.5, -0.5), (0.3, -0.18), (0.2, 0.3), (0.24, 0.62), (0.34, 0.92)),
        "cylinder": ((0.3, -0.55), (0.29, 0.0), (0.29, 0.5), (0.3, 0.92)),
    }
    slim = look.vary(0.88, 1.15)
    profile = [(r * slim, y) for r, y in profiles[look.style]]
    mouth, top = profile[0]
    parts: list[Part] = []
    for stem in range(look.count(0, 3)):
        lean = (stem - 1) * 0.3 + look.vary(-0.12, 0.12)
        tip = (lean * 1.4, top - look.vary(0.42, 0.68))
        parts.append(Part(band(curve((lean * 0.1, top + 0.1), (lean * 0.5, top - 0.2), tip), 0.035), LEAF, role="trim"))
        leaf = curve(
            (lean * 0.4, top - 0.12),
            (lean * 0.4 + 0.1, top - 0.28),
            (lean * 0.4 + 0.24, top - 0.34),
            (lean * 0.4 + 0.15, top - 0.18),
        )
        parts.append(Part(leaf, LEAF, role="detail"))
        bloom = curve(
            (-0.12, -0.02),
            (-0.13, -0.2),
            (-0.06, -0.14),
            (0, -0.24),
            (0.06, -0.14),
            (0.13, -0.2),
            (0.12, -0.02),
            (0, 0.07),
            closed=True,
        )
        parts.append(
            Part(
                translate(rotate(bloom, lean * 40), *tip),
                look.one_of(paint("ee8a7c"), paint("f2c14e"), paint("e9a1c2")),
                shade="round",
            )
        )
    lip = 0.2 * mouth
    return [
        *parts,
        Part(lathe(*profile, bulge=0.18), look.main, shade="tube", pattern=look.pattern, gloss=0.3),
        Part(ellipse(0, top, mouth, lip), tint(look.main, 0.3), shade="flat", role="trim", lift=0),
        Part(
            ellipse(0, top + 0.008, mouth * 0.86, lip * 0.78),
            tint(look.main, -0.45),
            shade="hollow",
            role="detail",
            lift=0,
        ),
    ]


def pan(look: Look) -> list[Part]:
    """Draw a frying pan from above, or a saucepan or a pot from the side."""
    handle = look.one_of(RUBBER, WOOD, DARK_WOOD)
    if look.style == "frying":
        radius = look.vary(0.56, 0.64)
        return [
            Part(bar((0.5, 0), (1.38, 0), 0.13, 0.19), handle, shade="bar", gloss=0.15),
            Part(ellipse(1.3, 0, 0.035), tint(handle, -0.5), shade="flat", role="detail", lift=0),
            Part(bar((0.5, 0), (0.78, 0), 0.2, 0.15), STEEL, shade="bar", role="trim"),
            Part(ellipse(0, 0, radius), look.main, shade="soft", gloss=0.1),
            Part(ellipse(0, 0, radius * 0.88), tint(RUBBER, 0.06), shade="hollow", role="trim", lift=0),
            Part(ellipse(0, 0, radius * 0.68), tint(RUBBER, 0.14), shade="soft", role="detail", lift=0, gloss=0.14),
        ]
    half, deep = look.vary(0.6, 0.7), {"saucepan": look.vary(0.3, 0.38), "pot": look.vary(0.42, 0.52)}[look.style]
    body = lathe((half, -deep), (half, deep * 0.6), (half * 0.92, deep), bulge=0.08)
    lid = lathe((0.05, -deep - 0.2), (half * 0.6, -deep - 0.15), (half * 1.03, -deep), bulge=0.03)
    if look.style == "saucepan":
        grips = [
            Part(
                bar((half - 0.05, -deep * 0.6), (half + 0.95, -deep * 1.05), 0.11, 0.16),
                handle,
                shade="bar",
                gloss=0.15,
            ),
            Part(
                bar((half - 0.05, -deep * 0.6), (half + 0.2, -deep * 0.71), 0.16, 0.13), STEEL, shade="bar", role="trim"
            ),
        ]
    else:
        loop = curve((0, -0.1), (0.24, -0.1), (0.24, 0.12), (0, 0.12))
        right = translate(loop, half - 0.04, -deep * 0.35)
        grips = [Part(band(right, 0.09), handle), Part(band(right * (-1, 1), 0.09), handle)]
    return [
        *grips,
        Part(body, look.main, shade="tube", pattern=look.pattern, gloss=0.3),
        Part(box(-half * 1.03, -deep - 0.03, half * 1.03, -deep + 0.05, 0.03), STEEL, shade="tube", role="trim"),
        Part(lid, tint(look.main, 0.12), shade="round", gloss=0.25),
        Part(ellipse(0, -deep - 0.25, 0.1, 0.075), handle, shade="round", gloss=0.3),
    ]


def candle(look: Look) -> list[Part]:
    """Draw a burning candle: a pillar, in a jar, or in a candlestick."""
    slim = {"pillar": look.vary(0.27, 0.36), "jar": look.vary(0.4, 0.5), "taper": look.vary(0.1, 0.13)}[look.style]
    top = {"pillar": look.vary(-0.5, -0.2), "jar": -0.1, "taper": -0.72}[look.style]
    low = {"pillar": 0.85, "jar": 0.85, "taper": 0.4}[look.style]
    flame = symmetric(curve((0, -0.36), (0.07, -0.2), (0.105, -0.07), (0.06, 0.03), (0, 0.06)))
    glow = [Part(ellipse(0, top - 0.2, 0.75), FLAME, shade="halo", role="glow", alpha=0.6)]
    wick = Part(bar((0, top - 0.13), (0, top + 0.02), 0.028), INK, shade="flat", role="trim")
    fire = [
        Part(translate(flame, 0, top - 0.12), paint("f7a440"), shade="flat", lift=0),
        Part(translate(flame * 0.6, 0, top - 0.1), paint("ffe9b0"), shade="flat", role="glow"),
    ]
    wax = lathe((slim, top), (slim, low), bulge=0.2, smooth=False)
    rim = Part(ellipse(0, top, slim, slim * 0.24), tint(look.main, 0.4), shade="flat", role="trim", lift=0)
    body = Part(wax, look.main, shade="tube", pattern=look.pattern)
    if look.style == "pillar":
        saucer = Part(
            lathe((slim + 0.26, low + 0.02), (slim + 0.18, low + 0.12), bulge=0.14),
            look.second,
            shade="tube",
            gloss=0.2,
        )
        drip = curve(
            (slim * 0.5, top + 0.08),
            (slim * 0.52, top + 0.4),
            (slim * 0.64, top + 0.46),
            (slim * 0.74, top + 0.38),
            (slim * 0.8, top + 0.06),
        )
        return [*glow, saucer, body, Part(drip, tint(look.main, 0.18), role="detail", lift=0.2), rim, wick, *fire]
    if look.style == "jar":
        glass = lathe((slim + 0.07, top - 0.35), (slim + 0.07, low + 0.05), bulge=0.2, smooth=False)
        label = lathe((slim + 0.07, 0.2), (slim + 0.07, 0.6), bulge=0.2, smooth=False)
        return [
            *glow, body, rim, wick, *fire,
            Part(glass, GLASS, shade="tube", alpha=0.28, gloss=0.6, lift=0),
            Part(ellipse(0, top - 0.35, slim + 0.07, slim * 0.26), GLASS, shade="flat", alpha=0.45, role="trim", lift=0),
            Part(label, look.second, shade="tube", role="trim", lift=0.15),
        ]  # fmt: skip
    stick = lathe(
        (0.2, low - 0.02),
        (0.1, low + 0.1),
        (0.07, low + 0.25),
        (0.12, low + 0.33),
        (0.08, low + 0.42),
        (0.34, low + 0.55),
        bulge=0.16,
    )
    return [
        *glow,
        body,
        rim,
        wick,
        *fire,
        Part(stick, look.one_of(BRASS, look.second, RUBBER), shade="tube", gloss=0.45),
    ]


def _spines(outline: Points, look: Look, count: int) -> list[Part]:
    low, high = outline.min(axis=0), outline.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    spines = []
    for _ in range(count):
        x, y = middle + half * (look.vary(-0.55, 0.55), look.vary(-0.75, 0.75))
        spines.append(line(points((x - 0.03, y - 0.03), (x, y + 0.02), (x + 0.03, y - 0.03)), PAPER, 0.014))
    return spines


def cactus(look: Look) -> list[Part]:
    """Draw a cactus in a pot."""
    green = look.one_of(LEAF, paint("4f8f72"), paint("7fae6b"))
    rim, foot = look.vary(0.4, 0.48), look.vary(0.28, 0.36)
    plant: list[Part] = []
    if look.style == "column":
        wide, top = look.vary(0.2, 0.27), look.vary(-0.95, -0.7)
        trunk = box(-wide, top, wide, 0.45, wide * 0.98)
        arms = []
        for side, height in ((1, look.vary(-0.25, 0.0)), (-1, look.vary(-0.45, -0.1)))[: look.count(1, 2)]:
            reach = wide + look.vary(0.26, 0.34)
            arm = round_corners(
                points((0, height + 0.22), (reach, height + 0.22), (reach, height - 0.3), (reach, height - 0.31)), 0.2
            )[3:19] * (side, 1)
            sides, end = band(arm, 0.22), (float(arm[-1, 0]), float(arm[-1, 1]))
            cap = arc(*end, 0.11, 0.11, (0, -180))
            arms.append(Part(path(sides[: len(arm)], cap, sides[len(arm) :]), green))
        ribs = [
            line(curve((x * wide, top + 0.2), (x * wide * 1.2, -0.1), (x * wide, 0.4)), tint(green, -0.25), 0.016)
            for x in (-0.4, 0.0, 0.4)
        ]
        plant = [*arms, Part(trunk, green, shade="tube", gloss=0.08), *ribs, *_spines(trunk, look, 5)]
    elif look.style == "ball":
        radius = look.vary(0.46, 0.56)
        ball = ellipse(0, 0.3 - radius * 0.75, radius, radius * 0.92)
        ribs = [
            line(
                curve((0, 0.3 - radius * 1.65), (x * radius * 1.25, 0.3 - radius * 0.75), (x * radius * 0.8, 0.4)),
                tint(green, -0.25),
                0.016,
            )
            for x in (-0.68, -0.32, 0.0, 0.32, 0.68)
        ]
        flower = [
            Part(rotate(ellipse(0, -0.1, 0.06, 0.1), a), paint("ee7fa0"), role="trim", lift=0.1)
            for a in (-70, -35, 35, 70, 0)
        ]
        flower = [
            Part(translate(part.outline, 0, 0.34 - radius * 1.67), part.paint, role="trim", lift=0.1) for part in flower
        ]
        plant = [Part(ball, green, shade="round"), *ribs, *_spines(ball, look, 5), *flower]
    else:
        pads = [((0, 0.02), 0.34, 0), ((-0.32, -0.5), 0.24, -28), ((0.28, -0.56), 0.26, 24), ((0.44, -0.98), 0.16, 35)]
        for (x, y), size, lean in pads[: look.count(3, 4)]:
            pad = translate(rotate(ellipse(0, 0, size * 0.8, size * 1.15), lean), x, y)
            plant += [Part(pad, tint(green, look.vary(-0.06, 0.1)), shade="round"), *_spines(pad, look, 4)]
    return [
        *plant,
        Part(
            lathe((rim * 0.92, 0.45), (foot, 1.02), bulge=0.13, smooth=False),
            look.main,
            shade="tube",
            pattern=look.pattern,
        ),
        Part(lathe((rim, 0.34), (rim, 0.48), bulge=0.1, smooth=False), tint(look.main, 0.1), shade="tube", role="trim"),
    ]
