"""The manifest of a collection in its catalogue, and the replacement of all vectors by others, or by codes.

``manifest.json`` describes the vectors until the collection is reindexed or compressed. Then the catalogue holds the
manifest of its vectors: it changes in the same transaction as they do.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lookalike.errors import MismatchError
from lookalike.rows import RowFormat
from lookalike.stores.answer import Item
from lookalike.stores.sqlite.relative import resolve_items
from lookalike.stores.sqlite.schema import CHUNK, ITEM_COLUMNS, ORIGINALS_SCHEMA, SETTINGS_SCHEMA, to_item
from lookalike.untrusted.databases import Connection

# Created when the collection is reindexed or compressed.
MANIFEST_SCHEMA = "CREATE TABLE IF NOT EXISTS manifest (text TEXT NOT NULL) STRICT"

FindVectors = Callable[[Sequence[Item]], Mapping[str, np.ndarray]]
"""A function that finds the new rows of items, by id; it leaves out items that are to be deleted."""


def read_manifest(sql: Connection) -> str | None:
    """Read the manifest; none if the vectors were never replaced."""
    if not sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'manifest'").fetchone():
        return None
    row = sql.execute("SELECT text FROM manifest").fetchone()
    return None if row is None or not isinstance(row[0], str) else row[0]


def write_manifest(sql: Connection, manifest: str) -> None:
    """Write the manifest in an open write transaction."""
    sql.execute(MANIFEST_SCHEMA)
    sql.execute("DELETE FROM manifest")
    sql.execute("INSERT INTO manifest VALUES (?)", (manifest,))


def check_manifest(sql: Connection, known: str | None, folder: Path) -> None:
    """Check that the vectors are still those of the manifest that was read when the store was opened.

    Raises:
        MismatchError: they were replaced.
    """
    if read_manifest(sql) != known:
        raise MismatchError(f"{folder} was reindexed or compressed after it was opened. Open it again, and try again.")


def insert_row(sql: Connection, seq: int | None, row: np.ndarray, rows: RowFormat) -> None:
    """Write the row of an item in an open write transaction."""
    content = row.tobytes()
    sql.execute("INSERT INTO vectors VALUES (?, ?)", (seq, content[: rows.bytes]))
    if rows.original is not None:
        sql.execute("INSERT INTO originals VALUES (?, ?)", (seq, content[rows.bytes :]))


def replace_vectors(sql: Connection, find: FindVectors, manifest: str, rows: RowFormat, folder: Path) -> None:
    """Replace all rows, and the manifest, in an open write transaction.

    Each item gets a new seq, so that no matrix or index of the old vectors fits it.
    """
    first, last = sql.execute("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM items").fetchone()
    shift, done = last - first + 1, first - 1
    sql.execute("DELETE FROM vectors")
    sql.execute("DROP TABLE IF EXISTS originals")
    if rows.original is not None:
        sql.execute(ORIGINALS_SCHEMA)
    statement = f"SELECT seq, {ITEM_COLUMNS} FROM items WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {CHUNK}"
    while listed := list(sql.rows(statement, (done, last))):
        items = resolve_items(sql, folder, [to_item(values[1:]) for values in listed])
        found, done = find(items), listed[-1][0]
        for (seq, *_), item in zip(listed, items, strict=True):
            row = found.get(item.id)
            if row is None:
                sql.execute("DELETE FROM items WHERE seq = ?", (seq,))
            else:
                sql.execute("UPDATE items SET seq = ? WHERE seq = ?", (seq + shift, seq))
                insert_row(sql, seq + shift, row, rows)
    if last:  # as for any other new item: no seq of a deleted item is used again
        sql.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'items'", (last + shift,))
    write_manifest(sql, manifest)
    sql.execute(SETTINGS_SCHEMA)
    sql.execute("UPDATE tuning SET settings = json_set(settings, '$.built', '')")  # the index is of the old vectors
