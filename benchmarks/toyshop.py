"""Measure the retrieval of an encoder on a toy shop that it was not trained on, by photo and by sketch.

    python benchmarks/toyshop.py --encoder toyshop --seed 77

A photo is a hit if its nearest other photo is of its class. A sketch is a hit if a photo of its class, or the photo of the
same product, is among the k nearest. Training used the seed 1000 of the generator; the demo uses 0 and 1.
"""

import argparse
import json
import sys

import numpy as np

from lookalike import encoders, sample
from lookalike.embedding import Embedder
from lookalike.evaluation import retrieval


def main() -> None:
    """Generate, embed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="toyshop", help="a bundled name or an artefact's folder")
    parser.add_argument("--count", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    embedder = Embedder.of(encoders.load(args.encoder))
    products = sample.catalogue(args.count, args.seed)
    # Rendered at full size and then fitted, as a user's images are.
    gallery = embedder.embed([p.photo() for p in products])
    queries = embedder.embed([p.sketch() for p in products], "sketch")
    labels = np.asarray([sample.CLASSES.index(p.label) for p in products])
    by_class = retrieval.hit_rates(queries, gallery, labels[:, None] == labels, (1, 10), embedder.metric)
    by_item = retrieval.hit_rates(queries, gallery, np.eye(len(products), dtype=bool), (1, 10), embedder.metric)
    scores = {
        "encoder": embedder.name,
        "products": len(products),
        "seed": args.seed,
        "photo_top_1": retrieval.top_1(gallery, labels, embedder.metric),
        **{f"sketch_class_at_{k}": v for k, v in by_class.items()},
        **{f"sketch_item_at_{k}": v for k, v in by_item.items()},
    }
    if args.json:
        sys.stdout.write(json.dumps(scores) + "\n")
    else:
        sys.stdout.writelines(f"{key:<20}{value}\n" for key, value in scores.items())


if __name__ == "__main__":
    main()
