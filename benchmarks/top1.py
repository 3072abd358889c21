"""Top-1 of an encoder on a folder of classes: the share of pictures whose nearest other picture has their class (R1).

python benchmarks/top1.py data/cifar10/test --encoder cifar10-triplet
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from lookalike import encoders, ingest
from lookalike.collection import entries
from lookalike.evaluation import retrieval


def main() -> None:
    """Embed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="one folder for each class")
    parser.add_argument("--encoder", default="cifar10-triplet", help="a bundled name or an artefact's folder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    encoder = encoders.load(args.encoder)
    found = entries(args.folder, labels="folder")
    label_of = {entry.path: entry.label for entry in found}
    began = time.perf_counter()
    paths, embeddings, failures = ingest.embed(encoder, [entry.path for entry in found])
    seconds = time.perf_counter() - began
    _, labels = np.unique([str(label_of[path]) for path in paths], return_inverse=True)
    figures = {
        "encoder": encoder.card.name,
        "pictures": len(paths),
        "failures": len(failures),
        "top_1": retrieval.top_1(embeddings, labels.astype(np.int64), encoder.card.metric),
        "pictures_per_second": len(paths) / seconds,
    }
    if args.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.writelines(f"{key:<20}{value}\n" for key, value in figures.items())


if __name__ == "__main__":
    main()
