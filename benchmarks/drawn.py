"""Measure how many drawings and photos look drawn, and how far a drawing on other paper finds what it finds in black on white.

::

    python benchmarks/drawn.py data [--collection photos.lookalike]

``data`` has ``sketchy-128/{photo,sketch}``, ``fashion-300`` and ``cifar10``. The script draws sketches again in pencil, in coloured pen, on grey, yellow and brown paper,
in chalk and in uneven light, and prints which share of them, and of photos, `lookalike.images.looks_drawn` takes for drawings. With a collection of an
encoder of sketches, it also prints how many of the ten nearest images of a sketch its other drawings find, with and without `lookalike.images.clean_sketch`.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from lookalike import images, sample
from lookalike.collection import Collection

Colour = tuple[float, float, float]
_HITS = 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--collection", type=Path)
    parser.add_argument("--count", type=int, default=1000, help="images of each kind, at most")
    given = parser.parse_args()
    sketches = [images.open_image(path) for path in draw_lots(given.data / "sketchy-128/sketch", given.count)]
    report("sketches of people", sketches)
    for name, redraw in REDRAWN.items():
        rng = np.random.default_rng(0)
        report(f"sketches, {name}", [redraw(sketch, rng) for sketch in sketches])
    products = sample.catalogue(200, 1)
    report("sketches of the toy shop", [product.sketch() for product in products])
    report("photos of the toy shop", [product.photo(160) for product in products])
    for folder in ("sketchy-128/photo", "fashion-300", "cifar10"):
        paths = draw_lots(given.data / folder, given.count)
        report(f"photos of {folder}", [images.open_image(path, at_least=256) for path in paths])
    if given.collection:
        with Collection.open(given.collection) as collection:
            for name, redraw in REDRAWN.items():
                compare(collection, name, redraw, sketches[:100])


def draw_lots(folder: Path, count: int) -> list[Path]:
    """Return some images of a folder, drawn at random."""
    paths = images.find(folder)
    return [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[:count]]


def report(name: str, shown: Sequence[Image.Image]) -> None:
    """Print the share of images that look drawn."""
    drawn = sum(images.looks_drawn(image) for image in shown)
    print(f"{name}: {drawn:,} of {len(shown):,} look drawn", flush=True)  # noqa: T201


Redraw = Callable[[Image.Image, np.random.Generator], Image.Image]


def compare(collection: Collection, name: str, redraw: Redraw, sketches: Sequence[Image.Image]) -> None:
    """Print which share of the hits of sketches the same sketches find that are drawn again."""
    rng = np.random.default_rng(0)
    again = [redraw(sketch, rng) for sketch in sketches]
    encoder = collection.embedder.encoder
    side, fitting = encoder.card.input.side, encoder.card.input.fitting
    uncleaned = encoder.embed(np.stack([images.load(sketch, side, fitting) for sketch in again]), "sketch")
    expected = [{hit.item.id for hit in answer} for answer in collection.search(sketches, sketch=True, k=_HITS)]
    for how, answers in (
        ("cleaned", collection.search(again, sketch=True, k=_HITS)),
        ("as it is", collection.search(vector=uncleaned, k=_HITS)),
    ):
        shared = [len(one & {hit.item.id for hit in answer}) for one, answer in zip(expected, answers, strict=True)]
        print(f"{name}, {how}: {np.mean(shared) / _HITS:.2f} of the hits", flush=True)  # noqa: T201


# ---- drawings


def draw_again(
    paper: Colour, ink: Colour, *, soft: float = 0.0, grain: float = 0.0, noise: float = 2.0, light: float = 0.0
) -> Redraw:
    """Return a function that draws a sketch in black on white again.

    Args:
        paper: its colour.
        ink: its colour.
        soft: blur of the lines, in 256ths of the longer side.
        grain: largest share of the ink that a pixel lacks.
        noise: standard deviation of all pixels, in levels.
        light: levels by which one side is lighter, and the other darker, than the middle.
    """

    def redraw(sketch: Image.Image, rng: np.random.Generator) -> Image.Image:
        blurred = sketch.convert("L").filter(ImageFilter.GaussianBlur(soft * max(sketch.size) / 256))
        cover = (1 - np.asarray(blurred) / 255) * rng.uniform(1 - grain, 1, blurred.size[::-1])
        pixels = np.array(paper) + (np.array(ink) - paper) * cover[..., None]
        y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in cover.shape), indexing="ij")
        angle = rng.uniform(0, 2 * np.pi)
        pixels += (light * (np.cos(angle) * x + np.sin(angle) * y) + rng.normal(0, noise, cover.shape))[..., None]
        return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))

    return redraw


REDRAWN = {
    "pencil": draw_again((246, 246, 246), (100, 100, 100), soft=0.8, grain=0.45),
    "pale pencil": draw_again((244, 244, 244), (150, 150, 150), soft=1.0, grain=0.45),
    "blue pen": draw_again((250, 250, 250), (25, 50, 170), noise=1),
    "red pen": draw_again((250, 250, 250), (190, 30, 40), noise=1),
    "grey paper": draw_again((178, 178, 178), (40, 40, 40), noise=3, light=8),
    "yellow paper": draw_again((238, 222, 172), (50, 45, 45), noise=3, light=8),
    "brown paper": draw_again((190, 150, 105), (35, 30, 30), noise=5, light=6),
    "chalk": draw_again((35, 47, 40), (236, 236, 228), soft=0.5, grain=0.4, noise=4, light=4),
    "pencil, uneven light": draw_again((205, 200, 190), (90, 90, 90), soft=0.8, grain=0.45, noise=3, light=22),
}


if __name__ == "__main__":
    main()
