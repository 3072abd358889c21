"""Measure what the mean of several crops and mirror images of an image gains, and what it costs.

    python benchmarks/several_crops.py data/sketchy/photo --classes bat,cabin --encoder toyshop

Each image is a query among the others: top-1, and the mean average precision of the whole ranking. Milliseconds are those of one core for
the network, the fastest of five batches.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np

from lookalike import datasets, encoders
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.encoders.crops import Crops
from lookalike.evaluation import retrieval
from lookalike.evaluation.embedded import embed_dataset
from lookalike.evaluation.labels import LabelledVectors

BATCH = 8


def measure(encoder: Encoder, data: datasets.Dataset) -> dict[int, dict[str, float]]:
    """Measure top-1, mAP and milliseconds an image by the number of crops."""
    found = {}
    for count in get_args(Crops):
        embedder = Embedder.of(encoder.with_crops(count))
        embedded = embed_dataset(embedder, data)
        items = LabelledVectors(embedded.embeddings, embedded.labels)
        scores = retrieval.leave_one_out(items, embedder.metric)
        found[count] = {
            "top_1": scores.top_1,
            "map": scores.map,
            "milliseconds": _milliseconds(embedder.encoder),
        }
    return found


def _milliseconds(encoder: Encoder) -> float:
    side = encoder.card.input.side
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        encoder.embed(batch)
        times.append(time.perf_counter() - begun)
    return min(times) / BATCH * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="labelled images: a folder of a folder for each class, a CSV or an npz")
    parser.add_argument("--classes", help="only these, separated by commas")
    parser.add_argument("--limit", type=int, help="largest number of images of a class")
    parser.add_argument("--encoder", default="toyshop", help="a bundled name or an artefact's folder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    classes = tuple(args.classes.split(",")) if args.classes else None
    data = datasets.open_dataset(datasets.infer_source(args.data, classes=classes, limit=args.limit))
    found = measure(encoders.load(args.encoder), data)
    if args.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write(f"{args.encoder}, {len(data):,} images\n\ncrops   top-1     mAP   ms an image\n")
    for count, it in found.items():
        sys.stdout.write(f"{count:5} {it['top_1']:7.3f} {it['map']:7.3f} {it['milliseconds']:13.1f}\n")


if __name__ == "__main__":
    main()
