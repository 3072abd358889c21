"""Accessories: glasses, handbag, backpack, key, scissors, headphones."""

from lookalike.sample.geometry import (
    arc,
    band,
    bar,
    box,
    curve,
    ellipse,
    mirror,
    path,
    points,
    rotate,
    round_corners,
    translate,
)
from lookalike.sample.palette import BRASS, DARK_STEEL, GLASS, INK, LEATHER, RUBBER, STEEL, WHITE, Paint, paint, tint
from lookalike.sample.parts import Look, Part, line, rotate_parts


def glasses(look: Look) -> list[Part]:
    """Draw glasses from the front, the temples folded back."""
    wide, high, gap = look.vary(0.4, 0.46), look.vary(0.3, 0.38), 0.55
    thick = look.vary(0.06, 0.12)
    dark = look.maybe(0.4)
    lens: Paint = tint(look.second, -0.5) if dark else GLASS
    shapes = {
        "round": ellipse(0, 0, high * 1.12),
        "square": box(-wide, -high * 0.9, wide, high * 0.9, 0.14),
        "cat-eye": curve(
            (-wide * 0.92, -high * 0.5),
            (-wide * 0.1, -high * 0.8),
            (wide * 1.12, -high * 1.12),
            (wide * 1.0, 0),
            (wide * 0.5, high * 0.78),
            (-wide * 0.3, high * 0.86),
            (-wide * 0.88, high * 0.3),
            closed=True,
        ),
        "aviator": curve(
            (-wide * 0.9, -high * 0.85),
            (0, -high * 0.98),
            (wide * 0.95, -high * 0.85),
            (wide * 1.0, -high * 0.1),
            (wide * 0.5, high * 0.95),
            (-wide * 0.25, high * 1.1),
            (-wide * 0.85, high * 0.3),
            closed=True,
        ),
    }
    rim = shapes[look.style]
    inner = rim * (1 - thick / wide) if look.style != "aviator" else rim * 0.93
    parts: list[Part] = [Part(band(curve((-0.2, -0.12), (0, -0.2), (0.2, -0.12)), 0.075), look.main)]
    if look.style == "aviator":
        parts.append(Part(bar((-0.3, -high * 0.85), (0.3, -high * 0.85), 0.05), look.main))
    for s in (-1, 1):
        temple = band(
            curve(
                (s * (gap + wide * 0.9), -high * 0.5),
                (s * (gap + wide + 0.16), -high * 0.56),
                (s * (gap + wide + 0.24), -high * 0.9),
                (s * (gap + wide + 0.2), -high * 1.25),
            ),
            0.08,
            0.05,
        )
        parts.insert(0, Part(temple, tint(look.main, -0.12)))
        flip = (float(s), 1.0)
        parts += [
            Part(
                translate(inner * flip, s * gap, 0),
                lens,
                shade="soft",
                alpha=0.9 if dark else 0.45,
                role="trim",
                lift=0,
            ),
            Part(
                translate(rim * flip, s * gap, 0),
                look.main,
                holes=(translate(inner * flip, s * gap, 0),),
                pattern=look.pattern,
                gloss=0.2,
            ),
            Part(
                translate(rotate(box(-0.04, -high * 0.55, 0.05, high * 0.45), 24), s * gap - 0.12, 0),
                WHITE,
                shade="flat",
                role="glow",
                alpha=0.35,
            ),
        ]
    return parts


def handbag(look: Look) -> list[Part]:
    """Draw a handbag from the front: a tote, a satchel with a flap, or a bucket."""
    top, low, high = look.vary(0.55, 0.68), look.vary(0.72, 0.86), look.vary(0.45, 0.6)
    metal, strap = look.one_of(BRASS, paint("c3c8d0")), look.second if look.maybe() else look.main
    if look.style == "bucket":
        top, low = low, top * 0.9
    reach = look.vary(0.6, 0.85)
    arch = path(
        points((-top * 0.55, -high + 0.1)),
        arc(0, -high - 0.05, top * 0.55, reach, (180, 360)),
        points((top * 0.55, -high + 0.1)),
    )
    body = round_corners(points((-top, -high), (top, -high), (low, 0.75), (-low, 0.75)), 0.16)
    parts = [
        Part(band(translate(arch, 0, -0.06) * (0.9, 1), 0.07), tint(strap, -0.25)),
        Part(body, look.main, pattern=look.pattern, gloss=0.08),
        Part(band(arch, 0.08), strap),
    ]
    if look.style == "satchel":
        flap = path(
            points((-top - 0.02, -high - 0.02), (top + 0.02, -high - 0.02)),
            curve((top + 0.08, -0.1), (top * 0.7, 0.16), (0, 0.24), (-top * 0.7, 0.16), (-top - 0.08, -0.1)),
        )
        parts += [
            Part(flap, tint(look.main, 0.06) if look.maybe() else look.second, role="body", lift=0.6, gloss=0.08),
            Part(box(-0.11, 0.1, 0.11, 0.32, 0.05), metal, gloss=0.4, role="trim"),
        ]
    elif look.style == "tote":
        parts += [line(points((-top - 0.03, -high + 0.16), (top + 0.03, -high + 0.16)), tint(look.main, -0.25), 0.02)]
        parts += [
            Part(ellipse(s * top * 0.55, -high + 0.12, 0.07), metal, shade="round", gloss=0.4, role="trim")
            for s in (-1, 1)
        ]
    else:
        parts += [
            Part(
                box(-top - 0.01, -high + 0.1, top + 0.01, -high + 0.24),
                look.second,
                shade="bar",
                role="trim",
                lift=0.15,
            )
        ]
        parts += [Part(bar((0, -high + 0.17), (s * 0.1, 0.2), 0.04), look.second, role="trim") for s in (-1, 1)]
    return parts


def backpack(look: Look) -> list[Part]:
    """Draw a backpack from the front, its straps visible at the sides."""
    half, high = look.vary(0.56, 0.68), look.vary(0.8, 0.95)
    round_ = {"rounded": half * 0.95, "boxy": 0.18, "roll-top": 0.12}[look.style]
    dark = tint(look.main, -0.2)
    strap = curve((half * 0.7, -high * 0.6), (half + 0.22, -0.3), (half + 0.24, 0.3), (half * 0.8, 0.75))
    parts = [Part(band(strap, 0.13), dark), Part(band(mirror(strap), 0.13), dark)]
    parts.append(
        Part(
            band(
                path(points((-0.16, -high + 0.05)), arc(0, -high, 0.16, 0.2, (180, 360)), points((0.16, -high + 0.05))),
                0.07,
            ),
            look.second,
            role="trim",
        )
    )
    body = box(-half, -high, half, 0.9, round_)
    if look.style == "rounded":
        body = path(
            arc(0, -high + half, half, half, (180, 360)),
            points((half, 0.7)),
            arc(half - 0.2, 0.7, 0.2, 0.2, (0, 90)),
            arc(-half + 0.2, 0.7, 0.2, 0.2, (90, 180)),
        )
    parts.append(Part(body, look.main, pattern=look.pattern))
    if look.style == "roll-top":
        parts.append(Part(box(-half - 0.04, -high - 0.02, half + 0.04, -high + 0.24, 0.1), dark, shade="bar", lift=0.5))
        parts.append(Part(box(-0.07, -high - 0.05, 0.07, 0.0, 0.03), look.second, role="trim", lift=0.4))
        parts.append(Part(box(-0.1, -0.14, 0.1, 0.02, 0.03), BRASS, role="detail", gloss=0.3))
    elif look.style == "boxy":
        flap = path(
            points((-half - 0.02, -high + 0.14)),
            arc(0, -high + 0.14, half + 0.02, 0.2, (180, 360)),
            curve((half + 0.02, -0.2), (half * 0.6, -0.06), (0, -0.02), (-half * 0.6, -0.06), (-half - 0.02, -0.2)),
        )
        parts.append(Part(flap, tint(look.main, 0.08), lift=0.6))
        parts += [
            Part(box(s * half * 0.5 - 0.05, -0.4, s * half * 0.5 + 0.05, 0.2, 0.03), LEATHER, role="trim", lift=0.3)
            for s in (-1, 1)
        ]
    else:
        parts.append(line(arc(0, -high + half + 0.12, half * 0.78, half * 0.78, (190, 350)), INK, 0.025))
    pocket = box(-half * 0.74, 0.12, half * 0.74, 0.76, 0.14)
    parts.append(Part(pocket, look.second if look.maybe() else tint(look.main, -0.08), lift=0.5))
    parts.append(line(points((-half * 0.56, 0.26), (half * 0.56, 0.26)), INK, 0.025))
    return [*parts, Part(box(half * 0.4, 0.25, half * 0.48, 0.42, 0.02), BRASS, role="detail", lift=0.2)]


def key(look: Look) -> list[Part]:
    """Draw a key, its bow on the left and its bit on the right."""
    metal = look.main
    size = look.vary(0.36, 0.44)
    bows = {
        "round": (ellipse(0, 0, size), (ellipse(0, 0, size * 0.58),)),
        "square": (
            rotate(box(-size, -size, size, size, 0.12), 45) * 0.9,
            (rotate(box(-size, -size, size, size, 0.1), 45) * 0.5,),
        ),
        "oval": (ellipse(0, 0, size * 0.8, size * 1.15), (ellipse(0, 0, size * 0.45, size * 0.8),)),
        "plate": (box(-size, -size * 0.95, size * 0.9, size * 0.95, 0.2), (ellipse(-size * 0.6, 0, 0.09),)),
    }
    outline, holes = bows[look.style]
    length = look.vary(1.05, 1.3)
    parts = []
    if look.style == "plate":
        teeth = [(0.1, -0.13), (length - 0.12, -0.13), (length, 0.0), (length - 0.1, 0.1)]
        step = (length - 0.45) / 4
        for tooth in range(4):
            x = length - 0.12 - tooth * step
            teeth += [(x - step * 0.3, look.vary(0.1, 0.2)), (x - step * 0.65, look.vary(0.01, 0.06)), (x - step, 0.12)]
        parts.append(Part(points(*teeth, (0.1, 0.13)), STEEL, shade="bar", gloss=0.4))
        parts.append(line(points((0.3, -0.03), (length - 0.2, -0.03)), DARK_STEEL, 0.03))
    else:
        wards = [(length - 0.16, look.vary(0.3, 0.4)), (length - 0.4, look.vary(0.2, 0.38))]
        parts += [Part(box(x, 0, x + 0.13, drop), metal, shade="tube") for x, drop in wards[: look.count(1, 2)]]
        parts.append(Part(box(size * 0.8, -0.075, length + 0.06, 0.075, 0.06), metal, shade="bar", gloss=0.4))
        parts.append(
            Part(box(size * 0.95, -0.12, size * 0.95 + 0.1, 0.12, 0.03), metal, shade="bar", role="trim", gloss=0.4)
        )
    parts.append(Part(outline, metal, holes=holes, gloss=0.3))
    return rotate_parts(parts, look.vary(-50, -20))


def scissors(look: Look) -> list[Part]:
    """Draw open scissors, points up."""
    spread, ring = look.vary(13, 24), look.vary(0.23, 0.29)
    long = {"office": 1.0, "tailor": 1.15, "round": 0.68}[look.style]
    parts: list[Part] = []
    for side in (-1, 1):
        blunt = 0.1 if look.style == "round" else 0.01
        blade = points((-0.12, 0.14), (-0.13, -0.12), (-blunt, -long), (0.03, -long), (0.08, -long * 0.6), (0.1, 0.14))
        if look.style == "round":
            blade = round_corners(blade, 0.06)
        shank = curve((0.02, 0.05), (0.0, 0.3), (0.1, 0.5))
        tall = ring * (1.45 if look.style == "tailor" else 1.15)
        loop = ellipse(0.16, 0.46 + tall, ring, tall)
        hole = ellipse(0.16, 0.46 + tall, ring * 0.62, tall * 0.7)
        tilt = side * -spread
        for outline, colour, holes in (
            (blade, STEEL, ()),
            (band(shank, 0.17, 0.14), look.main, ()),
            (loop, look.main, (hole,)),
        ):
            flip = (float(side), 1.0)
            mirrored = rotate(outline * flip, tilt)
            cut = tuple(rotate(hole * flip, tilt) for hole in holes)
            parts.append(Part(mirrored, colour, shade="soft", holes=cut, gloss=0.25))
    return [*parts, Part(ellipse(0, 0.02, 0.055), DARK_STEEL, shade="round", role="trim", gloss=0.4)]


def headphones(look: Look) -> list[Part]:
    """Draw headphones from the front."""
    wide, high = look.vary(0.68, 0.78), look.vary(0.8, 0.98)
    cup_wide, cup_high = {"round": (0.24, 0.34), "studio": (0.27, 0.42), "slim": (0.17, 0.27)}[look.style]
    thick = look.vary(0.09, 0.17)
    hoop = arc(0, 0.1, wide, high, (180, 360))
    parts = [
        Part(band(hoop, thick), look.main, gloss=0.1),
        Part(
            band(arc(0, 0.1, wide - thick * 0.4, high - thick * 0.5, (232, 308)), thick * 0.9),
            look.second,
            role="trim",
            lift=0.2,
        ),
    ]
    for s in (-1, 1):
        x = s * wide
        cup = box(-cup_wide, -cup_high, cup_wide * 0.6, cup_high, cup_wide * 0.8)
        pad = box(-0.02, -cup_high * 0.96, cup_wide * 0.95, cup_high * 0.96, 0.14)
        flip = (float(s), 1.0)
        parts += [
            Part(box(x - 0.05, -0.1, x + 0.05, 0.3, 0.03), STEEL, shade="tube", role="trim"),
            Part(
                translate(rotate(cup * (-s, 1), s * -4), x + s * 0.06, 0.4),
                look.main,
                shade="soft",
                pattern=look.pattern,
                gloss=0.2,
            ),
            Part(
                translate(rotate(pad * (-s, 1), s * -4), x - s * 0.02, 0.4),
                RUBBER if look.maybe(0.6) else look.second,
                shade="tube",
            ),
            Part(
                translate(ellipse(0, 0, 0.05, cup_high * 0.4) * flip, x + s * (cup_wide * 0.62 + 0.05), 0.4),
                look.second,
                shade="flat",
                role="detail",
                lift=0,
            ),
        ]
    return parts
