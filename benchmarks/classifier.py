"""What a classifier of an encoder's network reaches, beside what its nearest neighbours do.

Retrieval cannot be better than the network knows its classes. How well it does is measured by the nearest class mean
(Mensink et al. 2013) of the training pictures' embeddings, which is what the classifier that was trained with them comes to.

python benchmarks/classifier.py data/cifar10 --encoder cifar10-triplet
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from lookalike import datasets, encoders
from lookalike.evaluation import fewshot, retrieval
from lookalike.evaluation.subject import embed


def main() -> None:
    """Embed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with train/ and test/, or an npz with both")
    parser.add_argument("--encoder", default="cifar10-triplet", help="a bundled name or an artefact's folder")
    parser.add_argument("--support", type=int, default=500, help="training pictures a class that make its mean")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    encoder = encoders.load(args.encoder)
    train, test = (
        embed(encoder, datasets.open_dataset(datasets.infer_source(args.data, split=split, limit=limit)))[0]
        for split, limit in (("train", args.support), ("test", None))
    )
    metric = encoder.card.metric
    classified = fewshot.classify(test.embeddings, train.embeddings, train.labels, metric, by="prototype")
    figures = {
        "encoder": encoder.card.name,
        "pictures": len(test),
        "nearest class mean": float(np.mean(classified.labels == test.labels)),
        "top-1 (nearest other picture)": retrieval.top_1(test.embeddings, test.labels, metric),
    }
    if args.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.writelines(f"{key:<32}{value}\n" for key, value in figures.items())


if __name__ == "__main__":
    main()
