"""What the neighbours of vectors add to a search: query expansion, augmented items, diffusion and UMAP, side by side.

::

    python benchmarks/neighbours.py data/fashion-300.csv --encoder general
    python benchmarks/neighbours.py data/sketchy-128/photo --sketches data/sketchy-128/sketch --encoder sketch --classes bat,cabin,…

Photos are searched by photos in three folds: a third of them are queries, and the other two thirds are the items, to which everything is fitted. With
``--sketches``, sketches search all photos. Labels decide what is right; mAP is of the whole ranking. The table has the bytes of an item, and the median time
of a query after its embedding, one at a time, on one core.

- *expanded*: the midpoint of the query and its ten nearest items (Chum et al. 2007), as ``lookalike search --expand 10``.
- *augmented*: each item is the mean of itself and its ten nearest items, weighted by the cube of the cosine (Arandjelović and Zisserman 2012; Radenović et al.
  2018). It costs nothing in a search.
- *diffusion*: items vote for their neighbours' neighbours (Zhou et al. 2004; Iscen et al. 2017). The linear system is solved before any query, and each item
  keeps its 200 largest votes (Yang et al. 2019).
- *UMAP*: umap-learn with 15 neighbours and a minimum distance of 0.1, as R4; queries by its own transform. It needs the extra ``umap``.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike import datasets, encoders
from lookalike.embedding import Embedder
from lookalike.evaluation import retrieval
from lookalike.evaluation.embedded import EmbeddedDataset, embed_dataset
from lookalike.evaluation.labels import LabelledVectors
from lookalike.expansion import midpoints
from lookalike.metric import Metric
from lookalike.search import knn

_NEAREST = 10
_FOLDS = 3
_TIMED = 50

# Of diffusion: neighbours of an item in the graph, of a query, their weight, and how far votes go.
_GRAPH, _SEEDS, _POWER, _ALPHA, _VOTES = 50, 10, 3, 0.99, 200

_UMAP_DIMENSIONS = (64, 16, 4)

Project = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fitted:
    """A way to search, fitted to items.

    Attributes:
        items: their vectors.
        project: turns embeddings into queries of these.
        size: bytes of an item.
    """

    items: np.ndarray
    project: Project
    size: float


Fit = Callable[[np.ndarray], Fitted]


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="labelled images: a folder of a folder for each class, a CSV or an npz")
    parser.add_argument("--encoder", default="general", help="a bundled name or an artefact's folder")
    parser.add_argument("--sketches", type=Path, help="a folder of sketches, which are then the queries")
    parser.add_argument("--classes", help="only these, separated by commas")
    given = parser.parse_args()
    classes = tuple(given.classes.split(",")) if given.classes else None
    settings = {} if given.sketches is None else {"sketches": given.sketches}
    source = datasets.infer_source(given.data, classes=classes, **settings)
    data = embed_dataset(Embedder.of(encoders.load(given.encoder)), datasets.open_dataset(source))
    folds = split(data)
    print("| | mAP | MRR | top-1 | bytes an item | ms a query |\n|---|---|---|---|---|---|")  # noqa: T201
    for name, fit in ways().items():
        measured = np.mean([measure(fit, *fold) for fold in folds], axis=0)
        quality, cost = (
            [f"{value:.{digits}f}" for value in part] for part, digits in ((measured[:3], 3), (measured[3:], 1))
        )
        print(f"| {name} | {' | '.join(quality + cost)} |", flush=True)  # noqa: T201


def split(data: EmbeddedDataset) -> list[tuple[LabelledVectors, LabelledVectors]]:
    """Return pairs of queries and items: sketches and photos, or folds of photos. Vectors have length 1."""
    unit = (data.embeddings / np.linalg.norm(data.embeddings, axis=1, keepdims=True)).astype(np.float32)

    def take(rows: np.ndarray) -> LabelledVectors:
        return LabelledVectors(unit[rows], data.labels[rows])

    if data.sketch.any():
        return [(take(data.sketch), take(~data.sketch))]
    fold = np.random.default_rng(0).permutation(len(unit)) % _FOLDS
    return [(take(fold == i), take(fold != i)) for i in range(_FOLDS)]


def measure(fit: Fit, queries: LabelledVectors, items: LabelledVectors) -> list[float]:
    """Return mAP, MRR, top-1, bytes an item and milliseconds a query."""
    fitted = fit(items.vectors)
    found = LabelledVectors(fitted.project(queries.vectors), queries.labels)
    gallery = LabelledVectors(fitted.items, items.labels)
    scores = retrieval.evaluate(found, gallery, Metric.EUCLIDEAN)
    times = []
    for query in queries.vectors[:_TIMED]:
        begun = time.perf_counter()
        knn(fitted.project(query[None]), fitted.items, _NEAREST, Metric.EUCLIDEAN)
        times.append(time.perf_counter() - begun)
    return [scores.map, scores.mrr, scores.precision_at[1], fitted.size, 1e3 * float(np.median(times))]


def ways() -> dict[str, Fit]:
    """List the ways by name."""
    found: dict[str, Fit] = {
        "as they are": plain,
        "expanded": expanded,
        "augmented": lambda items: plain(augment(items)),
        "augmented and expanded": lambda items: expanded(augment(items)),
        "diffusion": diffused,
    }
    return found | {f"UMAP, {n}": lambda items, n=n: umap(items, n) for n in _UMAP_DIMENSIONS}  # type: ignore[misc]


def plain(items: np.ndarray) -> Fitted:
    """Search for the embeddings as they are."""
    return Fitted(items, lambda queries: queries, 4 * items.shape[1])


def expanded(items: np.ndarray) -> Fitted:
    """Search for the midpoints of queries and their nearest items."""

    def project(queries: np.ndarray) -> np.ndarray:
        rows = knn(queries, items, _NEAREST, Metric.COSINE).rows.reshape(len(queries), -1)
        return midpoints(queries, list(items[rows]), Metric.COSINE)

    return Fitted(items, project, 4 * items.shape[1])


def augment(items: np.ndarray) -> np.ndarray:
    """Return the weighted means of items and their nearest, of length 1."""
    cosines = np.clip(items @ items.T, 0, None)
    rows = np.argsort(-cosines, axis=1)[:, : _NEAREST + 1]  # each is nearest to itself
    weights = np.take_along_axis(cosines, rows, 1) ** _POWER
    out = (weights[:, :, None] * items[rows]).sum(axis=1)
    unit: np.ndarray = out / np.linalg.norm(out, axis=1, keepdims=True)
    return unit.astype(np.float32)


def diffused(items: np.ndarray) -> Fitted:
    """Rank items by the votes that the nearest of a query give to their neighbours.

    Votes are inner products. With one more number an item, in which queries are 0, Euclidean distances have the same order.
    """
    affinity = _nearest_only(items @ items.T - 2 * np.eye(len(items)), _GRAPH)
    mutual = np.minimum(affinity, affinity.T)
    degree = mutual.sum(axis=1)
    scale = 1 / np.sqrt(np.where(degree == 0, 1, degree))
    votes = np.linalg.inv(np.eye(len(items)) - _ALPHA * scale[:, None] * mutual * scale)
    votes[votes < np.sort(votes, axis=1)[:, -min(_VOTES, len(items)), None]] = 0
    lengths = (votes**2).sum(axis=0)
    vectors = np.concatenate([votes.T, np.sqrt(lengths.max() - lengths)[:, None]], axis=1).astype(np.float32)

    def project(queries: np.ndarray) -> np.ndarray:
        seeds = _nearest_only(queries @ items.T, _SEEDS)
        return np.concatenate([seeds, np.zeros((len(queries), 1))], axis=1).astype(np.float32)

    return Fitted(vectors, project, 4 * items.shape[1] + 8 * min(_VOTES, len(items)))


def _nearest_only(cosines: np.ndarray, count: int) -> np.ndarray:
    """Return the cube of the largest cosines of each row, and 0 for the others."""
    positive = np.clip(cosines, 0, None)
    least = np.sort(positive, axis=1)[:, -min(count, positive.shape[1]), None]
    return np.where(positive >= least, positive, 0) ** _POWER


def umap(items: np.ndarray, dimensions: int) -> Fitted:
    """Search in the space of umap-learn, which keeps the items to place queries."""
    from umap import UMAP  # noqa: PLC0415 -- it takes seconds to import

    fitted = UMAP(n_neighbors=15, min_dist=0.1, n_components=dimensions, metric="cosine", random_state=0)
    vectors = fitted.fit_transform(items).astype(np.float32)
    return Fitted(
        vectors, lambda queries: fitted.transform(queries).astype(np.float32), 4 * (items.shape[1] + dimensions)
    )


if __name__ == "__main__":
    main()
