"""Approximate indexes by FAISS: a graph (HNSW), or cells of compressed vectors (IVF-PQ).

HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
world graphs", TPAMI 2018; here over vectors in 8 bits a number. IVF-PQ: Jégou, Douze and Schmid, "Product quantization
for nearest neighbor search", TPAMI 2011; here with four bits for two numbers, whose sums fit into a processor's registers:
André, Kermarrec and Le Scouarnec, "Cache locality is not enough: high-performance nearest neighbor search with product
quantization fast scan", VLDB 2015.

An index only proposes rows. They are measured by definition (of many, the nearest in float32), so an answer's distances are
true ones, and it is sorted by (distance, row) as everywhere. What may be wrong is that a nearer row was not proposed: the
recall, which is measured when the index is built, says how often. Cosine distance is asked of vectors brought to length 1.
Bits have no index: FAISS scans a million codes of 512 bits in some milliseconds.
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
"""Vectors that an index is made of, at least: fewer are read through faster than any index answers."""

RECALL_AT = 10
"""Recall is measured at this k. Asked for more, an index tries harder in proportion."""

_NEIGHBOURS = 20
_CONSTRUCTION = 150
"""HNSW's M and efConstruction, chosen by the time of a query at recalls of 0.95 and 0.98 from 16 to 32 links and 100 to 200
candidates: it takes about as long to build as 32 and 100, and fewer bytes."""

_CHUNK = 4096
"""Vectors put in at a time; in between it is told how far it is, and can be stopped."""

_TRAINING = 2**16
"""Vectors that cells and codebooks are learned from, at most: 256 for each of 256 centroids."""

_TIGHT = 0.15
"""Where less than this share of the variance is left within cells, codes tell how a vector lies in its cell, or those of one
cell would be alike. Elsewhere they tell where it is: then one table serves all cells, which is several times as fast."""

_MORE = 8
"""Of rows that are compared in float32 first, so many beyond k are measured: that order is not quite that of distances."""

_LONGEST = 2.0**124
"""Squared norm up to which no square of a distance overflows float32, in which FAISS computes; beyond, it ends the process."""

_WIDEST = 2**14
"""Rows that a range query asks an index for at most."""


@dataclass(frozen=True, eq=False)
class Index:
    """An index over vectors, numbered from 0; see `build`.

    Attributes:
        kind: hnsw or ivf-pq.
        metric: euclidean or cosine.
        effort: efSearch or nprobe: how far it looks at k = 10.
        faiss: FAISS's own object.
    """

    kind: Kind
    metric: Metric
    effort: int
    faiss: Any

    def __len__(self) -> int:
        """The number of vectors."""
        return int(self.faiss.ntotal)

    def propose(
        self, queries: Gallery, count: int, allowed: Bool[np.ndarray, " n"] | None = None
    ) -> Int64[np.ndarray, "q c"]:
        """The vectors that seem nearest; -1 where it found fewer.

        Args:
            queries: prepared as the gallery was.
            count: how many to ask for.
            allowed: leave out the others.
        """
        wanted = min(math.ceil(_proposed(self.kind, queries.vectors.shape[1]) * max(count, RECALL_AT)), len(self))
        # A filter lets only a share of what it comes across pass.
        share = 1.0 if allowed is None else max(float(allowed.mean()), 1 / len(self))
        effort = int(min(self.effort * max(1.0, count / RECALL_AT) / share, len(self)))
        far = max(effort, wanted) if self.kind == "hnsw" else min(max(1, effort), self.faiss.nlist)
        if allowed is None:
            how = _unfiltered(self.kind, far)
        else:
            bits = np.packbits(allowed, bitorder="little")
            how = _parameters(self.kind, far, _faiss().IDSelectorBitmap(bits))
        _, found = self.faiss.search(to_faiss(queries, self.metric), wanted, params=how)
        return np.asarray(found, np.int64)


def _proposed(kind: Kind, dimension: int) -> float:
    """Rows proposed for each one asked for: 8 bits a number tell nearly all; 2 bits tell little, of many numbers more."""
    return 1.5 if kind == "hnsw" else min(max(8.0, 2560 / dimension), 20.0)


def _parameters(kind: Kind, far: int, selector: Any) -> Any:  # noqa: ANN401 -- FAISS has no types
    if kind == "hnsw":
        return _faiss().SearchParametersHNSW(efSearch=far, sel=selector)
    return _faiss().SearchParametersIVF(nprobe=far, sel=selector)


@lru_cache(64)  # making them takes a twentieth of a query's time
def _unfiltered(kind: Kind, far: int) -> Any:  # noqa: ANN401 -- as above
    return _parameters(kind, far, None)


@dataclass(frozen=True, eq=False)
class RowMap:
    """Where the vectors of an index are in a gallery that has changed since.

    Attributes:
        rows: the gallery's row of each of the index's vectors; -1 of those that are not there any more.
    """

    rows: Int64[np.ndarray, " n"]

    @cached_property
    def there(self) -> Bool[np.ndarray, " n"] | None:
        """Which are there; none where all are. Looked for once, as a query takes less time than this."""
        there = self.rows >= 0
        return None if there.all() else there

    def of(self, found: Int64[np.ndarray, "*found"]) -> Int64[np.ndarray, "*found"]:
        """The gallery's rows of these of the index's vectors; -1 stays."""
        return np.where(found >= 0, self.rows[found], -1)


def build(
    gallery: Gallery,
    metric: Metric,
    kind: Kind = "hnsw",
    *,
    progress: Progress = SILENT,
    stopped: Callable[[], bool] = lambda: False,
) -> Index | None:
    """Make an index of a gallery, with as many threads as FAISS is told to use.

    Its effort is the least there is; `lookalike.ann.tuning.tune` finds the one that reaches a recall.

    Args:
        gallery: at least `MIN_VECTORS` vectors.
        metric: euclidean or cosine.
        kind: the time of hnsw grows least with the number of vectors; ivf-pq is built sooner and takes an eighth of the memory.
        progress: receives the vectors added, as the stage ``"indexing"``.
        stopped: is asked, a few times a second, whether to end.

    Returns:
        The index; none where it was stopped.

    Raises:
        UsageError: too few vectors, vectors too long, or bits.
    """
    n, d = gallery.vectors.shape
    if metric == Metric.HAMMING:
        raise UsageError("Bits are searched exactly: reading them all is faster than an index of them would be.")
    if n < MIN_VECTORS or not d:
        raise UsageError(
            f"An index needs at least {MIN_VECTORS:,} vectors, and these are {n:,}. They are searched exactly."
        )
    if metric == Metric.EUCLIDEAN and gallery.squared_norms.max() > _LONGEST:
        raise UsageError(
            f"An index takes vectors of length {_LONGEST**0.5:.2g} at most, and one here has"
            f" {gallery.squared_norms.max() ** 0.5:.2g}. Scale them down, or search them exactly."
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
    """About the k nearest rows of each query, with true distances.

    Args:
        index: over vectors that the gallery has.
        queries: prepared, as for `lookalike.search.knn`.
        gallery: where the vectors are measured.
        k: at least 1.
        row_map: where the index's vectors are in the gallery; in the same rows where nothing is said.
        allowed: which of the index's vectors may be found; all that have a place where nothing is said.
    """
    allowed = _allowed(row_map, allowed)
    found = index.propose(queries, k, allowed)
    rows = found if row_map is None else row_map.of(found)
    if rows.shape[1] > 2 * (k + _MORE) and gallery.vectors.flags.c_contiguous:
        rows = _nearer(index.metric, queries, gallery, rows, k + _MORE)
    if len(queries) == 1:
        return _first(index.metric, queries, gallery, rows[rows >= 0], k)
    pairs = _measured(index.metric, queries, gallery, rows)
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
    """About all rows in a range of distances, with true distances.

    It asks for more and more until the farthest lies beyond the radius. Where that would be too many, the answer is not
    ``complete``. The rest as in `knn`.
    """
    allowed = _allowed(row_map, allowed)
    most = len(index) if allowed is None else int(allowed.sum())
    low, high = round_range(within)
    parts, open_, k = list[Pairs](), np.arange(len(queries)), 64
    while len(open_) and most:
        some = queries.take(open_)
        found = index.propose(some, k, allowed)
        pairs = _measured(index.metric, some, gallery, found if row_map is None else row_map.of(found))
        counts = np.bincount(pairs.left, minlength=len(open_))
        inside = np.bincount(pairs.left[pairs.distances <= high], minlength=len(open_))
        # Beyond the radius lie enough of what was proposed: a few are there by chance of the codes. Asked for everything,
        # a graph may lack a vector that nothing links to: that is a matter of recall, and one beyond the radius will do.
        whole = (inside <= counts // 2) | (counts >= most) | ((k >= most) & (inside < counts))
        done = whole | (k >= min(_WIDEST, most))
        ready = done[pairs.left] & (pairs.distances >= low) & (pairs.distances <= high)
        parts.append(Pairs(open_[pairs.left], pairs.right, pairs.distances).keep(ready))
        if not whole[done].all():
            return Hits.from_pairs(parts, len(queries), exact=False, complete=False)
        open_, k = open_[~done], 2 * k
    return Hits.from_pairs(parts, len(queries), exact=False)


def write(index: Index, path: Path) -> None:
    """Write FAISS's part of an index; the rest is plain numbers.

    Raises:
        StorageError: it cannot be written.
    """
    faiss = _faiss()
    try:
        faiss.write_index(index.faiss, str(path))
    except RuntimeError as e:
        raise StorageError(f"The index cannot be written to {path.parent}: is the disk full?") from e


def read(path: Path) -> Any:  # noqa: ANN401 -- as above
    """FAISS's part of an index, mapped into memory. FAISS trusts what it reads: check it before.

    Raises:
        StorageError: it is none.
    """
    faiss = _faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as e:
        raise StorageError(f"{path} is no index that this FAISS reads.") from e


def _allowed(row_map: RowMap | None, allowed: Bool[np.ndarray, " n"] | None) -> Bool[np.ndarray, " n"] | None:
    there = None if row_map is None else row_map.there
    return allowed if there is None else there if allowed is None else allowed & there


def _nearer(
    metric: Metric, queries: Gallery, gallery: Gallery, rows: Int64[np.ndarray, "q c"], count: int
) -> Int64[np.ndarray, "q count"]:
    """Those of each query's rows that are the nearest in float32, in any order: FAISS measures them in all cores."""
    faiss = _faiss()
    asked, rows = np.ascontiguousarray(queries.vectors), np.ascontiguousarray(rows)
    distances = np.empty(rows.shape, np.float32)
    compare = faiss.fvec_inner_products_by_idx if metric == Metric.COSINE else faiss.fvec_L2sqr_by_idx
    compare(*map(faiss.swig_ptr, (distances, asked, gallery.vectors, rows)), asked.shape[1], *rows.shape)
    if metric == Metric.COSINE:
        norms = np.sqrt(gallery.squared_norms[rows])
        distances = -np.divide(distances, norms, out=np.zeros_like(norms), where=norms > 0)
    distances[rows < 0] = np.inf
    return np.take_along_axis(rows, np.argpartition(distances, count - 1, axis=1)[:, :count], axis=1)


def _first(metric: Metric, query: Gallery, gallery: Gallery, rows: Int64[np.ndarray, " c"], k: int) -> Hits:
    """The k nearest of what was proposed to one query, without what many queries take, which would cost more than FAISS."""
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        distances = paired(query.vectors, gallery.vectors[rows], metric).astype(np.float32)
    order = np.lexsort((rows, distances))[:k]
    return Hits(np.array([0, len(order)]), rows[order], distances[order], exact=False)


def _measured(metric: Metric, queries: Gallery, gallery: Gallery, rows: Int64[np.ndarray, "q c"]) -> Pairs:
    """What was proposed, with its distances, sorted."""
    left, column = np.nonzero(rows >= 0)
    right = rows[left, column]
    return Pairs(left, right, measure(queries, gallery, left, right, metric)).sorted()


def to_faiss(vectors: Gallery, metric: Metric) -> Shaped[np.ndarray, "n d"]:
    """Vectors as FAISS compares them: for cosine brought to length 1."""
    if metric != Metric.COSINE:
        return np.ascontiguousarray(vectors.vectors)
    norms = np.sqrt(vectors.squared_norms)
    return np.ascontiguousarray(vectors.vectors / np.where(norms > 0, norms, 1)[:, None], np.float32)


def _faiss() -> Any:  # noqa: ANN401 -- what mypy sees of it is not what it is at run time
    import faiss  # noqa: PLC0415 -- reads for a seventh of a second, which other commands would wait for

    return faiss
