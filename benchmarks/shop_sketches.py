"""Find products of fashion-300 with drawings: the strokes of tests/drawings.

::

    python benchmarks/shop_sketches.py data                                      prints tables
    python benchmarks/shop_sketches.py data --encoder before --encoder after     also says what each gains over the one before it
    python benchmarks/shop_sketches.py data --save                               writes results/encoders/shop-sketches.json and docs/images/sketch-results.jpg

``data`` has the folder ``fashion-300`` and the table ``fashion-300.csv``. A product is relevant if its article is exactly that of the drawing: a sports
shoe is wrong for a casual shoe. An encoder with a sketch branch embeds the drawings with it, any other embeds them as photos. The intervals (95 %)
draw the drawings of each article anew, 10,000 times: they hold for other drawings of the same articles, not for other articles.

The baselines are those of `encoders.py`.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import encoder_queries
import encoders as baselines
import general
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lookalike import atomic, encoders, images, search
from lookalike.embedding import Embedder
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric

ROOT = Path(__file__).parent.parent
DRAWINGS = ROOT / "tests" / "drawings"
RESULTS, FIGURE = (
    ROOT / "benchmarks" / "results" / "encoders" / "shop-sketches.json",
    ROOT / "docs" / "images" / "sketch-results.jpg",
)

ARTICLES = {
    "backpack": "Backpacks",
    "belt": "Belts",
    "casual-shoe": "Casual Shoes",
    "flip-flop": "Flip Flops",
    "handbag": "Handbags",
    "heel": "Heels",
    "shirt": "Shirts",
    "shorts": "Shorts",
    "sock": "Socks",
    "sunglasses": "Sunglasses",
    "tshirt": "Tshirts",
    "watch": "Watches",
}
"""The name of a drawing without its number → the article in the table."""

MEASURES = ("MRR", "precision@10", "mAP")
_BASELINES = ("HOG", "EfficientNet-Lite0, pooled")
_ENCODERS = ("general", "toyshop", "sketch")
_DRAWS = 10_000
_HITS = 6

Paths = Sequence[Path]


@dataclass(frozen=True, eq=False)
class Model:
    """An encoder or a baseline.

    Attributes:
        name: of its row.
        photos: embeds products.
        sketches: embeds drawings.
        metric: compares them.
    """

    name: str
    photos: Callable[[Paths], np.ndarray]
    sketches: Callable[[Paths], np.ndarray]
    metric: Metric = Metric.COSINE


@dataclass(frozen=True, eq=False)
class Found:
    """What a model finds.

    Attributes:
        name: of the model.
        scores: ``(q, 3)``, the `MEASURES` of each drawing: reciprocal rank, precision, average precision.
        hits: ``(q, 10)``, rows of the nearest products of each drawing.
    """

    name: str
    scores: np.ndarray
    hits: np.ndarray


def main() -> None:
    """Print a line for each model, then a table of the articles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--encoder", action="append", help="a bundled name or a folder; can be repeated; by default the baselines too"
    )
    parser.add_argument("--save", action="store_true", help="write the results file and the figure of the last encoder")
    given = parser.parse_args()
    drawings, articles = read_drawings(DRAWINGS)
    products = general.articles(given.data, "fashion-300")
    gallery, labels = [given.data / path for path, _ in products], [label for _, label in products]
    names = given.encoder or _ENCODERS
    known: dict[str, np.ndarray] = {}
    models = [*([] if given.encoder else simple_models(given.data)), *(encoder(name, known) for name in names)]
    found = []
    for model in models:
        found.append(find(model, (drawings, articles), (gallery, labels)))
        print(line(found[-1], articles), flush=True)  # noqa: T201
    for before, after in itertools.pairwise(found if given.encoder else []):
        print(gain(before, after, articles))  # noqa: T201
    print(by_article(found, articles))  # noqa: T201
    if given.save:
        save(RESULTS, {each.name: summary(each, articles) for each in found})
        draw(found[-1], (drawings, articles), (gallery, labels)).save(FIGURE, quality=82, optimize=True)


def read_drawings(folder: Path) -> tuple[list[Path], list[str]]:
    """List the drawings and the article of each."""
    paths = sorted(folder.glob("*.json"))
    return paths, [ARTICLES[path.stem.rpartition("-")[0]] for path in paths]


def simple_models(data: Path) -> list[Model]:
    """Make chance and the baselines that embed drawings as photos."""
    known = baselines.models(data)
    chance = Model("chance", embed_equally, embed_equally)
    return [chance, *(_baseline(known[name](name)) for name in _BASELINES)]


def embed_equally(paths: Paths) -> np.ndarray:
    """Embed all images alike: all orders are then equally likely, and `retrieval` computes their mean."""
    return np.ones((len(paths), 2), np.float32)


def _baseline(model: baselines.Model) -> Model:
    def embed(paths: Paths) -> np.ndarray:
        parts = (paths[start : start + 256] for start in range(0, len(paths), 256))
        return np.concatenate([model.embed([images.open_image(path) for path in part]) for part in parts])

    return Model(model.name, embed, embed)


def encoder(name: str, known: dict[str, np.ndarray]) -> Model:
    """Make a model of an encoder; ``known`` keeps the vectors of products, for encoders that differ only in their sketch branch."""
    embedder = Embedder.of(encoders.load(name))
    branch: Any = "sketch" if "sketch" in embedder.encoder.card.branches else "photo"
    network = embedder.encoder.photo_fingerprint

    def photos(paths: Paths) -> np.ndarray:
        if network not in known:
            known[network] = embedder.embed(paths)
        return known[network]

    return Model(embedder.name, photos, lambda paths: embedder.embed(paths, branch), embedder.metric)


def find(model: Model, queries: tuple[Paths, Sequence[str]], products: tuple[Paths, Sequence[str]]) -> Found:
    """Search all products for each drawing.

    Args:
        model: embeds both.
        queries: drawings and their articles.
        products: images and their articles.
    """
    gallery = LabelledVectors(model.photos(products[0]), products[1])
    vectors = model.sketches(queries[0])
    scores = []
    for vector, article in zip(vectors, queries[1], strict=True):
        one = retrieval.evaluate(LabelledVectors(vector[None], [article]), gallery, model.metric, ks=(10,))
        scores.append((one.mrr, one.precision_at[10], one.map))
    hits = search.knn(vectors, gallery.vectors, 10, model.metric).rows.reshape(len(vectors), -1)
    return Found(model.name, np.array(scores), hits)


def resample(scores: np.ndarray, articles: Sequence[str]) -> np.ndarray:
    """Return the means of drawings that are drawn anew within each article: ``(q, …)`` → ``(draws, …)``."""
    rng, labels = np.random.default_rng(0), np.array(articles)
    total = np.zeros((_DRAWS, *scores.shape[1:]))
    for article in np.unique(labels):
        rows = np.flatnonzero(labels == article)
        total += scores[rng.choice(rows, (_DRAWS, len(rows)))].sum(axis=1)
    return total / len(scores)


def line(found: Found, articles: Sequence[str]) -> str:
    """Write the line of a model in the table."""
    low, high = np.quantile(resample(found.scores, articles), [0.025, 0.975], axis=0)
    cells = (f"{m:.3f} ({a:.3f}–{b:.3f})" for m, a, b in zip(found.scores.mean(axis=0), low, high, strict=True))
    return f"| {found.name} | {' | '.join(cells)} |"


def gain(before: Found, after: Found, articles: Sequence[str]) -> str:
    """Say what one model gains over another on the same drawings, with intervals."""
    drawn = resample(np.stack([before.scores, after.scores], axis=1), articles)
    low, high = np.quantile(drawn[:, 1] / drawn[:, 0] - 1, [0.025, 0.975], axis=0)
    change = after.scores.mean(axis=0) / before.scores.mean(axis=0) - 1
    parts = (
        f"{name} {c:+.0%} ({a:+.0%} to {b:+.0%})" for name, c, a, b in zip(MEASURES, change, low, high, strict=True)
    )
    return f"{after.name} against {before.name}: {', '.join(parts)}."


def by_article(found: Sequence[Found], articles: Sequence[str]) -> str:
    """Write a table of MRR and precision@10 of each article, a column for each model."""
    labels = np.array(articles)
    lines = [
        f"| MRR / precision@10 | {' | '.join(each.name for each in found)} |",
        f"|---{'|---' * len(found)}|",
    ]
    for article in np.unique(labels):
        means = (each.scores[labels == article].mean(axis=0) for each in found)
        lines.append(f"| {article} | {' | '.join(f'{mean[0]:.2f} / {mean[1]:.2f}' for mean in means)} |")
    return "\n".join(lines)


def summary(found: Found, articles: Sequence[str]) -> dict[str, Any]:
    """Collect the figures of a model: each measure with its interval, and the measures of each article."""
    labels = np.array(articles)
    low, high = np.quantile(resample(found.scores, articles), [0.025, 0.975], axis=0)
    of_all = zip(MEASURES, found.scores.mean(axis=0), low, high, strict=True)
    means = {str(article): found.scores[labels == article].mean(axis=0) for article in np.unique(labels)}
    return {
        "drawings": len(articles),
        **{name: [round(float(x), 4) for x in values] for name, *values in of_all},
        "articles": {name: dict(zip(MEASURES, mean.round(4).tolist(), strict=True)) for name, mean in means.items()},
    }


def save(path: Path, models: dict[str, Any]) -> None:
    """Write figures to the results file; those of other models stay in it."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    atomic.write_bytes(path, f"{json.dumps(before | models, indent=1)}\n".encode())


def draw(found: Found, queries: tuple[Paths, Sequence[str]], products: tuple[Paths, Sequence[str]]) -> Image.Image:
    """Draw the nearest products of two drawings of each article: on the left the one that finds most, on the right the least."""
    labels = np.array(queries[1])
    step, half = encoder_queries.SIDE + 8, (_HITS + 1) * (encoder_queries.SIDE + 8) + 24
    shown = np.unique(labels)
    sheet = Image.new("RGB", (2 * half, 28 + len(shown) * step), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for start, title in ((8, "the drawing that finds most"), (8 + half, "the drawing that finds least")):
        pen.text((start, 6), title, "black", font)
    for line_number, article in enumerate(shown):
        rows = np.flatnonzero(labels == article)
        order = rows[np.lexsort((found.scores[rows, 2], found.scores[rows, 1]))]
        for start, query in ((8, order[-1]), (8 + half, order[0])):
            top = 28 + line_number * step
            sheet.paste(encoder_queries.thumbnail(queries[0][query]), (start, top))
            for place, hit in enumerate(found.hits[query][:_HITS], start=1):
                image = encoder_queries.thumbnail(products[0][hit])
                framed = encoder_queries.frame(image, right=products[1][hit] == article)
                sheet.paste(framed, (start + 8 + place * step, top - 2))
    return sheet


if __name__ == "__main__":
    main()
