"""Compare encoders on images that the encoder `general` was not fitted on: what they find, copies, numbers and time.

::

    python benchmarks/general.py data                     writes the tables of the images
    python benchmarks/encoders.py data [--only general]   prints the table of docs/encoders.md

Each image of a set is searched among all others of the set (leave-one-out, cosine distance; queries without another image of their class
are left out). One-shot: 20 classes, an example of each, 5 queries of each, 400 episodes with seed 0 (5 classes on
fashion-300). Copies: 60 photos of fashion-300, each changed in 17 ways (`lookalike.evaluation.copies`, seed 0) and searched among all 2,918; R@1
is the share that finds its original first, and the last column the share of copies that are nearer to their original than all but one in
10,000 pairs of different photos. Time: the network alone on one thread, the smallest of 8 batches of 8 images.

The MobileNetV2 needs the package ``ai-edge-litert`` and ``data/mobilenet_v2_1.0_224_quant.tflite``; its row is left out otherwise.
"""

import argparse
import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import general
import numpy as np
import onnxruntime
from PIL import Image
from pydantic import TypeAdapter

from lookalike import encoders, images, parallel
from lookalike.embedding import Embedder
from lookalike.evaluation import copies, fewshot, retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.learn import recipe
from lookalike.learn.networks import Siamese
from lookalike.learn.onnx_export import to_onnx
from lookalike.metric import Metric

_BATCH = 8
_COPIED = 60
_FALSE_ACCEPTS = 1e-4
_TFLITE = "mobilenet_v2_1.0_224_quant.tflite"

Embed = Callable[[Sequence[Image.Image]], np.ndarray]


@dataclass(frozen=True)
class Model:
    """An encoder or a baseline.

    Attributes:
        name: of its row.
        embed: images to vectors.
        network: computes a batch, for the time; None if the time is not measured.
        megabytes: of the network.
    """

    name: str
    embed: Embed
    network: Callable[[], object] | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Set:
    """Held-out images and the class of each."""

    name: str
    rows: list[general.Row]
    ways: int


def main() -> None:
    """Print a line for each encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", action="append", default=[], help="the name of a row; can be repeated")
    given = parser.parse_args()
    held = general.held_out_classes(given.data)
    sketchy = general.photos(given.data)
    sets = (
        Set("fashion-300", general.articles(given.data, "fashion-300"), 5),
        Set("Sketchy, 21 classes", [row for row in sketchy if row[1] in general.UNSEEN], 20),
        Set("Sketchy, 42 classes", [row for row in sketchy if row[1] in held], 20),
    )
    titles = " | ".join(f"{each.name}: top-1 / mAP / MRR / one-shot" for each in sets)
    print(f"| encoder | numbers | MB | ms | {titles} | copies: R@1 / TPR |")  # noqa: T201
    print("|---" * (5 + len(sets)) + "|")  # noqa: T201
    for name, make in models(given.data).items():
        if not given.only or name in given.only:
            print(line(make(name), sets, given.data), flush=True)  # noqa: T201


def line(model: Model, sets: Sequence[Set], data: Path) -> str:
    """Measure a model, and write its line of the table."""
    cells, first = [], None
    for each in sets:
        vectors = np.concatenate([model.embed(part) for part in _batches([data / path for path, _ in each.rows])])
        first = vectors if first is None else first
        items = LabelledVectors(vectors, [label for _, label in each.rows])
        scores = retrieval.leave_one_out(items, Metric.COSINE)
        shots = fewshot.classify_episodes(items, fewshot.Episodes(each.ways, 1, 5, 400), Metric.COSINE)
        cells.append(f"{scores.top_1:.3f} / {scores.map:.3f} / {scores.mrr:.3f} / {shots.accuracy:.3f}")
    assert first is not None  # noqa: S101 -- there are sets
    cells.append(_copies(model.embed, [data / path for path, _ in sets[0].rows], first))
    size = "" if model.megabytes is None else f"{model.megabytes:.1f}"
    spent = "" if model.network is None else f"{_milliseconds(model.network):.1f}"
    return f"| {model.name} | {first.shape[1]} | {size} | {spent} | {' | '.join(cells)} |"


def _batches(files: Sequence[Path]) -> list[list[Image.Image]]:
    """Open images, in lists of 256."""
    return [
        list(parallel.prefetch_map(images.open_image, files[start : start + 256]))
        for start in range(0, len(files), 256)
    ]


def _copies(embed: Embed, files: Sequence[Path], gallery: np.ndarray) -> str:
    rows = np.unique(np.linspace(0, len(files) - 1, _COPIED).astype(int))
    gallery = _unit(gallery)
    others = gallery[rows] @ gallery.T
    others[np.arange(len(rows)), rows] = -np.inf
    threshold = np.quantile(others[np.isfinite(others)], 1 - _FALSE_ACCEPTS)
    first, near = [], []
    originals = [images.open_image(files[row]) for row in rows]
    for change in copies.CHANGES.values():
        rng = np.random.default_rng(0)
        changed = _unit(embed([change(original, rng) for original in originals]))
        first.append(((changed @ gallery.T).argmax(axis=1) == rows).mean())
        near.append(((changed * gallery[rows]).sum(axis=1) > threshold).mean())
    return f"{np.mean(first):.3f} / {np.mean(near):.3f}"


def _milliseconds(network: Callable[[], object]) -> float:
    spent = []
    for _ in range(9):
        began = time.process_time()
        network()
        spent.append(time.process_time() - began)
    return min(spent[1:]) / _BATCH * 1000


def models(data: Path) -> dict[str, Callable[[str], Model]]:
    """List the rows: name → what makes the model."""
    rows: dict[str, Callable[[str], Model]] = {
        "16 × 16 pixels": lambda name: Model(name, _pixels),
        "colour histogram": lambda name: Model(name, _histogram),
        "perceptual hash": lambda name: Model(name, _hash),
        "HOG": lambda name: Model(name, hog),
        **dict.fromkeys(encoders.bundled(), _bundled),
        "EfficientNet-Lite0, pooled": lambda name: _pooled(name, "efficientnet_lite0"),
        "EfficientNet-Lite2, pooled": lambda name: _pooled(name, "efficientnet_lite2"),
    }
    if (data / _TFLITE).exists():
        rows["MobileNetV2, int8, pooled"] = lambda name: _mobilenet(name, data / _TFLITE)
    return rows


def _bundled(name: str) -> Model:
    encoder = encoders.load(name)
    embedder = Embedder.of(encoder)
    path = encoder.folder / "photo.onnx"
    return Model(name, embedder.embed, _onnx_step(str(path), encoder.card.input.size), path.stat().st_size / 1e6)


def _pooled(name: str, kind: str) -> Model:
    """Make a model of the features of a network with ImageNet weights."""
    config: Any = TypeAdapter(recipe.Network).validate_python({"backbone": kind, "weights": recipe.IMAGENET})
    size = recipe.imagenet_input({"backbone": kind, "weights": recipe.IMAGENET})["size"]
    model = to_onnx(Siamese(config, ("photo",), features=True).eval().branch("photo"), size).SerializeToString()
    session = _session(model)

    def embed(batch: Sequence[Image.Image]) -> np.ndarray:
        x = np.stack([images.load(image, size) for image in batch]).transpose(0, 3, 1, 2)
        x = (x.astype(np.float32) - 127) / 128
        return np.concatenate([session.run(None, {"pictures": x[i : i + 16]})[0] for i in range(0, len(x), 16)])

    return Model(name, embed, _onnx_step(model, size), len(model) / 2e6)


def _mobilenet(name: str, path: Path) -> Model:
    """Make a model of the 1,280 features before the classifier of a quantised MobileNetV2."""
    runtime = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    features = next(t for t in interpreter.get_tensor_details() if t["name"] == "MobilenetV2/Logits/AvgPool")
    entry = interpreter.get_input_details()[0]["index"]
    scale, zero = features["quantization"]

    def embed(batch: Sequence[Image.Image]) -> np.ndarray:
        out = []
        for image in batch:
            interpreter.set_tensor(entry, images.load(image, 224)[None])
            interpreter.invoke()
            out.append((interpreter.get_tensor(features["index"]).reshape(-1).astype(np.float32) - zero) * scale)
        return np.stack(out)

    step = [Image.new("RGB", (224, 224))] * _BATCH
    return Model(name, embed, lambda: embed(step), path.stat().st_size / 1e6)


def _session(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _onnx_step(model: bytes | str, size: int) -> Callable[[], object]:
    session = _session(model)
    x = np.random.default_rng(0).normal(size=(_BATCH, 3, size, size)).astype(np.float32)
    return lambda: session.run(None, {session.get_inputs()[0].name: x})


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _pixels(batch: Sequence[Image.Image]) -> np.ndarray:
    x = np.stack([images.load(image, 16) for image in batch]).reshape(len(batch), -1).astype(np.float32)
    return np.asarray(x - x.mean(axis=1, keepdims=True))


def _histogram(batch: Sequence[Image.Image]) -> np.ndarray:
    """Count the colours of 6 × 6 × 6 bins."""
    x = np.stack([images.load(image, 64) for image in batch]).reshape(len(batch), -1, 3).astype(int) * 6 // 256
    bins = x @ [36, 6, 1]
    return np.stack([np.bincount(row, minlength=216) for row in bins]).astype(np.float32)


def _hash(batch: Sequence[Image.Image]) -> np.ndarray:
    """Compute 64 signs of neighbouring grey levels (dHash), as ±1: the cosine orders as the Hamming distance does."""
    grey = np.stack([np.asarray(image.convert("L").resize((9, 8)), np.float32) for image in batch])
    return np.where(grey[:, :, 1:] > grey[:, :, :-1], 1, -1).reshape(len(batch), -1).astype(np.float32)


def hog(batch: Sequence[Image.Image]) -> np.ndarray:
    """Compute histograms of gradients (Dalal and Triggs 2005): 8 × 8 cells of 16 pixels, 9 directions, blocks of 2 × 2 cells."""
    grey = np.stack([images.load(image, 128) for image in batch]).astype(np.float32).mean(axis=3)
    dy, dx = np.gradient(np.sqrt(grey), axis=(1, 2))
    strength, angle = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi / np.pi * 9
    low = np.floor(angle).astype(int)
    cells = np.zeros((len(grey), 8, 8, 9), np.float32)
    place = np.arange(128) // 16
    index = (np.arange(len(grey))[:, None, None], place[:, None], place[None])
    np.add.at(cells, (*index, low % 9), strength * (low + 1 - angle))
    np.add.at(cells, (*index, (low + 1) % 9), strength * (angle - low))
    blocks = np.concatenate([cells[:, i : i + 7, j : j + 7] for i in (0, 1) for j in (0, 1)], axis=3)
    blocks /= np.linalg.norm(blocks, axis=3, keepdims=True) + 0.1
    return np.asarray(blocks.reshape(len(grey), -1))


if __name__ == "__main__":
    main()
