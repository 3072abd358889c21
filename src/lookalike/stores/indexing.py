"""An approximate index in the cache, and how it lies to a matrix that may be of a later generation.

The index numbers its vectors by their seq, which is never used twice. So it stays right whatever is written: what was
deleted or changed has a seq that is not there any more, and what is new has one that the index lacks, and is searched
exactly beside it.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from lookalike import ann, search
from lookalike.errors import StorageError
from lookalike.metric import Metric
from lookalike.progress import Progress
from lookalike.query import DistanceRange
from lookalike.search import Gallery, Hits
from lookalike.stores import arrays
from lookalike.stores.matrix import Cache, Matrix

STALE = 8
"""An index is built anew where one item of so many has come or gone: an eighth. What is searched exactly beside it then
takes at most an eighth of an exact search, and while a collection grows each item is indexed about eight times."""

_FEW = 8
"""Where a filter leaves fewer than one item of so many, these are searched exactly: a graph walks past all others."""


@dataclass(frozen=True, eq=False)
class Kept:
    """An index as it was built: see `lookalike.ann.Index`, and `IndexState` for the figures."""

    index: ann.Index
    generation: str
    seqs: Int64[np.ndarray, " n"]
    recall: float
    seconds: float
    bytes: int


@dataclass(frozen=True, eq=False)
class Beside:
    """An index and a matrix."""

    kept: Kept
    matrix: Matrix

    @cached_property
    def places(self) -> ann.RowMap:
        """Where the index's vectors are in the matrix."""
        if np.array_equal(self.kept.seqs, self.matrix.seqs):  # nothing was written since: looking for each takes longer
            return ann.RowMap(np.arange(len(self.matrix.seqs)))
        rows, here = self.matrix.rows(self.kept.seqs)
        places = np.full(len(here), -1)
        places[here] = rows
        return ann.RowMap(places)

    @cached_property
    def added(self) -> Int64[np.ndarray, " m"]:
        """The matrix's rows that the index lacks."""
        known = np.zeros(len(self.matrix.seqs), bool)
        there = self.places.there
        known[self.places.rows if there is None else self.places.rows[there]] = True
        return np.flatnonzero(~known)

    @property
    def gone(self) -> int:
        """Vectors of the index that are not there any more."""
        there = self.places.there
        return 0 if there is None else int(np.count_nonzero(~there))

    @property
    def stale(self) -> bool:
        """Whether too much has changed."""
        return STALE * max(len(self.added), self.gone) > len(self.kept.seqs)

    def serves(self, metric: Metric, rows: Int64[np.ndarray, " r"] | None) -> bool:
        """Whether it can answer such a question, about these rows if any are given."""
        few = rows is not None and _FEW * len(rows) < len(self.matrix.seqs)
        return self.kept.index.metric == metric and not few

    def knn(self, queries: Gallery, k: int, rows: Int64[np.ndarray, " r"] | None) -> Hits:
        """About the k nearest of these rows, or of all."""
        k = min(k, max(1, len(self.matrix.seqs)))
        gallery, metric = self.matrix.gallery, self.kept.index.metric
        new = search.knn(queries, gallery, k, metric, rows=self._new(rows))  # first: it refuses what makes no sense
        near = ann.knn(self.kept.index, queries, gallery, k, row_map=self.places, allowed=self._among(rows))
        return Hits.from_pairs([near.pairs, new.pairs], len(queries), exact=False).first(k)

    def within(self, queries: Gallery, within: DistanceRange, rows: Int64[np.ndarray, " r"] | None) -> Hits:
        """About all of these rows, or of all, in the ring."""
        gallery, metric = self.matrix.gallery, self.kept.index.metric
        new = search.within(queries, gallery, within, metric, rows=self._new(rows))
        near = ann.within(self.kept.index, queries, gallery, within, row_map=self.places, allowed=self._among(rows))
        return Hits.from_pairs([near.pairs, new.pairs], len(queries), exact=False, complete=near.complete)

    def _among(self, rows: Int64[np.ndarray, " r"] | None) -> Bool[np.ndarray, " n"] | None:
        if rows is None:
            return None
        wanted = np.zeros(len(self.matrix.seqs) + 1, bool)  # the last one is that of place -1
        wanted[rows] = True
        return np.asarray(wanted[self.places.rows])

    def _new(self, rows: Int64[np.ndarray, " r"] | None) -> Int64[np.ndarray, " m"]:
        return self.added if rows is None else np.intersect1d(self.added, rows, assume_unique=True)


class IndexCache:
    """Where a collection's index lies; it may be deleted or damaged at any time."""

    def __init__(self, cache: Cache) -> None:
        """Nothing is read yet."""
        self._cache = cache
        self._loaded: Kept | None = None
        self._bad: tuple[str, int] | None = None

    def load(self, generation: str) -> Kept | None:
        """The index that was built from a generation; none where it is not there whole."""
        if self._loaded is not None and self._loaded.generation == generation:
            return self._loaded
        path = self._file(generation)
        try:
            stamp = (generation, path.stat().st_mtime_ns)
        except OSError:
            return None
        if stamp == self._bad:
            return None
        kept = self._read(path, generation)
        if kept is None:
            self._bad = stamp
        else:
            self._loaded = kept
        return kept

    def prepare(self) -> None:
        """Find out before an hour's work whether what comes of it can be kept.

        Raises:
            StorageError: it cannot be written.
        """
        folder = self._cache.folder
        try:
            folder.mkdir(exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as e:
            raise _unkept(folder, e) from e

    def save(self, kept: Kept) -> int:
        """Write an index; returns its size.

        Raises:
            StorageError: it cannot be written.
        """
        index = kept.index
        facts = {
            "generation": kept.generation,
            "kind": index.kind,
            "metric": index.metric,
            "effort": index.effort,
            "recall": kept.recall,
            "seconds": kept.seconds,
        }
        path = self._file(kept.generation)
        try:
            path.parent.mkdir(exist_ok=True)  # it may have been deleted meanwhile
            arrays.write(path, facts, {"seqs": kept.seqs}, lambda part: ann.write(index, part))
            self._cache.tidy("index-*", path.name)
            return path.stat().st_size
        except OSError as e:
            raise _unkept(path.parent, e) from e

    def clear(self) -> None:
        """Remove what there is."""
        self._loaded = None
        for path in self._cache.folder.glob("index-*"):
            with suppress(OSError):
                path.unlink()

    def _read(self, path: Path, generation: str) -> Kept | None:
        # All of it, once, as FAISS believes what it reads: a wrong link in a graph leads out of its memory.
        found = arrays.read(path, whole=True)
        if found is None:
            return None
        facts, parts = found
        with suppress(StorageError, KeyError, ValueError):
            made = ann.Index(facts["kind"], Metric(facts["metric"]), facts["effort"], ann.read(path))
            if facts["generation"] == generation and len(made) == len(parts["seqs"]):
                size = path.stat().st_size
                return Kept(made, generation, parts["seqs"], facts["recall"], facts["seconds"], size)
        return None

    def _file(self, generation: str) -> Path:
        return self._cache.folder / f"index-{generation}"


def _unkept(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"The index cannot be kept in {folder}: {error.strerror}. Searches stay exact.")


def build(
    matrix: Matrix,
    metric: Metric,
    kind: ann.Kind,
    recall: float,
    *,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Kept | None:
    """An index of a matrix that reaches a recall, if any does; none where it was stopped.

    Raises:
        UsageError: too few vectors, or bits.
    """
    began = time.perf_counter()
    index = ann.build(matrix.gallery, metric, kind, progress=progress, stopped=stopped)
    if index is None or stopped():
        return None
    index, reached = ann.tune(index, matrix.gallery, recall)
    return Kept(index, matrix.generation, matrix.seqs, reached, time.perf_counter() - began, 0)
