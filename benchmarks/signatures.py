"""Signatures of writers never seen in training: who wrote this name?

The set holds ten Chinese names, each written four times by each of 93 writers; picture n of a writer shows name n mod 10.
So a signature is (writer, name), a genuine pair is the same name by the same hand, and an impostor pair the same name by
another hand: other names would be told apart at a glance. Writers 1-60 train, 61-70 validate, 71-93 test.

python benchmarks/signatures.py prepare data/signatures          writes signatures.csv into the folder, for the recipe
lookalike train recipes/signatures.yaml
python benchmarks/signatures.py measure data/signatures --encoder runs/signatures/encoder
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

from lookalike import datasets, encoders
from lookalike.evaluation import fewshot, verification
from lookalike.evaluation.subject import Subject, embed

NAMES = 10
TABLE = "signatures.csv"
SPLITS = {"train": range(1, 61), "validation": range(61, 71), "test": range(71, 94)}


def prepare(folder: Path) -> None:
    """Write the table that says what each picture shows."""
    rows = [
        (path.relative_to(folder), f"{writer}-{int(path.stem) % NAMES}", split)
        for split, writers in SPLITS.items()
        for writer in writers
        for path in sorted((folder / "skel" / str(writer)).glob("*.png"), key=lambda p: int(p.stem))
    ]
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    sys.stdout.write(f"{len(rows):,} signatures in {folder / TABLE}\n")


def of_names(subject: Subject, classes: tuple[str, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each name the embeddings of its signatures, and who wrote them."""
    writers, names = np.array([c.split("-") for c in classes], dtype=np.int64)[subject.labels].T
    return [(subject.embeddings[names == name], writers[names == name]) for name in range(NAMES)]


def pairs(subject: Subject, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all pairs of signatures of one name, and whether one hand wrote both."""
    distances, same = [], []
    for embeddings, writers in of_names(subject, classes):
        left, right = np.triu_indices(len(writers), 1)
        chosen = verification.LabelledPairs(left, right, writers[left] == writers[right], len(left))
        distances.append(chosen.distances(embeddings, subject.metric))
        same.append(chosen.same)
    return np.concatenate(distances), np.concatenate(same)


def measure(folder: Path, name: str, *, episodes: int = 200, seed: int = 0) -> dict[str, float]:
    """Verification with the threshold of the validation writers, and one-shot identification among 20 test writers."""
    encoder = encoders.load(name)
    found = {}
    for split in ("validation", "test"):
        source = datasets.infer_source(folder / TABLE, split=split)
        subject, dataset, _ = embed(encoder, datasets.open_dataset(source))
        found[split] = (subject, dataset.classes)
    threshold = verification.Roc.of_pairs(*pairs(*found["validation"])).best_accuracy().threshold
    distances, same = pairs(*found["test"])
    roc, verdicts = verification.Roc.of_pairs(distances, same), verification.judge(distances, same, threshold)
    shots = [
        fewshot.episodes(
            embeddings,
            writers,
            ways=20,
            shots=1,
            queries=1,
            episodes=episodes,
            seed=seed + i,
            metric=encoder.card.metric,
        ).accuracy
        for i, (embeddings, writers) in enumerate(of_names(*found["test"]))
    ]
    return {
        "genuine pairs": float(same.sum()),
        "impostor pairs": float((~same).sum()),
        "AUC": roc.auc,
        "EER": roc.eer,
        "FAR at the threshold": verdicts.far,
        "FRR at the threshold": verdicts.frr,
        "one-shot among 20 writers": float(np.mean(shots)),
    }


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "measure"])
    parser.add_argument("folder", type=Path, help="holds skel/WRITER/N.png")
    parser.add_argument("--encoder", default="runs/signatures/encoder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.what == "prepare":
        prepare(args.folder)
        return
    figures = measure(args.folder, args.encoder)
    if args.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.writelines(f"{key:<28}{value:.4f}\n" for key, value in figures.items())


if __name__ == "__main__":
    main()
