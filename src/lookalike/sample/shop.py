"""The toy shop: a catalogue of products, each with a photo and as many sketches as are asked for.

Everything follows from the seed of the catalogue and the place of the item in it, and nothing from what was drawn before.
"""

import csv
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.errors import UsageError
from lookalike.sample.geometry import turned
from lookalike.sample.kinds import KINDS
from lookalike.sample.palette import BACKDROPS, COLOURS, COMPANIONS, difference
from lookalike.sample.parts import Look, Pattern
from lookalike.sample.render import Backdrop, Pose, Scene, Setting
from lookalike.sample.render import photo as _photo
from lookalike.sample.sketch import sketch as _sketch

CLASSES: tuple[str, ...] = tuple(sorted(KINDS))
"""The classes of the shop, in the order of a catalogue."""

_SMALLEST = 16
_EXTENT = (0.69, 0.81)
"""How much of the frame the longer side of a product takes."""
_FLOOR = 0.86
"""Where the floor would be for something that fills the frame, in frame units from the top."""
_APART = 130.0
"""Least difference between a product's colour and what is behind it."""
_SETTINGS: tuple[Setting, ...] = ("sweep", "floor", "disc")
_ADJECTIVES = {"plain": "", "stripes": "striped", "dots": "dotted", "checks": "checked", "zigzag": "zigzag"}
_ANGLES = {"stripes": (0.0, 0.0, 90.0, 45.0), "checks": (0.0, 0.0, 45.0)}
_CHOICE, _SHAPE, _SCENE, _SKETCH = range(4)
"""Separate streams of chance, so that one more draw in a shape changes neither colours nor background."""


@dataclass(frozen=True)
class Product:
    """One item of the shop.

    Attributes:
        id: Class and number, unique in a catalogue: ``mug-0007``.
        label: Its class, one of ``CLASSES``.
        title: What a shop would call it: ``Teal striped mug``.
        attributes: ``colour``, ``pattern`` and ``style``.
        seed: What everything else about it follows from.
    """

    id: str
    label: str
    title: str
    attributes: Mapping[str, str] = field(hash=False)
    seed: int

    def photo(self, size: int = 256) -> Image.Image:
        """The product before a backdrop: RGB, ``size`` by ``size`` pixels.

        Raises:
            UsageError: ``size`` is below 16.
        """
        return _photo(_scene(self), _checked(size))

    def sketch(self, variant: int = 0, size: int = 256) -> Image.Image:
        """The same product as a person would draw it: RGB, dark strokes on white, ``size`` by ``size`` pixels.

        Args:
            variant: Whose hand: every number is another person, with another pen.
            size: Side in pixels.

        Raises:
            UsageError: ``size`` is below 16 or ``variant`` negative.
        """
        if variant < 0:
            raise UsageError(f"Sketch variant {variant} does not exist: variants are numbered from 0.")
        return _sketch(_scene(self), _checked(size), _stream(self.seed, _SKETCH, variant))


def catalogue(count: int = 320, seed: int = 0) -> list[Product]:
    """The first ``count`` items of the shop with this seed; item i is of class ``i % len(CLASSES)``.

    Raises:
        UsageError: ``count`` is below 1 or ``seed`` negative.
    """
    if count < 1:
        raise UsageError(f"A catalogue of {count} items is empty: ask for at least 1.")
    if seed < 0:
        raise UsageError(f"Seed {seed} is negative: use 0 or more.")
    return [_product(index, seed) for index in range(count)]


def write(folder: Path, count: int = 320, seed: int = 0) -> list[Product]:
    """Write a catalogue as files: ``photos/<label>/<id>.jpg``, ``sketches/<label>/<id>.png`` and ``items.csv``.

    The columns of ``items.csv`` are ``path`` (of the photo, from ``folder``), ``label``, ``title`` and the attributes.
    What is there under the same names is overwritten.

    Raises:
        UsageError: ``count`` is below 1 or ``seed`` negative.
    """
    products = catalogue(count, seed)
    for label in {product.label for product in products}:
        (folder / "photos" / label).mkdir(parents=True, exist_ok=True)
        (folder / "sketches" / label).mkdir(parents=True, exist_ok=True)

    def draw(product: Product) -> None:
        product.photo().save(folder / "photos" / product.label / f"{product.id}.jpg", quality=92)
        product.sketch().save(folder / "sketches" / product.label / f"{product.id}.png")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(draw, products))
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "label", "title", *products[0].attributes])
        for product in products:
            path = f"photos/{product.label}/{product.id}.jpg"
            rows.writerow([path, product.label, product.title, *product.attributes.values()])
    return products


def _checked(size: int) -> int:
    if size < _SMALLEST:
        raise UsageError(f"A picture of {size} pixels shows nothing: ask for at least {_SMALLEST}.")
    return size


def _stream(seed: int, *keys: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *keys])))


def _product(index: int, seed: int) -> Product:
    label = CLASSES[index % len(CLASSES)]
    own = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    rng, kind = _stream(own, _CHOICE), KINDS[label]
    names = list(COLOURS)
    colour, pattern = names[rng.integers(len(names))], kind.prints[rng.integers(len(kind.prints))]
    style = kind.styles[rng.integers(len(kind.styles))]
    title = " ".join(filter(None, [colour.capitalize(), _ADJECTIVES[pattern], label]))
    attributes = {"colour": colour, "pattern": pattern, "style": style}
    return Product(f"{label}-{index // len(CLASSES):04d}", label, title, attributes, own)


def _look(product: Product) -> Look:
    rng, kind = _stream(product.seed, _SHAPE), KINDS[product.label]
    colour, name = product.attributes["colour"], product.attributes["pattern"]
    partners = COMPANIONS[colour]
    second = COLOURS[partners[rng.integers(len(partners))]]
    angles = _ANGLES.get(name, (0.0,))
    pitch, angle = kind.pitch * float(rng.uniform(0.8, 1.35)), angles[rng.integers(len(angles))]
    printed = next(known for known in kind.prints if known == name)
    pattern = None if printed == "plain" else Pattern(printed, second, pitch, angle)
    return Look(product.attributes["style"], COLOURS[colour], second, pattern, rng)


def _scene(product: Product) -> Scene:
    kind, look = KINDS[product.label], _look(product)
    parts = kind.draw(look)
    rng = _stream(product.seed, _SCENE)
    stands = kind.stands != (look.style in kind.exceptions)
    mirror = float(rng.choice((-1.0, 1.0), p=(0.4, 0.6)))
    turn = turned(np.eye(2) * (mirror, 1.0), float(rng.uniform(-kind.tilt, kind.tilt)))
    solid = np.concatenate([part.outline for part in parts if part.role != "glow"]) @ turn
    low, high = solid.min(axis=0), solid.max(axis=0)
    scale = float(rng.uniform(*_EXTENT)) / float((high - low).max())
    half = (high - low) * scale / 2
    centre = 0.5 + rng.uniform(-0.03, 0.03, 2)
    if stands:
        # Halfway between the middle of the frame and a common floor, so that low things do not float.
        centre[1] += 0.5 * max(0.0, _FLOOR - half[1] - 0.5)
    offset = centre - (low + high) / 2 * scale
    walls = [paint for paint in BACKDROPS if difference(paint, look.main) > _APART]
    wall, disc = rng.permutation(len(walls))[:2]
    setting = _SETTINGS[rng.integers(len(_SETTINGS))]
    horizon = float(centre[1] + half[1] - rng.uniform(0.06, 0.14))
    return Scene(parts, Pose(turn * scale, offset), Backdrop(setting, walls[wall], walls[disc], horizon), stands)
