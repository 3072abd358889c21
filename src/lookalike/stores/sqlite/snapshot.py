"""Read snapshots: the catalogue at one moment, with the matrix of its generation."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Lock

import numpy as np
from pydantic import ValidationError

from lookalike.codecs import Codes
from lookalike.errors import StorageError, UsageError
from lookalike.metric import VectorSpace, similarity
from lookalike.query import Filter, Query
from lookalike.rows import RowFormat
from lookalike.search import Hits
from lookalike.shapes import Bool, Int64, Shaped
from lookalike.stores.answer import Answer, Hit, Item
from lookalike.stores.settings import GENERATION, IndexSettings
from lookalike.stores.sqlite.catalogue import Catalogue, chunks, damaged
from lookalike.stores.sqlite.manifests import check_manifest
from lookalike.stores.sqlite.matrix import Matrix, MatrixCache, PreparedQuery
from lookalike.stores.sqlite.relative import resolve_items
from lookalike.stores.sqlite.schema import ITEM_COLUMNS, placeholders, to_condition, to_item
from lookalike.untrusted.databases import Connection

# A process that has a matrix in memory writes the next one to the cache if one row in this many was added. For fewer rows,
# writing the whole matrix takes more time than the next process saves.
_SAVE_SHARE = 8


@dataclass(frozen=True, eq=False)
class ReadSnapshot:
    """A store at one moment, while a read transaction is open.

    Attributes:
        folder: of the store.
        sql: the connection of the transaction.
        matrix: of the transaction's generation.
        space: of the vectors.
    """

    folder: Path
    sql: Connection
    matrix: Matrix
    space: VectorSpace

    def rows(self, where: Filter) -> Int64[np.ndarray, " m"] | None:
        """Return the rows of the matrix that pass a filter, ascending; none if there is no filter."""
        if not where:
            return None
        condition, values = to_condition(where)
        seqs = _column(self.sql.execute(f"SELECT seq FROM items WHERE {condition}", values).fetchall())
        return np.sort(self.matrix.find_rows(seqs)[0])

    def ids(self) -> Sequence[str]:
        """Return the ids of all items, ascending."""
        ids = [row[0] for row in self.sql.rows("SELECT id FROM items ORDER BY id")]
        if not all(isinstance(ident, str) for ident in ids):
            raise damaged(self.folder, "an id is not a text")
        return ids

    def settings(self) -> IndexSettings:
        """Return the settings of the store."""
        return read_settings(self.sql, self.folder)

    def answers(self, hits: Hits, query: PreparedQuery, recalls: Sequence[float | None] = ()) -> list[Answer]:
        """Convert hits to answers.

        Args:
            hits: rows of the matrix.
            query: the query.
            recalls: of each query, none for one that was searched exactly; empty if all were.
        """
        limit = _limit(query.query)
        complete = [hits.complete and (limit is None or count <= limit) for count in np.diff(hits.offsets).tolist()]
        hits = hits if limit is None else hits.first(limit)
        seqs = self.matrix.seqs[hits.rows]
        items = read_items(self.sql, seqs, self.folder)
        if len(items) < len(set(seqs.tolist())) or self._misses_hits(hits, query):
            raise StorageError(
                f"{self.folder} is damaged: its cache does not fit its items. Delete {self.folder / 'cache'}; lookalike makes"
                " it again."
            )
        similarities = similarity(hits.distances, query.metric, self.space.dimension)
        all_hits = [
            Hit(items[seq], *values)
            for seq, *values in zip(seqs.tolist(), hits.distances.tolist(), similarities.tolist(), strict=True)
        ]
        bounds = pairwise(hits.offsets.tolist())
        each = recalls or [None] * len(complete)
        return [
            Answer(tuple(all_hits[begin:end]), query.metric, recall is None, is_complete, recall)
            for (begin, end), is_complete, recall in zip(bounds, complete, each, strict=True)
        ]

    def _misses_hits(self, hits: Hits, query: PreparedQuery) -> bool:
        """Return whether k hits were not found, since vectors of the cache are not numbers."""
        if query.query.within is not None:
            return False
        available = len(self.matrix) if query.rows is None else len(query.rows)
        return len(hits.offsets) > 1 and bool(np.diff(hits.offsets).min() < min(query.k, available))


def _limit(query: Query) -> int | None:
    return None if query.within is None else query.limit


class Snapshots:
    """A source of read snapshots of a catalogue, which keeps the latest matrix in memory."""

    def __init__(self, catalogue: Catalogue, cache: MatrixCache, rows: RowFormat, manifest: str | None = None) -> None:
        self._catalogue, self._cache, self._rows, self._manifest = catalogue, cache, rows, manifest
        self._matrix: Matrix | None = None
        self._lock = Lock()

    @contextmanager
    def open(self) -> Iterator[ReadSnapshot]:
        """Begin a read transaction, and load the matrix of its generation."""
        with self._catalogue.read() as sql:
            check_manifest(sql, self._manifest, self._catalogue.folder)
            yield ReadSnapshot(self._catalogue.folder, sql, self._load(sql), self._rows.space)

    def generation(self) -> str:
        """Return the generation of the latest matrix."""
        if (last := self._matrix) is not None:
            return last.generation
        with self.open() as snapshot:
            return snapshot.matrix.generation

    def _load(self, sql: Connection) -> Matrix:
        """Load the matrix of a transaction's generation from memory or the cache, or make it from the rows."""
        generation = read_generation(sql, self._catalogue.folder)
        with self._lock:  # one thread makes the matrix, and the others wait
            last = self._matrix
            if last is not None and last.generation == generation:
                return last
            matrix = self._cache.load(generation) or self._make(sql, generation)
            # A thread with a later transaction may have been faster.
            if last is None or last.generation < generation:
                self._matrix = matrix
        return matrix

    def _make(self, sql: Connection, generation: str) -> Matrix:
        """Make a matrix from the codes of the last one and from the catalogue."""
        seqs = _column(sql.execute("SELECT seq FROM items ORDER BY id").fetchall())
        last = self._matrix
        known = None if last is None else (last.codes, *last.find_rows(seqs))
        out = read_vectors(sql, "vectors", seqs, self._rows, self._catalogue.folder, known)
        missing = np.ones(len(seqs), bool) if known is None else ~known[2]
        try:
            if last is not None and missing.sum() < len(seqs) / _SAVE_SHARE:
                return last.update(generation, seqs, out, self._rows)
            matrix = Matrix.prepare(generation, seqs, out, self._rows)
        except UsageError as e:  # not a number
            raise damaged(self._catalogue.folder, f"its vectors are invalid: {e}".rstrip(".")) from e
        self._cache.save(matrix)
        return self._cache.load(generation) or matrix


def read_generation(sql: Connection, folder: Path) -> str:
    """Read the generation of a transaction, as a name of which later ones are greater; it becomes part of file names.

    Raises:
        StorageError: it is damaged.
    """
    row = sql.execute("SELECT number, token FROM generation").fetchone()
    if row is None or not isinstance(row[0], int) or not isinstance(row[1], str):
        raise damaged(folder, "its generation is missing")
    generation = f"{row[0]:012}-{row[1]}"
    if not re.fullmatch(GENERATION, generation):
        raise damaged(folder, "its generation is invalid")
    return generation


def read_items(sql: Connection, seqs: Int64[np.ndarray, " n"], folder: Path) -> dict[int, Item]:
    """Read items by seq, without unknown seqs."""
    items: dict[int, Item] = {}
    for part in chunks(sorted(set(seqs.tolist()))):  # np.unique would import numpy.ma, which takes 15 ms
        statement = f"SELECT seq, {ITEM_COLUMNS} FROM items WHERE seq IN ({placeholders(part)})"
        rows = list(sql.rows(statement, part))
        found = resolve_items(sql, folder, [to_item(row[1:]) for row in rows])
        items |= {row[0]: item for row, item in zip(rows, found, strict=True)}
    return items


def read_settings(sql: Connection, folder: Path) -> IndexSettings:
    """Read the settings, or return the defaults if they were never changed.

    Raises:
        StorageError: they are damaged.
    """
    if not sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'tuning'").fetchone():
        return IndexSettings()
    row = sql.execute("SELECT settings FROM tuning").fetchone()
    try:
        return IndexSettings() if row is None else IndexSettings.model_validate_json(row[0])
    except ValidationError as e:
        raise StorageError(f"{folder} is damaged: its settings cannot be read. Set them with lookalike tune.") from e


def read_vectors(
    sql: Connection,
    table: str,
    seqs: Int64[np.ndarray, " n"],
    rows: RowFormat | VectorSpace,
    folder: Path,
    known: tuple[Shaped[np.ndarray, "m c"], Int64[np.ndarray, " k"], Bool[np.ndarray, " n"]] | None = None,
) -> Codes:
    """Read the codes or vectors of all items from a table, in the order of seqs.

    Args:
        sql: a read transaction.
        table: ``"vectors"`` or ``"originals"``.
        seqs: of the items.
        rows: their format.
        folder: of the store, for messages.
        known: an array, the rows of it that are not read again, and a mask of their places among the seqs.

    Raises:
        StorageError: one is missing or has the wrong length.
    """
    size = rows.columns * rows.dtype.itemsize
    # Before memory is reserved: a damaged index may list a row many times, and a manifest claim any dimension.
    if len(set(seqs.tolist())) < len(seqs) or len(seqs) * size > sql.steps.file_bytes():
        raise damaged(folder, "it has fewer vectors than items, or shorter ones")
    out = np.empty((len(seqs), rows.columns), rows.dtype)
    missing = np.ones(len(seqs), bool)
    if known is not None:
        array, places, mask = known
        out[mask], missing = array[places], ~mask
    for part in chunks(np.flatnonzero(missing).tolist()):
        wanted = seqs[part].tolist()
        # SQLite knows the length of a blob before it reads it.
        select = f"SELECT seq, vector FROM {table} WHERE seq IN ({placeholders(wanted)}) AND length(vector) = {size}"
        blobs = dict(sql.rows(select, wanted))
        out[part] = to_codes([blobs.get(seq, b"") for seq in wanted], rows, folder)
    return out


def to_codes(blobs: Sequence[object], rows: RowFormat | VectorSpace, folder: Path) -> Codes:
    """Convert codes or vectors from the catalogue to an array.

    Raises:
        StorageError: a vector has the wrong length.
    """
    size = rows.columns * rows.dtype.itemsize
    valid = [blob for blob in blobs if isinstance(blob, bytes) and len(blob) == size]
    if len(valid) < len(blobs):
        raise StorageError(
            f"{folder} is damaged: a vector in catalog.sqlite is missing or truncated. Put back a backup, or index the"
            " images again."
        )
    return np.frombuffer(b"".join(valid), rows.dtype).reshape(len(blobs), rows.columns)


def _column(rows: Sequence[tuple[int]]) -> Int64[np.ndarray, " n"]:
    return np.fromiter((row[0] for row in rows), np.int64, len(rows))
