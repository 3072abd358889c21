"""The original vectors of a compressed store, prepared to re-score searches by codes, and their cache on disk."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np

from lookalike import search
from lookalike.codecs import Codec
from lookalike.errors import StorageError, UsageError
from lookalike.search import Gallery, Hits, rescoring
from lookalike.search.gallery import Arrays
from lookalike.search.rescoring import CodeBounds
from lookalike.shapes import Float32
from lookalike.stores.sqlite import array_file
from lookalike.stores.sqlite.catalogue import damaged
from lookalike.stores.sqlite.matrix import Matrix, MatrixCache, PreparedQuery
from lookalike.stores.sqlite.snapshot import ReadSnapshot, read_vectors

NEIGHBOURS = 10
"""The number of nearest items whose ranks by codes are measured."""

_RECALL = 0.995
"""The share of the neighbours to find: so much above 0.99 that a sample of `_QUERIES` items shows it."""

_QUERIES = 256
_DEEPEST = 4096
"""The largest number of items to measure for 10 neighbours."""

# The measurement is repeated after one row in this many was added.
_MEASURE_SHARE = 8


@dataclass(frozen=True, eq=False)
class Rank:
    """How many of the nearest codes to measure by their originals.

    Attributes:
        count: that many for the 10 nearest items.
        recall: the share of the 10 nearest items that are among them, measured.
        opened: the share of all rows that bounds from codes do not rule out, measured.
    """

    count: int
    recall: float
    opened: float


@dataclass(frozen=True, eq=False)
class Originals:
    """The original vectors of one generation, in the rows of its matrix of codes.

    Attributes:
        codes: the matrix of codes.
        gallery: the originals, with bounds from the codes if the codec has a stretch.
        residuals: see `CodeBounds`; none without a stretch.
        rank: how many codes to measure.
        codec: made the codes.
    """

    codes: Matrix
    gallery: Gallery
    residuals: Float32[np.ndarray, " n"] | None
    rank: Rank
    codec: Codec

    @classmethod
    def of(
        cls,
        codes: Matrix,
        gallery: Gallery,
        residuals: Float32[np.ndarray, " n"] | None,
        codec: Codec,
        rank: Rank | None = None,
    ) -> "Originals":
        """Add bounds from the codes to a gallery of originals, and measure the rank if it is not known."""
        bounds = None
        if residuals is not None and codec.stretch is not None:
            longest = math.sqrt(gallery.squared_norms.max(initial=0))
            metric = codec.embeddings.metric
            bounds = CodeBounds(codes.gallery, residuals, codec.project, codec.stretch, metric, longest)
        rank = rank or _measure(codes, replace(gallery, code_bounds=bounds), codec, bounds)
        if bounds is not None:
            bounds = replace(bounds, opened_bytes=int(rank.opened * gallery.vectors.nbytes))
        return cls(codes, replace(gallery, code_bounds=bounds), residuals, rank, codec)

    def bytes_read(self, query: PreparedQuery) -> int:
        """Return the bytes that an exact search reads."""
        return self._matrix.bytes_read(query.metric, len(query.vectors), query.rows)

    def search(self, query: PreparedQuery) -> Hits:
        """Search by the originals, exactly."""
        return self._matrix.search(query)

    @property
    def _matrix(self) -> Matrix:
        return Matrix(self.codes.generation, self.codes.seqs, self.gallery)

    def rescore(self, query: PreparedQuery) -> Hits:
        """Find the k nearest items among those with the nearest codes."""
        space, metric = self.codec.space, query.metric
        if metric is self.codec.embeddings.metric or metric not in space.metrics:
            metric = space.metric
        count = max(query.k, math.ceil(self.rank.count * query.k / NEIGHBOURS))
        queries = self.codec.project(query.vectors.array)
        nearest = search.knn(queries, self.codes.gallery, count, metric, rows=query.rows)
        return rescoring.rescore(query.vectors, self.gallery, nearest, query.k, query.metric)


def _measure(codes: Matrix, gallery: Gallery, codec: Codec, bounds: CodeBounds | None) -> Rank:
    """Measure how many codes hold the nearest items of items that are left out themselves."""
    own = np.linspace(0, len(gallery) - 1, min(len(gallery), _QUERIES)).astype(np.int64)
    if len(gallery) <= NEIGHBOURS + 1:
        return Rank(NEIGHBOURS, 1.0, 1.0)
    queries, metric = gallery.take(own), codec.embeddings.metric
    exact = search.knn(queries, gallery, NEIGHBOURS + 1, metric)
    projected = search.prepare(codec.project(queries.array), codec.space.metric)
    deepest = min(len(gallery) - 1, _DEEPEST)
    ranks = np.sort(rescoring.rank_neighbours(projected, codes.gallery, own, exact, codec.space.metric, deepest))
    count = min(deepest, int(ranks[math.ceil(_RECALL * len(ranks)) - 1]))
    recall = float(np.mean(ranks <= count))
    opened = 1.0
    if bounds is not None:
        reach = exact.distances.reshape(len(own), -1)[:, -1]
        opened = rescoring.share_opened(queries, bounds, reach)
    return Rank(max(NEIGHBOURS, count), recall, opened)


class OriginalsCache:
    """The originals of the latest generation, in memory and in ``cache/``, where they may be deleted or damaged at any time."""

    def __init__(self, cache: MatrixCache, codec: Codec) -> None:
        """Prepare the cache, which shares the folder of the matrix."""
        self._cache, self._codec = cache, codec
        self._latest: Originals | None = None
        self._lock = Lock()

    def load(self, snapshot: ReadSnapshot) -> Originals:
        """Load the originals of a snapshot from memory or the cache, or make them from the rows.

        Raises:
            StorageError: the catalogue is damaged.
        """
        with self._lock:  # one thread makes them, and the others wait
            latest, generation = self._latest, snapshot.matrix.generation
            if latest is not None and latest.codes is snapshot.matrix:
                return latest
            found = self._read(snapshot.matrix)
            if found is None:
                found = self._make(snapshot, latest)
            if latest is None or latest.codes.generation <= generation:
                self._latest = found
            return found

    def _make(self, snapshot: ReadSnapshot, last: Originals | None) -> Originals:
        """Make the originals from those of the last generation, if there are any, and from the catalogue."""
        codes, space, codec = snapshot.matrix, self._codec.embeddings, self._codec
        known = None if last is None else (last.gallery.array, *last.codes.find_rows(codes.seqs))
        vectors = read_vectors(snapshot.sql, "originals", codes.seqs, space, snapshot.folder, known)
        try:
            gallery = search.prepare(vectors, space.metric)
            residuals = None
            if codec.stretch is not None:
                residuals = rescoring.find_residuals(vectors, codes.vectors, codec.project)
        except UsageError as e:  # not a number
            raise damaged(snapshot.folder, f"its vectors are invalid: {e}".rstrip(".")) from e
        if known is not None and last is not None and np.count_nonzero(~known[2]) < len(codes) / _MEASURE_SHARE:
            return Originals.of(codes, gallery, residuals, codec, last.rank)
        made = Originals.of(codes, gallery, residuals, codec)
        self._save(made)
        return self._read(codes) or made

    def _read(self, codes: Matrix) -> Originals | None:
        """Map the originals of a generation into memory; none if they are missing or damaged."""
        try:
            content = array_file.read(self._cache.file(f"originals-{codes.generation}"))
            return None if content is None else self._restore(codes, *content)
        except (OSError, LookupError, TypeError, ValueError):  # another version or a stranger wrote it
            return None

    def _restore(self, codes: Matrix, metadata: Mapping[str, Any], parts: Arrays) -> Originals:
        """Make originals of the content of their file.

        Raises:
            LookupError, TypeError, ValueError: the file has other content.
        """
        vectors, seqs, norms, residuals = parts["vectors"], parts["seqs"], parts["norms"], parts["residuals"]
        count, space = len(codes), self._codec.embeddings
        shapes = (vectors.shape, seqs.shape, norms.shape) == ((count, space.columns), (count,), (count,))
        types = vectors.dtype == space.dtype and norms.dtype == np.float64 and residuals.dtype == np.float32
        bounded = self._codec.stretch is not None
        if not shapes or not types or residuals.shape != ((count,) if bounded else (0,)):
            raise ValueError("they are the originals of other codes")
        if not np.array_equal(seqs, codes.seqs) or not math.isfinite(norms.sum()) or not math.isfinite(residuals.sum()):
            raise ValueError("they are the originals of other codes")
        rank = Rank(int(metadata["count"]), float(metadata["recall"]), float(metadata["opened"]))
        if not 1 <= rank.count <= _DEEPEST or not 0 <= rank.recall <= 1 or not 0 <= rank.opened <= 1:
            raise ValueError("its measurement is invalid")
        dtype = {np.dtype(kind).str: np.dtype(kind) for kind in (np.float32, np.float64)}[metadata["dtype"]]
        gallery = Gallery(vectors, norms, dtype)
        return Originals.of(codes, gallery, residuals if bounded else None, self._codec, rank)

    def _save(self, originals: Originals) -> None:
        """Write the originals and remove older ones. A failure is ignored, since the cache is optional."""
        gallery, rank, codes = originals.gallery, originals.rank, originals.codes
        metadata = {"count": rank.count, "recall": rank.recall, "opened": rank.opened, "dtype": gallery.dtype.str}
        residuals = np.empty(0, np.float32) if originals.residuals is None else originals.residuals
        parts = {
            "vectors": gallery.array,
            "seqs": codes.seqs,
            "norms": gallery.squared_norms,
            "residuals": residuals,
        }
        with suppress(OSError, StorageError):
            path = self._cache.file(f"originals-{codes.generation}")
            self._cache.folder.mkdir(exist_ok=True)
            array_file.write(path, metadata, parts)
            self._cache.remove_older("originals-*", path.name)
