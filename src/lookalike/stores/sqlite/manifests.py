"""The manifest of a collection in its catalogue, and the replacement of all vectors by those of another encoder.

``manifest.json`` describes the vectors until the collection is reindexed. Then the catalogue holds the manifest of its
vectors: it changes in the same transaction as they do.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lookalike.errors import MismatchError
from lookalike.stores.answer import Item
from lookalike.stores.sqlite.relative import resolve_items
from lookalike.stores.sqlite.schema import CHUNK, ITEM_COLUMNS, SETTINGS_SCHEMA, to_item
from lookalike.untrusted.databases import Connection

# Created when the collection is reindexed.
MANIFEST_SCHEMA = "CREATE TABLE IF NOT EXISTS manifest (text TEXT NOT NULL) STRICT"

FindVectors = Callable[[Sequence[Item]], Mapping[str, np.ndarray]]
"""A function that finds the new vectors of items, by id; it leaves out items that are to be deleted."""


def read_manifest(sql: Connection) -> str | None:
    """Read the manifest; none if the collection was never reindexed."""
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
        raise MismatchError(
            f"{folder} was reindexed with another encoder after it was opened. Open it again, and try again."
        )


def replace_vectors(sql: Connection, find: FindVectors, manifest: str, folder: Path) -> None:
    """Replace all vectors, and the manifest, in an open write transaction.

    Each item gets a new seq, so that no matrix or index of the old vectors fits it.
    """
    first, last = sql.execute("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM items").fetchone()
    shift, done = last - first + 1, first - 1
    sql.execute("DELETE FROM vectors")
    statement = f"SELECT seq, {ITEM_COLUMNS} FROM items WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {CHUNK}"
    while rows := list(sql.rows(statement, (done, last))):
        items = resolve_items(sql, folder, [to_item(row[1:]) for row in rows])
        found, done = find(items), rows[-1][0]
        seqs = {row[0]: found.get(item.id) for row, item in zip(rows, items, strict=True)}
        sql.executemany("DELETE FROM items WHERE seq = ?", [(seq,) for seq, vector in seqs.items() if vector is None])
        kept = [(seq + shift, seq, vector.tobytes()) for seq, vector in seqs.items() if vector is not None]
        sql.executemany("UPDATE items SET seq = ? WHERE seq = ?", [(new, old) for new, old, _ in kept])
        sql.executemany("INSERT INTO vectors VALUES (?, ?)", [(new, vector) for new, _, vector in kept])
    if last:  # as for any other new item: no seq of a deleted item is used again
        sql.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'items'", (last + shift,))
    write_manifest(sql, manifest)
    sql.execute(SETTINGS_SCHEMA)
    sql.execute("UPDATE tuning SET settings = json_set(settings, '$.built', '')")  # the index is of the old vectors
