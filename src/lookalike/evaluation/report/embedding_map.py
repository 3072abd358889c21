"""A map of the embeddings in the plane, by PCA and t-SNE (R1's figure)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike.metric import Metric
from lookalike.shapes import Float64, Int64, Shaped

# Largest number of points of a map: t-SNE takes seconds for these, and a reader cannot distinguish more.
POINTS = 2000

# Number of classes with their own colour and name, and largest number of classes on a map.
NAMED = 12
_CLASSES = 60

_COMPONENTS = 50


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Points in the plane, sorted by class, the most frequent class first.

    Attributes:
        rows: the row of each point's embedding.
        points: in 0…1, x to the right and y down.
        labels: the class of each point.
    """

    rows: Int64[np.ndarray, " n"]
    points: Float64[np.ndarray, "n 2"]
    labels: Int64[np.ndarray, " n"]


def compute_map(
    embeddings: Shaped[np.ndarray, "n d"],
    labels: Int64[np.ndarray, " n"],
    metric: Metric,
    seed: int,
    limit: int = POINTS,
) -> EmbeddingMap | None:
    """Lay embeddings out by t-SNE (van der Maaten & Hinton 2008), after a PCA to 50 dimensions.

    Args:
        embeddings: floats, or packed bits for Hamming.
        labels: the class of each row.
        metric: of the neighbourhoods; cosine is Euclidean distance between unit vectors.
        seed: of the sample and of the layout.
        limit: largest number of points; more rows are sampled, and so are more than 60 classes.

    Returns:
        The map; None if there are fewer than eight rows, or all are identical.
    """
    rows = _sample_rows(labels, seed, limit)
    vectors = _to_euclidean(embeddings[rows], metric)
    if len(rows) < 8 or not np.ptp(vectors, axis=0).any():  # noqa: PLR2004 -- fewer show nothing
        return None
    from sklearn.decomposition import PCA  # noqa: PLC0415 -- an extra
    from sklearn.manifold import TSNE  # noqa: PLC0415 -- an extra

    components = min(_COMPONENTS, *vectors.shape)
    reduced = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(vectors)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    start = reduced[:, :2] if components > 1 else np.column_stack([reduced, np.zeros(len(reduced))])
    start = start / start[:, 0].std() * 1e-4
    points = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(reduced).astype(np.float64)
    points = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0).max(), 1e-12)
    points += (1 - points.max(axis=0)) / 2
    counts = np.bincount(labels[rows])
    order = np.lexsort((rows, labels[rows], -counts[labels[rows]]))
    return EmbeddingMap(rows[order], points[order], labels[rows][order])


def _sample_rows(labels: Int64[np.ndarray, " n"], seed: int, limit: int) -> Int64[np.ndarray, " m"]:
    rng = np.random.default_rng(seed)
    rows = np.arange(len(labels))
    classes = np.unique(labels)
    if len(classes) > _CLASSES:
        rows = np.flatnonzero(np.isin(labels, rng.choice(classes, _CLASSES, replace=False)))
    return np.sort(rng.choice(rows, limit, replace=False)) if len(rows) > limit else rows


def _to_euclidean(embeddings: Shaped[np.ndarray, "n d"], metric: Metric) -> Float64[np.ndarray, "n dimensions"]:
    """Return vectors whose Euclidean neighbourhoods are those of the metric."""
    if metric is Metric.HAMMING:
        return np.unpackbits(embeddings, axis=1).astype(np.float64)
    vectors = embeddings.astype(np.float64)
    if metric is Metric.COSINE:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, norms, out=vectors, where=norms > 0)
    return vectors


@dataclass(frozen=True)
class ClassName:
    """The name of a class on the map.

    Attributes:
        rank: 0 for the most frequent class.
        text: the name.
        count: points of the class.
        x: in 0…1.
        y: in 0…1.
    """

    rank: int
    text: str
    count: int
    x: float
    y: float


def place_names(embedding_map: EmbeddingMap, names: Sequence[str]) -> list[ClassName]:
    """Place the names of the most frequent classes among their points, without overlaps.

    Args:
        embedding_map: the map.
        names: by label.
    """
    placed: list[ClassName] = []
    # Classes of equal frequency keep the order of the map.
    _, first = np.unique(embedding_map.labels, return_index=True)
    for rank, start in enumerate(np.sort(first)[:NAMED].tolist()):
        of_class = embedding_map.labels == embedding_map.labels[start]
        x, y = _densest_point(embedding_map.points[of_class])
        while any(abs(y - other.y) < 0.035 and abs(x - other.x) < 0.16 for other in placed):  # noqa: PLR2004 -- a line
            y += 0.02
        placed.append(ClassName(rank, names[int(embedding_map.labels[start])], int(of_class.sum()), x, y))
    return placed


def _densest_point(points: Float64[np.ndarray, "n 2"]) -> tuple[float, float]:
    """Return the point with the most points near it; the mean of several clouds may lie in none."""
    candidates = points[:: max(1, len(points) // 200)]
    near = np.hypot(*(candidates[:, None] - points).transpose(2, 0, 1)) < 0.06  # noqa: PLR2004 -- a cloud's radius
    x, y = candidates[near.sum(axis=1).argmax()]
    return float(np.clip(x, 0.08, 0.92)), float(np.clip(y, 0.03, 0.97))


def grid_cells(embedding_map: EmbeddingMap, cells: int) -> list[tuple[int, int, int]]:
    """Assign points to the cells of a square grid, at most one a cell.

    Returns:
        (point, column, row) of each point that got its nearest cell. The nearest point to the middle of a cell wins.
    """
    points: dict[tuple[int, int], int] = {}
    scaled = embedding_map.points * (cells - 1)
    offsets = np.hypot(*(scaled - np.round(scaled)).T)
    for i in np.argsort(offsets, kind="stable").tolist():
        column, row = (round(v) for v in scaled[i].tolist())
        points.setdefault((column, row), i)
    return [(i, column, row) for (column, row), i in points.items()]


def sheet_columns(count: int) -> int:
    """Return the number of columns of a nearly square sheet."""
    return max(1, math.ceil(math.sqrt(count)))
