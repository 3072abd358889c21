"""Approximate indexes by FAISS: a graph (HNSW), or cells of compressed vectors (IVF-PQ).

HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
world graphs", TPAMI 2018; here over vectors in 8 bits a number. IVF-PQ: Jégou, Douze and Schmid, "Product quantization
for nearest neighbor search", TPAMI 2011; here with four bits for two numbers, whose sums fit into a processor's registers:
André, Kermarrec and Le Scouarnec, "Cache locality is not enough: high-performance nearest neighbor search with product
quantization fast scan", VLDB 2015.

An index only proposes rows. Proposed rows are measured by definition (of many, only the nearest in float32). So the
distances of an answer are true, and it is sorted by (distance, row). A nearer row is missing if the index did not propose
it; the recall, measured after building, states how often. For cosine distance, FAISS compares unit vectors. Bits have no
index: FAISS scans a million codes of 512 bits in a few milliseconds.
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
from lookalike.search.coded import CodedVectors
from lookalike.shapes import Bool, Int64, Shaped

Kind = Literal["hnsw", "ivf-pq"]

MIN_VECTORS = 1000
"""Minimum number of vectors of an index; scanning fewer is faster than an index."""

RECALL_AT = 10
"""Recall is measured at this k. For a larger k, the effort grows in proportion."""

_NEIGHBOURS = 20
_CONSTRUCTION = 150
"""HNSW's M and efConstruction, chosen among 16…32 links and 100…200 candidates by query time at recalls of 0.95 and 0.98.
An index with 32 and 100 takes about as long to build, and more bytes."""

_CHUNK = 4096
"""Vectors added at a time; the build reports progress and can be stopped in between."""

_TRAINING = 2**16
"""Maximum number of vectors for training cells and codebooks: 256 for each of 256 centroids."""

_RESIDUAL_SHARE = 0.15
"""If the variance within cells is below this share of the whole, vectors of one cell would have nearly equal codes, so the
codes are of residuals. Else the codes are of vectors: one table serves all cells, which is several times as fast."""

_EXTRA = 8
"""Rows measured beyond k after a selection in float32, whose order differs slightly from that of the distances."""

LONGEST = 2.0**124
"""Largest squared norm for which no squared distance overflows float32. On overflow, FAISS ends the process."""

_MAX_PROPOSED = 2**14
"""Maximum number of rows that a range query requests from an index."""


@dataclass(frozen=True, eq=False)
class Index:
    """An index over vectors, numbered from 0; see `build`.

    Attributes:
        kind: hnsw or ivf-pq.
        metric: euclidean or cosine.
        effort: efSearch or nprobe at k = 10. More effort takes more time and improves the recall.
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
            queries: prepared like the gallery.
            count: the number of nearest vectors to find among them; more are proposed.
            allowed: a mask of the vectors to propose; by default all.
        """
        wanted = min(math.ceil(_proposed(self.kind, queries.vectors.shape[1]) * max(count, RECALL_AT)), len(self))
        # With a filter, only a share of the visited vectors may be proposed.
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
    """Return the number of rows to propose for each wanted one: few by codes of 8 bits a number, more by 2 bits."""
    return 1.5 if kind == "hnsw" else min(max(8.0, 2560 / dimension), 20.0)


def _parameters(kind: Kind, effort: int, selector: Any) -> Any:  # noqa: ANN401 -- FAISS has no types
    if kind == "hnsw":
        return _faiss().SearchParametersHNSW(efSearch=effort, sel=selector)
    return _faiss().SearchParametersIVF(nprobe=effort, sel=selector)


@lru_cache(64)  # making the object takes a twentieth of a query's time
def _unfiltered(kind: Kind, effort: int) -> Any:  # noqa: ANN401 -- as above
    return _parameters(kind, effort, None)


@dataclass(frozen=True, eq=False)
class RowMap:
    """A map from the vectors of an index to the rows of a later gallery.

    Attributes:
        rows: the gallery's row of each vector of the index; -1 if it was removed.
    """

    rows: Int64[np.ndarray, " n"]

    @cached_property
    def present(self) -> Bool[np.ndarray, " n"] | None:
        """A mask of the vectors that were not removed; none if all are present."""
        present = self.rows >= 0  # cached, since it takes longer than a query
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

    Its effort is 1; `lookalike.ann.tuning.tune` finds the effort for a recall.

    Args:
        gallery: at least `MIN_VECTORS` vectors.
        metric: euclidean or cosine.
        kind: hnsw answers faster; ivf-pq takes less time to build and an eighth of the memory.
        progress: receives the stage ``"indexing"``.
        stopped: called a few times a second; the build ends if it returns true.

    Returns:
        The index; none if the build was stopped.

    Raises:
        UsageError: there are too few vectors, a vector is too long, or the vectors are bits.
        StorageError: the memory does not suffice.
    """
    n, d = gallery.vectors.shape
    if metric == Metric.HAMMING:
        raise UsageError("Bits have no index, since an exact scan is faster. Search them exactly.")
    if n < MIN_VECTORS or not d:
        raise UsageError(f"An index needs at least {MIN_VECTORS:,} vectors, not {n:,}. Search them exactly.")
    if metric == Metric.EUCLIDEAN and gallery.squared_norms.max() > LONGEST:
        raise UsageError(
            f"A vector has length {gallery.squared_norms.max() ** 0.5:.2g}; an index takes at most {LONGEST**0.5:.2g}."
            " Scale the vectors down, or search them exactly."
        )
    progress.advance("indexing", 0, n)
    rows = np.sort(np.random.default_rng(0).permutation(n)[:_TRAINING])
    sample = to_faiss(gallery.take(rows), metric)
    try:
        index = _make_hnsw(d) if kind == "hnsw" else _make_ivf_pq(n, sample)
        index.train(sample)
        for part in chunks(n, _CHUNK):
            if stopped():
                return None
            index.add(to_faiss(gallery.take(part), metric))
            progress.advance("indexing", part.stop, n)
    except MemoryError as e:
        raise StorageError(
            f"An index of {n:,} vectors needs more memory than is free. Build it with the kind ivf-pq, or search exactly."
        ) from e
    return Index(kind, metric, 1, index)


def _make_hnsw(dimension: int) -> Any:  # noqa: ANN401 -- as above
    faiss = _faiss()
    index = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_8bit, _NEIGHBOURS)
    index.hnsw.efConstruction = _CONSTRUCTION
    return index


def _make_ivf_pq(count: int, sample: Shaped[np.ndarray, "n d"]) -> Any:  # noqa: ANN401 -- as above
    faiss = _faiss()
    dimension = sample.shape[1]
    cells = max(1, min(round(2 * count**0.5), len(sample) // 39))
    pieces = dimension if dimension % 2 else dimension // 2
    index = faiss.IndexIVFPQFastScan(faiss.IndexFlatL2(dimension), dimension, cells, pieces, 4)
    index.cp.niter = index.pq.cp.niter = 10  # the other 15 of FAISS's 25 rounds hardly change the recall
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # or FAISS writes warnings to stderr
    index.train_q1(len(sample), faiss.swig_ptr(sample), False, faiss.METRIC_L2)
    subsample = sample[:: math.ceil(len(sample) / _CHUNK)]
    within_cells = index.quantizer.search(np.ascontiguousarray(subsample), 1)[0].sum(dtype=np.float64)
    variance = np.square(subsample - subsample.mean(axis=0), dtype=np.float64).sum()
    index.by_residual = bool(within_cells < _RESIDUAL_SHARE * variance)
    return index


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
        index: of vectors of the gallery.
        queries: prepared, as for `lookalike.search.knn`.
        gallery: the vectors to measure.
        k: at least 1.
        row_map: the gallery's row of each vector of the index; by default the same number.
        allowed: a mask of the index's vectors to search; by default all.
    """
    rows = index.propose(queries, k, _allowed(row_map, allowed))
    rows = rows if row_map is None else row_map.apply(rows)
    contiguous = not isinstance(gallery.vectors, CodedVectors) and gallery.vectors.flags.c_contiguous
    if contiguous and rows.shape[1] > 2 * (k + _EXTRA):
        rows = _nearest_in_float32(index.metric, queries, gallery, rows, k + _EXTRA)
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

    It requests more and more rows from the index, until enough of them lie beyond the range. If that takes too many, the
    answer is not ``complete``. The other arguments are as in `knn`.
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
        # The order of codes is not that of distances, so half of the proposed rows must lie beyond the range. If all rows
        # were requested, one is enough: a graph may miss a vector without links, which the recall accounts for.
        complete = (inside <= counts // 2) | (counts >= available) | ((k >= available) & (inside < counts))
        done = complete | (k >= min(_MAX_PROPOSED, available))
        ready = Pairs(pending[pairs.left], pairs.right, pairs.distances).keep(done[pairs.left])
        parts.append(ready.within(within))
        if not complete[done].all():
            return Hits.from_pairs(parts, len(queries), exact=False, complete=False)
        pending, k = pending[~done], 2 * k
    return Hits.from_pairs(parts, len(queries), exact=False)


def write(index: Index, path: Path) -> None:
    """Write the FAISS object of an index to a file.

    Raises:
        StorageError: the file cannot be written.
    """
    faiss = _faiss()
    try:
        faiss.write_index(index.faiss, str(path))
    except RuntimeError as e:
        raise StorageError(f"The index cannot be written to {path.parent}. Check that the disk is not full.") from e


def read(path: Path) -> Any:  # noqa: ANN401 -- as above
    """Map the FAISS object of an index into memory. FAISS does not check the file, so the caller must.

    Raises:
        StorageError: the file is not an index.
    """
    faiss = _faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as e:  # a damaged size can be any number
        raise StorageError(f"{path} is not an index that FAISS reads. Build it again.") from e


def _allowed(row_map: RowMap | None, allowed: Bool[np.ndarray, " n"] | None) -> Bool[np.ndarray, " n"] | None:
    """Combine the mask of present vectors with that of allowed ones; none if all pass."""
    present = None if row_map is None else row_map.present
    return allowed if present is None else present if allowed is None else allowed & present


def _nearest_in_float32(
    metric: Metric, queries: Gallery, gallery: Gallery, rows: Int64[np.ndarray, "q c"], count: int
) -> Int64[np.ndarray, "q count"]:
    """Select the nearest rows of each query in float32, in any order; FAISS uses all cores."""
    faiss = _faiss()
    vectors, rows = np.ascontiguousarray(queries.array), np.ascontiguousarray(rows)
    distances = np.empty(rows.shape, np.float32)
    compare = faiss.fvec_inner_products_by_idx if metric == Metric.COSINE else faiss.fvec_L2sqr_by_idx
    compare(*map(faiss.swig_ptr, (distances, vectors, gallery.array, rows)), vectors.shape[1], *rows.shape)
    if metric == Metric.COSINE:
        norms = np.sqrt(gallery.squared_norms[rows])
        distances = -np.divide(distances, norms, out=np.zeros_like(norms), where=norms > 0)
    distances[rows < 0] = np.inf
    return np.take_along_axis(rows, np.argpartition(distances, count - 1, axis=1)[:, :count], axis=1)


def _measure_one(metric: Metric, query: Gallery, gallery: Gallery, rows: Int64[np.ndarray, " c"], k: int) -> Hits:
    """Measure one query's rows, without the steps for several queries, which would take longer than FAISS."""
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        distances = paired(query.array, gallery.vectors[rows], metric).astype(np.float32)
    order = np.lexsort((rows, distances))[:k]
    return Hits(np.array([0, len(order)]), rows[order], distances[order], exact=False)


def _measure_rows(metric: Metric, queries: Gallery, gallery: Gallery, rows: Int64[np.ndarray, "q c"]) -> Pairs:
    """Measure proposed rows, and sort them."""
    left, column = np.nonzero(rows >= 0)
    right = rows[left, column]
    return Pairs(left, right, measure(queries, gallery, left, right, metric)).sorted()


def to_faiss(vectors: Gallery, metric: Metric) -> Shaped[np.ndarray, "n d"]:
    """Convert vectors to an array for FAISS; for cosine, to unit vectors."""
    if metric != Metric.COSINE:
        return np.ascontiguousarray(vectors.array)
    norms = np.sqrt(vectors.squared_norms)
    return np.ascontiguousarray(vectors.array / np.where(norms > 0, norms, 1)[:, None], np.float32)


def _faiss() -> Any:  # noqa: ANN401 -- its stubs lack what SWIG adds at run time
    import faiss  # noqa: PLC0415 -- the import takes 0.15 s, which other commands need not wait for

    return faiss
