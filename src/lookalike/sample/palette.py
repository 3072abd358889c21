"""Palette: a few colours that go together."""

Paint = tuple[float, float, float]
"""Red, green and blue, 0…255."""

_DARK_BELOW = 420.0
"""A colour is dark if its red, green and blue sum to less."""


def paint(code: str) -> Paint:
    """Make a colour of six hexadecimal digits."""
    return (float(int(code[0:2], 16)), float(int(code[2:4], 16)), float(int(code[4:6], 16)))


def mix(one: Paint, other: Paint, share: float) -> Paint:
    """Mix two colours; ``share`` is that of the second one, 0…1."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return (red, green, blue)


def tint(colour: Paint, amount: float) -> Paint:
    """Lighten a colour by ``amount`` (0…1), or darken it, slightly towards blue, if that is negative."""
    return mix(colour, WHITE, amount) if amount > 0 else mix(colour, (30.0, 26.0, 52.0), -amount)


def difference(one: Paint, other: Paint) -> float:
    """Estimate the perceived difference of two colours, 0 to about 760 (the low-cost “redmean” formula)."""
    red = (one[0] + other[0]) / 2
    r, g, b = (a - c for a, c in zip(one, other, strict=True))
    return float(((2 + red / 256) * r * r + 4 * g * g + (2 + (255 - red) / 256) * b * b) ** 0.5)


def is_dark(colour: Paint) -> bool:
    """Return whether a light line is more visible on it than a dark one."""
    return sum(colour) < _DARK_BELOW


WHITE: Paint = (255.0, 255.0, 255.0)
PAPER = paint("fbf7ef")
INK = paint("33364a")
STEEL = paint("b9c1cc")
DARK_STEEL = paint("6b7482")
BRASS = paint("d9ab55")
WOOD = paint("c48a58")
DARK_WOOD = paint("8a5a3c")
LEATHER = paint("a5673f")
LEAF = paint("5f9e6e")
RUBBER = paint("3e4150")
GLASS = paint("cfe3ea")
FLAME = paint("ffd27a")

COLOURS: dict[str, Paint] = {
    "teal": paint("2f9c95"),
    "coral": paint("ee7b6c"),
    "mustard": paint("e6b345"),
    "navy": paint("3a4a7a"),
    "sage": paint("8fb08c"),
    "plum": paint("8a5a83"),
    "sky": paint("7db8dc"),
    "terracotta": paint("cd6b4a"),
    "cream": paint("f3e6cf"),
    "rose": paint("eba4ad"),
    "forest": paint("3f7358"),
    "lilac": paint("b2a2d8"),
    "charcoal": paint("505468"),
    "white": paint("f5f3f0"),
    "red": paint("cf4a4a"),
    "orange": paint("f0934a"),
    "blue": paint("4a7fc8"),
    "mint": paint("9ed6c0"),
}

COMPANIONS: dict[str, tuple[str, ...]] = {
    "teal": ("cream", "mustard", "coral", "white"),
    "coral": ("cream", "navy", "white", "mint"),
    "mustard": ("navy", "cream", "charcoal", "white"),
    "navy": ("cream", "mustard", "rose", "white"),
    "sage": ("cream", "forest", "terracotta", "white"),
    "plum": ("rose", "cream", "mustard", "white"),
    "sky": ("navy", "white", "cream", "coral"),
    "terracotta": ("cream", "sage", "white", "navy"),
    "cream": ("terracotta", "teal", "navy", "forest"),
    "rose": ("plum", "white", "red", "forest"),
    "forest": ("cream", "mustard", "rose", "white"),
    "lilac": ("plum", "white", "mustard", "navy"),
    "charcoal": ("mustard", "white", "coral", "mint"),
    "white": ("navy", "red", "teal", "charcoal"),
    "red": ("cream", "white", "navy", "rose"),
    "orange": ("cream", "navy", "white", "teal"),
    "blue": ("white", "cream", "orange", "mint"),
    "mint": ("forest", "white", "coral", "navy"),
}

BACKDROPS: tuple[Paint, ...] = tuple(
    paint(code)
    for code in [
        "f4d3c2",
        "d8e5cc",
        "c9deea",
        "f7e3b4",
        "d9cff0",
        "bfe0d6",
        "f3cdd3",
        "e7e1d6",
        "c9d3ec",
        "b5cfd9",
        "efcda8",
        "e8c4b2",
        "aecbbd",
        "f0dc9c",
        "cdb9de",
        "9fbfd4",
    ]
)
"""Colours of walls and floors: soft, so that a product stands out."""
