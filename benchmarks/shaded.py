"""Compare ways to show sketches to `general`, which knows photos, on classes that it did not learn.

::

    python benchmarks/shaded.py data

``data`` has the folder ``sketchy-128``. The sketches of 21 classes, every fifth of those that are not among the unseen classes of the literature, rank
the photos of these classes. Neither the encoder nor its sketches saw them in training. The script prints mean average precision, the share of sketches
whose nearest photo is of their class, and the exact photo first and among ten; at last mAP if the mean vector of 500 sketches of other classes is left out.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import general
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lookalike import encoders, images
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.learn import shaded_branch
from lookalike.learn.networks.ink_crop import InkCrop
from lookalike.learn.networks.ink_shade import InkShade
from lookalike.learn.pixels import normalise, to_images, to_tensor
from lookalike.metric import Metric

_CENTRED = 500
_BATCH = 50
_WHITE, _PALE_BLUE, _PALE_GREEN = (1.0, 1.0, 1.0), (0.80, 0.88, 1.0), (0.78, 0.88, 0.73)
_BROWN, _BLUE, _GREY = (0.57, 0.74, 0.91), (0.91, 0.74, 0.57), (0.75, 0.75, 0.75)

Embed = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    held_out = general.held_out_classes(data)
    encoder = encoders.load("general")
    photos = sorted(
        p for p in (data / "sketchy-128" / "photo").glob("*/*.jpg") if p.parent.name in held_out - {*general.UNSEEN}
    )
    sketches = sorted((data / "sketchy-128" / "sketch").glob("*/*.png"))
    queries = [p for p in sketches if p.parent.name in held_out - {*general.UNSEEN}]
    others = [p for p in sketches if p.parent.name not in held_out]
    others = [others[i] for i in np.random.default_rng(0).permutation(len(others))[:_CENTRED]]
    gallery = Embedder.of(encoder).embed(photos)
    drawn, centring = read(queries, encoder), read(others, encoder)
    print("| | mAP | class first | item first | item in 10 | mAP, centred |\n|---|---|---|---|---|---|")  # noqa: T201
    for name, embed in ways(encoder).items():
        found, centre = embed(drawn), embed(centring).mean(axis=0)
        cells = [*measure(found, queries, gallery, photos), measure(found - centre, queries, gallery, photos)[0]]
        print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |", flush=True)  # noqa: T201
    for size in (128, 160, 208):
        with shaded_branch.make(encoder, size, centring) as shaded:
            found = embed_by(shaded.encoder, drawn)
            cells = [
                *measure(found, queries, gallery, photos),
                measure(found - shaded.centre, queries, gallery, photos)[0],
            ]
        print(f"| as `shaded: {size}` | {' | '.join(f'{cell:.3f}' for cell in cells)} |", flush=True)  # noqa: T201


def ways(encoder: Encoder) -> dict[str, Embed]:
    """Return the embeddings of sketches that are shown in different ways."""
    size = encoder.card.input.size
    crop = InkCrop(size)

    def painted(background: tuple[float, float, float], solid: tuple[float, float, float]) -> Embed:
        return shown(encoder, nn.Sequential(crop, InkShade(size, background, solid)))

    return {
        "as they are": lambda drawings: embed_by(encoder, drawings),
        "cropped to the ink": shown(encoder, crop),
        "cropped, dark grey on white": painted(_WHITE, _GREY),
        "cropped, blue on white": painted(_WHITE, _BLUE),
        "cropped, brown on white": painted(_WHITE, _BROWN),
        "cropped, brown on pale green": painted(_PALE_GREEN, _BROWN),
        "cropped, dark grey on pale blue": painted(_PALE_BLUE, _GREY),
        "cropped, brown on pale blue": painted(_PALE_BLUE, _BROWN),
    }


def shown(encoder: Encoder, view: nn.Module) -> Embed:
    """Return the embedding of drawings that a view changes."""
    card = encoder.card.input
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (card.mean, card.std))

    @torch.inference_mode()
    def embed(drawings: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(drawings), _BATCH):
            x: Tensor = view(normalise(to_tensor(drawings[start : start + _BATCH]), card))
            parts.append(to_images((x.expand(-1, 3, -1, -1) * std + mean).clamp(0, 1)))
        return embed_by(encoder, np.concatenate(parts))

    return embed


def embed_by(encoder: Encoder, drawings: np.ndarray) -> np.ndarray:
    """Embed images by the photo network."""
    return np.concatenate([encoder.embed(drawings[i : i + _BATCH]) for i in range(0, len(drawings), _BATCH)])


def read(paths: Sequence[Path], encoder: Encoder) -> np.ndarray:
    """Read drawings in the size of an encoder."""
    card = encoder.card.input
    return np.stack([images.load(Image.open(path), card.size, card.fitting) for path in paths])


def measure(
    found: np.ndarray, queries: Sequence[Path], gallery: np.ndarray, photos: Sequence[Path]
) -> tuple[float, float, float, float]:
    """Return mAP, and the shares of the class first, and of the exact photo first and among ten."""
    unit = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    items = LabelledVectors(gallery, [path.parent.name for path in photos])
    scores = retrieval.evaluate(LabelledVectors(unit, [path.parent.name for path in queries]), items, Metric.EUCLIDEAN)
    exact = np.array(
        [[q.parent.name == p.parent.name and q.stem.rpartition("-")[0] == p.stem for p in photos] for q in queries]
    )
    rates = retrieval.hit_rates(unit, gallery, exact, (1, 10), Metric.EUCLIDEAN)
    return scores.map, scores.precision_at[1], rates[1], rates[10]


if __name__ == "__main__":
    main()
