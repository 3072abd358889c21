"""The embedded store: ``catalog.sqlite`` holds all data, and ``cache/`` can be deleted at any time.

Items and vectors are rows of SQLite in WAL mode, with one writer at a time and any number of readers, in any number of
processes. Each write increments a counter, the generation. Searches run over a matrix of all vectors of a generation in
ascending order of id. The matrix is a file in ``cache/``, which all processes map into memory. If it is missing or damaged,
a process makes it from the rows and writes it atomically. If an exact search takes longer than the latency budget, an index
in ``cache/`` answers approximately, if there is one.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from lookalike import ann, search
from lookalike.codecs import Codes
from lookalike.errors import BusyError, NotFoundError, StorageError, UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.progress import SILENT, Progress
from lookalike.query import ALL, Filter, Query, Vectors
from lookalike.rows import RowFormat, Rows
from lookalike.search import CodedVectors, Gallery, Hits, Pairs
from lookalike.stores.answer import Answer, Item
from lookalike.stores.protocol import MAX_TEXT, Change, Snapshot, check_changes, check_items
from lookalike.stores.settings import IndexSettings, Status
from lookalike.stores.sqlite import indexes, relative
from lookalike.stores.sqlite.catalogue import NAME, Catalogue, chunks, damaged
from lookalike.stores.sqlite.indexes import IndexCache, IndexedMatrix
from lookalike.stores.sqlite.latency import LatencyModel
from lookalike.stores.sqlite.manifests import (
    FindVectors,
    check_manifest,
    insert_row,
    read_manifest,
    replace_vectors,
    write_manifest,
)
from lookalike.stores.sqlite.matrix import Matrix, MatrixCache, PreparedQuery
from lookalike.stores.sqlite.originals import Originals, OriginalsCache
from lookalike.stores.sqlite.relative import RelativeRoots
from lookalike.stores.sqlite.schema import CHUNK, ITEM_COLUMNS, SETTINGS_SCHEMA, placeholders, to_condition, to_row
from lookalike.stores.sqlite.snapshot import (
    ReadSnapshot,
    Snapshots,
    read_items,
    read_settings,
    to_codes,
)
from lookalike.untrusted.databases import Connection


class SQLiteStore:
    """The embedded store; see the module. Safe to use from several threads, which search at the same time.

    It is a `Store`, and is `Streaming`, `Snapshotting`, `Sampling` and `Indexable`.
    """

    def __init__(self, folder: Path, rows: VectorSpace | RowFormat, manifest: str | None = None) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self._rows = rows if isinstance(rows, RowFormat) else RowFormat(rows)
        self._manifest = manifest
        self._catalogue = Catalogue(folder)
        cache = MatrixCache(folder / "cache", self._rows)
        self._snapshots = Snapshots(self._catalogue, cache, self._rows, manifest)
        self._indexes = IndexCache(cache)
        self._originals_cache = None
        if self._rows.codec is not None and self._rows.originals:
            self._originals_cache = OriginalsCache(cache, self._rows.codec)
        self._indexed: IndexedMatrix | None = None
        self._latency = LatencyModel()
        self._lock = Lock()

    @classmethod
    def create(cls, folder: Path, space: VectorSpace) -> Self:
        """Create an empty store in a folder.

        Args:
            folder: an existing folder.
            space: metric and dimension of the vectors.

        Raises:
            AlreadyExistsError: the folder already has a store.
            StorageError: the store cannot be written.
        """
        Catalogue.create(folder)
        return cls.open(folder, space)

    @classmethod
    def read_manifest(cls, folder: Path) -> str | None:
        """Read the manifest of the store's vectors; none if they were never replaced, or there is no store.

        Raises:
            StorageError: the store is damaged.
        """
        if not os.path.lexists(folder / NAME):
            return None
        with closing(Catalogue(folder)) as catalogue, catalogue.connect() as sql:
            return read_manifest(sql)

    @property
    def space(self) -> VectorSpace:
        """See `Store.space`."""
        return self._rows.space

    @classmethod
    def open(cls, folder: Path, rows: VectorSpace | RowFormat, manifest: str | None = None) -> Self:
        """Open the store in a folder.

        Args:
            folder: a folder with a store.
            rows: see `lookalike.stores.open_store`.
            manifest: as `read_manifest` returned it; other vectors are neither read nor written.

        Raises:
            StorageError: the store is missing or damaged.
        """
        store = cls(folder, rows, manifest)
        if not os.path.lexists(store._catalogue.path):
            raise StorageError(
                f"{folder} is damaged: catalog.sqlite is missing. Put it back, or index the images again."
            )
        store.count()  # raises if the file is not a database
        return store

    def upsert(self, items: Sequence[Item], rows: Rows) -> None:
        """See `Store.upsert`."""
        checked = self._check_vectors(rows, self.space).array if self._rows.codec is None else self._rows.check(rows)
        if len(items) != len(checked):
            raise UsageError(f"{len(items)} items came with {len(checked)} vectors; give one for each.")
        check_items(items)
        if not items:
            return
        last = {item.id: i for i, item in enumerate(items)}
        with self._write_vectors() as sql:
            relative_roots = RelativeRoots.read(sql, self.folder)
            sql.executemany("DELETE FROM items WHERE id = ?", ((i,) for i in last))
            for i in last.values():
                insert = f"INSERT INTO items ({ITEM_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
                seq = sql.execute(insert, to_row(items[i], relative_roots.to_relative(items[i].uri))).lastrowid
                insert_row(sql, seq, checked[i], self._rows)

    def update(self, changes: Sequence[Change]) -> list[Item]:
        """See `Store.update`."""
        check_changes(changes)
        if not changes:
            return []
        with self._catalogue.write() as sql:
            roots = RelativeRoots.read(sql, self.folder)
            return [old for old, new in changes if _update(sql, roots, old, new)]

    def delete(self, ids: Sequence[str]) -> int:
        """See `Store.delete`."""
        with self._catalogue.write() as sql:
            return sum(sql.execute("DELETE FROM items WHERE id = ?", (i,)).rowcount for i in ids)

    def get(self, ids: Sequence[str]) -> dict[str, Item]:
        """See `Store.get`."""
        rows = self._catalogue.select_in(f"SELECT {ITEM_COLUMNS} FROM items WHERE id IN (%s)", ids)
        return {item.id: item for item in self._catalogue.to_items(rows)}

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """See `Store.vectors`."""
        vectors = self._rows.decode(self._read(ids, "vectors", self._rows))
        return self._check_finite(vectors[:] if isinstance(vectors, CodedVectors) else vectors)

    def rows(self, ids: Sequence[str]) -> Rows:
        """See `Store.rows`."""
        if self._rows.codec is None:
            return self.vectors(ids)
        return self._rows.join(self._read(ids, "vectors", self._rows), self._originals(ids))

    def embeddings(self, ids: Sequence[str]) -> Vectors:
        """See `Replaceable.embeddings`."""
        if self._rows.codec is None:
            return self.vectors(ids)
        embeddings = self._originals(ids)
        if embeddings is None:
            raise UsageError(f"{self.folder} keeps codes without the original vectors.")
        return embeddings

    def _originals(self, ids: Sequence[str]) -> Vectors | None:
        original = self._rows.original
        return None if original is None else self._check_finite(self._read(ids, "originals", original))

    def _read(self, ids: Sequence[str], table: str, rows: RowFormat | VectorSpace) -> Codes:
        """Read the vectors or codes of items from a table; raises as `Store.vectors`."""
        # SQLite knows the length of a blob before it reads it.
        vector = f"CASE length(vector) WHEN {rows.columns * rows.dtype.itemsize} THEN vector END"
        statement = f"SELECT id, {vector} FROM items LEFT JOIN {table} USING (seq) WHERE id IN (%s)"
        with self._catalogue.read() as sql:
            check_manifest(sql, self._manifest, self.folder)
            blobs = dict(row for part in chunks(ids) for row in sql.rows(statement % placeholders(part), part))
        if missing := [i for i in ids if i not in blobs]:
            raise NotFoundError(f"{self.folder} has no item “{missing[0]}”.")
        return to_codes([blobs[i] for i in ids], rows, self.folder)

    def _check_finite(self, vectors: Vectors) -> Vectors:
        if vectors.dtype.kind == "f" and not np.isfinite(vectors).all():
            raise damaged(self.folder, "a vector has values that are not finite")
        return vectors

    def count(self, where: Filter = ALL) -> int:
        """See `Store.count`."""
        condition, values = to_condition(where)
        return int(self._catalogue.select(f"SELECT count(*) FROM items WHERE {condition}", values)[0][0])

    def scan(self, where: Filter = ALL, *, after: str = "") -> Iterator[Item]:
        """See `Store.scan`."""
        condition, values = to_condition(where)
        statement = f"SELECT {ITEM_COLUMNS} FROM items WHERE {condition} AND id > ? ORDER BY id LIMIT {CHUNK}"
        while rows := self._catalogue.select(statement, [*values, after]):
            items = self._catalogue.to_items(rows)
            if any(a.id >= b.id for a, b in pairwise([Item(after, ""), *items])):  # otherwise the loop would not end
                raise damaged(self.folder, "its ids are not in order")
            yield from items
            after = items[-1].id

    def labels(self) -> dict[str, int]:
        """See `Store.labels`."""
        statement = "SELECT label, count(*) FROM items WHERE label IS NOT NULL GROUP BY label ORDER BY label"
        labels = dict(self._catalogue.select(statement))
        if not all(isinstance(label, str) and len(label) <= MAX_TEXT for label in labels):
            raise damaged(self.folder, "a label is not a text, or is too long")
        return labels

    def find_uris(self, uris: Sequence[str]) -> set[str]:
        """See `Store.find_uris`. It reads all items, since uris have no index."""
        return {row[0] for row in self._catalogue.select_in("SELECT DISTINCT uri FROM items WHERE uri IN (%s)", uris)}

    def size(self) -> int:
        """See `Store.size`."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):  # another process may have removed a file of the cache
                    total += Path(folder, name).stat().st_size
        return total

    def close(self) -> None:
        """See `Store.close`. Running searches of other threads end normally."""
        self._catalogue.close()

    def replace_vectors(self, find: FindVectors, manifest: str, rows: RowFormat) -> None:
        """See `Replaceable.replace_vectors`."""
        with self._write_vectors() as sql:
            replace_vectors(sql, find, manifest, rows, self.folder)
        self._indexes.clear()

    def compact(self) -> None:
        """See `Replaceable.compact`."""
        with suppress(BusyError, StorageError):
            self._catalogue.compact()

    def replace_manifest(self, manifest: str) -> None:
        """See `Replaceable.replace_manifest`."""
        with self._write_vectors(new_generation=False) as sql:
            write_manifest(sql, manifest)

    def _write_vectors(self, *, new_generation: bool = True) -> AbstractContextManager[Connection]:
        """Begin a write transaction, and check that the vectors are still those that the store was opened for."""
        return self._catalogue.write(
            new_generation=new_generation, check=lambda sql: check_manifest(sql, self._manifest, self.folder)
        )

    # ---- relative paths

    def add_relative_root(self, root: Path) -> None:
        """See `Relative.add_relative_root`."""
        with self._catalogue.write() as sql:
            relative.add_root(sql, self.folder, root)

    def relative_roots(self) -> tuple[Path, ...]:
        """See `Relative.relative_roots`."""
        with self._catalogue.connect() as sql:
            return RelativeRoots.read(sql, self.folder).folders

    # ---- search

    def search(self, query: Query) -> list[Answer]:
        """See `Store.search`."""
        if query.rescore:
            return self._rescore(query)
        metric, vectors = self._check_query(query)
        with self._snapshots.open() as snapshot:
            prepared = PreparedQuery(query, vectors, metric, snapshot.rows(query.where))
            index = self._choose_index(snapshot, prepared)
            if index is not None and (found := index.search(prepared)) is not None:
                hits, recalls = found
                return snapshot.answers(hits, prepared, recalls)
            return snapshot.answers(self._search_exactly(snapshot.matrix, prepared), prepared)

    def _rescore(self, query: Query) -> list[Answer]:
        """Search by codes and originals: exactly as `exact` says, or if that takes no longer than the latency budget."""
        metric, vectors = self._check_query(query)
        with self._snapshots.open() as snapshot:
            originals = self._load_originals(snapshot)
            prepared = PreparedQuery(query, vectors, metric, snapshot.rows(query.where))
            size, count = originals.bytes_read(prepared), len(vectors)
            exact = query.within is not None or query.exact
            if exact is None:
                exact = self._latency.estimate(size, count) <= snapshot.settings().budget
            if exact:
                return snapshot.answers(originals.search(prepared), prepared)
            return snapshot.answers(originals.rescore(prepared), prepared, [originals.rank.recall] * count)

    def _load_originals(self, snapshot: ReadSnapshot) -> Originals:
        if self._originals_cache is None:
            raise UsageError(f"{self.folder} keeps no original vectors beside codes, so it cannot re-score.")
        return self._originals_cache.load(snapshot)

    def stream(self, query: Query) -> Iterator[Answer]:
        """See `Streaming.stream`."""
        metric, vectors = self._check_query(query)
        if query.within is None:
            raise UsageError("Only a query with a distance range can be streamed; this one has k.")
        with self._snapshots.open() as snapshot:
            matrix, rows = snapshot.matrix, snapshot.rows(query.where)
            gallery = self._load_originals(snapshot).gallery if query.rescore else matrix.gallery
        prepared = PreparedQuery(query, vectors, metric, rows)
        parts = search.within_sorted(vectors, gallery, query.within, metric, rows=rows)
        return self._stream(matrix, parts, prepared)

    def snapshot(self) -> Snapshot:
        """See `Snapshotting.snapshot`."""
        with self._snapshots.open() as snapshot:
            return Snapshot(snapshot.ids(), snapshot.matrix.vectors, snapshot.matrix.generation)

    def generation(self) -> str:
        """See `Sampling.generation`."""
        return self._snapshots.generation()

    def sample(self, count: int, *, originals: bool = False) -> Vectors:
        """See `Sampling.sample`."""
        with self._snapshots.open() as snapshot:
            vectors = self._load_originals(snapshot).gallery.vectors if originals else snapshot.matrix.vectors
        return vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), count)).astype(np.int64)]

    def _search_exactly(self, matrix: Matrix, query: PreparedQuery) -> Hits:
        """Search the matrix, and update the latency model."""
        start = time.perf_counter()
        hits = matrix.search(query)
        size = matrix.bytes_read(query.metric, len(query.vectors), query.rows)
        self._latency.learn(size, len(query.vectors), time.perf_counter() - start)
        return hits

    def _choose_index(self, snapshot: ReadSnapshot, query: PreparedQuery) -> IndexedMatrix | None:
        """Return the index if it should answer a query; none if an exact search should."""
        exact, vectors = query.query.exact, query.vectors
        if exact or not len(vectors) or vectors.dtype != np.float32:  # float32 would overflow in FAISS
            return None
        if query.metric is Metric.COSINE and not vectors.squared_norms.all():
            return None
        if exact is None:
            size = snapshot.matrix.bytes_read(query.metric, len(vectors), query.rows)
            if self._latency.estimate(size, len(vectors)) <= snapshot.settings().budget:
                return None
        index = self._find_index(snapshot)
        return index if index is not None and index.is_faster(query) else None

    def _stream(self, matrix: Matrix, parts: Iterator[Pairs], query: PreparedQuery) -> Iterator[Answer]:
        for pairs in parts:
            for places in chunks(range(len(pairs))):
                part = pairs.keep(np.asarray(places))
                # A transaction for each part, since SQLite cannot truncate its log during a long one.
                with self._catalogue.read() as sql:
                    check_manifest(sql, self._manifest, self.folder)
                    known = np.fromiter(read_items(sql, matrix.seqs[part.right], self.folder), np.int64)
                    part = part.keep(np.isin(matrix.seqs[part.right], known))
                    snapshot = ReadSnapshot(self.folder, sql, matrix, self.space)
                    (answer,) = snapshot.answers(Hits.from_pairs([part], 1), query)
                if answer.hits:
                    yield answer

    # ---- the index

    def status(self) -> Status:
        """See `Indexable.status`."""
        with self._snapshots.open() as snapshot:
            matrix, settings = snapshot.matrix, snapshot.settings()
            index, estimate = self._find_index(snapshot), self._estimate(matrix)
            wanted = settings.index != "none" and self._can_index(len(matrix))
            due = wanted and estimate > settings.budget and (index is None or index.outdated)
            prefilter = matrix.gallery.prefilter(self.space.metric, 1)
            bits = self.space.metric is Metric.HAMMING
            precision = prefilter.precision if prefilter else "bits" if bits else "float32"
            return Status(settings, precision, estimate, None if index is None else index.state, due)

    def over_budget(self) -> bool:
        """See `Indexable.over_budget`."""
        with self._snapshots.open() as snapshot:
            return self._estimate(snapshot.matrix) > snapshot.settings().budget

    def indexable(self) -> bool:
        """See `Indexable.indexable`."""
        return self._can_index(self.count())

    def tune(self, change: Callable[[IndexSettings], IndexSettings]) -> IndexSettings:
        """See `Indexable.tune`. The generation stays the same."""
        with self._write_vectors(new_generation=False) as sql:
            before = read_settings(sql, self.folder)
            after = change(before)
            if after != before:
                sql.execute(SETTINGS_SCHEMA)
                sql.execute("DELETE FROM tuning")
                sql.execute("INSERT INTO tuning VALUES (?)", [after.model_dump_json()])
        if after.index == "none":
            self._indexes.clear()
        return after

    def build_index(self, progress: Progress = SILENT, stopped: Callable[[], bool] = lambda: False) -> bool:
        """See `Indexable.build_index`."""
        with self._snapshots.open() as snapshot:
            matrix, settings = snapshot.matrix, snapshot.settings()
        if settings.index == "none":
            return False
        self._indexes.check_writable()
        saved = indexes.build(matrix, self.space.metric, settings, progress, stopped)
        if saved is None:
            return False
        self._indexes.save(saved)
        # Another process may have built an index of a later generation meanwhile.
        self.tune(lambda now: now.model_copy(update={"built": max(now.built, saved.generation)}))
        return True

    def _estimate(self, matrix: Matrix) -> float:
        """Estimate the milliseconds of one exact query."""
        return self._latency.estimate(matrix.bytes_read(self.space.metric), 1)

    def _can_index(self, items: int) -> bool:
        return self.space.metric is not Metric.HAMMING and items >= ann.MIN_VECTORS

    def _find_index(self, snapshot: ReadSnapshot) -> IndexedMatrix | None:
        """Load the index of the settings; none if it is missing."""
        settings, matrix = snapshot.settings(), snapshot.matrix
        if settings.index == "none" or not settings.built:
            return None
        with self._lock:
            saved = self._indexes.load(settings.built)
            if saved is None:
                return None
            last = self._indexed
            if last is None or last.saved is not saved or last.matrix is not matrix:
                last = self._indexed = IndexedMatrix(saved, matrix)
            return last

    # ---- checks

    def _check_query(self, query: Query) -> tuple[Metric, Gallery]:
        """Return the metric and the prepared vectors of a query."""
        space = (self._rows.original or self.space) if query.rescore else self.space
        metric = query.metric or space.metric
        if metric not in space.metrics:
            raise UsageError(
                f"The vectors of {self.folder} cannot be compared by {metric}; choose {' or '.join(space.metrics)}."
            )
        if query.vectors is None:
            raise UsageError("A store searches for vectors. Embed images, or get the vectors of items, first.")
        return metric, self._check_vectors(query.vectors, space)

    def _check_vectors(self, vectors: Vectors, space: VectorSpace) -> Gallery:
        gallery = search.prepare(vectors, space.metric)
        if gallery.vectors.shape[1] != space.columns:
            unit = "bits" if space.metric is Metric.HAMMING else "numbers"
            raise UsageError(
                f"{self.folder} holds vectors of {space.dimension} {unit}, {space.columns} columns; these have the"
                f" shape {gallery.vectors.shape}."
            )
        return gallery


def _update(sql: sqlite3.Connection, roots: RelativeRoots, old: Item, new: Item | None) -> bool:
    """Make a change if the item is still the one that was read; return whether it was."""
    old_uri = roots.to_relative(old.uri)
    if new is None:
        values = (old.id, old_uri, old.sha256)
        return sql.execute("DELETE FROM items WHERE id = ? AND uri = ? AND sha256 = ?", values).rowcount > 0
    ident, uri, label, attributes, sha256, signature = to_row(new, roots.to_relative(new.uri))
    statement = "UPDATE items SET uri = ?, label = ?, attributes = ?, signature = ? WHERE id = ? AND sha256 = ? AND uri IN (?, ?)"
    return sql.execute(statement, (uri, label, attributes, signature, ident, sha256, old_uri, uri)).rowcount > 0
