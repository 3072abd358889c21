"""How often a search says “Nothing here looks like it”, of queries that belong to the collection and of others.

::

    python benchmarks/no_match.py data             prints the table of docs/reference/measures.md
    python benchmarks/no_match.py data --choose    the same on the images on which the rule was chosen

``data`` has the folders ``fashion-60``, ``fashion-300``, ``cifar10``, ``sketchy-128`` and ``signatures``. The rule (`lookalike.chance`) was
chosen on halves of fashion-300, CIFAR-10's training images and two toy shops; the table is of other images.
"""

import argparse
import io
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lookalike import encoders, images, sample, search
from lookalike.chance import MAX_ITEMS, NEIGHBOURS, Chance
from lookalike.embedding import Embedder
from lookalike.images import ImageSource
from lookalike.query import Branch

_COUNT = 2000
_STRANGERS = 100
_SAMPLES = 50
_SIDE = 128

Sources = Sequence[ImageSource]
Load = Callable[[], Sources]


def main() -> None:
    """Print a line for each collection and encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--choose", action="store_true", help="measure on the images on which the rule was chosen")
    given = parser.parse_args()
    print("| encoder | collection | calibration holds | belongs: “nothing” | does not belong: “nothing” |")  # noqa: T201
    print("|---|---|---|---|---|")  # noqa: T201
    for measure in (shops, fashion, cifar, copies, photographs):
        measure(given.data, choose=given.choose)


def shops(data: Path, *, choose: bool) -> None:
    """Measure products of other shops, and sketches, with the encoder toyshop."""
    first, second = (101, 202) if choose else (505, 606)
    embedder = Embedder.of(encoders.load("toyshop"))
    shop, other = sample.catalogue(320, first), sample.catalogue(320, second)
    gallery = embed(embedder, [product.photo() for product in shop])
    away = {**strangers(), "photos of fashion": take(data / "fashion-60"), "CIFAR-10": take(data / "cifar10" / "test")}
    report(embedder, "320 products", gallery, {"products of another shop": [p.photo() for p in other]}, away)
    sketches = {
        "sketches of the products": [p.sketch(1) for p in shop],
        "of another shop": [p.sketch(1) for p in other],
    }
    drawn = {**strangers(), "scribbles": scribbles(), "Sketchy": take(data / "sketchy-128" / "sketch")}
    report(embedder, "320 products, by sketch", gallery, sketches, drawn, "sketch")


def fashion(data: Path, *, choose: bool) -> None:
    """Measure one half of the photos of a shop in the other half, with the encoder toyshop."""
    name = "fashion-300" if choose else "fashion-60"
    embedder = Embedder.of(encoders.load("toyshop"))
    photos = take(data / name, 2 * _COUNT)
    gallery = embed(embedder, photos[::2])
    away = {**strangers(), "CIFAR-10": take(data / "cifar10" / "test"), "Sketchy": take(data / "sketchy-128" / "photo")}
    report(embedder, f"half of {name}", gallery, {"the other half": photos[1::2]}, away)
    if not choose:
        photos = take(data / "sketchy-128" / "photo", 2 * _COUNT)
        gallery = embed(embedder, photos[::2])
        report(embedder, "half of Sketchy's photos", gallery, {"the other half": photos[1::2]}, strangers())


def cifar(data: Path, *, choose: bool) -> None:
    """Measure photos of the ten classes with their own encoder."""
    embedder = Embedder.of(encoders.load("cifar10-triplet"))
    test = take(data / "cifar10" / "test", 10_000)
    away = {**strangers(), "fashion": take(data / "fashion-300"), "Sketchy": take(data / "sketchy-128" / "photo")}
    if choose:
        gallery = embed(embedder, take(data / "cifar10" / "train", 10_000))
        report(embedder, "CIFAR-10, training images", gallery, {"test images": test}, away)
    else:
        gallery = embed(embedder, test[::2])
        report(embedder, "half of CIFAR-10's test images", gallery, {"the other half": test[1::2]}, away)


def copies(data: Path, *, choose: bool) -> None:
    """Measure changed copies of the images of a collection, with the encoder copies."""
    embedder = Embedder.of(encoders.load("copies"))
    kept = "fashion-60", "sketchy-128/photo", "signatures/skel"
    for folder in ("fashion-300", "cifar10/train") if choose else kept:
        photos = take(data / folder)
        away = {**strangers(), "other images: CIFAR-10": take(data / "cifar10" / "test")}
        report(embedder, folder, embed(embedder, photos), {"changed copies": changed(photos[:500])}, away)


def photographs(data: Path, *, choose: bool) -> None:
    """Measure one half of photographs in the other half, with the encoder general, for which nothing was chosen."""
    if choose:
        return
    embedder = Embedder.of(encoders.load("general"))
    outside = {"Sketchy": data / "sketchy-128" / "photo", "photos of fashion": data / "fashion-60"}
    for folder, others in (("fashion-300", "Sketchy"), ("sketchy-128/photo", "photos of fashion")):
        photos = take(data / folder, 2 * _COUNT)
        away = {**strangers(), "CIFAR-10": take(data / "cifar10" / "test"), others: take(outside[others])}
        gallery = embed(embedder, photos[::2])
        report(embedder, f"half of {folder}", gallery, {"the other half": photos[1::2]}, away)


def report(
    embedder: Embedder,
    collection: str,
    gallery: np.ndarray,
    near: Mapping[str, Sources],
    away: Mapping[str, Sources],
    branch: Branch = "photo",
) -> None:
    """Print the line of a collection: the share of each kind of query that is told that nothing looks like it."""
    calibration = embedder.calibration()
    measured = Chance.of(gallery[:MAX_ITEMS], embedder.metric, calibration) or Chance(np.inf, np.inf)
    holds = "not calibrated" if calibration is None else describe_calibration(embedder, gallery, whole=measured)
    measured = measured if branch == "photo" else measured.for_sketches()

    def share(sources: Sources, digits: int) -> str:
        vectors = embed(embedder, sources, branch)
        found = search.knn(vectors, gallery, NEIGHBOURS, embedder.metric).distances.reshape(len(vectors), -1)
        return f"{np.mean([measured.no_match(row) for row in found.tolist()]):.{digits}%}"

    left = ", ".join(f"{name} {share(sources, 1)}" for name, sources in near.items())
    right = ", ".join(f"{name} {share(sources, 0)}" for name, sources in away.items())
    print(f"| {embedder.name} | {collection} | {holds} | {left} | {right} |", flush=True)  # noqa: T201


def describe_calibration(embedder: Embedder, gallery: np.ndarray, whole: Chance) -> str:
    """Say whether the calibration holds for a collection, and for how many of 50 samples of 20 and of 60 of its images."""

    def count(size: int) -> int:
        held = 0
        for seed in range(_SAMPLES):
            rows = np.random.default_rng(seed).permutation(len(gallery))[:size]
            sample = Chance.of(gallery[rows], embedder.metric, embedder.calibration())
            held += sample is not None and sample.calibration_holds
        return held

    answer = "yes" if whole.calibration_holds else "no"
    return f"{answer}; {count(20)} and {count(60)} of {_SAMPLES} samples of 20 and 60"


def embed(embedder: Embedder, sources: Sources, branch: Branch = "photo") -> np.ndarray:
    """Embed images."""
    return np.asarray(embedder.embed(sources, branch))


def take(folder: Path, count: int = _COUNT) -> list[Path]:
    """Choose images of a folder at random."""
    paths = images.find(folder)
    random.Random(1).shuffle(paths)  # noqa: S311 -- a sample
    return paths[:count]


def strangers() -> dict[str, Sources]:
    """Make images that belong to no collection."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8) for _ in range(_STRANGERS)]
    squares = [rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(_STRANGERS)]
    flat = [np.full((_SIDE, _SIDE, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(_STRANGERS)]
    return {"noise": pixels, "coloured squares": squares, "flat colours": flat, "text": pages()}


def pages() -> list[Image.Image]:
    """Draw pages of text."""
    rng, made = random.Random(0), []  # noqa: S311 -- a drawing
    for _ in range(_STRANGERS):
        page = Image.new("RGB", (300, 400), "white")
        draw = ImageDraw.Draw(page)
        for y in range(10, 390, 14):
            words = ("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(8))
            draw.text((10, y), " ".join(words), fill="black")
        made.append(page)
    return made


def scribbles() -> list[Image.Image]:
    """Draw random walks."""
    rng, made = np.random.default_rng(5), []
    for _ in range(_STRANGERS):
        page = Image.new("RGB", (256, 256), "white")
        steps = rng.normal(0, 30, (rng.integers(10, 60), 2))
        ImageDraw.Draw(page).line([tuple(p) for p in np.clip(128 + steps.cumsum(0), 5, 250)], fill="black", width=3)
        made.append(page)
    return made


def changed(paths: Sequence[Path]) -> list[bytes]:
    """Compress images again, and shrink, crop or blur most of them."""
    rng, made = random.Random(2), []  # noqa: S311 -- a sample
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        width, height = image.size
        match number % 4:
            case 1:
                image = image.resize((max(16, width // 2), max(16, height // 2)))
            case 2:
                image = image.crop((width // 25, height // 25, width - width // 25, height - height // 25))
            case 3:
                image = image.filter(ImageFilter.GaussianBlur(1))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.choice([40, 60, 80]))
        made.append(file.getvalue())
    return made


if __name__ == "__main__":
    main()
