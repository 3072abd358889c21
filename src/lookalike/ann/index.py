"""Approximate indexes by FAISS: a graph (HNSW), or cells of compressed vectors (IVF-PQ).

HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
world graphs", TPAMI 2018; here over vectors in 8 bits a number. IVF-PQ: Jégou, Douze and Schmid, "Product quantization
for nearest neighbor search", TPAMI 2011; here with four bits for two numbers, whose sums fit into a processor's registers:
André, Kermarrec and Le Scouarnec, "Cache locality is not enough: high-performance nearest neighbor search with product
quantization fast scan", VLDB 2015.

An index only proposes rows. They are measured by definition (of many, those that are nearest in float32), so the distances
of an answer are true, and it is sorted by (distance, row). A nearer row may be missing if the index did not propose it: the
recall, measured when the index is built, says how often. For cosine distance, FAISS compares unit vectors. Bits have no
index: FAISS scans a million codes of 512 bits in some milliseconds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lookalike.errors import StorageError, UsageError
from lookalike.metric import Metric, paired
from lookalike.progress import SILENT, Progress
from lookalike.query import DistanceRange
from lookalike.search import Gallery, Hits, Pairs
from lookalike.search.answers import round_range
from lookalike.search.bounds import measure
from lookalike.search.chunks import chunks
from lookalike.shapes import Bool, Int64, Shaped

Kind = Literal["hnsw", "ivf-pq"]

MIN_VECTORS = 1000
"""An index needs this many vectors: fewer are scanned faster than any index answers."""

RECALL_AT = 10
"""Recall is measured at this k. For a larger k, the effort grows in proportion."""

_NEIGHBOURS = 20
_CONSTRUCTION = 150
"""HNSW's M and efConstruction, chosen from 16 to 32 links and 100 to 200 candidates by the time of a query at recalls of 0.95
and 0.98: it takes about as long to build as 32 and 100, and fewer bytes."""

_CHUNK = 4096
"""Vectors added at a time; in between, progress is reported and the build can be stopped."""

_TRAINING = 2**16
"""Vectors that cells and codebooks are learned from at most: 256 for each of 256 centroids."""

_TIGHT = 0.15
"""If less than this share of the variance is left within cells, codes are of residuals, or those of one cell would be alike.
Else they are of the vectors: then one table serves all cells, which is several times as fast."""

_MORE = 8
"""Rows measured beyond k, of those compared in float32 first: their order is not quite that of the distances."""

_LONGEST = 2.0**124
"""Squared norm up to which no squared distance overflows float32, in which FAISS computes; beyond, FAISS ends the process."""

_WIDEST = 2**14
"""Rows that a range query gets from an index at most."""


@dataclass(frozen=True, eq=False)
class Index:
    """An index over vectors, numbered from 0; see `build`.

    Attributes:
        kind: hnsw or ivf-pq.
        metric: euclidean or cosine.
        effort: efSearch or nprobe at k = 10: the higher, the slower and the better the recall.
        faiss: FAISS's own object.
    """

    kind: Kind
    metric: Metric
    effort: int
    faiss: Any

    def __len__(self) -> int:
        """Count the vectors."""
        return int(self.faiss.ntotal)

    def propose(
        self, queries: Gallery, count: int, allowed: Bool[np.ndarray, " n"] | None = None
    ) -> Int64[np.ndarray, "q c"]:
        """Propose the vectors that seem nearest to each query, padded with -1.

        Args:
            queries: prepared as the gallery was.
            count: how many are wanted; more are proposed.
            allowed: a mask of the vectors to propose; all if none.
        """
        wanted = min(math.ceil(_proposed(self.kind, queries.vectors.shape[1]) * max(count, RECALL_AT)), len(self))
        # A filter lets only a share of the vectors on the way pass.
        share = 1.0 if allowed is None else max(float(allowed.mean()), 1 / len(self))
        effort = int(min(self.effort * max(1.0, count / RECALL_AT) / share, len(self)))
        effort = max(effort, wanted) if self.kind == "hnsw" else min(max(1, effort), self.faiss.nlist)
        if allowed is None:
            parameters = _unfiltered(self.kind, effort)
        else:
            bits = np.packbits(allowed, bitorder="little")
            parameters = _parameters(self.kind, effort, _faiss().IDSelectorBitmap(bits))
        _, rows = self.faiss.search(to_faiss(queries, self.metric), wanted, params=parameters)
        return np.asarray(rows, np.int64)


def _proposed(kind: Kind, dimension: int) -> float:
    """Return the rows to propose for each one wanted: few by codes of 8 bits a number, more by codes of 2 bits."""
    return 1.5 if kind == "hnsw" else min(max(8.0, 2560 / dimension), 20.0)


def _parameters(kind: Kind, effort: int, selector: Any) -> Any:  # noqa: ANN401 -- FAISS has no types
    if kind == "hnsw":
        return _faiss().SearchParametersHNSW(efSearch=effort, sel=selector)
    return _faiss().SearchParametersIVF(nprobe=effort, sel=selector)


@lru_cache(64)  # making them takes a twentieth of a query's time
def _unfiltered(kind: Kind, effort: int) -> Any:  # noqa: ANN401 -- as above
    return _parameters(kind, effort, None)


@dataclass(frozen=True, eq=False)
class RowMap:
    """Map the vectors of an index to the rows of a gallery that has changed since.

    Attributes:
        rows: the gallery's row of each vector of the index; -1 if it was removed.
    """

    rows: Int64[np.ndarray, " n"]

    @cached_property
    def present(self) -> Bool[np.ndarray, " n"] | None:
        """A mask of the vectors that were not removed; none if all are present."""
        present = self.rows >= 0  # cached: a query takes less time than this
        return None if present.all() else present

    def apply(self, vectors: Int64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return the gallery's rows of vectors of the index; -1 stays -1."""
        return np.where(vectors >= 0, self.rows[vectors], -1)


def build(
    gallery: Gallery,
    metric: Metric,
    kind: Kind = "hnsw",
    *,
    progress: Progress = SILENT,
    stopped: Callable[[], bool] = lambda: False,
) -> Index | None:
    """Build an index of a gallery, in as many threads as FAISS is set to use.

    Its effort is the lowest; `lookalike.ann.tuning.tune` finds the one that reaches a recall.

    Args:
        gallery: at least `MIN_VECTORS` vectors.
        metric: euclidean or cosine.
        kind: hnsw is the fastest for many vectors; ivf-pq is built sooner and takes an eighth of the memory.
        progress: receives the vectors added, as the stage ``"indexing"``.
        stopped: called a few times a second; if it returns true, the build ends.

    Returns:
        The index; none if it was stopped.

    Raises:
        UsageError: too few vectors, vectors that are too long, or bits.
    """
    n, d = gallery.vectors.shape
    if metric == Metric.HAMMING:
        raise UsageError("Bits have no index: scanning them exactly is faster. Search them without one.")
    if n < MIN_VECTORS or not d:
        raise UsageError(f"An index needs at least {MIN_VECTORS:,} vectors, not {n:,}. Search them exactly.")
    if metric == Metric.EUCLIDEAN and gallery.squared_norms.max() > _LONGEST:
        raise UsageError(
            f"A vector has length {gallery.squared_norms.max() ** 0.5:.2g}; an index takes {_LONGEST**0.5:.2g} at most."
            " Scale the vectors down, or search them exactly."
        )
    progress.advance("indexing", 0, n)
    rows = np.sort(np.random.default_rng(0).permutation(n)[:_TRAINING])
    sample = to_faiss(gallery.take(rows), metric)
    made = _graph(d) if kind == "hnsw" else _cells(n, sample)
    made.train(sample)
    for part in chunks(n, _CHUNK):
        if stopped():
            return None
        made.add(to_faiss(gallery.take(part), metric))
        progress.advance("indexing", part.stop, n)
    return Index(kind, metric, 1, made)


def _graph(dimension: int) -> Any:  # noqa: ANN401 -- as above
    faiss = _faiss()
    made = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_8bit, _NEIGHBOURS)
    made.hnsw.efConstruction = _CONSTRUCTION
    return made


def _cells(count: int, sample: Shaped[np.ndarray, "n d"]) -> Any:  # noqa: ANN401 -- as above
    faiss = _faiss()
    dimension = sample.shape[1]
    cells = max(1, min(round(2 * count**0.5), len(sample) // 39))
    pieces = dimension if dimension % 2 else dimension // 2
    made = faiss.IndexIVFPQFastScan(faiss.IndexFlatL2(dimension), dimension, cells, pieces, 4)
    made.cp.niter = made.pq.cp.niter = 10  # the last of FAISS's 25 rounds change next to nothing, measured in recall
    made.cp.min_points_per_centroid = made.pq.cp.min_points_per_centroid = 1  # or FAISS writes warnings to stderr
    made.train_q1(len(sample), faiss.swig_ptr(sample), False, faiss.METRIC_L2)
    some = sample[:: math.ceil(len(sample) / _CHUNK)]
    left = made.quantizer.search(np.ascontiguousarray(some), 1)[0].sum(dtype=np.float64)
    made.by_residual = bool(left < _TIGHT * np.square(some - some.mean(axis=0), dtype=np.float64).sum())
    return made


def knn(
    index: Index,
    queries: Gallery,
    gallery: Gallery,
    k: int,
    *,
    row_map: RowMap | None = None,
    allowed: Bool[np.ndarray, " n"] | None = None,
) -> Hits:
    """Find the k nearest rows of each query approximately, with true distances.

    Args:
        index: over vectors that the gallery has.
        queries: prepared, as for `lookalike.search.knn`.
        gallery: the vectors to measure.
        k: at least 1.
        row_map: the gallery's rows of the index's vectors, if they are not the same.
        allowed: a mask of the index's vectors that may be found; all if none.
    """
    rows = index.propose(queries, k, _allowed(row_map, allowed))
    rows = rows if row_map is None else row_map.apply(rows)
    if rows.shape[1] > 2 * (k + _MORE) and gallery.vectors.flags.c_contiguous:
        rows = _nearest_in_float32(index.metric, queries, gallery, rows, k + _MORE)
    if len(queries) == 1:
        return _measure_one(index.metric, queries, gallery, rows[rows >= 0], k)
    pairs = _measure_rows(index.metric, queries, gallery, rows)
    return Hits.from_pairs([pairs.first(k)], len(queries), exact=False)


def within(
    index: Index,
    queries: Gallery,
    gallery: Gallery,
    within: DistanceRange,
    *,
    row_map: RowMap | None = None,
    allowed: Bool[np.ndarray, " n"] | None = None,
) -> Hits:
    """Find all rows in a range of distances approximately, with true distances.

    It asks the index for more and more rows until the farthest lies beyond the range. If these are too many, the answer is
    not ``complete``. The other arguments are as in `knn`.
    """
    allowed = _allowed(row_map, allowed)
    available = len(index) if allowed is None else int(allowed.sum())
    _, farthest = round_range(within)
    parts, pending, k = list[Pairs](), np.arange(len(queries)), 64
    while len(pending) and available:
        batch = queries.take(pending)
        rows = index.propose(batch, k, allowed)
        pairs = _measure_rows(index.metric, batch, gallery, rows if row_map is None else row_map.apply(rows))
        counts = np.bincount(pairs.left, minlength=len(pending))
        inside = np.bincount(pairs.left[pairs.distances <= farthest], minlength=len(pending))
        # Enough of the proposed rows must lie beyond the range: the order of codes is not that of distances. If everything
        # was wanted, one is enough: a graph may miss a vector that nothing links to, which the recall accounts for.
        complete = (inside <= counts // 2) | (counts >= available) | ((k >= available) & (inside < counts))
        done = complete | (k >= min(_WIDEST, available))
        ready = Pairs(pending[pairs.left], pairs.right, pairs.distances).keep(done[pairs.left])
        parts.append(ready.within(within))
        if not complete[done].all():
            return Hits.from_pairs(parts, len(queries), exact=False, complete=False)
        pending, k = pending[~done], 2 * k
    return Hits.from_pairs(parts, len(queries), exact=False)


def write(index: Index, path: Path) -> None:
    """Write FAISS's part of an index; the other attributes are plain numbers.

    Raises:
        StorageError: the file cannot be written.
    """
    faiss = _faiss()
    try:
        faiss.write_index(index.faiss, str(path))
    except RuntimeError as e:
        raise StorageError(f"The index cannot be written to {path.parent}. Check that the disk is not full.") from e


def read(path: Path) -> Any:  # noqa: ANN401 -- as above
    """Map FAISS's part of an index into memory. FAISS trusts what it reads: check the file first.

    Raises:
        StorageError: the file is not an index.
    """
    faiss = _faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as e:
        raise StorageError(f"{path} is not an index that FAISS reads. Build it again.") from e


def _allowed(row_map: RowMap | None, allowed: Bool[np.ndarray, " n"] | None) -> Bool[np.ndarray, " n"] | None:
    """Combine two masks of the index's vectors; none if all are allowed."""
    present = None if row_map is None else row_map.present
    return allowed if present is None else present if allowed is None else allowed & present


def _nearest_in_float32(
    metric: Metric, queries: Gallery, gallery: Gallery, rows: Int64[np.ndarray, "q c"], count: int
) -> Int64[np.ndarray, "q count"]:
    """Select the rows of each query that are nearest in float32, in any order; FAISS compares them in all cores."""
    faiss = _faiss()
    vectors, rows = np.ascontiguousarray(queries.vectors), np.ascontiguousarray(rows)
    distances = np.empty(rows.shape, np.float32)
    compare = faiss.fvec_inner_products_by_idx if metric == Metric.COSINE else faiss.fvec_L2sqr_by_idx
    compare(*map(faiss.swig_ptr, (distances, vectors, gallery.vectors, rows)), vectors.shape[1], *rows.shape)
    if metric == Metric.COSINE:
        norms = np.sqrt(gallery.squared_norms[rows])
        distances = -np.divide(distances, norms, out=np.zeros_like(norms), where=norms > 0)
    distances[rows < 0] = np.inf
    return np.take_along_axis(rows, np.argpartition(distances, count - 1, axis=1)[:, :count], axis=1)


def _measure_one(metric: Metric, query: Gallery, gallery: Gallery, rows: Int64[np.ndarray, " c"], k: int) -> Hits:
    """Measure one query's rows, without the steps that several queries need: they would take longer than FAISS."""
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        distances = paired(query.vectors, gallery.vectors[rows], metric).astype(np.float32)
    order = np.lexsort((rows, distances))[:k]
    return Hits(np.array([0, len(order)]), rows[order], distances[order], exact=False)


def _measure_rows(metric: Metric, queries: Gallery, gallery: Gallery, rows: Int64[np.ndarray, "q c"]) -> Pairs:
    """Measure the proposed rows, and sort them."""
    left, column = np.nonzero(rows >= 0)
    right = rows[left, column]
    return Pairs(left, right, measure(queries, gallery, left, right, metric)).sorted()


def to_faiss(vectors: Gallery, metric: Metric) -> Shaped[np.ndarray, "n d"]:
    """Convert vectors to what FAISS compares: for cosine, unit vectors."""
    if metric != Metric.COSINE:
        return np.ascontiguousarray(vectors.vectors)
    norms = np.sqrt(vectors.squared_norms)
    return np.ascontiguousarray(vectors.vectors / np.where(norms > 0, norms, 1)[:, None], np.float32)


def _faiss() -> Any:  # noqa: ANN401 -- what mypy sees of it is not what it is at run time
    import faiss  # noqa: PLC0415 -- reads for a seventh of a second, which other commands would wait for

    return faiss
