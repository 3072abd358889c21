"""Clothes: hat, t-shirt, dress, trousers, shoe."""

from lookalike.sample.geometry import arc, band, box, curve, ellipse, mirror, path, points, rotate, round_corners
from lookalike.sample.palette import BRASS, DARK_WOOD, LEATHER, PAPER, RUBBER, WHITE, is_dark, tint
from lookalike.sample.parts import Look, Part, line


def hat(look: Look) -> list[Part]:
    """Draw a hat with a brim, a cap, a bobble hat or a top hat."""
    if look.style == "beanie":
        dome = path(arc(0, 0.25, 0.72, 0.95, (180, 360)))
        cuff = round_corners(points((-0.76, 0.15), (0.76, 0.15), (0.78, 0.55), (-0.78, 0.55)), 0.12)
        fluff = curve(
            *[
                (0.2 * (1 + 0.12 * (i % 2)) * x, -0.78 + 0.2 * (1 + 0.12 * (i % 2)) * y)
                for i, (x, y) in enumerate(ellipse(0, 0, 1)[::2])
            ],
            closed=True,
            steps=3,
        )
        ribs = [line(points((x * 0.17, 0.22), (x * 0.17, 0.48)), tint(look.second, -0.25), 0.02) for x in range(-4, 5)]
        return [
            Part(dome, look.main, shade="round", pattern=look.pattern),
            Part(fluff, look.second, shade="round"),
            Part(cuff, look.second, shade="bar"),
            *ribs,
        ]
    if look.style == "cap":
        dome = path(arc(-0.15, 0.22, 0.72, 0.8, (180, 360)), arc(-0.15, 0.22, 0.72, 0.2, (0, 180)))
        peak = path(
            curve((0.05, 0.18), (0.5, 0.08), (1.0, 0.26), (1.16, 0.4)), curve((0.8, 0.38), (0.4, 0.34), (0.0, 0.34))
        )
        return [
            Part(dome, look.main, shade="round", pattern=look.pattern),
            line(curve((-0.15, -0.58), (0.12, -0.3), (0.18, 0.18)), tint(look.main, -0.25), 0.02),
            line(curve((-0.15, -0.58), (-0.45, -0.3), (-0.5, 0.18)), tint(look.main, -0.25), 0.02),
            Part(peak, look.second, shade="bar"),
            Part(ellipse(-0.15, -0.6, 0.07, 0.045), look.second, shade="round"),
            *(
                [Part(ellipse(0.24, -0.14, 0.14, 0.15), look.second, shade="flat", role="detail", lift=0)]
                if look.maybe()
                else []
            ),
        ]
    wide = {"fedora": 0.98, "sunhat": 1.15, "top": 0.82}[look.style]
    crown = {
        "fedora": path(
            curve(
                (-0.52, 0.3),
                (-0.5, -0.1),
                (-0.4, -0.48),
                (-0.16, -0.52),
                (0, -0.42),
                (0.16, -0.52),
                (0.4, -0.48),
                (0.5, -0.1),
                (0.52, 0.3),
            ),
            arc(0, 0.3, 0.52, 0.12, (0, 180)),
        ),
        "sunhat": path(arc(0, 0.28, 0.56, 0.66, (180, 360)), arc(0, 0.28, 0.56, 0.14, (0, 180))),
        "top": path(
            curve((-0.48, 0.3), (-0.46, -0.2), (-0.54, -0.9)),
            arc(0, -0.9, 0.54, 0.09, (180, 360)),
            curve((0.54, -0.9), (0.46, -0.2), (0.48, 0.3)),
            arc(0, 0.3, 0.48, 0.11, (0, 180)),
        ),
    }[look.style]
    droop = {"fedora": 0.0, "sunhat": 0.1, "top": -0.08}[look.style]
    brim = path(
        curve((-wide, 0.3 + droop), (-0.5, 0.18), (0, 0.16), (0.5, 0.18), (wide, 0.3 + droop)),
        curve((wide * 0.8, 0.44 + droop * 0.6), (0, 0.56), (-wide * 0.8, 0.44 + droop * 0.6)),
    )
    ribbon = path(arc(0, 0.28, 0.545, 0.14, (0, 180)), arc(0, 0.1, 0.525, 0.13, (180, 0)))
    parts = [
        Part(brim, look.main, shade="bar"),
        Part(crown, look.main, shade="tube", pattern=look.pattern),
        Part(ribbon * ((0.93, 1) if look.style == "top" else (1, 1)), look.second, shade="tube", role="trim", lift=0.1),
    ]
    if look.style == "sunhat" and look.maybe():
        parts += [
            Part(
                rotate(curve((0.42, 0.28), (0.62, 0.16), (0.62, 0.42), closed=True), a, (0.42, 0.28)),
                look.second,
                role="detail",
            )
            for a in (-10, 100)
        ]
    return parts


def tshirt(look: Look) -> list[Part]:
    """Draw a t-shirt, laid flat: crew or V neck, short or long sleeves."""
    half, low, neck = look.vary(0.5, 0.6), look.vary(0.82, 1.0), look.vary(0.2, 0.26)
    long = look.style == "long-sleeve"
    cuff_x, cuff_y = (1.0, 0.55) if long else (look.vary(0.98, 1.08), look.vary(-0.3, -0.16))
    inner = (cuff_x - 0.26, cuff_y + 0.1) if long else (cuff_x - 0.2, cuff_y + 0.26)
    side = path(
        curve((neck, -0.85), (0.42, -0.79), (0.62, -0.68), (0.8, -0.42 if not long else -0.2), (cuff_x, cuff_y)),
        points(inner),
        curve((half + 0.02, -0.22), (half - 0.02, 0.2), (half * 1.02, low)),
    )
    dip = 0.42 if look.style == "v-neck" else 0.17
    opening = (
        curve((-neck, -0.85), (-neck * 0.5, -0.85 + dip * 0.7), (0, -0.85 + dip))
        if look.style == "v-neck"
        else arc(0, -0.85, neck, dip, (180, 90))
    )
    hem = curve((-half * 1.02, low), (0, low + 0.04), (half * 1.02, low))[::-1]
    body = path(side, hem, mirror(side), opening, mirror(opening))
    parts = [
        Part(
            path(arc(0, -0.85, neck, 0.06, (180, 360)), mirror(opening), opening),
            tint(look.main, -0.35),
            shade="flat",
            role="trim",
        ),
        Part(body, look.main, pattern=look.pattern),
        Part(
            band(path(opening, mirror(opening)), 0.055),
            look.second if look.maybe() else tint(look.main, -0.08),
            shade="flat",
            role="trim",
            lift=0.1,
        ),
    ]
    for s in (1, -1):
        edge = points((cuff_x * s, cuff_y), (inner[0] * s, inner[1]))
        parts.append(line(edge * 0.96 + (0, -0.01), tint(look.main, -0.22), 0.018))
        parts.append(
            line(curve((s * half, -0.22), (s * (half + 0.03), -0.42), (s * 0.55, -0.6)), tint(look.main, -0.2), 0.016)
        )
        parts.append(
            Part(
                band(curve((s * half * 0.8, low - 0.05), (s * half * 0.7, 0.4), (s * half * 0.85, 0.0)), 0.02, 0.06),
                tint(look.main, -0.3),
                shade="flat",
                role="glow",
                alpha=0.3,
            )
        )
    if look.pattern is None and look.maybe(0.7):
        star = points(
            *[
                (0.2 * (1 if i % 2 == 0 else 0.45) * x, -0.22 + 0.2 * (1 if i % 2 == 0 else 0.45) * y)
                for i, (x, y) in enumerate(ellipse(0, 0, 1)[::4])
            ]
        )
        emblem = [ellipse(0, -0.2, 0.22), box(-0.24, -0.36, 0.24, -0.08, 0.04), star][look.count(0, 2)]
        parts.append(Part(emblem, look.second, shade="flat", role="trim", lift=0))
    return parts


def dress(look: Look) -> list[Part]:
    """Draw a dress on an invisible hanger: flared, long or straight."""
    waist, low, wide = {
        "flared": (0.26, 0.75, look.vary(0.72, 0.88)),
        "maxi": (0.25, 1.15, look.vary(0.55, 0.7)),
        "straight": (0.31, 0.8, look.vary(0.36, 0.44)),
    }[look.style]
    sleeves, bust = look.maybe(0.45), 0.36
    neck = look.vary(0.17, 0.23)
    skirt = path(
        curve((waist, -0.22), (waist + (wide - waist) * 0.45, low * 0.3), (wide, low)),
        curve((wide, low), (wide * 0.5, low + 0.07), (0, low + 0.08), (-wide * 0.5, low + 0.07), (-wide, low)),
        curve((-wide, low), (-waist - (wide - waist) * 0.45, low * 0.3), (-waist, -0.22)),
    )
    scoop = arc(0, -0.9, neck, look.vary(0.14, 0.3), (180, 90))
    side = path(points((neck, -0.92), (neck + 0.12, -0.9)), curve((bust - 0.04, -0.72), (bust, -0.6), (waist, -0.2)))
    top = path(side, mirror(side), scoop, mirror(scoop))
    parts = []
    if sleeves:
        sleeve = path(
            points((neck + 0.06, -0.91)),
            curve((bust + 0.14, -0.84), (bust + 0.28, -0.5)),
            points((bust + 0.05, -0.42), (bust - 0.08, -0.66)),
        )
        parts += [Part(sleeve, look.main, pattern=look.pattern), Part(mirror(sleeve), look.main, pattern=look.pattern)]
    parts += [Part(top, look.main, pattern=look.pattern), Part(skirt, look.main, pattern=look.pattern, lift=0.15)]
    for x in (-0.55, -0.18, 0.2, 0.58):
        fold = curve((x * waist, -0.12), (x * (waist + wide) * 0.5, low * 0.4), (x * wide, low + 0.02))
        parts.append(Part(band(fold, 0.02, 0.13), tint(look.main, -0.35), shade="flat", role="glow", alpha=0.3))
        parts.append(line(fold[8:], tint(look.main, -0.16), 0.012))
    if look.maybe(0.7):
        parts.append(
            Part(
                round_corners(
                    points(
                        (-waist - 0.01, -0.27), (waist + 0.01, -0.27), (waist + 0.02, -0.16), (-waist - 0.02, -0.16)
                    ),
                    0.02,
                ),
                look.second,
                shade="bar",
                role="trim",
                lift=0.15,
            )
        )
    return parts


def trousers(look: Look) -> list[Part]:
    """Draw trousers, laid flat: straight, flared, slim or shorts."""
    waist, hip = look.vary(0.38, 0.44), look.vary(0.5, 0.58)
    low = 0.15 if look.style == "shorts" else 1.1
    outer, inner = {"straight": (0.5, 0.16), "flared": (0.74, 0.16), "shorts": (0.64, 0.1), "slim": (0.4, 0.2)}[
        look.style
    ]
    crotch = -0.32
    leg = path(
        points((0, -0.9), (waist, -0.9)),
        curve((waist, -0.9), (hip, -0.45), (outer + (hip - outer) * 0.45, -0.45 + (low + 0.45) * 0.5), (outer, low)),
        points((inner, low + 0.03)),
        curve((inner, low + 0.03), (inner * 0.65, (low + crotch) * 0.5), (0.0, crotch)),
    )
    parts = [
        Part(mirror(leg), look.main, pattern=look.pattern, shade="tube"),
        Part(leg, look.main, pattern=look.pattern, shade="tube", lift=0),
    ]
    parts.append(
        Part(
            box(-waist - 0.01, -1.0, waist + 0.01, -0.84, 0.03),
            tint(look.main, -0.12),
            shade="bar",
            role="trim",
            lift=0.2,
        )
    )
    stitch = tint(look.main, 0.35 if is_dark(look.main) else -0.3)
    parts += [
        line(curve((s * waist * 0.45, -0.84), (s * waist * 0.6, -0.66), (s * hip * 0.93, -0.6)), stitch, 0.018)
        for s in (-1, 1)
    ]
    parts.append(line(curve((0, -0.84), (0.0, -0.55), (0, crotch)), stitch, 0.018, role="trim"))
    parts += [
        Part(box(x - 0.025, -1.02, x + 0.025, -0.83, 0.01), tint(look.main, -0.05), role="detail", lift=0.1)
        for x in (-waist * 0.65, waist * 0.65)
    ]
    for s in (-1, 1):
        parts.append(line(points((s * outer, low - 0.07), (s * inner, low - 0.045)), stitch, 0.016))
        if look.style != "shorts":
            parts.append(
                Part(
                    band(
                        curve((s * 0.3, -0.3), (s * (outer + inner) / 2, low * 0.5), (s * (outer + inner) / 2, low)),
                        0.015,
                        0.05,
                    ),
                    tint(look.main, -0.35),
                    shade="flat",
                    role="glow",
                    alpha=0.3,
                )
            )
    return [*parts, Part(ellipse(0, -0.92, 0.035), BRASS, shade="round", role="detail")]


def _pump(look: Look) -> list[Part]:
    sole = look.one_of(RUBBER, LEATHER, look.second)
    upper = path(
        curve((-0.92, -0.62), (-0.6, -0.36), (-0.1, 0.02), (0.35, 0.22)),
        curve((0.55, 0.16), (0.85, 0.28), (1.02, 0.46)),
        curve((0.6, 0.5), (0.25, 0.46), (-0.15, 0.22), (-0.6, -0.05), (-0.94, -0.1)),
    )
    inside = path(
        curve((-0.9, -0.6), (-0.5, -0.5), (0.0, -0.1), (0.35, 0.22)), curve((0.1, 0.16), (-0.4, -0.2), (-0.9, -0.6))
    )
    heel = path(curve((-0.95, -0.14), (-0.9, 0.2), (-0.84, 0.52)), curve((-0.74, 0.52), (-0.72, 0.2), (-0.55, -0.02)))
    return [
        Part(heel, tint(look.main, -0.12), shade="tube"),
        Part(inside, tint(look.second, -0.1), shade="flat", role="detail", lift=0),
        Part(
            band(curve((-0.55, 0.0), (-0.15, 0.26), (0.25, 0.5), (0.6, 0.54), (1.0, 0.5)), 0.06),
            sole,
            role="trim",
            lift=0,
        ),
        Part(upper, look.main, pattern=look.pattern, gloss=0.22),
        *([Part(ellipse(0.58, 0.24, 0.09, 0.07), look.second, role="detail", shade="round")] if look.maybe() else []),
    ]


def shoe(look: Look) -> list[Part]:
    """Draw a shoe from the side, its toe to the right."""
    if look.style == "heel":
        return _pump(look)
    top = {"sneaker": -0.38, "boot": look.vary(-1.0, -0.75), "high-top": -0.66}[look.style]
    white = PAPER if look.style != "boot" else look.one_of(RUBBER, DARK_WOOD)
    thick = look.vary(0.12, 0.2)
    back, open_ = -0.82, -0.22 if look.style == "sneaker" else -0.2
    upper = path(
        points((back - 0.02, top)),
        curve((open_, top + 0.02), (open_ + 0.14, -0.22), (0.22, 0.0), (0.62, 0.12), (0.95, 0.26), (1.06, 0.5)),
        points((1.06, 0.58), (back - 0.06, 0.58)),
        curve((back - 0.06, 0.5), (back + 0.03, 0.1), (back - 0.02, top)),
    )
    sole = round_corners(points((-0.93, 0.5), (1.12, 0.5), (1.14, 0.5 + thick), (-0.95, 0.5 + thick)), 0.08)
    parts = [
        Part(
            ellipse((back + open_) / 2, top + 0.01, (open_ - back) / 2 + 0.02, 0.075),
            tint(look.second, -0.35),
            shade="flat",
            role="trim",
        ),
        Part(upper, look.main, pattern=look.pattern, gloss=0.1),
    ]
    if look.style == "boot":
        parts.append(
            Part(box(back - 0.04, top - 0.02, open_ + 0.02, top + 0.14, 0.05), look.second, shade="bar", role="trim")
        )
        parts.append(Part(box(-0.95, 0.5, -0.45, 0.66 + thick, 0.03), tint(white, -0.2), role="trim"))
    else:
        parts.append(
            Part(
                path(arc(0.78, 0.6, 0.33, 0.38, (200, 352)), points((1.08, 0.58), (0.46, 0.58))),
                PAPER if look.maybe() else look.second,
                role="trim",
                shade="round",
                lift=0.15,
            )
        )
        parts.append(
            Part(
                path(
                    points((back - 0.03, 0.0)),
                    curve((back + 0.25, 0.08), (back + 0.3, 0.58)),
                    points((back - 0.05, 0.58)),
                ),
                look.second,
                role="trim",
                lift=0.15,
            )
        )
        if look.maybe(0.6):
            parts.append(
                Part(
                    band(curve((-0.35, 0.5), (-0.1, 0.3), (0.3, 0.12)), 0.1, 0.04), look.second, role="detail", lift=0.1
                )
            )
    for lace in range(3 if look.style == "sneaker" else 4):
        x, y = 0.28 - lace * 0.15, 0.06 - lace * 0.135
        parts.append(
            line(
                points((x - 0.2, y + 0.16), (x + 0.0, y - 0.02)),
                WHITE if white == PAPER else tint(look.second, 0.5),
                0.045,
            )
        )
    return [*parts, Part(sole, white, shade="bar")]
