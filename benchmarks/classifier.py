"""Compare an encoder's retrieval with a classifier of the same network.

Retrieval cannot exceed what the network knows of its classes. The accuracy of the nearest class mean (Mensink et al. 2013)
of the training embeddings stands for the classifier that the encoder was trained with.

python benchmarks/classifier.py data/cifar10 --encoder cifar10-triplet
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from lookalike import datasets, encoders
from lookalike.embedding import Embedder
from lookalike.evaluation import fewshot, retrieval
from lookalike.evaluation.embedded import embed_dataset
from lookalike.evaluation.labels import LabelledVectors


def main() -> None:
    """Embed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with train/ and test/, or an npz with both")
    parser.add_argument("--encoder", default="cifar10-triplet", help="a bundled name or an artefact's folder")
    parser.add_argument("--support", type=int, default=500, help="training images of each class for its mean")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    embedder = Embedder.of(encoders.load(args.encoder))
    train, test = (
        embed_dataset(embedder, datasets.open_dataset(datasets.infer_source(args.data, split=split, limit=limit)))
        for split, limit in (("train", args.support), ("test", None))
    )
    support = LabelledVectors(train.embeddings, train.labels)
    predicted = fewshot.classify(test.embeddings, support, embedder.metric, by="prototype").labels
    scores = {
        "encoder": embedder.name,
        "images": len(test),
        "nearest class mean": float(np.mean(predicted == test.labels)),
        "top-1 (nearest other image)": retrieval.top_1(test.embeddings, test.labels, embedder.metric),
    }
    if args.json:
        sys.stdout.write(json.dumps(scores) + "\n")
    else:
        sys.stdout.writelines(f"{key:<32}{value}\n" for key, value in scores.items())


if __name__ == "__main__":
    main()
