"""Measure the recall of an approximate index for queries far from all of its vectors, and what the second search costs.

    lookalike embed IMAGES --encoder copies --out vectors.npz
    lookalike embed OTHERS --encoder copies --out others.npz
    python benchmarks/far_queries.py vectors.npz [others.npz]        prints a table for HNSW and IVF-PQ

A tenth of the vectors, at most 1,000, are held out as queries. Other queries are noise with the mean and deviation of the vectors,
uniform noise in their range, noise of three deviations, and points far away in all directions; the second file has embeddings of
other images.

- *usual*: the recall at 10 with the usual effort, which is stated for near queries.
- *stated*, *recall*: the mean of the recall that an answer states (1 if exact), and the true one, with the second search.
- *again*, *exact*: the shares of queries that are searched again, and exactly.
- *ms*: a query alone, without and with the second search.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from lookalike import ann, search
from lookalike.ann.far_queries import FarQueries
from lookalike.metric import Metric
from lookalike.search import Gallery, Hits, prepare

K = 10
COUNT = 300


def main() -> None:
    """Measure both kinds of index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="npz files with the array embeddings; the first is indexed")
    parser.add_argument("--metric", type=Metric, default=Metric.EUCLIDEAN)
    parser.add_argument("--recall", type=float, default=0.95)
    options = parser.parse_args()
    first, *others = (np.load(file)["embeddings"].astype(np.float32) for file in options.files)
    first = np.random.default_rng(0).permutation(first)
    held_out = min(len(first) // 10, 1_000)
    kinds = {"held out": first[:held_out], **far_queries(first[held_out:])}
    kinds |= {f"other images {i}": other[:COUNT] for i, other in enumerate(others, 1)}
    gallery = prepare(first[held_out:], options.metric)
    for kind in ("hnsw", "ivf-pq"):
        index = ann.build(gallery, options.metric, kind)
        if index is None:
            continue
        index, stated = ann.tune(index, gallery, options.recall)
        far = ann.tune_far(index, gallery, options.recall)
        title = f"{kind}, {len(gallery):,} vectors, effort {index.effort}, far {far.effort}"
        table = Table("queries", "usual", "stated", "recall", "again", "exact", "ms", "ms with", title=title)
        for name, values in kinds.items():
            table.add_row(name, *measure(index, far, stated, gallery, prepare(values, options.metric)))
        Console().print(table)


def far_queries(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Make queries of several kinds."""
    rng = np.random.default_rng(1)
    mean, deviation, d = vectors.mean(axis=0), vectors.std(axis=0), vectors.shape[1]
    noise = rng.standard_normal((COUNT, d))
    units = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    length = np.linalg.norm(vectors - mean, axis=1).max()
    made = {
        "noise": mean + deviation * noise,
        "uniform": rng.uniform(vectors.min(axis=0), vectors.max(axis=0), (COUNT, d)),
        "noise × 3": mean + 3 * deviation * noise,
        "distant": mean + 10 * length * units,
    }
    return {name: values.astype(np.float32) for name, values in made.items()}


def measure(index: ann.Index, far: FarQueries, stated: float, gallery: Gallery, queries: Gallery) -> list[str]:
    """Return the cells of a row."""
    exact = search.knn(queries, gallery, K, index.metric)
    usual = ann.knn(index, queries, gallery, K)
    distances = ann.nearest(usual)
    again, beyond = (distances > far.distance) & (distances <= far.beyond), distances > far.beyond
    hits = usual
    if again.any():
        hits = ann.merge(hits, ann.knn(far.deepen(index), queries.take(np.flatnonzero(again)), gallery, K), again)
    recalls = np.where(beyond, 1, recall_of(hits, exact))
    said = np.where(beyond, 1, np.where(again, far.recall, stated))

    def search_again(query: Gallery) -> None:
        nearest = ann.nearest(ann.knn(index, query, gallery, K))[0]
        if nearest > far.beyond:
            search.knn(query, gallery, K, index.metric)
        elif nearest > far.distance:
            ann.knn(far.deepen(index), query, gallery, K)

    times = [milliseconds(run, queries) for run in (lambda query: ann.knn(index, query, gallery, K), search_again)]
    shares = [f"{share.mean():.3f}" for share in (recall_of(usual, exact), said, recalls, again, beyond)]
    return [*shares, *(f"{ms:.3f}" for ms in times)]


def recall_of(found: Hits, exact: Hits) -> np.ndarray:
    """Return the recall of each query; hits as near as the farthest exact one count."""
    return np.array([np.count_nonzero(d <= e[-1]) / len(e) for (_, d), (_, e) in zip(found, exact, strict=True)])


def milliseconds(run: Callable[[Gallery], object], queries: Gallery) -> float:
    """Return the mean time of a query; the shortest of three rounds."""
    alone = [queries.take(slice(i, i + 1)) for i in range(len(queries))]
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        for query in alone:
            run(query)
        rounds.append((time.perf_counter() - start) / len(alone) * 1_000)
    return min(rounds)


if __name__ == "__main__":
    main()
