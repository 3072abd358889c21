"""All vectors of a store, ready to be searched, and the cache where they lie for everybody to map into memory."""

import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from lookalike import search
from lookalike.errors import StorageError
from lookalike.metric import Metric
from lookalike.query import Vectors
from lookalike.search import Gallery
from lookalike.search.projection import Projection
from lookalike.search.scan import Scan
from lookalike.stores import arrays

# Seconds after which a half-written file in the cache belongs to nobody.
_STALE = 3600

# Bytes of vectors from which on they are kept in 8 bits and in fewer dimensions as well. Below, a scan takes a few
# milliseconds anyway, and a process that asks one thing would wait longer for FAISS to load.
_SCANNED = 2**27

# Part of the rows that may be new since the codes were made; they are measured for every query.
_NEW_TO_SCAN = 100


class Matrix:
    """All vectors of one generation, in the order of ids."""

    def __init__(self, generation: str, seqs: Int64[np.ndarray, " n"], gallery: Gallery) -> None:
        """What is prepared for one metric serves all those that compare such vectors."""
        self.generation, self.seqs, self.gallery = generation, seqs, gallery

    @classmethod
    def of(cls, generation: str, seqs: Int64[np.ndarray, " n"], vectors: Vectors, metric: Metric) -> "Matrix":
        """Check and measure vectors.

        Raises:
            UsageError: they are none.
        """
        scanned = metric is not Metric.HAMMING and vectors.nbytes >= _SCANNED
        return cls(generation, seqs, search.prepare(vectors, metric, "int8" if scanned else "float32"))

    @property
    def vectors(self) -> Vectors:
        """All of them."""
        return self.gallery.vectors

    @cached_property
    def order(self) -> Int64[np.ndarray, " n"]:
        """Rows in ascending order of seq."""
        return np.argsort(self.seqs)

    def rows(self, seqs: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " k"], Bool[np.ndarray, " m"]]:
        """(the rows of those seqs that are here, in the order of ``seqs``; which of them are here)."""
        if not len(self.seqs):
            return np.empty(0, np.int64), np.zeros(len(seqs), bool)
        places = np.searchsorted(self.seqs, seqs, sorter=self.order)
        rows = self.order[np.minimum(places, len(self.seqs) - 1)]
        here = self.seqs[rows] == seqs
        return rows[here], here

    def reads(self, metric: Metric, rows: Int64[np.ndarray, " m"] | None, queries: int) -> int:
        """Bytes that an exact search of these rows, or of all, goes through."""
        scan, short = self.gallery.scan, self.gallery.short
        if scan is not None and scan.metric == metric and rows is None and queries == 1:
            return scan.codes.nbytes
        fewer = short is not None and short.metric == metric and queries > 1
        whole = short.rows.nbytes if short is not None and fewer else self.vectors.nbytes
        return whole if rows is None else whole // max(1, len(self.seqs)) * len(rows)

    def updated(self, generation: str, seqs: Int64[np.ndarray, " n"], vectors: Vectors, metric: Metric) -> "Matrix":
        """That of a later generation, of which this one has most rows: only the others are checked and measured."""
        rows, here = self.rows(seqs)
        new = search.prepare(vectors[~here], metric)
        norms = np.empty(len(seqs))
        norms[here], norms[~here] = self.gallery.squared_norms[rows], new.squared_norms
        dtype = np.promote_types(self.gallery.dtype, new.dtype)
        scan = _rescanned(self.gallery.scan, rows, here)
        short = _reprojected(self.gallery.short, vectors, rows, here) if dtype == np.float32 else None
        return Matrix(generation, seqs, Gallery(vectors, norms, dtype, scan, short))


def _rescanned(scan: Scan | None, rows: Int64[np.ndarray, " k"], here: Bool[np.ndarray, " m"]) -> Scan | None:
    """Codes of rows that were known; the new ones are exceptions."""
    if scan is None or np.count_nonzero(~here) > max(16, len(here) // _NEW_TO_SCAN):
        return None
    codes = np.zeros((len(here), scan.codes.shape[1]), scan.codes.dtype)
    codes[here] = scan.codes[rows]
    left_out = ~here
    left_out[here] = np.isin(rows, scan.exceptions)
    return replace(scan, codes=codes, exceptions=np.flatnonzero(left_out))


def _reprojected(
    short: Projection | None, vectors: Vectors, rows: Int64[np.ndarray, " k"], here: Bool[np.ndarray, " m"]
) -> Projection | None:
    """The rows that were known as they are, the new ones beside them in the same dimensions."""
    if short is None:
        return None
    numbers = np.empty((len(here), short.rows.shape[1]), np.float32)
    numbers[here], numbers[~here] = short.rows[rows], short.of(vectors[~here]).rows
    return replace(short, rows=numbers)


class Cache:
    """A folder with the matrix of the latest generation; it may be deleted or damaged at any time."""

    def __init__(self, folder: Path, columns: int, metric: Metric) -> None:
        """Nothing is read or made yet."""
        self.folder, self.columns, self.metric = folder, columns, metric

    def load(self, generation: str) -> Matrix | None:
        """The matrix of a generation, memory-mapped and checked; none where it is not there whole."""
        found = arrays.read(self._file(generation))
        if found is None:
            return None
        facts, parts = found
        fits = facts.get("generation") == generation and {"seqs", "vectors", "norms"} <= parts.keys()
        if not fits or parts["vectors"].shape != (len(parts["seqs"]), self.columns):
            return None
        if parts["vectors"].dtype != self.metric.dtype:
            return None
        scan, short = _scan(facts, parts), _short(facts, parts)
        gallery = Gallery(parts["vectors"], parts["norms"], np.dtype(facts["dtype"]), scan, short)
        return Matrix(generation, parts["seqs"], gallery)

    def keep(self, matrix: Matrix) -> None:
        """Write a matrix and tidy up; where that cannot be, it does not matter."""
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
            here = self._file(matrix.generation)
            arrays.write(here, facts, parts)
            self.tidy("matrix-*", here.name)

    def tidy(self, pattern: str, last: str) -> None:
        """Remove what a newer file of its kind has replaced, and what killed processes left behind."""
        for path in self.folder.glob(pattern):
            if path.name < last:  # those who have it mapped keep what they have
                path.unlink(missing_ok=True)
        for path in self.folder.glob(".*.part"):
            if time.time() - path.stat().st_mtime > _STALE:
                path.unlink(missing_ok=True)

    def _file(self, generation: str) -> Path:
        return self.folder / f"matrix-{generation}"


def _scan(facts: dict[str, Any], parts: dict[str, Shaped[np.ndarray, "..."]]) -> Scan | None:
    kept = facts.get("scan")
    if kept is None:
        return None
    codes, centre, exceptions = parts["codes"], parts["centre"], parts["exceptions"]
    return Scan(codes, centre, kept["scale"], kept["residual"], exceptions, Metric(kept["metric"]))


def _short(facts: dict[str, Any], parts: dict[str, Shaped[np.ndarray, "..."]]) -> Projection | None:
    kept = facts.get("short")
    if kept is None:
        return None
    return Projection(parts["origin"], parts["components"], Metric(kept["metric"]), parts["short"])
