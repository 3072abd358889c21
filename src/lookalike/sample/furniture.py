"""Furniture: chair, table, sofa, book, lamp, clock."""

from lookalike.sample.geometry import (
    arc,
    band,
    bar,
    box,
    curve,
    ellipse,
    lathe,
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
    FLAME,
    INK,
    PAPER,
    RUBBER,
    WHITE,
    WOOD,
    Paint,
    mix,
    paint,
    tint,
)
from lookalike.sample.parts import Look, Part, line


def _timber(look: Look) -> Paint:
    return look.one_of(WOOD, DARK_WOOD, paint("ddb384"), RUBBER)


def chair(look: Look) -> list[Part]:
    """Draw a chair from the front, slightly from above."""
    wood, half, high = _timber(look), look.vary(0.44, 0.54), look.vary(0.95, 1.15)
    frame = look.main if look.maybe(0.4) else wood
    lean, seat = half * 0.84, 0.06
    parts = [
        Part(bar((side * lean, seat), (side * lean * 0.96, 0.82), 0.09, 0.07), tint(frame, -0.22)) for side in (-1, 1)
    ]
    if look.style == "solid":
        parts.append(
            Part(
                round_corners(points((-lean * 0.9, -high), (lean * 0.9, -high), (lean, seat), (-lean, seat)), 0.2),
                look.main,
                pattern=look.pattern,
            )
        )
    elif look.style == "round":
        parts += [Part(bar((side * 0.2, seat), (side * 0.2, -0.4), 0.08), frame) for side in (-1, 1)]
        parts.append(Part(ellipse(0, -high * 0.62, half * 0.98, half * 0.86), look.main, pattern=look.pattern))
    else:
        rails = (
            [(-high + 0.1, 0.2), (-high * 0.55, 0.13), (-high * 0.25, 0.13)]
            if look.style == "ladder"
            else [(-high + 0.1, 0.2)]
        )
        if look.style == "slatted":
            parts += [Part(bar((x * lean, -high + 0.1), (x * lean, seat), 0.08), frame) for x in (-0.5, 0.0, 0.5)]
        parts += [
            Part(box(-lean, y - wide / 2, lean, y + wide / 2, 0.05), frame, shade="bar", lift=0.2) for y, wide in rails
        ]
        parts += [
            Part(box(side * lean - 0.055, -high - 0.04, side * lean + 0.055, seat, 0.05), frame, shade="tube")
            for side in (-1, 1)
        ]
    parts += [
        Part(bar((side * half, seat + 0.2), (side * half * 1.04, 1.05), 0.11, 0.08), frame, shade="tube")
        for side in (-1, 1)
    ]
    if look.maybe():
        parts.append(Part(box(-half, 0.62, half, 0.69), frame, shade="bar", lift=0))
    cushion = round_corners(
        points((-lean, seat - 0.06), (lean, seat - 0.06), (half * 1.12, seat + 0.2), (-half * 1.12, seat + 0.2)), 0.07
    )
    front = box(-half * 1.12, seat + 0.16, half * 1.12, seat + 0.29, 0.05)
    return [
        *parts,
        Part(front, tint(look.main, -0.15), shade="bar"),
        Part(cushion, tint(look.main, 0.1), pattern=look.pattern, lift=0.2),
    ]


def table(look: Look) -> list[Part]:
    """Draw a table on four legs, a pedestal or trestles, slightly from above."""
    wood, half, high = _timber(look), look.vary(0.9, 1.15), look.vary(0.45, 0.62)
    top, legs = look.main, wood if look.maybe(0.7) else look.main
    slab = 0.1
    if look.style == "round":
        legs_parts = [
            Part(bar((0, -high + 0.1), (0, 0.62), 0.13, 0.17), legs, shade="tube"),
            Part(ellipse(0, 0.66, half * 0.46, 0.1), legs, shade="bar"),
        ]
        return [
            *legs_parts,
            Part(
                path(arc(0, -high + slab, half, 0.22, (0, 180)), arc(0, -high, half, 0.22, (180, 0))),
                tint(top, -0.2),
                shade="tube",
            ),
            Part(ellipse(0, -high, half, 0.22), tint(top, 0.08), pattern=look.pattern, lift=0),
        ]
    back, depth = half * 0.86, look.vary(0.24, 0.34)
    parts: list[Part] = []
    if look.style == "trestle":
        for side in (-1, 1):
            x = side * half * 0.68
            parts += [
                Part(bar((x, -high + depth), (x + lean, 0.72), 0.08), tint(legs, -0.12 if lean < 0 else 0))
                for lean in (-0.22, 0.22)
            ]
            parts.append(Part(box(x - 0.17, 0.3, x + 0.17, 0.37), legs, shade="bar", lift=0))
    else:
        slant = 0.1 if look.style == "tapered" else 0.0
        parts += [
            Part(bar((s * back * 0.9, -high), (s * (back * 0.9 + slant), 0.52), 0.08, 0.06), tint(legs, -0.25))
            for s in (-1, 1)
        ]
        end = 0.05 if look.style == "tapered" else 0.11
        parts += [
            Part(bar((s * half * 0.9, -high + depth), (s * (half * 0.9 + slant), 0.75), 0.12, end), legs, shade="tube")
            for s in (-1, 1)
        ]
        if look.maybe():
            parts.append(
                Part(box(-half * 0.86, -high + depth, half * 0.86, -high + depth + 0.24), tint(legs, -0.1), shade="bar")
            )
            parts.append(Part(ellipse(0, -high + depth + 0.15, 0.05), BRASS, shade="round", role="detail"))
    board = points((-back, -high), (back, -high), (half, -high + depth), (-half, -high + depth))
    return [
        *parts,
        Part(box(-half, -high + depth - 0.02, half, -high + depth + slab, 0.02), tint(top, -0.18), shade="bar"),
        Part(board, tint(top, 0.08), pattern=look.pattern, lift=0),
    ]


def sofa(look: Look) -> list[Part]:
    """Draw a sofa from the front."""
    half, seats = {"armchair": (0.62, 1), "two-seater": (0.95, 2), "three-seater": (1.25, 3)}[look.style]
    arm, high, wood = look.vary(0.17, 0.27), look.vary(0.55, 0.72), _timber(look)
    curl = look.vary(0.08, 0.2)
    parts = [Part(bar((s * (half - 0.1), 0.5), (s * (half - 0.05), 0.78), 0.09, 0.06), wood) for s in (-1, 1)]
    parts.append(Part(box(-half + 0.04, -high, half - 0.04, 0.4, curl + 0.05), tint(look.main, -0.06), shade="soft"))
    inner = half - arm
    wide = 2 * inner / seats
    for seat in range(seats):
        left = -inner + seat * wide
        parts.append(
            Part(
                box(left + 0.01, -high + 0.12, left + wide - 0.01, 0.12, 0.1), look.main, pattern=look.pattern, lift=0.3
            )
        )
    for seat in range(seats):
        left = -inner + seat * wide
        parts.append(
            Part(
                box(left + 0.005, 0.02, left + wide - 0.005, 0.27, 0.08),
                tint(look.main, 0.1),
                shade="bar",
                pattern=look.pattern,
                lift=0.5,
            )
        )
    parts.append(Part(box(-half + 0.05, 0.24, half - 0.05, 0.54, 0.06), tint(look.main, -0.1), shade="bar", lift=0.5))
    parts += [
        Part(
            box(min(s * half, s * inner), -high * 0.28, max(s * half, s * inner), 0.56, min(curl, arm / 2.1)),
            look.main,
            shade="tube",
            lift=0.5,
        )
        for s in (-1, 1)
    ]
    if look.maybe(0.6):
        side = look.one_of((1.0, 0, 0), (-1.0, 0, 0))[0]
        cushion = translate(
            rotate(
                curve(
                    (-0.2, -0.2),
                    (0, -0.17),
                    (0.2, -0.2),
                    (0.17, 0),
                    (0.2, 0.2),
                    (0, 0.17),
                    (-0.2, 0.2),
                    (-0.17, 0),
                    closed=True,
                ),
                12,
            ),
            side * (inner - 0.24),
            -0.14,
        )
        parts.append(Part(cushion, look.second, role="trim", lift=0.6))
    return parts


def book(look: Look) -> list[Part]:
    """Draw a book, closed or open, or a pile of three."""
    page = PAPER
    if look.style == "open":
        left = path(curve((0, -0.42), (-0.35, -0.56), (-0.95, -0.46)), curve((-0.95, 0.5), (-0.35, 0.4), (0, 0.55)))
        cover = points((-1.02, -0.42), (1.02, -0.42), (1.02, 0.58), (0.06, 0.62), (-0.06, 0.62), (-1.02, 0.58))
        parts = [
            Part(cover, look.main, pattern=look.pattern),
            Part(left, page),
            Part(left * (-1, 1), page, shade="soft", lift=0.2),
        ]
        rows = [
            (side, -0.3 + row * 0.13, end) for row, end in enumerate((0.8, 0.8, 0.8, 0.8, 0.8, 0.5)) for side in (-1, 1)
        ]
        grey = tint(INK, 0.55)
        return parts + [
            line(curve((side * 0.14, y + 0.02), (side * 0.4, y - 0.05), (side * end, y)), grey, 0.022)
            for side, y, end in rows
        ]
    if look.style == "pile":
        parts = []
        y = 0.72
        for paint_ in (look.second, look.main, mix(look.main, look.second, 0.5))[: look.count(2, 3)]:
            half, thick, shift = look.vary(0.7, 0.95), look.vary(0.2, 0.3), look.vary(-0.1, 0.1)
            y -= thick
            parts += [
                Part(box(shift - half, y + 0.035, shift + half - 0.03, y + thick - 0.035), page, shade="bar"),
                Part(
                    band(
                        path(
                            points((shift + half, y + 0.02)),
                            arc(shift - half + 0.05, y + thick / 2, 0.06, thick / 2 - 0.02, (270, 90)),
                            points((shift + half, y + thick - 0.02)),
                        ),
                        0.05,
                    ),
                    paint_,
                    shade="bar",
                ),
                Part(
                    box(shift - half + 0.12, y, shift - half + 0.2, y + thick),
                    tint(paint_, 0.4),
                    shade="bar",
                    role="detail",
                    lift=0,
                ),
            ]
        return [
            *parts,
            Part(
                points(
                    (shift - half + 0.1, y),
                    (shift - half + 0.4, y - 0.2),
                    (shift + half - 0.2, y - 0.2),
                    (shift + half, y),
                ),
                paint_,
                pattern=look.pattern,
            ),
        ]
    wide, high, deep = look.vary(0.56, 0.68), look.vary(0.82, 0.95), look.vary(0.12, 0.2)
    front = round_corners(points((-wide, -high), (wide, -high), (wide, high), (-wide, high)), 0.05)
    parts = [
        Part(translate(front, deep, -deep * 0.5), tint(look.main, -0.3)),
        Part(
            points(
                (-wide + 0.03, -high),
                (wide, -high),
                (wide, high - 0.03),
                (wide + deep - 0.03, high - deep * 0.5 - 0.06),
                (wide + deep - 0.03, -high - deep * 0.5 + 0.04),
                (-wide + deep, -high - deep * 0.5 + 0.04),
            ),
            page,
            shade="flat",
            role="trim",
        ),
        Part(front, look.main, pattern=look.pattern, gloss=0.08),
        Part(box(-wide, -high, -wide + 0.14, high, 0.04), tint(look.main, -0.16), shade="tube", role="trim", lift=0),
    ]
    if look.maybe(0.75):
        plate = box(-wide * 0.5, -high * 0.6, wide * 0.72, -high * 0.1, 0.04)
        parts.append(Part(plate, look.second, shade="flat", role="trim", lift=0.1))
        parts += [
            line(points((-wide * 0.3, -high * y), (wide * 0.52, -high * y)), tint(INK, 0.1), 0.035) for y in (0.45, 0.3)
        ]
    elif look.maybe():
        parts.append(Part(ellipse(0.07, -0.1, wide * 0.42), look.second, shade="flat", role="trim", lift=0.1))
    return parts


def lamp(look: Look) -> list[Part]:
    """Draw a table lamp, or one that bends over a desk."""
    metal = look.one_of(BRASS, RUBBER, WOOD, look.second)
    warm = paint("fff0c4")
    if look.style == "desk":
        head = translate(rotate(lathe((0.1, -0.2), (0.15, -0.1), (0.36, 0.24), smooth=False), -38), 0.52, -0.62)
        return [
            Part(ellipse(-0.3, 0.92, 0.42, 0.1), metal, shade="bar", gloss=0.2),
            Part(bar((-0.3, 0.9), (-0.52, 0.02), 0.06), metal),
            Part(bar((-0.52, 0.02), (0.4, -0.74), 0.06), metal),
            Part(ellipse(-0.52, 0.02, 0.075), look.second, shade="round", role="trim", gloss=0.3),
            Part(ellipse(0.78, -0.2, 0.75), FLAME, shade="halo", role="glow", alpha=0.6),
            Part(head, look.main, shade="soft", pattern=look.pattern, gloss=0.2),
            Part(
                translate(rotate(ellipse(0, 0.24, 0.36, 0.08), -38), 0.52, -0.62),
                warm,
                shade="flat",
                role="trim",
                lift=0,
            ),
        ]
    top, low = look.vary(0.2, 0.3), look.vary(0.55, 0.68)
    shade = {
        "cone": lathe((top, -0.9), (low, -0.1), bulge=0.1, smooth=False),
        "drum": lathe((low * 0.86, -0.85), (low * 0.9, -0.15), bulge=0.1, smooth=False),
        "dome": path(arc(0, -0.12, low, 0.74, (180, 360)), arc(0, -0.12, low, 0.1 * low, (0, 180))),
    }[look.style]
    slim = look.vary(0.8, 1.2)
    if look.maybe():
        base = [
            Part(
                lathe(
                    (0.07, 0.1), (0.24 * slim, 0.4), (0.3 * slim, 0.62), (0.16 * slim, 0.9), (0.26, 0.98), bulge=0.14
                ),
                metal,
                shade="tube",
                gloss=0.4,
            )
        ]
    else:
        base = [
            Part(box(-0.04, -0.1, 0.04, 0.92), metal, shade="tube"),
            Part(ellipse(0, 0.94, 0.36 * slim, 0.09), metal, shade="bar", gloss=0.2),
        ]
    glow = [Part(ellipse(0, -0.4, 1.35, 1.15), FLAME, shade="halo", role="glow", alpha=0.6)]
    return [
        *glow,
        Part(box(-0.045, -0.2, 0.045, 0.2), metal, shade="tube", role="trim"),
        *base,
        Part(shade, look.main, shade="tube", pattern=look.pattern),
        Part(ellipse(0, -0.3, low * 0.8, 0.45), warm, shade="halo", role="glow", alpha=0.5),
    ]


def clock(look: Look) -> list[Part]:
    """Draw a wall clock, or an alarm clock on its legs."""
    rim = {"square": box(-0.85, -0.85, 0.85, 0.85, 0.2)}.get(look.style, ellipse(0, 0, 0.85))
    face = {"square": box(-0.72, -0.72, 0.72, 0.72, 0.12)}.get(look.style, ellipse(0, 0, 0.7))
    paper = look.one_of(PAPER, WHITE, tint(look.second, 0.6))
    parts: list[Part] = []
    if look.style == "alarm":
        for side in (-1, 1):
            parts += [
                Part(bar((side * 0.5, 0.6), (side * 0.68, 1.0), 0.13, 0.09), DARK_STEEL),
                Part(
                    rotate(path(arc(0, -0.98, 0.32, 0.26, (180, 360))), side * 33),
                    look.second,
                    shade="round",
                    gloss=0.3,
                ),
            ]
        parts.append(Part(box(-0.05, -1.08, 0.05, -0.8, 0.03), DARK_STEEL, shade="tube", role="trim"))
    parts += [
        Part(rim, look.main, gloss=0.12),
        Part(face, paper, shade="flat", role="trim", lift=0),
        Part(face, tint(paper, -0.12), shade="flat", role="glow", alpha=0.25, holes=(face * 0.94 + (0.02, 0.03),)),
    ]
    for hour in range(0, 12, 1 if look.maybe(0.6) else 3):
        inner, outer = (0.48, 0.6) if hour % 3 == 0 else (0.54, 0.6)
        parts.append(line(rotate(points((0, -inner), (0, -outer)), hour * 30), INK, 0.045 if hour % 3 == 0 else 0.025))
    for angle, length, width in ((look.vary(0, 360), 0.34, 0.07), (look.vary(0, 360), 0.5, 0.045)):
        parts.append(
            Part(rotate(bar((0, 0.08), (0, -length), width, width * 0.6), angle), INK, shade="flat", role="trim")
        )
    parts.append(
        line(rotate(points((0, 0.12), (0, -0.52)), look.vary(0, 360)), look.main if look.main != PAPER else INK, 0.018)
    )
    return [*parts, Part(ellipse(0, 0, 0.05), INK, shade="flat", role="trim", lift=0)]
