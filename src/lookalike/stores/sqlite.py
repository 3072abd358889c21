"""The embedded store: a folder whose ``catalog.sqlite`` is the truth and whose ``cache/`` can be deleted at any time.

Items and vectors are rows of SQLite in WAL mode: one writer at a time, any number of readers, in as many processes. A
counter, the generation, goes up with every write. Searches run over a matrix of all vectors in the order of ids, written
once a generation to ``cache/`` and memory-mapped by everybody; whoever finds it out of date makes the next one from the
last one and the rows that are new, and moves it into place whole.
"""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike import search
from lookalike.errors import AlreadyExistsError, BusyError, MismatchError, NotFoundError, StorageError, UsageError
from lookalike.metric import Metric, similarity
from lookalike.stores.protocol import ALL, Answer, Filter, Hit, Item, Snapshot, Vectors

FORMAT = 1

# How long a writer waits for another one, in seconds.
_PATIENCE = 30

# Rows read, or ids asked for, in one statement; SQLite allows 32,766 placeholders.
_CHUNK = 5000

_SCHEMA = """
CREATE TABLE items (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so a new vector always has a new number
    id TEXT NOT NULL UNIQUE,
    uri TEXT NOT NULL,
    label TEXT,
    attributes TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    signature TEXT NOT NULL
) STRICT;
CREATE INDEX items_by_label ON items (label);
-- Apart from the items, so that listing these does not read past the vectors.
CREATE TABLE vectors (seq INTEGER PRIMARY KEY REFERENCES items (seq) ON DELETE CASCADE, vector BLOB NOT NULL) STRICT;
CREATE TABLE generation (number INTEGER NOT NULL) STRICT;
INSERT INTO generation VALUES (0);
"""

_ITEM = "id, uri, label, attributes, sha256, signature"


class EncoderPin(BaseModel):
    """Which encoder made the vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str


class Manifest(BaseModel):
    """``manifest.json``: what every vector in the folder has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["lookalike-collection"] = "lookalike-collection"
    version: int = FORMAT
    metric: Metric
    dimension: int = Field(gt=0, description="floats of a vector, or bits of a code")
    codec: str = "none"
    encoder: EncoderPin

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Of the vectors."""
        return self.metric.dtype

    @property
    def columns(self) -> int:
        """Of the matrix: floats, or bytes of packed bits."""
        return self.dimension if self.metric is not Metric.HAMMING else -(-self.dimension // 8)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a collection's manifest.

        Raises:
            NotFoundError: there is no collection.
            MismatchError: another version wrote it.
            StorageError: it is damaged.
        """
        path = folder / "manifest.json"
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotFoundError(
                f"There is no collection at {folder}. Make one with: lookalike index PICTURES --to {folder}"
            ) from e
        except (OSError, ValueError) as e:
            raise StorageError(f"{path} cannot be read: {e}.") from e
        if isinstance(tree, dict) and tree.get("version", FORMAT) != FORMAT:
            raise MismatchError(
                f"{folder} has the format {tree['version']}, and this lookalike reads format {FORMAT}."
                " Open it with the version that wrote it, or index the pictures again."
            )
        try:
            return cls.model_validate(tree)
        except ValidationError as e:
            raise StorageError(f"{path} is damaged: {e.errors()[0]['msg']}.") from e


class _Matrix:
    """All vectors of one generation, in the order of ids."""

    def __init__(self, generation: int, seqs: Int64[np.ndarray, " n"], vectors: Vectors) -> None:
        self.generation, self.seqs, self.vectors = generation, seqs, vectors
        self._galleries: dict[Metric, search.Gallery] = {}

    def gallery(self, metric: Metric) -> search.Gallery:
        """Made ready for searching, once."""
        if metric not in self._galleries:
            self._galleries[metric] = search.prepare(self.vectors, metric)
        return self._galleries[metric]

    @cached_property
    def order(self) -> Int64[np.ndarray, " n"]:
        """Rows in ascending order of seq."""
        return np.argsort(self.seqs)

    def rows(self, seqs: Int64[np.ndarray, " m"]) -> tuple[np.ndarray, np.ndarray]:
        """(rows of those seqs that are here, ascending with ``seqs``; which of them are here)."""
        if not len(self.seqs):
            return np.empty(0, np.int64), np.zeros(len(seqs), bool)
        places = np.searchsorted(self.seqs, seqs, sorter=self.order)
        rows = self.order[np.minimum(places, len(self.seqs) - 1)]
        here = self.seqs[rows] == seqs
        return rows[here], here


class SQLiteStore:
    """The embedded store; see the module. Safe to use from several threads."""

    def __init__(self, folder: Path, manifest: Manifest, connection: sqlite3.Connection) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self.manifest = manifest
        self._connection = connection
        self._lock = RLock()
        self._matrix: _Matrix | None = None

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, fill: Iterable[tuple[str, bytes]] = ()) -> Self:
        """Make an empty store; it is there whole or not at all.

        Args:
            folder: where; its parents are made.
            manifest: what its vectors will have in common.
            fill: further files of the folder, as (relative path, content).

        Raises:
            AlreadyExistsError: something is there.
            StorageError: it cannot be written.
        """
        if folder.exists():
            raise AlreadyExistsError(f"{folder} is there already.")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        except OSError as e:
            raise StorageError(f"{folder} cannot be made: {e.strerror}.") from e
        try:
            new.chmod(0o755)
            for name, content in fill:
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(content)
            (new / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            connection = sqlite3.connect(new / "catalog.sqlite")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.close()
            new.rename(folder)
        except (OSError, sqlite3.Error) as e:
            if folder.exists():
                raise AlreadyExistsError(f"{folder} is there already.") from e
            raise StorageError(f"{folder} cannot be made: {e}.") from e
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a store.

        Raises:
            NotFoundError: there is none.
            MismatchError: it has an unknown format.
            StorageError: it is damaged.
        """
        manifest = Manifest.read(folder)
        path = folder / "catalog.sqlite"
        if not path.is_file():
            raise StorageError(f"{folder} is damaged: catalog.sqlite is missing.")
        # Nothing can change on a disk that cannot be written, and SQLite's own files for readers cannot be made there.
        how = "mode=rw" if os.access(folder, os.W_OK) and os.access(path, os.W_OK) else "immutable=1"
        with _translated(folder):
            address = f"{path.resolve().as_uri()}?{how}"
            # Transactions are begun by hand, below; the lock of this object keeps threads apart.
            connection = sqlite3.connect(
                address, uri=True, timeout=_PATIENCE, check_same_thread=False, isolation_level=None
            )
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
        store = cls(folder, manifest, connection)
        store.count()  # a file that is no database is found out here
        return store

    @property
    def metric(self) -> Metric:
        """See `Store.metric`."""
        return self.manifest.metric

    @property
    def dimension(self) -> int:
        """See `Store.dimension`."""
        return self.manifest.dimension

    def upsert(self, items: Sequence[Item], vectors: Vectors) -> None:
        """See `Store.upsert`."""
        vectors = self._checked(vectors)
        if len(items) != len(vectors):
            raise UsageError(f"{len(items)} items came with {len(vectors)} vectors.")
        # Of an id that comes twice the last one counts, as if they had been written one after the other.
        last = {item.id: i for i, item in enumerate(items)}
        with self._writing() as sql:
            sql.executemany("DELETE FROM items WHERE id = ?", ((i,) for i in last))
            for i in last.values():
                it = items[i]
                row = (it.id, it.uri, it.label, json.dumps(dict(it.attributes)), it.sha256, it.signature)
                seq = sql.execute(f"INSERT INTO items ({_ITEM}) VALUES (?, ?, ?, ?, ?, ?)", row).lastrowid
                sql.execute("INSERT INTO vectors VALUES (?, ?)", (seq, vectors[i].tobytes()))

    def delete(self, ids: Sequence[str]) -> int:
        """See `Store.delete`."""
        with self._writing() as sql:
            return sum(sql.execute("DELETE FROM items WHERE id = ?", (i,)).rowcount for i in ids)

    def get(self, ids: Sequence[str]) -> dict[str, Item]:
        """See `Store.get`."""
        found: dict[str, Item] = {}
        for chunk in _chunks(ids):
            for row in self._read(f"SELECT {_ITEM} FROM items WHERE id IN ({_marks(chunk)})", chunk):
                found[row[0]] = _item(row)
        return found

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """See `Store.vectors`."""
        found: dict[str, bytes] = {}
        for chunk in _chunks(ids):
            sql = f"SELECT id, vector FROM items JOIN vectors USING (seq) WHERE id IN ({_marks(chunk)})"
            found.update(self._read(sql, chunk))
        if missing := [i for i in ids if i not in found]:
            raise NotFoundError(f"{self.folder} has no item “{missing[0]}”.")
        return self._array([found[i] for i in ids])

    def count(self, where: Filter = ALL) -> int:
        """See `Store.count`."""
        condition, values = _condition(where)
        return int(self._read(f"SELECT count(*) FROM items WHERE {condition}", values)[0][0])

    def scan(self, where: Filter = ALL, *, after: str = "") -> Iterator[Item]:
        """See `Store.scan`."""
        condition, values = _condition(where)
        sql = f"SELECT {_ITEM} FROM items WHERE {condition} AND id > ? ORDER BY id LIMIT {_CHUNK}"
        while rows := self._read(sql, [*values, after]):
            yield from map(_item, rows)
            after = rows[-1][0]

    def labels(self) -> dict[str, int]:
        """See `Store.labels`."""
        sql = "SELECT label, count(*) FROM items WHERE label IS NOT NULL GROUP BY label ORDER BY label"
        return dict(self._read(sql))

    def knn(self, queries: Vectors, k: int, where: Filter = ALL, *, metric: Metric | None = None) -> list[Answer]:
        """See `Store.knn`; exact."""
        metric = self._metric(metric)
        with self._searching(where) as (matrix, rows):
            hits = search.knn(self._checked(queries), matrix.gallery(metric), k, metric, rows=rows)
            return self._answers(matrix, hits, metric)

    def within(
        self, queries: Vectors, radius: float, where: Filter = ALL, *, metric: Metric | None = None
    ) -> list[Answer]:
        """See `Store.within`; exact and complete."""
        metric = self._metric(metric)
        with self._searching(where) as (matrix, rows):
            hits = search.within(self._checked(queries), matrix.gallery(metric), radius, metric, rows=rows)
            return self._answers(matrix, hits, metric)

    def snapshot(self) -> Snapshot:
        """See `Store.snapshot`."""
        with self._reading():
            matrix = self._current()
            return Snapshot([row[0] for row in self._read("SELECT id FROM items ORDER BY id")], matrix.vectors)

    def size(self) -> int:
        """See `Store.size`."""
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # another process tidies its cache
                total += path.stat().st_size if path.is_file() else 0
        return total

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            self._connection.close()

    # ---- the matrix

    @contextmanager
    def _searching(self, where: Filter) -> Iterator[tuple[_Matrix, Int64[np.ndarray, " m"] | None]]:
        """The matrix, and the rows of it that a filter leaves, all of one moment."""
        with self._reading():
            matrix = self._current()
            rows = None
            if where:
                condition, values = _condition(where)
                seqs = _column(self._read(f"SELECT seq FROM items WHERE {condition}", values))
                rows = np.sort(matrix.rows(seqs)[0])
            yield matrix, rows

    def _answers(self, matrix: _Matrix, hits: search.Hits, metric: Metric) -> list[Answer]:
        seqs = matrix.seqs[hits.rows]
        items: dict[int, Item] = {}
        for chunk in _chunks(np.unique(seqs).tolist()):
            for seq, *row in self._read(f"SELECT seq, {_ITEM} FROM items WHERE seq IN ({_marks(chunk)})", chunk):
                items[seq] = _item(row)
        alike = similarity(hits.distances, metric, self.dimension)
        found = [
            Hit(items[seq], distance, alike)
            for seq, distance, alike in zip(seqs.tolist(), hits.distances.tolist(), alike.tolist(), strict=True)
        ]
        bounds = hits.offsets.tolist()
        return [Answer(tuple(found[a:b]), metric, hits.exact, hits.complete) for a, b in pairwise(bounds)]

    def _current(self) -> _Matrix:
        """The matrix of this generation, from memory, from the cache, or made anew; within a read transaction."""
        generation = int(self._read("SELECT number FROM generation")[0][0])
        if self._matrix is not None and self._matrix.generation == generation:
            return self._matrix
        seqs = _column(self._read("SELECT seq FROM items ORDER BY id"))
        matrix = self._cached(generation)
        if matrix is None or not np.array_equal(matrix.seqs, seqs):
            matrix = self._keep(self._next(generation, seqs))
        self._matrix = matrix
        return matrix

    def _next(self, generation: int, seqs: Int64[np.ndarray, " n"]) -> _Matrix:
        """A matrix for these seqs: vectors that the last one has are copied, the others read."""
        last = self._matrix or self._latest_cached()
        out = np.empty((len(seqs), self.manifest.columns), self.manifest.dtype)
        missing = np.ones(len(seqs), bool)
        if last is not None:
            rows, here = last.rows(seqs)
            out[here] = last.vectors[rows]
            missing = ~here
        places = np.flatnonzero(missing)
        for chunk in _chunks(places.tolist()):
            wanted = seqs[chunk].tolist()
            found = dict(self._read(f"SELECT seq, vector FROM vectors WHERE seq IN ({_marks(wanted)})", wanted))
            out[chunk] = self._array([found[seq] for seq in wanted])
        return _Matrix(generation, seqs, out)

    def _cached(self, generation: int) -> _Matrix | None:
        folder = self.folder / "cache" / f"matrix-{generation}"
        try:
            seqs = np.load(folder / "seqs.npy", allow_pickle=False)
            vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        fits = vectors.shape == (len(seqs), self.manifest.columns) and vectors.dtype == self.manifest.dtype
        return _Matrix(generation, seqs, vectors) if fits and seqs.dtype == np.int64 else None

    def _latest_cached(self) -> _Matrix | None:
        numbers = sorted(int(p.name.split("-")[1]) for p in (self.folder / "cache").glob("matrix-*[0-9]"))
        return self._cached(numbers[-1]) if numbers else None

    def _keep(self, matrix: _Matrix) -> _Matrix:
        """Write a matrix to the cache and map it; where that cannot be, it stays in memory."""
        cache = self.folder / "cache"
        name = f"matrix-{matrix.generation}"
        try:
            cache.mkdir(exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
        except OSError:
            return matrix
        try:
            np.save(new / "seqs.npy", matrix.seqs)
            np.save(new / "vectors.npy", matrix.vectors)
            old = [p for p in cache.glob("matrix-*") if p.name != name]
            if (cache / name).exists():  # found to be damaged, or another process was faster
                shutil.rmtree(cache / name, ignore_errors=True)
            new.rename(cache / name)
        except OSError:
            return matrix
        finally:
            shutil.rmtree(new, ignore_errors=True)
        for path in old:  # those who have it mapped keep what they have
            shutil.rmtree(path, ignore_errors=True)
        return self._cached(matrix.generation) or matrix

    # ---- SQLite

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One moment of the database, whatever others write meanwhile."""
        with self._lock, _translated(self.folder):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                before = self._connection.total_changes
                yield self._connection
                if self._connection.total_changes > before:
                    self._connection.execute("UPDATE generation SET number = number + 1")
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, _translated(self.folder):
            return self._connection.execute(sql, values).fetchall()

    # ---- arrays

    def _metric(self, metric: Metric | None) -> Metric:
        metric = metric or self.metric
        if metric.dtype != self.manifest.dtype:
            raise UsageError(f"The vectors of {self.folder} are compared by {self.metric}, not by {metric}.")
        return metric

    def _checked(self, vectors: Vectors) -> Vectors:
        if vectors.ndim != 2 or vectors.shape[1] != self.manifest.columns:  # noqa: PLR2004 -- rows and columns
            raise UsageError(
                f"{self.folder} holds vectors of {self.dimension} numbers; these have the shape {vectors.shape}."
            )
        return search.prepare(vectors, self.metric).vectors

    def _array(self, blobs: Sequence[bytes]) -> Vectors:
        columns, dtype = self.manifest.columns, self.manifest.dtype
        if any(len(b) != columns * dtype.itemsize for b in blobs):
            raise StorageError(f"{self.folder} is damaged: a vector in catalog.sqlite has a wrong length.")
        return np.frombuffer(b"".join(blobs), dtype).reshape(len(blobs), columns)


def _condition(where: Filter) -> tuple[str, list[str]]:
    """A filter as SQL and its values."""
    parts, values = ["TRUE"], []
    if where.labels is not None:
        parts.append("label IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(sorted(where.labels)))
    if where.ids is not None:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(sorted(where.ids)))
    for key, value in where.attributes.items():
        parts.append("EXISTS (SELECT 1 FROM json_each(attributes) WHERE key = ? AND value = ?)")
        values.extend((key, value))
    return " AND ".join(parts), values


def _item(row: Sequence[Any]) -> Item:
    ident, uri, label, attributes, sha256, signature = row
    known: Mapping[str, str] = json.loads(attributes)
    return Item(ident, uri, label, known, sha256, signature)


def _column(rows: Sequence[tuple[int]]) -> Int64[np.ndarray, " n"]:
    return np.fromiter((row[0] for row in rows), np.int64, len(rows))


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as e:
        if e.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(f"Another process has been writing to {folder} for {_PATIENCE} s; try again later.") from e
        if e.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
            raise StorageError(f"{folder} cannot be written to: it is read-only.") from e
        if e.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise StorageError(f"The disk is full; nothing of what {folder} had is lost.") from e
        raise StorageError(f"{folder} cannot be used: {e}.") from e
    except sqlite3.DatabaseError as e:
        raise StorageError(f"{folder}/catalog.sqlite is damaged: {e}.") from e
