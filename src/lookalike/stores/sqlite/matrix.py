"""The matrix of all vectors of a store, prepared for exact search, and its cache on disk."""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import search
from lookalike.codecs import Codes
from lookalike.errors import StorageError
from lookalike.metric import Metric
from lookalike.query import DEFAULT_K, Query, Vectors
from lookalike.rows import RowFormat
from lookalike.search import CodedVectors, Gallery, Hits, prefilters
from lookalike.search.gallery import Arrays
from lookalike.shapes import Bool, Int64
from lookalike.stores.sqlite import array_file
from lookalike.untrusted.paths import resolve_inside

# Seconds after which an unfinished file in the cache is assumed to be of a killed process.
_ABANDONED = 3600

# Minimum bytes of vectors for quantised and projected copies. A scan of fewer takes a few milliseconds, while FAISS takes
# longer to import.
_MIN_QUANTISED = 2**27


@dataclass(frozen=True, eq=False)
class PreparedQuery:
    """A query with its vectors checked and its filter applied to a matrix.

    Attributes:
        query: the query.
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
        """The number of nearest items to find."""
        return self.query.k or DEFAULT_K


class Matrix:
    """All vectors of one generation, in ascending order of id.

    Attributes:
        generation: see `lookalike.stores.Snapshot`.
        seqs: the catalogue's seq of each row.
        gallery: the vectors, prepared for the metrics that can compare them.
    """

    def __init__(self, generation: str, seqs: Int64[np.ndarray, " n"], gallery: Gallery) -> None:
        self.generation, self.seqs, self.gallery = generation, seqs, gallery

    @classmethod
    def prepare(cls, generation: str, seqs: Int64[np.ndarray, " n"], codes: Codes, rows: RowFormat) -> "Matrix":
        """Check and prepare codes, or vectors."""
        vectors, metric = rows.decode(codes), rows.space.metric
        quantised = metric is not Metric.HAMMING and vectors.nbytes >= _MIN_QUANTISED
        return cls(generation, seqs, search.prepare(vectors, metric, "int8" if quantised else "float32"))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.seqs)

    @property
    def vectors(self) -> Vectors | CodedVectors:
        """All vectors."""
        return self.gallery.vectors

    @property
    def codes(self) -> Codes:
        """All codes, or the vectors themselves without a codec."""
        return self.vectors.codes if isinstance(self.vectors, CodedVectors) else self.vectors

    @cached_property
    def _order(self) -> Int64[np.ndarray, " n"]:
        return np.argsort(self.seqs)

    def find_rows(self, seqs: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " k"], Bool[np.ndarray, " m"]]:
        """Look up the rows of seqs, in their order without missing ones, and return a mask of the present ones."""
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
        prefilter = self.gallery.prefilter(metric, queries, subset=rows is not None)
        size = self.vectors.nbytes if prefilter is None else prefilter.nbytes
        return size if rows is None else size // max(1, len(self)) * len(rows)

    def update(self, generation: str, seqs: Int64[np.ndarray, " n"], codes: Codes, rows: RowFormat) -> "Matrix":
        """Make the matrix of a later generation, and prepare only its new rows."""
        old, known = self.find_rows(seqs)
        return Matrix(generation, seqs, search.update(self.gallery, rows.decode(codes), old, known, rows.space.metric))


class MatrixCache:
    """The folder ``cache/`` with the matrix of the latest generation, which may be deleted or damaged at any time."""

    def __init__(self, folder: Path, rows: RowFormat) -> None:
        """Prepare the cache; `save` creates the folder."""
        self.folder, self._rows = folder, rows

    def load(self, generation: str) -> Matrix | None:
        """Map the matrix of a generation into memory; none if it is missing or damaged."""
        try:
            content = array_file.read(self.file(f"matrix-{generation}"))
            return None if content is None else self._restore(generation, *content)
        except (OSError, LookupError, TypeError, ValueError):  # another version or a stranger wrote it
            return None

    def _restore(self, generation: str, metadata: Mapping[str, Any], parts: Arrays) -> Matrix:
        """Make a matrix of the content of its file.

        Raises:
            LookupError, TypeError, ValueError: the file has other content.
        """
        codes, seqs, norms = parts["vectors"], parts["seqs"], parts["norms"]
        shapes = (codes.shape, seqs.shape, norms.shape) == (
            (len(seqs), self._rows.columns),
            (len(seqs),),
            (len(seqs),),
        )
        types = codes.dtype == self._rows.dtype and seqs.dtype == np.int64 and norms.dtype == np.float64
        if metadata["generation"] != generation or not shapes or not types or not math.isfinite(norms.sum()):
            raise ValueError("it is the matrix of other vectors")
        dtype = {np.dtype(kind).str: np.dtype(kind) for kind in (np.float32, np.float64)}[metadata["dtype"]]
        vectors = self._rows.decode(codes)
        loaded = prefilters.load(metadata["prefilters"], parts, vectors.shape)
        return Matrix(generation, seqs, Gallery(vectors, norms, dtype, loaded))

    def save(self, matrix: Matrix) -> None:
        """Write a matrix and remove older ones. A failure is ignored, since the cache is optional."""
        gallery = matrix.gallery
        prefilter_metadata, parts = prefilters.save(gallery.prefilters)
        metadata = {"generation": matrix.generation, "dtype": gallery.dtype.str, "prefilters": prefilter_metadata}
        parts |= {"vectors": matrix.codes, "seqs": matrix.seqs, "norms": gallery.squared_norms}
        with suppress(OSError, StorageError):
            path = self.file(f"matrix-{matrix.generation}")
            self.folder.mkdir(exist_ok=True)
            array_file.write(path, metadata, parts)
            self.remove_older("matrix-*", path.name)

    def remove_older(self, pattern: str, name: str) -> None:
        """Remove older files of a kind, and unfinished files of killed processes."""
        for path in self.folder.glob(pattern):
            if path.name < name:  # the content stays for processes that have it mapped
                path.unlink(missing_ok=True)
        for path in self.folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        """Return the path of a file.

        Raises:
            OSError: a link is on the way, or the name leads elsewhere.
        """
        return resolve_inside(self.folder.parent, f"{self.folder.name}/{name}")
