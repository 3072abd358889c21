"""The catalogue: products, each with a photo and any number of sketches.

A product depends only on the catalogue's seed and its position, not on what was drawn before.
"""

import csv
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.atomic import atomic_write
from lookalike.errors import UsageError
from lookalike.parallel import available_cores
from lookalike.progress import SILENT, Progress
from lookalike.sample.geometry import rotate
from lookalike.sample.kinds import KINDS
from lookalike.sample.palette import BACKDROPS, COLOURS, COMPANIONS, difference
from lookalike.sample.parts import Look, Pattern
from lookalike.sample.render import Backdrop, Pose, Scene, Setting, render_photo
from lookalike.sample.sketch import render_sketch

CLASSES: tuple[str, ...] = tuple(sorted(KINDS))
"""The classes of the shop, in the order of a catalogue."""

_MIN_SIZE = 16
_EXTENT = (0.69, 0.81)
"""Share of the frame that the longer side of a product takes."""
_FLOOR = 0.86
"""Height of the floor for a product that fills the frame, in frame units from the top."""
_MIN_DIFFERENCE = 130.0
"""Smallest difference between the colours of a product and its backdrop."""
_SETTINGS: tuple[Setting, ...] = ("sweep", "floor", "disc")
_ADJECTIVES = {"plain": "", "stripes": "striped", "dots": "dotted", "checks": "checked", "zigzag": "zigzag"}
_ANGLES = {"stripes": (0.0, 0.0, 90.0, 45.0), "checks": (0.0, 0.0, 45.0)}
_CHOICE, _SHAPE, _SCENE, _SKETCH = range(4)
"""Separate random streams, so that one more draw in a shape changes neither colours nor background."""


@dataclass(frozen=True)
class Product:
    """An item of the catalogue.

    Attributes:
        id: class and number, unique in a catalogue: ``mug-0007``.
        label: its class, one of ``CLASSES``.
        title: such as ``Teal striped mug``.
        attributes: ``colour``, ``pattern`` and ``style``.
        seed: determines everything else.
    """

    id: str
    label: str
    title: str
    attributes: Mapping[str, str] = field(hash=False)
    seed: int

    def photo(self, size: int = 256) -> Image.Image:
        """Draw the product in front of a backdrop: RGB, ``size`` by ``size`` pixels.

        Raises:
            UsageError: ``size`` is below 16.
        """
        return render_photo(_scene(self), _check_size(size))

    def sketch(self, variant: int = 0, size: int = 256) -> Image.Image:
        """Draw the same product by hand: RGB, dark strokes on white, ``size`` by ``size`` pixels.

        Args:
            variant: each number is another hand, with another pen.
            size: side in pixels.

        Raises:
            UsageError: ``size`` is below 16 or ``variant`` negative.
        """
        if variant < 0:
            raise UsageError(f"The sketch variant {variant} is negative; variants begin at 0.")
        return render_sketch(_scene(self), _check_size(size), _random_stream(self.seed, _SKETCH, variant))


def catalogue(count: int = 320, seed: int = 0) -> list[Product]:
    """Make the first ``count`` products of a seed; product i is of class ``CLASSES[i % len(CLASSES)]``.

    Raises:
        UsageError: ``count`` is below 1 or ``seed`` negative.
    """
    if count < 1:
        raise UsageError(f"A catalogue of {count} products is empty; give at least 1.")
    if seed < 0:
        raise UsageError(f"The seed {seed} is negative; give 0 or more.")
    return [_product(index, seed) for index in range(count)]


def write(folder: Path, count: int = 320, seed: int = 0, progress: Progress = SILENT) -> list[Product]:
    """Write a catalogue as files: ``photos/<label>/<id>.jpg``, ``sketches/<label>/<id>.png`` and ``items.csv``.

    The columns of ``items.csv`` are ``path`` (of the photo, relative to ``folder``), ``label``, ``title`` and the
    attributes. Existing files of the same names are overwritten.

    Args:
        folder: is made if it does not exist.
        count: number of products.
        seed: of the catalogue.
        progress: receives the stage ``"drawing"``.

    Raises:
        UsageError: ``count`` is below 1 or ``seed`` negative.
    """
    products = catalogue(count, seed)
    for label in {product.label for product in products}:
        (folder / "photos" / label).mkdir(parents=True, exist_ok=True)
        (folder / "sketches" / label).mkdir(parents=True, exist_ok=True)

    def draw(product: Product) -> None:
        with atomic_write(folder / "photos" / product.label / f"{product.id}.jpg") as part:
            product.photo().save(part, "JPEG", quality=92)
        with atomic_write(folder / "sketches" / product.label / f"{product.id}.png") as part:
            product.sketch().save(part, "PNG")

    with ThreadPoolExecutor(available_cores()) as pool:
        for done, _ in enumerate(pool.map(draw, products)):
            progress.advance("drawing", done + 1, count)
    with atomic_write(folder / "items.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "label", "title", *products[0].attributes])
        for product in products:
            path = f"photos/{product.label}/{product.id}.jpg"
            rows.writerow([path, product.label, product.title, *product.attributes.values()])
    return products


def _check_size(size: int) -> int:
    if size < _MIN_SIZE:
        raise UsageError(f"An image of {size} pixels is too small to show a product; give at least {_MIN_SIZE}.")
    return size


def _random_stream(seed: int, *keys: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *keys])))


def _product(index: int, seed: int) -> Product:
    label = CLASSES[index % len(CLASSES)]
    product_seed = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    rng, kind = _random_stream(product_seed, _CHOICE), KINDS[label]
    names = list(COLOURS)
    colour, pattern = names[rng.integers(len(names))], kind.prints[rng.integers(len(kind.prints))]
    style = kind.styles[rng.integers(len(kind.styles))]
    title = " ".join(filter(None, [colour.capitalize(), _ADJECTIVES[pattern], label]))
    attributes = {"colour": colour, "pattern": pattern, "style": style}
    return Product(f"{label}-{index // len(CLASSES):04d}", label, title, attributes, product_seed)


def _look(product: Product) -> Look:
    rng, kind = _random_stream(product.seed, _SHAPE), KINDS[product.label]
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
    rng = _random_stream(product.seed, _SCENE)
    stands = kind.stands != (look.style in kind.exceptions)
    mirror = float(rng.choice((-1.0, 1.0), p=(0.4, 0.6)))
    turn = rotate(np.eye(2) * (mirror, 1.0), float(rng.uniform(-kind.tilt, kind.tilt)))
    solid = np.concatenate([part.outline for part in parts if part.role != "glow"]) @ turn
    low, high = solid.min(axis=0), solid.max(axis=0)
    scale = float(rng.uniform(*_EXTENT)) / float((high - low).max())
    half = (high - low) * scale / 2
    centre = 0.5 + rng.uniform(-0.03, 0.03, 2)
    if stands:
        # Halfway between the middle of the frame and a common floor, so that flat products do not float.
        centre[1] += 0.5 * max(0.0, _FLOOR - half[1] - 0.5)
    offset = centre - (low + high) / 2 * scale
    walls = [paint for paint in BACKDROPS if difference(paint, look.main) > _MIN_DIFFERENCE]
    wall, disc = rng.permutation(len(walls))[:2]
    setting = _SETTINGS[rng.integers(len(_SETTINGS))]
    horizon = float(centre[1] + half[1] - rng.uniform(0.06, 0.14))
    return Scene(parts, Pose(turn * scale, offset), Backdrop(setting, walls[wall], walls[disc], horizon), stands)
