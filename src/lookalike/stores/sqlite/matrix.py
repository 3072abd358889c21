"""The matrix of all vectors of a store, prepared for exact search, and its cache on disk."""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from lookalike import search
from lookalike.errors import StorageError
from lookalike.metric import Metric, VectorSpace
from lookalike.query import DEFAULT_K, Query, Vectors
from lookalike.search import Gallery, Hits
from lookalike.search.projection import Projection
from lookalike.search.scan import Scan
from lookalike.stores.sqlite import array_file

# Seconds after which an unfinished file in the cache belongs to a process that was killed.
_ABANDONED = 3600

# Bytes of vectors from which on the matrix has 8-bit and projected copies. Below, a scan takes a few milliseconds, and a
# process with a single query would wait longer for FAISS to load.
_MIN_QUANTISED = 2**27

# The 8-bit copy is kept while at most one row in this many was added since: added rows are measured for every query.
_ADDED_SHARE = 100


@dataclass(frozen=True, eq=False)
class PreparedQuery:
    """A query with its vectors checked and its filter applied to a matrix.

    Attributes:
        query: as it came.
        vectors: its vectors, prepared.
        metric: of its distances.
        rows: rows of the matrix that pass its filter, ascending; none if it has no filter.
    """

    query: Query
    vectors: Gallery
    metric: Metric
    rows: Int64[np.ndarray, " m"] | None

    @property
    def k(self) -> int:
        """How many nearest items to find."""
        return self.query.k or DEFAULT_K


class Matrix:
    """All vectors of one generation, in ascending order of id.

    Attributes:
        generation: see `lookalike.stores.Snapshot`.
        seqs: the number of each row in the catalogue.
        gallery: the vectors, prepared for one metric; it serves all metrics that compare such vectors.
    """

    def __init__(self, generation: str, seqs: Int64[np.ndarray, " n"], gallery: Gallery) -> None:
        self.generation, self.seqs, self.gallery = generation, seqs, gallery

    @classmethod
    def prepare(cls, generation: str, seqs: Int64[np.ndarray, " n"], vectors: Vectors, metric: Metric) -> "Matrix":
        """Check and prepare vectors."""
        quantised = metric is not Metric.HAMMING and vectors.nbytes >= _MIN_QUANTISED
        return cls(generation, seqs, search.prepare(vectors, metric, "int8" if quantised else "float32"))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.seqs)

    @property
    def vectors(self) -> Vectors:
        """All vectors."""
        return self.gallery.vectors

    @cached_property
    def _order(self) -> Int64[np.ndarray, " n"]:
        return np.argsort(self.seqs)

    def find_rows(self, seqs: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " k"], Bool[np.ndarray, " m"]]:
        """Return the rows of the seqs that are here, in their order, and a mask that says which ones are here."""
        if not len(self):
            return np.empty(0, np.int64), np.zeros(len(seqs), bool)
        places = np.searchsorted(self.seqs, seqs, sorter=self._order)
        rows = self._order[np.minimum(places, len(self) - 1)]
        known = self.seqs[rows] == seqs
        return rows[known], known

    def search(self, query: PreparedQuery) -> Hits:
        """Search exactly."""
        if query.query.within is None:
            return search.knn(query.vectors, self.gallery, query.k, query.metric, rows=query.rows)
        return search.within(query.vectors, self.gallery, query.query.within, query.metric, rows=query.rows)

    def bytes_read(self, metric: Metric, queries: int = 1, rows: Int64[np.ndarray, " m"] | None = None) -> int:
        """Return the bytes that an exact search of some rows, or of all, reads."""
        scan, short = self.gallery.scan, self.gallery.short
        if scan is not None and scan.metric == metric and rows is None and queries == 1:
            return scan.codes.nbytes
        projected = short is not None and short.metric == metric and queries > 1
        size = short.rows.nbytes if short is not None and projected else self.vectors.nbytes
        return size if rows is None else size // max(1, len(self)) * len(rows)

    def update(self, generation: str, seqs: Int64[np.ndarray, " n"], vectors: Vectors, metric: Metric) -> "Matrix":
        """Make the matrix of a later generation that has most rows in common; only the others are prepared."""
        rows, known = self.find_rows(seqs)
        added = search.prepare(vectors[~known], metric)
        norms = np.empty(len(seqs))
        norms[known], norms[~known] = self.gallery.squared_norms[rows], added.squared_norms
        dtype = np.promote_types(self.gallery.dtype, added.dtype)
        scan = _update_scan(self.gallery.scan, rows, known)
        short = _update_projection(self.gallery.short, vectors, rows, known) if dtype == np.float32 else None
        return Matrix(generation, seqs, Gallery(vectors, norms, dtype, scan, short))


def _update_scan(scan: Scan | None, rows: Int64[np.ndarray, " k"], known: Bool[np.ndarray, " m"]) -> Scan | None:
    """Keep the codes of known rows; added rows become exceptions."""
    if scan is None or np.count_nonzero(~known) > max(16, len(known) // _ADDED_SHARE):
        return None
    codes = np.zeros((len(known), scan.codes.shape[1]), scan.codes.dtype)
    codes[known] = scan.codes[rows]
    exceptions = ~known
    exceptions[known] = np.isin(rows, scan.exceptions)
    return replace(scan, codes=codes, exceptions=np.flatnonzero(exceptions))


def _update_projection(
    short: Projection | None, vectors: Vectors, rows: Int64[np.ndarray, " k"], known: Bool[np.ndarray, " m"]
) -> Projection | None:
    """Keep the projections of known rows, and project added rows to the same dimensions."""
    if short is None:
        return None
    numbers = np.empty((len(known), short.rows.shape[1]), np.float32)
    numbers[known], numbers[~known] = short.rows[rows], short.of(vectors[~known]).rows
    return replace(short, rows=numbers)


class MatrixCache:
    """The folder ``cache/`` with the matrix of the latest generation. It may be deleted or damaged at any time."""

    def __init__(self, folder: Path, space: VectorSpace) -> None:
        """Remember the folder; `save` makes it."""
        self.folder, self._space = folder, space

    def load(self, generation: str) -> Matrix | None:
        """Map the matrix of a generation into memory; none if it is missing or damaged."""
        content = array_file.read(self._file(generation))
        if content is None:
            return None
        facts, parts = content
        if facts.get("generation") != generation or not {"seqs", "vectors", "norms"} <= parts.keys():
            return None
        vectors, seqs = parts["vectors"], parts["seqs"]
        if vectors.shape != (len(seqs), self._space.columns) or vectors.dtype != self._space.dtype:
            return None
        scan, short = _load_scan(facts, parts), _load_projection(facts, parts)
        return Matrix(generation, seqs, Gallery(vectors, parts["norms"], np.dtype(facts["dtype"]), scan, short))

    def save(self, matrix: Matrix) -> None:
        """Write a matrix and remove older ones. A failure is ignored: a cache is not needed."""
        gallery = matrix.gallery
        parts = {"vectors": gallery.vectors, "seqs": matrix.seqs, "norms": gallery.squared_norms}
        facts: dict[str, Any] = {"generation": matrix.generation, "dtype": gallery.dtype.str}
        if (scan := gallery.scan) is not None:
            parts |= {"codes": scan.codes, "centre": scan.centre, "exceptions": scan.exceptions}
            facts["scan"] = {"scale": scan.scale, "residual": scan.residual, "metric": scan.metric}
        if (short := gallery.short) is not None:
            parts |= {"short": short.rows, "origin": short.centre, "components": short.components}
            facts["short"] = {"metric": short.metric}
        with suppress(OSError, StorageError):
            self.folder.mkdir(exist_ok=True)
            path = self._file(matrix.generation)
            array_file.write(path, facts, parts)
            self.remove_older("matrix-*", path.name)

    def remove_older(self, pattern: str, name: str) -> None:
        """Remove files that a newer file of their kind replaces, and unfinished files of killed processes."""
        for path in self.folder.glob(pattern):
            if path.name < name:  # a process that has it mapped keeps it
                path.unlink(missing_ok=True)
        for path in self.folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)

    def _file(self, generation: str) -> Path:
        return self.folder / f"matrix-{generation}"


def _load_scan(facts: dict[str, Any], parts: dict[str, Shaped[np.ndarray, "..."]]) -> Scan | None:
    numbers = facts.get("scan")
    if numbers is None:
        return None
    codes, centre, exceptions = parts["codes"], parts["centre"], parts["exceptions"]
    return Scan(codes, centre, numbers["scale"], numbers["residual"], exceptions, Metric(numbers["metric"]))


def _load_projection(facts: dict[str, Any], parts: dict[str, Shaped[np.ndarray, "..."]]) -> Projection | None:
    numbers = facts.get("short")
    if numbers is None:
        return None
    return Projection(parts["origin"], parts["components"], Metric(numbers["metric"]), parts["short"])
