"""Compare encoders on Sketchy: sketches by people that search for photos, of classes that nothing was fitted on and of others.

::

    python benchmarks/sketches.py data [--only general] [--encoder runs/mine/encoder] [--sets unseen,among-all,seen]
    python benchmarks/sketches.py data --only sketch --sets held-out --recipe recipes/sketch.yaml [-o data.validation_by=item]

``data`` has the folder ``sketchy-128``. The script prints a line for each encoder, and writes all measures, also by class and at eleven recalls, into
benchmarks/results/encoders/sketches.json, in place of earlier ones of the same encoder and set.

- *unseen*: the sketches of the 21 unseen classes of the literature (Yelamarthi et al. 2018) rank the photos of these classes.
- *among-all*: the same sketches rank the photos of all 125 classes (the generalised protocol).
- *seen*: the sketches of every fifth photo of the other 104 classes rank every fifth photo of these classes. `held_out` lists the photos.
- *held-out*: the sketches that a recipe's own split holds out of its first source rank the photos that it holds out there. With
  ``validation_by: class`` these are classes that its encoder has not seen, with ``item`` other photos of classes that it has seen. The
  recipe reads its images from the working directory.

mAP, mAP@200, P@100 and MRR count photos of the sketch's class. First and in 10 count the exact photo that was drawn. An encoder without a sketch branch
embeds sketches as photos. “Centred” subtracts the mean of each side of the set, “drawn” turns photos into pseudo-sketches first. “Expanded” searches for
the midpoints of sketches and their ten nearest photos, as `lookalike search --expand 10` does. Chance ranks at random.

The MobileNetV2 needs the package ``ai-edge-litert`` and ``data/mobilenet_v2_1.0_224_quant.tflite``; its rows are left out otherwise.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import encoders as models
import general
import numpy as np
from PIL import Image

from lookalike import atomic, datasets, encoders, search
from lookalike.datasets import Dataset, LabelledImages
from lookalike.embedding import Embedder
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.evaluate import evaluate_embeddings
from lookalike.evaluation.protocols import EvaluationOptions
from lookalike.expansion import midpoints
from lookalike.learn import data as split
from lookalike.learn import recipe as recipes
from lookalike.learn.pseudo_sketches import pseudo_sketch
from lookalike.learn.recipe import PseudoSketchStyle, Recipe
from lookalike.metric import Metric
from lookalike.progress import SILENT
from lookalike.shapes import UInt8

RESULTS = Path(__file__).parent / "results" / "encoders" / "sketches.json"
SETS = ("unseen", "among-all", "seen")
HELD_OUT = "held-out"

_EVERY = 5
_EXPAND = 10
_SIDE = 128
_MEASURES = ("mAP", "mAP@200", "precision@100", "MRR", "item top-1", "item in 10")

Embed = Callable[[Sequence[Image.Image]], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """What embeds photos, and what embeds sketches.

    Attributes:
        photo: images to vectors.
        sketch: sketches to vectors in the same space.
    """

    photo: Embed
    sketch: Embed


def main() -> None:
    """Print a line for each encoder, and write all measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", action="append", default=[], help="the name of a row; can be repeated")
    parser.add_argument("--encoder", action="append", default=[], type=Path, help="the folder of another encoder")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--recipe", type=Path, help="whose split the set held-out takes")
    parser.add_argument("-o", action="append", default=[], help="overrides a value of the recipe", dest="overrides")
    given = parser.parse_args()
    names = given.sets.split(",")
    if (HELD_OUT in names) != (given.recipe is not None):
        parser.error("--recipe and the set held-out go together")
    whole = open_sketchy(given.data)
    sets: dict[str, Dataset | LabelledImages] = {of: choose(whole, of) for of in names if of != HELD_OUT}
    if given.recipe:
        sets[HELD_OUT] = split_of(recipes.read(given.recipe, given.overrides))
    rows = {name: make for name, make in pairs(given.data).items() if not given.only or name in given.only}
    for encoder in map(encoders.load, given.encoder):
        rows[encoder.card.name] = _row(encoder)
    print("| encoder | set | " + " | ".join(_MEASURES) + " | mAP, centred | expanded: mAP, item in 10 |")  # noqa: T201
    print("|---" * (4 + len(_MEASURES)) + "|")  # noqa: T201
    for name, make in rows.items():
        for of in names:
            record = measure(make(name), sets[of])
            store(name, of, record)
            cells = [f"{record[key]:.3f}" if key in record else "" for key in _MEASURES]
            cells.append(f"{record['centred']['mAP']:.3f}")
            cells.append(f"{record['expanded']['mAP']:.3f}, {record['expanded']['item in 10']:.3f}")
            print(f"| {name} | {of} | {' | '.join(cells)} |", flush=True)  # noqa: T201


def open_sketchy(data: Path) -> Dataset:
    """Open all photos and sketches."""
    folder = data / "sketchy-128"
    return datasets.open_dataset(datasets.infer_source(folder / "photo", sketches=folder / "sketch"))


def held_out(whole: Dataset) -> np.ndarray:
    """Mark every fifth photo of each class, and the sketches of these photos."""
    photos = np.zeros(len(whole), bool)
    for label in range(len(whole.classes)):
        photos[np.flatnonzero((whole.labels == label) & ~whole.sketch)[::_EVERY]] = True
    return photos | (whole.sketch & np.isin(whole.items, whole.items[photos]))


def choose(whole: Dataset, of: str) -> Dataset:
    """Choose the images of a set."""
    unseen = np.isin(np.array(whole.classes)[whole.labels], general.UNSEEN)
    chosen = {
        "unseen": unseen,
        "among-all": unseen | ~whole.sketch,
        "seen": ~unseen & held_out(whole),
    }
    return whole.take(chosen[of])


def split_of(recipe: Recipe) -> LabelledImages:
    """Read the images that a recipe holds out of the first source of its last stage, as it splits them for training."""
    index = len(recipe.stages) - 1
    held_out = split.read(recipe, index, _SIDE, SILENT)[1]
    first = datasets.open_dataset(recipe.stages[index].data.sources[0])
    return held_out.take(held_out.items <= first.items.max())  # those of later sources have higher numbers


def measure(pair: Pair, dataset: Dataset | LabelledImages) -> dict[str, Any]:
    """Return the measures of a pair of branches on a set, with the mean of each side subtracted, and with expanded queries."""
    is_sketch = dataset.sketch
    photos, sketches = (
        np.concatenate([embed(part) for part in _batches(dataset, np.flatnonzero(rows))]).astype(np.float32)
        for embed, rows in ((pair.photo, ~is_sketch), (pair.sketch, is_sketch))
    )
    plain = _scores(dataset, photos, sketches)
    centred = _scores(dataset, photos - photos.mean(axis=0), sketches - sketches.mean(axis=0))
    expanded = _scores(dataset, photos, _expand(sketches, photos))
    parts = {"centred": centred, "expanded": expanded}
    return plain | {name: {key: part[key] for key in _MEASURES if key in part} for name, part in parts.items()}


def _expand(sketches: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Return the midpoints of sketches and their nearest photos."""
    hits = search.knn(sketches, photos, _EXPAND, Metric.COSINE)
    return midpoints(sketches, [photos[rows] for rows in hits.rows.reshape(len(sketches), -1)], Metric.COSINE)


def _scores(dataset: Dataset | LabelledImages, photos: np.ndarray, sketches: np.ndarray) -> dict[str, Any]:
    vectors = np.empty((len(dataset), photos.shape[1]), np.float32)
    vectors[~dataset.sketch], vectors[dataset.sketch] = photos, sketches
    data = EmbeddedDataset(vectors, dataset.labels, Metric.COSINE, dataset.classes, dataset.items, dataset.sketch)
    result = evaluate_embeddings(data, EvaluationOptions(tasks=("retrieval",), required=True)).to_dict()
    by_class = result["retrieval"]["by_class"]
    return {
        **{score["name"]: score["value"] for score in result["scores"]},
        "queries": by_class["queries"],
        "gallery": len(photos),
        "eleven_points": by_class["eleven_points"],
        "classes": {each["class"]: each["map"] for each in by_class["classes"]},
    }


def store(name: str, of: str, record: dict[str, Any]) -> None:
    """Write the measures of an encoder and a set, in place of earlier ones."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rounded = json.loads(json.dumps(record), parse_float=lambda text: round(float(text), 4))
    known.setdefault(name, {})[of] = rounded
    atomic.write_text(RESULTS, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _batches(dataset: Dataset | LabelledImages, rows: np.ndarray) -> list[list[Image.Image]]:
    def load(row: int) -> UInt8[np.ndarray, "s s 3"]:
        if isinstance(dataset, Dataset):
            return dataset.images.load(row, _SIDE, "squash")
        image: UInt8[np.ndarray, "s s 3"] = dataset.images[row]
        return image

    return [
        [Image.fromarray(load(row)) for row in rows[start : start + 256].tolist()] for start in range(0, len(rows), 256)
    ]


def pairs(data: Path) -> dict[str, Callable[[str], Pair]]:
    """List the rows: name → what makes the pair."""
    found: dict[str, Callable[[str], Pair]] = {"chance": lambda _: _chance(), "edges + HOG": lambda _: _edges()}
    for name, make in models.models(data).items():
        if name in encoders.bundled():
            found[name] = lambda name: _of_encoder(encoders.load(name))
        elif name.startswith(("EfficientNet", "MobileNet")):
            found |= _pooled(name, make)
    return found


def _row(encoder: encoders.Encoder) -> Callable[[str], Pair]:
    return lambda _: _of_encoder(encoder)


def _of_encoder(encoder: encoders.Encoder) -> Pair:
    embedder = Embedder.of(encoder)
    if "sketch" not in encoder.card.branches:
        return Pair(embedder.embed, embedder.embed)
    return Pair(embedder.embed, lambda batch: embedder.embed(batch, "sketch"))


def _pooled(name: str, make: Callable[[str], models.Model]) -> dict[str, Callable[[str], Pair]]:
    """Return the rows of a network with the same features on both sides, of photos and of drawn photos."""

    def drawn(_: str) -> Pair:
        embed = make(name).embed
        return Pair(lambda batch: embed([_drawn(image, i) for i, image in enumerate(batch)]), embed)

    return {name: lambda _: Pair(make(name).embed, make(name).embed), f"{name}, drawn": drawn}


def _drawn(image: Image.Image, number: int) -> Image.Image:
    return Image.fromarray(pseudo_sketch(np.asarray(image), PseudoSketchStyle(), np.random.default_rng(number)))


def _chance() -> Pair:
    """Embed at random; many numbers make the ranking of each sketch a random one."""
    rng = np.random.default_rng(0)

    def embed(batch: Sequence[Image.Image]) -> np.ndarray:
        return rng.normal(size=(len(batch), 512)).astype(np.float32)

    return Pair(embed, embed)


def _edges() -> Pair:
    """Compare the gradients of sketches with those of the edges of photos (Canny 1986)."""

    def edges(image: Image.Image) -> Image.Image:
        grey = cv2.GaussianBlur(np.asarray(image.convert("L")), (0, 0), 1.5)
        return Image.fromarray(255 - cv2.Canny(grey, 40, 100)).convert("RGB")

    return Pair(lambda batch: models.hog([edges(image) for image in batch]), models.hog)


if __name__ == "__main__":
    main()
