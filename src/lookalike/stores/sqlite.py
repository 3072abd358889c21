"""The embedded store: a folder whose ``catalog.sqlite`` is the truth and whose ``cache/`` can be deleted at any time.

Items and vectors are rows of SQLite in WAL mode: one writer at a time, any number of readers, in as many processes. A
counter, the generation, goes up with every write. Searches run over a matrix of all vectors of a generation in the order
of ids. It lies in ``cache/``, where everybody maps it into memory; who finds none there, or a damaged one, makes it anew
from the rows and moves it into place whole. Nothing in the cache is believed that the catalogue does not bear out. Where
an exact search takes longer than the collection's budget, an index in ``cache/`` answers approximately, if there is one.
"""

import errno
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
from jaxtyping import Int64
from pydantic import ValidationError

from lookalike import ann, search
from lookalike.errors import AlreadyExistsError, NotFoundError, StorageError, UsageError
from lookalike.metric import Metric, similarity
from lookalike.progress import SILENT, Progress
from lookalike.query import ALL, DEFAULT_K, Filter, Query, Vectors
from lookalike.search import Gallery, Hits, Pairs
from lookalike.stores import indexing
from lookalike.stores.answer import Answer, Hit, Item
from lookalike.stores.catalog import CHUNK, Catalog, chunks, marks
from lookalike.stores.indexing import Beside, IndexCache
from lookalike.stores.manifest import Manifest
from lookalike.stores.matrix import Cache, Matrix
from lookalike.stores.protocol import Snapshot, check
from lookalike.stores.tuning import IndexState, Pace, Status, Tuning

# A process that has a matrix in memory writes the next one to the cache where this part of its rows is new, an eighth: to
# write everything for a few changes would cost more than it saves the next process.
_WORTH_KEEPING = 8

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
-- The token is random: a catalogue put back from a backup may count up to the same number with other vectors.
CREATE TABLE generation (number INTEGER NOT NULL, token TEXT NOT NULL) STRICT;
INSERT INTO generation VALUES (0, lower(hex(randomblob(8))));
"""

_ITEM = "id, uri, label, attributes, sha256, signature"


class SQLiteStore:
    """The embedded store; see the module. Safe to use from several threads, which search at the same time."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self.manifest = manifest
        self._catalog = Catalog(folder)
        self._cache = Cache(folder / "cache", manifest.columns, manifest.metric)
        self._indexes = IndexCache(self._cache)
        self._matrix: Matrix | None = None
        self._beside: Beside | None = None
        self._pace = Pace()
        self._making = Lock()

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
        new = folder.with_name(f".new-{secrets.token_hex(8)}")
        try:
            if folder.exists():
                raise AlreadyExistsError(f"{folder} is there already.")
            new.mkdir(parents=True)
            for name, content in fill:
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(content)
            (new / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            with closing(sqlite3.connect(new / "catalog.sqlite")) as sql:
                sql.execute("PRAGMA journal_mode = WAL")
                sql.executescript(_SCHEMA)
            new.rename(folder)
        except (OSError, sqlite3.Error) as e:
            if isinstance(e, OSError) and e.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR) and folder.exists():
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
        store = cls(folder, Manifest.read(folder))
        if not store._catalog.path.is_file():
            raise StorageError(f"{folder} is damaged: catalog.sqlite is missing. Index the pictures again.")
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

    @property
    def codec(self) -> str:
        """See `Store.codec`."""
        return self.manifest.codec

    def upsert(self, items: Sequence[Item], vectors: Vectors) -> None:
        """See `Store.upsert`."""
        blobs = self._checked(vectors).vectors
        if len(items) != len(blobs):
            raise UsageError(f"{len(items)} items came with {len(blobs)} vectors.")
        check(items)
        if not items:
            return
        # Of an id that comes twice the last one counts, as if they had been written one after the other.
        last = {item.id: i for i, item in enumerate(items)}
        with self._catalog.writing() as sql:
            sql.executemany("DELETE FROM items WHERE id = ?", ((i,) for i in last))
            for i in last.values():
                it = items[i]
                row = (it.id, it.uri, it.label, json.dumps(dict(it.attributes)), it.sha256, it.signature)
                seq = sql.execute(f"INSERT INTO items ({_ITEM}) VALUES (?, ?, ?, ?, ?, ?)", row).lastrowid
                sql.execute("INSERT INTO vectors VALUES (?, ?)", (seq, blobs[i].tobytes()))

    def delete(self, ids: Sequence[str]) -> int:
        """See `Store.delete`."""
        with self._catalog.writing() as sql:
            return sum(sql.execute("DELETE FROM items WHERE id = ?", (i,)).rowcount for i in ids)

    def get(self, ids: Sequence[str]) -> dict[str, Item]:
        """See `Store.get`."""
        rows = self._catalog.select(f"SELECT id, {_ITEM} FROM items WHERE id IN (%s)", ids)
        return {ident: _item(row) for ident, *row in rows}

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """See `Store.vectors`."""
        found = dict(
            self._catalog.select("SELECT id, vector FROM items JOIN vectors USING (seq) WHERE id IN (%s)", ids)
        )
        if missing := [i for i in ids if i not in found]:
            raise NotFoundError(f"{self.folder} has no item “{missing[0]}”.")
        return self._array([found[i] for i in ids])

    def count(self, where: Filter = ALL) -> int:
        """See `Store.count`."""
        condition, values = _condition(where)
        return int(self._catalog.read(f"SELECT count(*) FROM items WHERE {condition}", values)[0][0])

    def scan(self, where: Filter = ALL, *, after: str = "") -> Iterator[Item]:
        """See `Store.scan`."""
        condition, values = _condition(where)
        sql = f"SELECT {_ITEM} FROM items WHERE {condition} AND id > ? ORDER BY id LIMIT {CHUNK}"
        while rows := self._catalog.read(sql, [*values, after]):
            yield from map(_item, rows)
            after = rows[-1][0]

    def labels(self) -> dict[str, int]:
        """See `Store.labels`."""
        sql = "SELECT label, count(*) FROM items WHERE label IS NOT NULL GROUP BY label ORDER BY label"
        return dict(self._catalog.read(sql))

    def search(self, query: Query) -> list[Answer]:
        """See `Store.search`."""
        metric, queries = self._metric(query.metric), self._prepare(query)
        with self._catalog.reading() as sql:
            matrix = self._current(sql)
            rows = self._rows(sql, matrix, query.where)
            index = self._index_for(sql, matrix, metric, queries, rows, exact=query.exact)
            hits = None if index is None else _search_index(index, query, queries, rows)
            recall = None if index is None or hits is None else index.kept.recall
            if hits is None:
                with self._timed(matrix, metric, queries, rows):
                    hits = _search_exactly(matrix, query, queries, metric, rows)
            return self._answers(sql, matrix, hits, metric, recall=recall, limit=query.limit if query.within else None)

    def stream(self, query: Query) -> Iterator[Answer]:
        """See `Store.stream`."""
        metric, queries, within = self._metric(query.metric), self._prepare(query), query.within
        if within is None:
            raise UsageError("Only a query with a distance range is answered in parts; it has none.")
        with self._catalog.reading() as sql:
            matrix = self._current(sql)
            rows = self._rows(sql, matrix, query.where)
        blocks = search.within_sorted(queries, matrix.gallery, within, metric, rows=rows)
        return self._streamed(matrix, blocks, metric)

    def snapshot(self) -> Snapshot:
        """See `Store.snapshot`."""
        with self._catalog.reading() as sql:
            matrix = self._current(sql)
            ids = [row[0] for row in sql.execute("SELECT id FROM items ORDER BY id")]
            return Snapshot(ids, matrix.vectors, matrix.generation)

    def size(self) -> int:
        """See `Store.size`."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):  # another process tidies its cache
                    total += Path(folder, name).stat().st_size
        return total

    def close(self) -> None:
        """See `Store.close`; searches that other threads are at come to their end."""
        self._catalog.close()

    # ---- the index

    def status(self) -> Status:
        """How exact searches are, how long they take, and what index there is."""
        with self._catalog.reading() as sql:
            matrix, tuning = self._current(sql), self._tuning(sql)
            beside, estimate = self._found(sql, matrix), self._estimate(matrix)
            state = None
            if beside is not None:
                kept, added, gone = beside.kept, len(beside.added), beside.gone
                state = IndexState(kept.index.kind, kept.generation, kept.recall, kept.bytes, kept.seconds, added, gone)
            possible = tuning.index != "none" and self._indexable(len(matrix.seqs))
            old = beside is None or beside.stale
            scan = "int8" if matrix.gallery.scan else "bits" if self.metric is Metric.HAMMING else "float32"
            return Status(tuning, scan, estimate, state, possible and old and estimate > tuning.budget)

    def over_budget(self) -> bool:
        """Whether an exact query is estimated to take longer than the budget. Unlike `status` it loads no index."""
        with self._catalog.reading() as sql:
            return self._estimate(self._current(sql)) > self._tuning(sql).budget

    def _estimate(self, matrix: Matrix) -> float:
        return self._pace.estimate(matrix.reads(self.metric, None, 1), 1)

    @property
    def indexable(self) -> bool:
        """Whether there are enough items for an index, and no bits, which are searched exactly."""
        return self._indexable(self.count())

    def _indexable(self, items: int) -> bool:
        return self.metric is not Metric.HAMMING and items >= ann.MIN_VECTORS

    def tune(self, change: Callable[[Tuning], Tuning]) -> Tuning:
        """Change the settings; returns them. They are not vectors: the generation stays.

        Raises:
            StorageError, BusyError: the catalogue cannot be written.
        """
        with self._catalog.connected() as sql:
            sql.execute("BEGIN IMMEDIATE")
            before = self._tuning(sql)
            after = change(before)
            if after != before:
                sql.execute("CREATE TABLE IF NOT EXISTS tuning (settings TEXT NOT NULL) STRICT")
                sql.execute("DELETE FROM tuning")
                sql.execute("INSERT INTO tuning VALUES (?)", [after.model_dump_json()])
            sql.execute("COMMIT")
        if after.index == "none":
            self._indexes.clear()
        return after

    def build_index(
        self,
        progress: Progress = SILENT,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Make the index that the settings ask for, from what is there now. Searches and writes go on meanwhile.

        Args:
            progress: receives the vectors indexed, as the stage ``"indexing"``.
            stopped: is asked, about every second, whether to leave it.

        Returns:
            Whether it was made: not where it was stopped, or where no index is wanted. What was there before stays.

        Raises:
            UsageError: too few items, or bits.
            StorageError, BusyError: it cannot be kept.
        """
        with self._catalog.reading() as sql:
            matrix, tuning = self._current(sql), self._tuning(sql)
        if tuning.index == "none":
            return False
        self._indexes.prepare()
        kept = indexing.build(matrix, self.metric, tuning.index, tuning.recall, progress=progress, stopped=stopped)
        if kept is None:
            return False
        self._indexes.save(kept)
        # Another process may have built a later one meanwhile.
        self.tune(lambda now: now.model_copy(update={"built": max(now.built, kept.generation)}))
        return True

    def _tuning(self, sql: sqlite3.Connection) -> Tuning:
        if not sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'tuning'").fetchone():
            return Tuning()
        row = sql.execute("SELECT settings FROM tuning").fetchone()
        try:
            return Tuning() if row is None else Tuning.model_validate_json(row[0])
        except ValidationError as e:
            raise StorageError(
                f"{self.folder} is damaged: its settings cannot be read. Set them: lookalike tune."
            ) from e

    def _found(self, sql: sqlite3.Connection, matrix: Matrix) -> Beside | None:
        """The index that belongs to this catalogue, if it is there."""
        tuning = self._tuning(sql)
        if tuning.index == "none" or not tuning.built:
            return None
        with self._making:
            kept = self._indexes.load(tuning.built)
            if kept is None:
                return None
            last = self._beside
            if last is None or last.kept is not kept or last.matrix is not matrix:
                last = self._beside = Beside(kept, matrix)
            return last

    def _index_for(
        self,
        sql: sqlite3.Connection,
        matrix: Matrix,
        metric: Metric,
        queries: Gallery,
        rows: Int64[np.ndarray, " m"] | None,
        *,
        exact: bool | None,
    ) -> Beside | None:
        """What answers such a question, if it is not answered exactly."""
        if exact or not len(queries) or queries.dtype != np.float32:  # in which FAISS would overflow
            return None
        if metric is Metric.COSINE and not queries.squared_norms.all():
            return None
        if exact is None:
            estimate = self._pace.estimate(matrix.reads(metric, rows, len(queries)), len(queries))
            if estimate <= self._tuning(sql).budget:
                return None
        index = self._found(sql, matrix)
        return index if index is not None and index.serves(metric, rows) else None

    @contextmanager
    def _timed(
        self, matrix: Matrix, metric: Metric, queries: Gallery, rows: Int64[np.ndarray, " m"] | None
    ) -> Iterator[None]:
        """An exact search, of which the next estimate learns."""
        began = time.perf_counter()
        yield
        self._pace.learn(matrix.reads(metric, rows, len(queries)), len(queries), time.perf_counter() - began)

    # ---- the matrix

    def _rows(self, sql: sqlite3.Connection, matrix: Matrix, where: Filter) -> Int64[np.ndarray, " m"] | None:
        """The rows that a filter leaves; none at all where there is no filter."""
        if not where:
            return None
        condition, values = _condition(where)
        seqs = _column(sql.execute(f"SELECT seq FROM items WHERE {condition}", values).fetchall())
        return np.sort(matrix.rows(seqs)[0])

    def _streamed(self, matrix: Matrix, blocks: Iterator[Pairs], metric: Metric) -> Iterator[Answer]:
        for block in blocks:
            for chunk in chunks(range(len(block))):
                some = block.keep(np.asarray(chunk))
                with self._catalog.reading() as sql:  # not all the while: a reader keeps the log from being tidied
                    known = np.fromiter(self._items(sql, matrix.seqs[some.right]), np.int64)
                    some = some.keep(np.isin(matrix.seqs[some.right], known))
                    (answer,) = self._answers(sql, matrix, Hits.from_pairs([some], 1), metric)
                if answer.hits:
                    yield answer

    def _items(self, sql: sqlite3.Connection, seqs: Int64[np.ndarray, " n"]) -> dict[int, Item]:
        items: dict[int, Item] = {}
        for chunk in chunks(np.unique(seqs).tolist()):
            for seq, *row in sql.execute(f"SELECT seq, {_ITEM} FROM items WHERE seq IN ({marks(chunk)})", chunk):
                items[seq] = _item(row)
        return items

    def _answers(
        self,
        sql: sqlite3.Connection,
        matrix: Matrix,
        hits: Hits,
        metric: Metric,
        *,
        recall: float | None = None,
        limit: int | None = None,
    ) -> list[Answer]:
        whole = [hits.complete and (limit is None or count <= limit) for count in np.diff(hits.offsets).tolist()]
        hits = hits if limit is None else hits.first(limit)
        seqs = matrix.seqs[hits.rows]
        items = self._items(sql, seqs)
        similarities = similarity(hits.distances, metric, self.dimension)
        found = [
            Hit(items[seq], distance, alike)
            for seq, distance, alike in zip(seqs.tolist(), hits.distances.tolist(), similarities.tolist(), strict=True)
        ]
        bounds = hits.offsets.tolist()
        return [
            Answer(tuple(found[a:b]), metric, hits.exact, complete, recall)
            for (a, b), complete in zip(pairwise(bounds), whole, strict=True)
        ]

    def _current(self, sql: sqlite3.Connection) -> Matrix:
        """The matrix of a transaction's generation: from memory, from the cache, or made anew."""
        number, token = sql.execute("SELECT number, token FROM generation").fetchone()
        generation = f"{number:012}-{token}"
        with self._making:  # one thread makes it, and the others wait for it
            last = self._matrix
            if last is not None and last.generation == generation:
                return last
            matrix = self._cache.load(generation) or self._gathered(sql, generation)
            # Not where a thread that began to read later was faster.
            if last is None or last.generation < generation:
                self._matrix = matrix
        return matrix

    def _gathered(self, sql: sqlite3.Connection, generation: str) -> Matrix:
        """All vectors: those that the last matrix has are copied, the others read."""
        seqs = _column(sql.execute("SELECT seq FROM items ORDER BY id").fetchall())
        out = np.empty((len(seqs), self.manifest.columns), self.manifest.dtype)
        missing = np.ones(len(seqs), bool)
        if last := self._matrix:
            rows, here = last.rows(seqs)
            out[here], missing = last.vectors[rows], ~here
        for chunk in chunks(np.flatnonzero(missing).tolist()):
            wanted = seqs[chunk].tolist()
            found = dict(sql.execute(f"SELECT seq, vector FROM vectors WHERE seq IN ({marks(wanted)})", wanted))
            out[chunk] = self._array([found.get(seq, b"") for seq in wanted])
        if last and missing.sum() < len(seqs) / _WORTH_KEEPING:
            return last.updated(generation, seqs, out, self.metric)
        matrix = Matrix.of(generation, seqs, out, self.metric)
        self._cache.keep(matrix)
        return self._cache.load(generation) or matrix

    # ---- arrays

    def _metric(self, metric: Metric | None) -> Metric:
        metric = metric or self.metric
        if metric.dtype != self.manifest.dtype:
            raise UsageError(f"The vectors of {self.folder} are compared by {self.metric}, not by {metric}.")
        return metric

    def _prepare(self, query: Query) -> Gallery:
        if query.vectors is None:
            raise UsageError("A store searches for vectors: embed images, and get the vectors of items, first.")
        return self._checked(query.vectors)

    def _checked(self, vectors: Vectors) -> Gallery:
        gallery = search.prepare(vectors, self.metric)
        if gallery.vectors.shape[1] != self.manifest.columns:
            shape = gallery.vectors.shape
            raise UsageError(
                f"{self.folder} holds vectors of {self.dimension} {'bits' if self.metric is Metric.HAMMING else 'numbers'},"
                f" {self.manifest.columns} columns; these have the shape {shape}."
            )
        return gallery

    def _array(self, blobs: Sequence[bytes]) -> Vectors:
        columns, dtype = self.manifest.columns, self.manifest.dtype
        if any(len(b) != columns * dtype.itemsize for b in blobs):
            raise StorageError(f"{self.folder} is damaged: a vector in catalog.sqlite is missing or cut off.")
        return np.frombuffer(b"".join(blobs), dtype).reshape(len(blobs), columns)


def _search_exactly(
    matrix: Matrix, query: Query, queries: Gallery, metric: Metric, rows: Int64[np.ndarray, " m"] | None
) -> Hits:
    if query.within is None:
        return search.knn(queries, matrix.gallery, query.k or DEFAULT_K, metric, rows=rows)
    return search.within(queries, matrix.gallery, query.within, metric, rows=rows)


def _search_index(index: Beside, query: Query, queries: Gallery, rows: Int64[np.ndarray, " m"] | None) -> Hits | None:
    """Approximate hits; none if the index found too few or too many, and the query has to be answered exactly."""
    if query.within is not None:
        hits = index.within(queries, query.within, rows)
        return hits if hits.complete or query.exact is False else None
    k = query.k or DEFAULT_K
    hits = index.knn(queries, k, rows)
    available = len(index.matrix.seqs) if rows is None else len(rows)
    # A graph may have parts that no link leads to.
    return hits if np.diff(hits.offsets).min() >= min(k, available) else None


def _condition(where: Filter) -> tuple[str, list[str]]:
    """A filter as SQL and its values."""
    parts, values = ["TRUE"], []
    if where.labels is not None:
        parts.append("label IN (SELECT value FROM json_each(?))")
        values.append(_json(where.labels))
    if where.ids is not None:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(_json(where.ids))
    for key, value in where.attributes.items():
        parts.append("EXISTS (SELECT 1 FROM json_each(attributes) WHERE key = ? AND value = ?)")
        values.extend((key, value))
    return " AND ".join(parts), values


def _json(texts: Iterable[str]) -> str:
    """Texts for ``json_each``, which cuts them off at a NUL; no item has one."""
    return json.dumps(sorted(text for text in texts if "\0" not in text))


def _item(row: Sequence[Any]) -> Item:
    ident, uri, label, attributes, sha256, signature = row
    known: Mapping[str, str] = json.loads(attributes)
    return Item(ident, uri, label, known, sha256, signature)


def _column(rows: Sequence[tuple[int]]) -> Int64[np.ndarray, " n"]:
    return np.fromiter((row[0] for row in rows), np.int64, len(rows))
