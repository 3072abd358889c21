"""Verification of signatures by writers that the encoder was not trained on.

The dataset has ten Chinese names, each written four times by each of 93 writers; image n of a writer shows name n mod 10.
A class is (writer, name). A genuine pair is the same name by the same writer, an impostor pair the same name by another
writer; different names would be too easy to distinguish. Writers 1-60 train, 61-70 validate, 71-93 test.

python benchmarks/signatures.py prepare data/signatures          write the images and signatures.csv that the recipe reads
lookalike train recipes/signatures.yaml
python benchmarks/signatures.py measure data/signatures --encoder runs/signatures/encoder
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from lookalike import datasets, encoders
from lookalike.embedding import Embedder
from lookalike.evaluation import fewshot, verification
from lookalike.evaluation.embedded import EmbeddedDataset, embed_dataset
from lookalike.evaluation.labels import LabelledVectors
from lookalike.evaluation.roc import Roc

NAMES = 10
TABLE = "signatures.csv"
HEIGHT = 152
SPLITS = {"train": range(1, 61), "validation": range(61, 71), "test": range(71, 94)}


def prepare(folder: Path) -> None:
    """Write thickened and centred copies of the images into ``prepared``, and the table of labels and splits."""
    rows = []
    for split, writers in SPLITS.items():
        for writer in writers:
            for path in sorted((folder / "skel" / str(writer)).glob("*.png"), key=lambda p: int(p.stem)):
                new = folder / "prepared" / str(writer) / path.name
                new.parent.mkdir(parents=True, exist_ok=True)
                thicken_and_centre(Image.open(path).convert("L")).save(new)
                rows.append((new.relative_to(folder), f"{writer}-{int(path.stem) % NAMES}", split))
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    sys.stdout.write(f"{len(rows):,} signatures in {folder / TABLE}\n")


def thicken_and_centre(signature: Image.Image) -> Image.Image:
    """Widen lines of one pixel to three, and centre them in a lower image, since a name is wider than high."""
    thick = signature.filter(ImageFilter.MinFilter(3))
    left, top, right, bottom = ImageOps.invert(thick).getbbox() or (0, 0, *thick.size)
    centred = Image.new("L", (thick.width, HEIGHT), 255)
    centred.paste(thick, ((thick.width - left - right) // 2, (HEIGHT - top - bottom) // 2))
    return centred


def by_name(data: EmbeddedDataset) -> list[LabelledVectors]:
    """Return for each name the embeddings of its signatures, labelled by the writer."""
    writers, names = np.array([c.split("-") for c in data.classes], dtype=np.int64)[data.labels].T
    return [LabelledVectors(data.embeddings[names == name], writers[names == name]) for name in range(NAMES)]


def measure_pairs(data: EmbeddedDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of all pairs of signatures of one name, and whether one writer wrote both."""
    distances, same = [], []
    for signatures in by_name(data):
        writers = np.asarray(signatures.labels)
        left, right = np.triu_indices(len(writers), 1)
        pairs = verification.LabelledPairs(left, right, writers[left] == writers[right], len(left))
        distances.append(pairs.distances(signatures.vectors, data.metric))
        same.append(pairs.same)
    return np.concatenate(distances), np.concatenate(same)


def measure(folder: Path, name: str, *, episodes: int = 200, seed: int = 0) -> dict[str, float]:
    """Measure verification at the threshold of the validation writers, and one-shot identification of 20 test writers."""
    embedder = Embedder.of(encoders.load(name))
    validation, test = (
        embed_dataset(embedder, datasets.open_dataset(datasets.infer_source(folder / TABLE, split=split)))
        for split in ("validation", "test")
    )
    threshold = Roc.of_pairs(*measure_pairs(validation)).best_accuracy().threshold
    distances, same = measure_pairs(test)
    roc, confusion = Roc.of_pairs(distances, same), verification.confusion_matrix(distances, same, threshold)
    one_shot = [
        fewshot.classify_episodes(
            signatures, fewshot.Episodes(ways=20, shots=1, queries=1, count=episodes, seed=seed + i), embedder.metric
        ).accuracy
        for i, signatures in enumerate(by_name(test))
    ]
    return {
        "genuine pairs": float(same.sum()),
        "impostor pairs": float((~same).sum()),
        "AUC": roc.auc,
        "EER": roc.eer,
        "FAR at the threshold": confusion.false_accept_rate,
        "FRR at the threshold": confusion.false_reject_rate,
        "one-shot among 20 writers": float(np.mean(one_shot)),
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "measure"])
    parser.add_argument("folder", type=Path, help="contains skel/WRITER/N.png")
    parser.add_argument("--encoder", default="runs/signatures/encoder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.what == "prepare":
        prepare(args.folder)
        return
    scores = measure(args.folder, args.encoder)
    if args.json:
        sys.stdout.write(json.dumps(scores) + "\n")
    else:
        sys.stdout.writelines(f"{key:<28}{value:.4f}\n" for key, value in scores.items())


if __name__ == "__main__":
    main()
