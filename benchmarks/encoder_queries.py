"""Draw the nearest images of 24 queries by two encoders side by side, for docs/encoders.md.

::

    python benchmarks/encoder_queries.py data --out docs/images [--old toyshop] [--new general]

Twelve queries each are drawn with seed 0 from fashion-300 and from the 42 held-out classes of Sketchy's photos, of different classes. A green frame marks
a hit of the query's class, a red one with a cross another.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import general
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lookalike import encoders, images, search
from lookalike.embedding import Embedder

_QUERIES, _HITS = 12, 5
SIDE = 72
"""Of a thumbnail, in pixels."""

_GAP, _HEADER = 8, 28
_RIGHT, _WRONG = "#1a7f37", "#cf222e"


def main() -> None:
    """Write a figure for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--old", default="toyshop")
    parser.add_argument("--new", default="general")
    given = parser.parse_args()
    held = general.held_out_classes(given.data)
    sets = {
        "fashion": general.articles(given.data, "fashion-300"),
        "sketchy": [row for row in general.photos(given.data) if row[1] in held],
    }
    for name, rows in sets.items():
        paths, labels = [given.data / path for path, _ in rows], np.array([label for _, label in rows])
        queries = choose(labels)
        columns = {encoder: nearest(encoder, paths, queries) for encoder in (given.old, given.new)}
        path = given.out / f"encoders-{name}.jpg"
        draw(paths, labels, queries, columns).save(path, quality=85, optimize=True)
        print(path)  # noqa: T201


def choose(labels: np.ndarray) -> list[int]:
    """Choose queries of different classes that have enough other images."""
    names, counts = np.unique(labels, return_counts=True)
    rng = np.random.default_rng(0)
    classes = sorted(rng.choice(names[counts > _HITS], _QUERIES, replace=False).tolist())
    return [int(rng.choice(np.flatnonzero(labels == name))) for name in classes]


def nearest(encoder: str, paths: Sequence[Path], queries: Sequence[int]) -> list[list[int]]:
    """Return the nearest other images of each query."""
    embedder = Embedder.of(encoders.load(encoder))
    vectors = embedder.embed(paths)
    hits = search.knn(vectors[list(queries)], vectors, _HITS + 1, embedder.metric)
    found = hits.rows.reshape(len(queries), _HITS + 1).tolist()
    return [[row for row in rows if row != query][:_HITS] for query, rows in zip(queries, found, strict=True)]


def draw(
    paths: Sequence[Path], labels: np.ndarray, queries: Sequence[int], columns: dict[str, list[list[int]]]
) -> Image.Image:
    """Draw a line for each query: the query, then the hits of each encoder."""
    step = SIDE + _GAP
    starts = [_GAP, *(_GAP + step + 2 * _GAP + i * (_HITS * step + 2 * _GAP) for i in range(len(columns)))]
    sheet = Image.new("RGB", (starts[-1] + _HITS * step, _HEADER + len(queries) * step), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for start, title in zip(starts, ("query", *columns), strict=True):
        pen.text((start, 6), title, "black", font)
    for line, query in enumerate(queries):
        top = _HEADER + line * step
        sheet.paste(thumbnail(paths[query]), (starts[0], top))
        for start, found in zip(starts[1:], columns.values(), strict=True):
            for place, row in enumerate(found[line]):
                framed = frame(thumbnail(paths[row]), right=labels[row] == labels[query])
                sheet.paste(framed, (start + place * step - 2, top - 2))
    return sheet


def thumbnail(path: Path) -> Image.Image:
    """Fit an image into a square of 72 pixels."""
    return ImageOps.pad(images.open_image(path), (SIDE, SIDE), color="white")


def frame(image: Image.Image, *, right: bool) -> Image.Image:
    """Frame a hit: green, or red with a cross, for readers who cannot distinguish the colours."""
    framed = ImageOps.expand(image, 2)
    pen, corner = ImageDraw.Draw(framed), SIDE + 2
    pen.rectangle((0, 0, SIDE + 3, SIDE + 3), outline=_RIGHT if right else _WRONG, width=3)
    if not right:
        pen.rectangle((corner - 14, corner - 14, corner, corner), _WRONG)
        pen.line((corner - 11, corner - 11, corner - 3, corner - 3), "white", 2)
        pen.line((corner - 11, corner - 3, corner - 3, corner - 11), "white", 2)
    return framed


if __name__ == "__main__":
    main()
