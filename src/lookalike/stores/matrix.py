"""All vectors of a store in one array, and the cache where it lies for everybody to map into memory."""

import time
import zlib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from lookalike import atomic, search
from lookalike.metric import Metric
from lookalike.stores.protocol import Vectors

# Seconds after which a half-written file in the cache belongs to nobody.
_STALE = 3600


class Matrix:
    """All vectors of one generation, in the order of ids."""

    def __init__(self, generation: str, seqs: Int64[np.ndarray, " n"], vectors: Vectors, metric: Metric) -> None:
        self.generation, self.seqs, self.vectors = generation, seqs, vectors
        # What is prepared for one metric serves all those that compare such vectors.
        self.gallery = search.prepare(vectors, metric)

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


class Cache:
    """A folder with the vectors of the latest generation; it may be deleted or damaged at any time."""

    def __init__(self, folder: Path, columns: int, dtype: "np.dtype[Any]") -> None:
        """Nothing is read or made yet."""
        self.folder, self.columns, self.dtype = folder, columns, dtype

    def load(self, generation: str, count: int) -> Vectors | None:
        """The vectors of a generation, memory-mapped and checked; None where they are not there whole."""
        size = count * self.columns * self.dtype.itemsize
        try:
            whole = np.memmap(self._file(generation), np.uint8, "r").view(np.ndarray)
        except (OSError, ValueError):  # nothing there; an empty file
            return None
        body, checksum = whole[:size], whole[size:].tobytes()
        if len(whole) != size + 4 or zlib.crc32(body.data) != int.from_bytes(checksum, "little"):
            return None
        return body.view(self.dtype).reshape(count, self.columns)

    def keep(self, generation: str, vectors: Vectors) -> None:
        """Write vectors, followed by their checksum, and tidy up; where that cannot be, it does not matter."""
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            here = self._file(generation)
            atomic.replace(here, vectors.data, zlib.crc32(vectors.data).to_bytes(4, "little"))
            for path in self.folder.glob("matrix-*"):
                if path.name < here.name:  # those who have it mapped keep what they have
                    path.unlink(missing_ok=True)
            for path in self.folder.glob(".*.part"):  # of processes that were killed
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink(missing_ok=True)

    def _file(self, generation: str) -> Path:
        return self.folder / f"matrix-{generation}"
