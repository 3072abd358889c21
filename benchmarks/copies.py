"""Measure how many copies of images match them by their pixels, and how many different images do.

    python benchmarks/copies.py IMAGES [--count 200] [--encoder copies] [--json]

The benchmark makes 17 kinds of copies of images of a folder. For each kind it counts the copies within the radius of the
encoder's calibration, the copies with matching pixels (`lookalike.duplicates.pixels`), and the copies with both, which are
duplicates. It also counts the pairs of the folder's own images within the radius, and the duplicates among them; show these
with `lookalike duplicates IMAGES --out page.html`.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from rich.console import Console
from rich.table import Table

from lookalike import duplicates, encoders, images
from lookalike.collection import Collection
from lookalike.duplicates import SearchRadius, Tier
from lookalike.duplicates.candidates import CandidatePairs, confirm_by_pixels
from lookalike.errors import LookalikeError, NotFoundError
from lookalike.metric import paired

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _recompressed(image: Image.Image, _: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def _cropped(share: float) -> Change:
    """Crop a share of width and height, at random sides."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        size = np.array(image.size)
        start = rng.random(2) * share * size
        left, top, right, low = np.rint([*start, *(start + (1 - share) * size)]).astype(int).tolist()
        return image.crop((left, top, right, low))

    return change


def _captioned(image: Image.Image, _: np.random.Generator) -> Image.Image:
    image = image.copy()
    width, height = image.size
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, round(0.88 * height), width, height), fill="black")
    pen.line((0.1 * width, 0.94 * height, 0.8 * width, 0.94 * height), fill="white", width=max(1, height // 20))
    return image


def _marked(image: Image.Image, _: np.random.Generator) -> Image.Image:
    image = image.copy()
    width, height = image.size
    corner = (0.7 * width, 0.03 * height, 0.97 * width, 0.25 * height)
    ImageDraw.Draw(image).ellipse(corner, fill=(220, 20, 40))
    return image


def _values(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    """Change the values of pixels, 0…255."""
    return lambda image, rng: Image.fromarray(
        np.clip(np.rint(change(np.asarray(image, np.float64), rng)), 0, 255).astype(np.uint8)
    )


KINDS: Mapping[str, Change] = {
    "JPEG of quality 30": _recompressed,
    "half the size": lambda p, _: p.resize((max(1, p.width // 2), max(1, p.height // 2)), Image.Resampling.LANCZOS),
    "cropped by 5 %": _cropped(0.05),
    "cropped by 10 %": _cropped(0.1),
    "cropped by 15 %": _cropped(0.15),
    "brightness × 0.75 or 1.3": lambda p, rng: ImageEnhance.Brightness(p).enhance(rng.choice([0.75, 1.3])),
    "contrast × 0.7 or 1.35": lambda p, rng: ImageEnhance.Contrast(p).enhance(rng.choice([0.7, 1.35])),
    "saturation × 0.5 or 1.5": lambda p, rng: ImageEnhance.Color(p).enhance(rng.choice([0.5, 1.5])),
    "gamma 0.7 or 1.4": _values(lambda x, rng: 255 * (x / 255) ** rng.choice([0.7, 1.4])),
    "grey": lambda p, _: p.convert("L").convert("RGB"),
    "warmer": _values(lambda x, _: x * np.array([1.12, 1.0, 0.85])),
    "blurred": lambda p, _: p.filter(ImageFilter.GaussianBlur(0.025 * min(p.size))),
    "noise of 8 grey levels": _values(lambda x, rng: x + rng.normal(0, 8, x.shape)),
    "turned by 3°": lambda p, rng: p.rotate(rng.choice([-3, 3]), Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)),
    "framed": lambda p, rng: ImageOps.expand(p, max(1, round(0.05 * min(p.size))), str(rng.choice(["white", "black"]))),
    "with a caption": _captioned,
    "with a logo": _marked,
}


def measure(folder: Path, count: int, encoder: str = "copies") -> dict[str, Any]:
    """Measure copies of images, and the images themselves.

    Args:
        folder: of the images.
        count: images to copy, evenly from all.
        encoder: a bundled name, or a folder.

    Returns:
        ``name``, ``images``, ``radius``; ``kinds``: for each the shares ``near``, ``agree`` and ``duplicates`` of its copies;
        ``pairs`` within the radius in the folder itself, and ``duplicates`` among them.

    Raises:
        NotFoundError: there are no images.
    """
    model = encoders.load(encoder)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Collection.create(Path(scratch) / "c.lookalike", model) as collection,
    ):
        collection.add(folder)
        files = sorted(collection.folder.file(item) for item in collection.store.scan())
        if not files:
            raise NotFoundError(f"There is no image in {folder}.")
        chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]
        radius = SearchRadius.from_calibration(collection.embedder, len(files))
        kinds = {kind: _measure(collection, chosen, kind, radius.distance, Path(scratch)) for kind in KINDS}
        found = duplicates.find_duplicates(collection, radius)
    return {
        "name": model.card.name,
        "images": len(files),
        "radius": radius.distance,
        "kinds": kinds,
        "pairs": len(found.pairs),
        "duplicates": sum(pair.tier is Tier.NEAR_DUPLICATE for pair in found.pairs),
    }


def _measure(collection: Collection, files: list[Path], kind: str, radius: float, scratch: Path) -> dict[str, float]:
    rng, copies = np.random.default_rng(0), []
    for i, file in enumerate(files):
        copies.append(scratch / f"{i}.png")
        KINDS[kind](images.open_image(file), rng).save(copies[-1])
    distances = paired(
        collection.embedder.embed(files), collection.embedder.embed(copies), collection.store.space.metric
    )
    near = np.asarray(distances) <= radius
    rows = np.arange(len(files))
    same, unconfirmed = np.zeros(len(rows), np.uint8), np.zeros(len(rows), bool)
    pairs = CandidatePairs(rows, rows, distances.astype(np.float32), same, unconfirmed)
    agree = confirm_by_pixels(pairs, files, copies)[0].confirmed
    return {"near": float(near.mean()), "agree": float(agree.mean()), "duplicates": float((near & agree).mean())}


def table(result: Mapping[str, Any]) -> Table:
    """Make a table of the result."""
    shown = Table(
        "copies", "within radius", "agree", "duplicates", title=f"{result['images']:,} images, {result['name']}"
    )
    for kind, shares in result["kinds"].items():
        shown.add_row(kind, *(f"{shares[name]:.0%}" for name in ("near", "agree", "duplicates")))
    shown.add_row("pairs of the folder", f"{result['pairs']:,}", "", f"{result['duplicates']:,}")
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a folder")
    parser.add_argument("--count", type=int, default=200, help="images to copy")
    parser.add_argument("--encoder", default="copies")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    try:
        result = measure(chosen.images, chosen.count, chosen.encoder)
    except LookalikeError as e:
        sys.exit(f"Error: {e}")
    if chosen.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        Console().print(table(result))


if __name__ == "__main__":
    main()
