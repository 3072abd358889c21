"""Measure how much of mAP and of the nearest neighbours each codec keeps, beside FAISS at the same bytes an item.

    lookalike embed data/fashion-300 --out fashion-300.npz
    python benchmarks/compact_codes.py fashion-300.npz --labels data/fashion-300.csv --columns file article
    python benchmarks/compact_codes.py photos.npz --queries sketches.npz

Each codec is fitted to the embeddings that it encodes, as when a collection is compressed. Each item is a query, is not
quantised, and ranks all others; or other images of the same classes are the queries, and rank all items. The benchmark prints mAP over the labels as a share of the mAP of the embeddings, and
recall@10: the share of the ten nearest by embeddings that is among the ten nearest by codes.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np

from lookalike.codecs import Binary, Chain, Codec, Pca, Product, RaBitQ, Scalar
from lookalike.evaluation.distances import distance_chunks, prepare_both
from lookalike.metric import Metric, VectorSpace

BUDGETS = 8, 16, 32, 64
NEIGHBOURS = 10

_REDUCED = 128
_ROTATED = 512


@dataclass(frozen=True, eq=False)
class Items:
    """Embeddings to compress.

    Attributes:
        embeddings: ``(n, d)`` float32, compared by Euclidean distance.
        labels: the class of each.
        queries: embeddings of other images; none if each item is a query.
        query_labels: the class of each.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    queries: np.ndarray | None = None
    query_labels: np.ndarray | None = None

    @property
    def asked(self) -> np.ndarray:
        """The embeddings of the queries."""
        return self.embeddings if self.queries is None else self.queries


@dataclass(frozen=True)
class Scores:
    """What a codec keeps.

    Attributes:
        name: the codec and its settings.
        code_bytes: of an item.
        codec_bytes: of the codec's files; 0 for FAISS.
        map: mean average precision over the labels.
        recall: share of the ten nearest that is found.
    """

    name: str
    code_bytes: int
    codec_bytes: int
    map: float
    recall: float


def codecs_of(budget: int, space: VectorSpace) -> Iterator[Codec]:
    """Yield codecs whose codes have at most this many bytes, and nearly as many."""

    def after_pca(
        dimension: int, then: Callable[[VectorSpace], Codec], *, rotate: bool = False, centre: bool = True
    ) -> Iterator[Codec]:
        if 1 <= dimension <= space.dimension:
            pca = Pca(space, dimension, rotate=rotate, centre=centre)
            yield Chain(space, (pca, then(pca.space)))

    yield Pca(space, budget // 4)
    yield from after_pca(budget, lambda s: Scalar(s, 8))
    yield from after_pca(2 * budget, lambda s: Scalar(s, 4))
    yield from after_pca(4 * budget, lambda s: Scalar(s, 2), rotate=True)
    if 8 * budget <= space.dimension:
        yield Binary(space, 8 * budget, "itq")
    yield Binary(space, 8 * budget, "sign")
    if (reduced := min(space.dimension // 2, _REDUCED)) % budget == 0:
        yield from after_pca(reduced, lambda s: Product(s, budget), centre=False)
    if space.dimension % budget == 0:
        yield Product(space, budget)
    for bits in (1, 2, 3, 4):
        yield from after_pca(8 * (budget - 1) // bits, lambda s, bits=bits: RaBitQ(s, bits))  # type: ignore[misc]


def measure_codec(codec: Codec, items: Items, nearest: np.ndarray) -> Scores:
    """Fit a codec, encode the items, and rank them by their codes."""
    fitted = codec.fit(items.embeddings)
    queries, vectors = fitted.project(items.asked), fitted.decode(fitted.encode(items.embeddings))
    scores = rank(distances(queries, vectors, fitted.space.metric), items, nearest)
    return Scores(str(codec), fitted.code_bytes, fitted.size, *scores)


def measure_faiss(budget: int, items: Items, nearest: np.ndarray) -> Iterator[Scores]:
    """Measure OPQ and RaBitQ of FAISS; RaBitQ with as many principal components as fit into the bytes.

    OPQ rotates all numbers, unless there are more than 512, and the first principal components.
    """
    rows, dimension = items.embeddings, items.embeddings.shape[1]
    for out in sorted({min(8 * budget, dimension), 128, dimension}):
        if out % budget == 0 and out <= min(dimension, _ROTATED):
            index = faiss.index_factory(
                dimension, f"OPQ{budget}_{out},PQ{budget}np"
            )  # without polysemous training, which changes no distance
            index.train(rows)
            vectors = index.sa_decode(index.sa_encode(rows))
            scores = rank(distances(items.asked, vectors, Metric.EUCLIDEAN), items, nearest)
            yield Scores(f"FAISS OPQ to {out}", budget, 0, *scores)
    for bits in (1, 2, 4):
        fits = [
            d
            for d in range(8, dimension + 1, 8)
            if faiss.IndexRaBitQ(d, faiss.METRIC_L2, bits).sa_code_size() <= budget
        ]
        if not fits:
            continue
        inner = faiss.IndexRaBitQ(fits[-1], faiss.METRIC_L2, bits)
        inner.qb = 0  # queries are not quantised
        index = faiss.IndexPreTransform(faiss.PCAMatrix(dimension, fits[-1], 0, True), inner)
        index.train(rows)
        index.add(rows)
        near, found = index.search(items.asked, len(rows))
        matrix = np.empty(near.shape, near.dtype)
        np.put_along_axis(matrix, found, near, axis=1)
        scores = rank(matrix, items, nearest)
        yield Scores(f"FAISS RaBitQ of {bits} bits, pca to {fits[-1]}", inner.sa_code_size(), 0, *scores)


def distances(queries: np.ndarray, vectors: np.ndarray, metric: Metric) -> np.ndarray:
    """Return all distances."""
    left, right = prepare_both(queries, vectors, metric)
    return np.concatenate([chunk for _, chunk in distance_chunks(left, right, metric)])


def nearest_of(matrix: np.ndarray, items: Items) -> np.ndarray:
    """Return the rows of the ten nearest items of each query; an item is not its own neighbour."""
    others = matrix.copy()
    if items.queries is None:
        np.fill_diagonal(others, np.inf)
    return np.argsort(others, axis=1, kind="stable")[:, :NEIGHBOURS]


def rank(matrix: np.ndarray, items: Items, nearest: np.ndarray) -> tuple[float, float]:
    """Return mAP over the queries with a relevant item, and recall@10."""
    precisions, recalls = [], []
    for row, label in enumerate(items.labels if items.query_labels is None else items.query_labels):
        others, relevant, near = matrix[row], items.labels == label, nearest[row]
        if items.queries is None:
            others, relevant, near = np.delete(others, row), np.delete(relevant, row), near - (near > row)
        if relevant.any():
            precisions.append(average_precision(others, relevant))
        recalls.append(recall(others, near))
    return float(np.mean(precisions)), float(np.mean(recalls))


def average_precision(distances: np.ndarray, relevant: np.ndarray) -> float:
    """Return the average precision of one query; items at one distance are one threshold, as in `lookalike.evaluation`."""
    order = np.argsort(distances)
    ends = np.flatnonzero(np.append(np.diff(distances[order]) > 0, True))
    hits = np.cumsum(relevant[order])[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / relevant.sum())


def recall(distances: np.ndarray, nearest: np.ndarray) -> float:
    """Return the share of the nearest items that is among as many by these distances, expected over the orders of ties."""
    last = np.partition(distances, len(nearest) - 1)[len(nearest) - 1]
    share = (len(nearest) - (distances < last).sum()) / (distances == last).sum()
    own = distances[nearest]
    return float(((own < last).sum() + share * (own == last).sum()) / len(nearest))


def read(path: Path, labels: Path | None, columns: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the output of ``lookalike embed``, and the labels: from a table, else the folders of the images."""
    with np.load(path) as file:
        embeddings, paths = file["embeddings"], [Path(str(name)) for name in file["paths"]]
    classes = [image.parent.name for image in paths]
    if labels:
        with labels.open(encoding="utf-8", newline="") as table:
            by_name = {Path(row[columns[0]]).name: row[columns[1]] for row in csv.DictReader(table)}
        classes = [by_name.get(image.name, "") for image in paths]
    rows = [row for row, name in enumerate(classes) if name]
    return embeddings[rows], np.array([classes[row] for row in rows])


def load(chosen: argparse.Namespace) -> Items:
    """Read the items, and the queries if they are other images."""
    embeddings, classes = read(chosen.embeddings, chosen.labels, tuple(chosen.columns))
    rows = np.arange(len(classes))
    if len(rows) > chosen.limit:
        rows = np.sort(np.random.default_rng(0).choice(rows, chosen.limit, replace=False))
    known, labels = np.unique(classes[rows], return_inverse=True)
    items = Items(embeddings[rows], labels)
    if chosen.queries:
        queries, classes = read(chosen.queries, None, tuple(chosen.columns))
        of_class = np.isin(classes, known)
        items = replace(items, queries=queries[of_class], query_labels=np.searchsorted(known, classes[of_class]))
    if chosen.unit:
        parts = {name: unit(getattr(items, name)) for name in ("embeddings", "queries")}
        items = replace(items, **{name: part for name, part in parts.items() if part is not None})
    return items


def unit(vectors: np.ndarray | None) -> np.ndarray | None:
    """Divide vectors by their norms."""
    return None if vectors is None else vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path, help="an .npz file of `lookalike embed`")
    parser.add_argument("--labels", type=Path, help="a .csv file; default: the label of an image is its folder")
    parser.add_argument("--columns", nargs=2, default=("path", "label"), help="columns of file names and labels")
    parser.add_argument("--queries", type=Path, help="an .npz file of other images, whose labels are their folders")
    parser.add_argument("--unit", action="store_true", help="divide each embedding by its norm")
    parser.add_argument("--limit", type=int, default=4000, help="items, drawn at random")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="bytes of an item")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table in Markdown."""
    chosen = parse(arguments)
    faiss.omp_set_num_threads(1)  # sums, and so the figures, depend on the number of threads
    items = load(chosen)
    space = VectorSpace(Metric.EUCLIDEAN, items.embeddings.shape[1])
    exact = distances(items.asked, items.embeddings, Metric.EUCLIDEAN)
    nearest = nearest_of(exact, items)
    base = rank(exact, items, nearest)[0]
    found = f"{len(items.labels):,} items of {space.dimension} numbers, {len(items.asked):,} queries, mAP {base:.3f}"
    sys.stdout.write(found + "\n\n")
    sys.stdout.write("| bytes | codec | codec's kB | mAP kept | recall@10 |\n|---|---|---|---|---|\n")
    for budget in chosen.budgets:
        own = (measure_codec(codec, items, nearest) for codec in codecs_of(budget, space))
        for scores in itertools.chain(own, measure_faiss(budget, items, nearest)):
            size = f"{scores.codec_bytes / 1000:,.0f}" if scores.codec_bytes else ""
            sys.stdout.write(
                f"| {scores.code_bytes} | {scores.name} | {size} | {scores.map / base:.1%} | {scores.recall:.3f} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
