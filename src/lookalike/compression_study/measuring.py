"""One cell of a study: a codec, fitted in three folds and measured."""

import time
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

import numpy as np

from lookalike import search
from lookalike.codecs import Chain, Codec, Umap
from lookalike.compression_study.data import FOLDS, StudyData
from lookalike.compression_study.methods import METHODS
from lookalike.evaluation import retrieval
from lookalike.evaluation.distances import distance_chunks, prepare_both
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric
from lookalike.query import Vectors
from lookalike.shapes import Float32, Int64

NEIGHBOURS = 10

_SEED = 41


@dataclass(frozen=True)
class Cell:
    """What is measured: a method at a size.

    Attributes:
        method: the method's name.
        size: bytes of a code.
        neighbours: of UMAP's layout.
        min_dist: the smallest distance in UMAP's layout.
        percent: of the items of the other folds, how many the codec is fitted to.
    """

    method: str
    size: int
    neighbours: int = 15
    min_dist: float = 0.1
    percent: int = 100

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.method}-{self.size}-{self.neighbours}-{self.min_dist:g}-{self.percent}"


@dataclass(frozen=True)
class Result:
    """Measurements of a cell; scores are means over the folds.

    Attributes:
        cell: what was measured.
        codec: the codec, in words.
        dimension: numbers of a vector that a code stands for, or its bits.
        bits: whether vectors are bits, compared by the Hamming distance.
        map: mean average precision.
        mrr: mean reciprocal rank.
        top_1: share of queries whose nearest item has their label.
        recall: share of the 10 nearest items by the embeddings that are among the 10 nearest by the codes.
        curve: interpolated precision at recall 0, 0.1, … 1.
        by_class: mAP by label.
        code_bytes: of an item.
        codec_bytes: of the codec's files, fitted to all items.
        memory_bytes: of the codec's arrays in memory.
        items: number of items.
        query_ms: median time to encode a query, to compare it with all items and to sort them.
        fit_seconds: time to fit the codec to all items.
    """

    cell: Cell
    codec: str
    dimension: int
    bits: bool
    map: float
    mrr: float
    top_1: float
    recall: float
    curve: tuple[float, ...]
    by_class: dict[str, float]
    code_bytes: int
    codec_bytes: int
    memory_bytes: int
    items: int
    query_ms: float
    fit_seconds: float

    @property
    def bytes_per_item(self) -> float:
        """Bytes of an item with its share of the codec's files."""
        return self.code_bytes + self.codec_bytes / self.items

    @property
    def memory_mb(self) -> float:
        """Megabytes of all codes and of the codec in memory."""
        return (self.items * self.code_bytes + self.memory_bytes) / 1e6

    @property
    def disk_mb(self) -> float:
        """Megabytes of all codes and of the codec's files."""
        return self.items * self.bytes_per_item / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON."""
        derived = {"bytes_per_item": self.bytes_per_item, "memory_mb": self.memory_mb, "disk_mb": self.disk_mb}
        return asdict(self) | derived


def measure(data: StudyData, cell: Cell) -> Result:
    """Measure a cell in three folds.

    A fold's codec is fitted to the items of the other two; the fold's own items are the gallery. Queries are those of the
    data, or else the fold's own items, each with itself left out. Time and bytes are those of a codec that is fitted to all
    items, with all items as the gallery, as in R4.

    Raises:
        UsageError: the items are too few for the codec.
    """
    folds = data.folds()
    scores, recalls = [], []
    for fold in range(FOLDS):
        gallery = data.take(np.flatnonzero(folds == fold))
        codec = _fit(data, cell, np.flatnonzero(folds != fold))
        of_fold, recall = _score(gallery, data.queries, codec)
        scores.append(of_fold)
        recalls.append(recall)
    started = time.perf_counter()
    codec = _fit(data, cell, np.arange(len(folds)))
    fit_seconds = time.perf_counter() - started
    codes = codec.encode(data.items.vectors)
    by_class: dict[str, list[float]] = {}
    for of_fold in scores:
        for label, of_class in of_fold.by_class.items():
            by_class.setdefault(str(label), []).append(of_class.map)
    return Result(
        cell=cell,
        codec=str(codec),
        dimension=codec.space.dimension,
        bits=codec.space.metric is Metric.HAMMING,
        map=_mean([one.map for one in scores]),
        mrr=_mean([one.mrr for one in scores]),
        top_1=_mean([one.top_1 for one in scores]),
        recall=_mean(recalls),
        curve=tuple(np.mean([one.eleven_points for one in scores], axis=0).tolist()),
        by_class={label: _mean(values) for label, values in sorted(by_class.items())},
        code_bytes=codec.code_bytes,
        codec_bytes=codec.size,
        memory_bytes=memory(codec),
        items=len(codes),
        query_ms=_query_ms((data.queries or data.items).vectors, codec.decode(codes), codec),
        fit_seconds=fit_seconds,
    )


def _mean(numbers: list[float]) -> float:
    return float(np.mean(numbers))


def _fit(data: StudyData, cell: Cell, rows: Int64[np.ndarray, " m"]) -> Codec:
    codec = METHODS[cell.method].codec(data.space, cell.size)
    if isinstance(codec, Umap):
        codec = replace(codec, neighbours=cell.neighbours, min_dist=cell.min_dist)
    if cell.percent < 100:  # noqa: PLR2004 -- all
        order = np.random.default_rng(_SEED).permutation(rows)
        rows = np.sort(order[: round(len(rows) * cell.percent / 100)])
    chosen = data.take(rows)
    return codec.fit(chosen.vectors, list(chosen.labels))


def _score(
    gallery: LabelledVectors, queries: LabelledVectors | None, codec: Codec
) -> tuple[retrieval.RetrievalScores, float]:
    """Return the scores of a fold, and its recall of neighbours."""
    metric = codec.space.metric
    own = None if queries else np.arange(len(gallery))
    asked = queries or gallery
    coded = LabelledVectors(codec.decode(codec.encode(gallery.vectors)), gallery.labels)
    projected = LabelledVectors(codec.project(asked.vectors), asked.labels)
    scores = retrieval.evaluate(projected, coded, metric, own_rows=own)
    exact = _distances(asked.vectors, gallery.vectors, codec.embeddings.metric, own)
    found = _distances(projected.vectors, coded.vectors, metric, own)
    return scores, neighbour_recall(exact, found)


def _distances(
    queries: Vectors, gallery: Vectors, metric: Metric, own: Int64[np.ndarray, " q"] | None
) -> Float32[np.ndarray, "q n"]:
    """Return all distances; those to a query's own row are infinite."""
    left, right = prepare_both(queries, gallery, metric)
    distances = np.concatenate([chunk for _, chunk in distance_chunks(left, right, metric)])
    if own is not None:
        distances[own, own] = np.inf
    return distances


def neighbour_recall(exact: Float32[np.ndarray, "q n"], found: Float32[np.ndarray, "q n"]) -> float:
    """Return the share of the 10 nearest that is among the 10 nearest by other distances, expected over orders of ties."""
    count = min(NEIGHBOURS, int(np.isfinite(exact[0]).sum()))
    nearest = np.argsort(exact, axis=1, kind="stable")[:, :count]
    last = np.partition(found, count - 1, axis=1)[:, count - 1, None]
    free = count - (found < last).sum(axis=1)
    of_nearest = np.take_along_axis(found, nearest, axis=1)
    hits = (of_nearest < last).sum(axis=1) + free * (of_nearest == last).sum(axis=1) / (found == last).sum(axis=1)
    return float(hits.mean() / count)


def _query_ms(queries: Vectors, vectors: Vectors, codec: Codec) -> float:
    """Return the median time of a query against all items, in milliseconds, after one that is not counted."""
    metric = codec.space.metric
    gallery = search.prepare(vectors, metric)
    times = []
    for row in (0, *range(len(queries))):
        started = time.perf_counter()
        search.knn(codec.project(queries[row : row + 1]), gallery, len(vectors), metric)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]) * 1000)


def memory(value: object) -> int:
    """Count the bytes of the arrays of a codec, in all of its parts."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Chain):
        return sum(memory(step) for step in value.steps)
    if isinstance(value, tuple):
        return sum(map(memory, value))
    if is_dataclass(value):
        return sum(memory(attribute) for attribute in vars(value).values())  # with what was cached
    return 0
