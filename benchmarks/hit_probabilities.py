"""How often hits of `general` show the same kind of thing, by the probability that its calibration on classes gives them.

::

    python benchmarks/hit_probabilities.py data      prints the shares that docs/how-to/calibrate.md states

``data`` has ``fashion-300`` with ``fashion-300.csv`` (columns ``file`` and ``article``), and ``sketchy-128``. The probability is of
equal priors, see `lookalike.encoders.card.Calibration`. Each item is searched for among the others.
"""

import argparse
import csv
from itertools import pairwise
from pathlib import Path

import numpy as np

from lookalike import encoders, images, search
from lookalike.embedding import Embedder

_HITS = 10
_EDGES = (0.0, 0.8, 0.9, 0.93, 0.95, 0.97, 0.99, 1.0)


def main() -> None:
    """Print a line for each range of probabilities."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    embedder = Embedder.of(encoders.load("general"))
    for name, labelled in (("fashion-300", products(data)), ("Sketchy", photos(data))):
        report(embedder, name, labelled)


def products(data: Path) -> list[tuple[Path, str]]:
    """Return the labelled products and their articles."""
    with (data / "fashion-300.csv").open(encoding="utf-8", newline="") as file:
        return [(data / "fashion-300" / row["file"], row["article"]) for row in csv.DictReader(file) if row["article"]]


def photos(data: Path) -> list[tuple[Path, str]]:
    """Return the photos of Sketchy and their classes."""
    return [(path, path.parent.name) for path in images.find(data / "sketchy-128" / "photo")]


def report(embedder: Embedder, name: str, labelled: list[tuple[Path, str]]) -> None:
    """Print how often hits in each range of probabilities have the query's label."""
    vectors = embedder.embed([path for path, _ in labelled])
    labels = np.array([label for _, label in labelled])
    hits = search.knn(vectors, vectors, _HITS + 1, embedder.metric)
    queries = np.repeat(np.arange(len(labels)), _HITS + 1)
    others = hits.rows != queries
    stated = embedder.probabilities(hits.distances[others])
    assert stated is not None  # noqa: S101 -- general is calibrated
    right = labels[hits.rows[others]] == labels[queries[others]]
    for low, high in pairwise(_EDGES):
        chosen = (stated >= low) & (stated < high)
        if chosen.any():
            share, mean = right[chosen].mean(), stated[chosen].mean()
            print(f"{name}: {chosen.sum():,} hits of {mean:.1%}, {share:.0%} right", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
