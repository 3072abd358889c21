"""R1's figure: an embedding laid out in the plane, near what is near."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from lookalike.metric import Metric

# Of how many points a map is made at most: t-SNE takes seconds for these, and an eye takes in no more.
POINTS = 2000

# Classes that get a colour and a name of their own, and those whose points are drawn at all.
NAMED = 12
_CLASSES = 60

_COMPONENTS = 50


@dataclass(frozen=True, eq=False)
class Map:
    """Points in the plane, sorted by class: the most frequent class first.

    Attributes:
        rows: which row of the embeddings each point is.
        points: in 0…1, x to the right and y down.
        labels: the class of each, as it was given.
    """

    rows: Int64[np.ndarray, " n"]
    points: Float64[np.ndarray, "n 2"]
    labels: Int64[np.ndarray, " n"]


def lay_out(
    embeddings: Shaped[np.ndarray, "n d"],
    labels: Int64[np.ndarray, " n"],
    metric: Metric,
    seed: int,
    most: int = POINTS,
) -> Map | None:
    """Lay embeddings out by t-SNE (van der Maaten & Hinton 2008), after a PCA to 50 dimensions.

    Args:
        embeddings: floats, or packed bits for Hamming.
        labels: the class of each row.
        metric: what near means; cosine is Euclidean between vectors of length 1.
        seed: of the sample and of the layout.
        most: points; of more rows as many are drawn, and of more than 60 classes so many.

    Returns:
        The map; none where there are too few rows, or all are the same.
    """
    rows = _sampled(labels, seed, most)
    vectors = _in_space(embeddings[rows], metric)
    if len(rows) < 8 or not np.ptp(vectors, axis=0).any():  # noqa: PLR2004 -- nothing to see in fewer
        return None
    from sklearn.decomposition import PCA  # noqa: PLC0415 -- an extra
    from sklearn.manifold import TSNE  # noqa: PLC0415 -- an extra

    components = min(_COMPONENTS, *vectors.shape)
    flat = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(vectors)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    start = flat[:, :2] if components > 1 else np.column_stack([flat, np.zeros(len(flat))])
    start = start / start[:, 0].std() * 1e-4
    points = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(flat).astype(np.float64)
    points = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0).max(), 1e-12)
    points += (1 - points.max(axis=0)) / 2
    counts = np.bincount(labels[rows])
    order = np.lexsort((rows, labels[rows], -counts[labels[rows]]))
    return Map(rows[order], points[order], labels[rows][order])


def _sampled(labels: Int64[np.ndarray, " n"], seed: int, most: int) -> Int64[np.ndarray, " m"]:
    rng = np.random.default_rng(seed)
    rows = np.arange(len(labels))
    classes = np.unique(labels)
    if len(classes) > _CLASSES:
        rows = np.flatnonzero(np.isin(labels, rng.choice(classes, _CLASSES, replace=False)))
    return np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else rows


def _in_space(embeddings: Shaped[np.ndarray, "n d"], metric: Metric) -> Float64[np.ndarray, "n dimensions"]:
    if metric is Metric.HAMMING:
        return np.unpackbits(embeddings, axis=1).astype(np.float64)
    vectors = embeddings.astype(np.float64)
    if metric is Metric.COSINE:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, norms, out=vectors, where=norms > 0)
    return vectors


@dataclass(frozen=True)
class Name:
    """A class's name in the map: where it stands, in 0…1, and how many points it has."""

    place: int
    text: str
    count: int
    x: float
    y: float


def names(drawn: Map, classes: Sequence[str]) -> list[Name]:
    """The names of the most frequent classes, each amid its points and none upon another."""
    found: list[Name] = []
    # Of equally many points the order of the map.
    _, first = np.unique(drawn.labels, return_index=True)
    for place, start in enumerate(np.sort(first)[:NAMED].tolist()):
        mine = drawn.labels == drawn.labels[start]
        x, y = _densest(drawn.points[mine])
        while any(abs(y - other.y) < 0.035 and abs(x - other.x) < 0.16 for other in found):  # noqa: PLR2004 -- a line
            y += 0.02
        found.append(Name(place, classes[int(drawn.labels[start])], int(mine.sum()), x, y))
    return found


def _densest(points: Float64[np.ndarray, "n 2"]) -> tuple[float, float]:
    """The point with the most others near it: a class may lie in several clouds, and its middle in none."""
    some = points[:: max(1, len(points) // 200)]
    near = np.hypot(*(some[:, None] - points).transpose(2, 0, 1)) < 0.06  # noqa: PLR2004 -- about a cloud's radius
    x, y = some[near.sum(axis=1).argmax()]
    return float(np.clip(x, 0.08, 0.92)), float(np.clip(y, 0.03, 0.97))


def lattice(drawn: Map, cells: int) -> list[tuple[int, int, int]]:
    """(point, column, row): pictures on a lattice, each in the cell of its point, one a cell."""
    taken: dict[tuple[int, int], int] = {}
    # Those nearest to a cell's middle first, so that pictures lie where their points do.
    scaled = drawn.points * (cells - 1)
    away = np.hypot(*(scaled - np.round(scaled)).T)
    for i in np.argsort(away, kind="stable").tolist():
        column, row = (round(v) for v in scaled[i].tolist())
        taken.setdefault((column, row), i)
    return [(i, column, row) for (column, row), i in taken.items()]


def sheet_columns(count: int) -> int:
    """Columns of a sheet that holds so many pictures, nearly square."""
    return max(1, math.ceil(math.sqrt(count)))
