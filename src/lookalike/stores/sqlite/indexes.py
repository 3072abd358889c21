"""Approximate indexes in the cache, and their use with the matrix of a later generation.

An index identifies its vectors by their seq, which is never reused. So it stays correct after later writes: the seq of a
deleted or changed item is missing from the matrix, and items with seqs that the index lacks are searched exactly.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lookalike import ann, search
from lookalike.errors import StorageError, reason_of
from lookalike.metric import Metric
from lookalike.progress import Progress
from lookalike.search import Gallery, Hits
from lookalike.shapes import Bool, Float64, Int64
from lookalike.state import make_key, read_key, state_folder
from lookalike.stores.settings import IndexSettings, IndexState
from lookalike.stores.sqlite import array_file
from lookalike.stores.sqlite.matrix import Matrix, MatrixCache, PreparedQuery

OUTDATED_SHARE = 8
"""An index is outdated once one item in this many was added or deleted. Searching the added items exactly then takes at
most an eighth of an exact search, and in a growing collection each item is indexed about eight times."""

# If a filter passes fewer than one item in this many, they are searched exactly: a graph visits the other items, too.
_FILTERED_SHARE = 8


@dataclass(frozen=True, eq=False)
class SavedIndex:
    """An index with its metadata.

    Attributes:
        index: see `lookalike.ann.Index`.
        generation: of its vectors.
        seqs: of its vectors.
        recall: the share of the 10 nearest items that it finds.
        far: the same for queries far from all vectors.
        seconds: build time.
        bytes: size of its file.
    """

    index: ann.Index
    generation: str
    seqs: Int64[np.ndarray, " n"]
    recall: float
    far: ann.FarQueries
    seconds: float
    bytes: int


@dataclass(frozen=True, eq=False)
class IndexedMatrix:
    """A matrix with an index of this or an earlier generation."""

    saved: SavedIndex
    matrix: Matrix

    @cached_property
    def row_map(self) -> ann.RowMap:
        """The matrix row of each of the index's vectors."""
        # The usual case, without writes since the build, is faster than a look-up.
        if np.array_equal(self.saved.seqs, self.matrix.seqs):
            return ann.RowMap(np.arange(len(self.matrix)))
        found, present = self.matrix.find_rows(self.saved.seqs)
        rows = np.full(len(present), -1)
        rows[present] = found
        return ann.RowMap(rows)

    @cached_property
    def added(self) -> Int64[np.ndarray, " m"]:
        """Rows of the matrix that the index lacks."""
        indexed = np.zeros(len(self.matrix), bool)
        present = self.row_map.present
        indexed[self.row_map.rows if present is None else self.row_map.rows[present]] = True
        return np.flatnonzero(~indexed)

    @property
    def removed(self) -> int:
        """Number of vectors in the index that the matrix lacks."""
        present = self.row_map.present
        return 0 if present is None else int(np.count_nonzero(~present))

    @property
    def outdated(self) -> bool:
        """Whether the index should be rebuilt, since too many items changed."""
        return OUTDATED_SHARE * max(len(self.added), self.removed) > len(self.saved.seqs)

    @property
    def state(self) -> IndexState:
        """See `IndexState`."""
        saved = self.saved
        return IndexState(
            saved.index.kind, saved.generation, saved.recall, saved.bytes, saved.seconds, len(self.added), self.removed
        )

    def is_faster(self, query: PreparedQuery) -> bool:
        """Return whether the index answers a query faster than an exact search."""
        few = query.rows is not None and _FILTERED_SHARE * len(query.rows) < len(self.matrix)
        return self.saved.index.metric == query.metric and not few

    def search(self, query: PreparedQuery) -> tuple[Hits, list[float | None]] | None:
        """Search approximately, and return the recall of each query; none for a query that was searched exactly.

        None instead of an answer means that an exact search is needed: the index finds too few or too many hits, or all
        queries are too far from its vectors.
        """
        hits, distances = self._within(query) if query.query.within is not None else self._knn(query)
        beyond = self._beyond(query, distances)
        if beyond.all() or not self._is_usable(query, hits):
            return None
        recalls = np.where(distances > self.saved.far.distance, self.saved.far.recall, self.saved.recall).tolist()
        if beyond.any():
            hits = ann.merge(hits, self._search_exactly(query, np.flatnonzero(beyond)), beyond)
        return hits, [None if is_exact else recall for is_exact, recall in zip(beyond.tolist(), recalls, strict=True)]

    def _is_usable(self, query: PreparedQuery, hits: Hits) -> bool:
        if query.query.within is not None:
            return hits.complete or query.query.exact is False
        available = len(self.matrix) if query.rows is None else len(query.rows)
        # A graph may have unreachable parts.
        return bool(np.diff(hits.offsets).min() >= min(query.k, available))

    def _beyond(self, query: PreparedQuery, distances: Float64[np.ndarray, " q"]) -> Bool[np.ndarray, " q"]:
        """Return which queries are so far that they need an exact search, unless the user wants an approximate one."""
        return (distances > self.saved.far.beyond) & (query.query.exact is not False)

    def _search_exactly(self, query: PreparedQuery, numbers: Int64[np.ndarray, " m"]) -> Hits:
        queries, gallery, within = query.vectors.take(numbers), self.matrix.gallery, query.query.within
        if within is not None:
            return search.within(queries, gallery, within, query.metric, rows=query.rows)
        return search.knn(queries, gallery, min(query.k, max(1, len(self.matrix))), query.metric, rows=query.rows)

    def _knn(self, query: PreparedQuery) -> tuple[Hits, Float64[np.ndarray, " q"]]:
        k = min(query.k, max(1, len(self.matrix)))
        queries, gallery = query.vectors, self.matrix.gallery
        added = search.knn(queries, gallery, k, query.metric, rows=self._added_rows(query.rows))
        row_map, allowed = self.row_map, self._allowed(query.rows)
        indexed, distances = self._search_index(
            query, lambda index, batch: ann.knn(index, batch, gallery, k, row_map=row_map, allowed=allowed)
        )
        return Hits.from_pairs([indexed.pairs, added.pairs], len(queries), exact=False).first(k), distances

    def _within(self, query: PreparedQuery) -> tuple[Hits, Float64[np.ndarray, " q"]]:
        queries, gallery, within = query.vectors, self.matrix.gallery, query.query.within
        assert within is not None  # noqa: S101 -- checked by `search`
        added = search.within(queries, gallery, within, query.metric, rows=self._added_rows(query.rows))
        row_map, allowed = self.row_map, self._allowed(query.rows)
        indexed, distances = self._search_index(
            query, lambda index, batch: ann.within(index, batch, gallery, within, row_map=row_map, allowed=allowed)
        )
        parts = [indexed.pairs, added.pairs]
        return Hits.from_pairs(parts, len(queries), exact=False, complete=indexed.complete), distances

    def _search_index(
        self, query: PreparedQuery, run: Callable[[ann.Index, Gallery], Hits]
    ) -> tuple[Hits, Float64[np.ndarray, " q"]]:
        """Search the index, then again with more effort for far queries; return the distance of the nearest vector, too."""
        index, queries, within = self.saved.index, query.vectors, query.query.within
        hits = run(index, queries)
        if query.rows is None and (within is None or not within.min):
            # Without a hit within a range, the nearest vector is beyond it.
            distances = ann.nearest(hits, np.inf if within is None else within.max)
        else:
            distances = ann.nearest(ann.knn(index, queries, self.matrix.gallery, 1, row_map=self.row_map))
        far = (distances > self.saved.far.distance) & ~self._beyond(query, distances)
        if far.any():
            hits = ann.merge(hits, run(self.saved.far.deepen(index), queries.take(np.flatnonzero(far))), far)
        return hits, distances

    def _allowed(self, rows: Int64[np.ndarray, " r"] | None) -> Bool[np.ndarray, " n"] | None:
        if rows is None:
            return None
        allowed = np.zeros(len(self.matrix) + 1, bool)  # the last one is for row -1, a removed vector
        allowed[rows] = True
        return np.asarray(allowed[self.row_map.rows])

    def _added_rows(self, rows: Int64[np.ndarray, " r"] | None) -> Int64[np.ndarray, " m"]:
        return self.added if rows is None else np.intersect1d(self.added, rows, assume_unique=True)


class IndexCache:
    """The index file in ``cache/``, which may be deleted or damaged at any time."""

    def __init__(self, cache: MatrixCache) -> None:
        """Prepare the cache without reading files."""
        self._cache = cache
        self._loaded: SavedIndex | None = None
        self._damaged: tuple[str, int] | None = None

    def load(self, generation: str) -> SavedIndex | None:
        """Load the index of a generation; none if it is missing or damaged."""
        if self._loaded is not None and self._loaded.generation == generation:
            return self._loaded
        try:
            path = self._file(generation)
            stamp = (generation, path.stat().st_mtime_ns)
        except OSError:
            return None
        if stamp == self._damaged:
            return None
        saved = self._read(path, generation)
        if saved is None:
            self._damaged = stamp
        else:
            self._loaded = saved
        return saved

    def check_writable(self) -> None:
        """Check that an index can be saved, before it is built, which takes long.

        Raises:
            StorageError: the folder is not writable, or the user's state folder, whose key signs the index.
        """
        folder = self._cache.folder
        try:
            self._file("")
            folder.mkdir(exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as e:
            raise _not_saved(folder, e) from e
        _signing_key()

    def save(self, saved: SavedIndex) -> None:
        """Write an index and remove older ones.

        Raises:
            StorageError: it cannot be written.
        """
        index = saved.index
        metadata = {
            "generation": saved.generation,
            "kind": index.kind,
            "metric": index.metric,
            "effort": index.effort,
            "recall": saved.recall,
            "far": asdict(saved.far),
            "seconds": saved.seconds,
        }
        folder, key = self._cache.folder, _signing_key()
        try:
            path = self._file(saved.generation)
            folder.mkdir(exist_ok=True)  # the cache may have been deleted during the build
            array_file.write(path, metadata, {"seqs": saved.seqs}, lambda part: ann.write(index, part), key)
            self._cache.remove_older("index-*", path.name)
        except OSError as e:
            raise _not_saved(folder, e) from e

    def clear(self) -> None:
        """Remove all index files."""
        self._loaded = None
        with suppress(OSError):
            self._file("")
            for path in self._cache.folder.glob("index-*"):
                path.unlink(missing_ok=True)

    def _read(self, path: Path, generation: str) -> SavedIndex | None:
        # FAISS does not check what it reads: a wrong link in a graph points outside of its memory, and a wrong size takes all
        # memory. So it reads only what this user wrote.
        key = read_key()
        content = None if key is None else array_file.read(path, key=key)
        if content is None:
            return None
        metadata, parts = content
        with suppress(StorageError, LookupError, TypeError, ValueError, MemoryError, OSError):
            index = ann.Index(metadata["kind"], Metric(metadata["metric"]), metadata["effort"], ann.read(path))
            if metadata["generation"] == generation and len(index) == len(parts["seqs"]):
                size = path.stat().st_size
                far = ann.FarQueries(**metadata["far"])
                return SavedIndex(index, generation, parts["seqs"], metadata["recall"], far, metadata["seconds"], size)
        return None

    def _file(self, generation: str) -> Path:
        return self._cache.file(f"index-{generation}")


def _signing_key() -> bytes:
    try:
        return make_key()
    except OSError as e:
        raise StorageError(
            f"The key that signs indexes cannot be written to {state_folder()}: {reason_of(e)}. Make the folder writable."
            " Until then, searches are exact."
        ) from e


def _not_saved(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The index cannot be written to {folder}: {error.strerror}. Make the folder writable. Until then, searches are"
        " exact."
    )


def build(
    matrix: Matrix, metric: Metric, settings: IndexSettings, progress: Progress, stopped: Callable[[], bool]
) -> SavedIndex | None:
    """Build an index of a matrix, and tune it to the recall of the settings.

    Returns:
        The index; none if the build was stopped or the settings disable the index.

    Raises:
        UsageError: there are too few vectors, or they are bits.
    """
    if settings.index == "none":
        return None
    start = time.perf_counter()
    try:
        index = ann.build(matrix.gallery, metric, settings.index, progress=progress, stopped=stopped)
        if index is None or stopped():
            return None
        index, recall = ann.tune(index, matrix.gallery, settings.recall)
    except MemoryError as e:
        raise StorageError(
            f"The memory does not suffice for an index of {len(matrix):,} items. Searches stay exact; free some memory and"
            " try again."
        ) from e
    far = ann.tune_far(index, matrix.gallery, settings.recall)
    return SavedIndex(index, matrix.generation, matrix.seqs, recall, far, time.perf_counter() - start, 0)
