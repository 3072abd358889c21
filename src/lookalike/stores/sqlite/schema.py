"""The tables of ``catalog.sqlite``, their rows as items, and filters as SQL."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lookalike.query import Filter
from lookalike.stores.answer import Item
from lookalike.stores.protocol import MAX_TEXT, is_digest
from lookalike.untrusted.databases import UnsafeDatabaseError

SCHEMA = """
CREATE TABLE items (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused, so a new vector always has a new number
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

# Created with the first change of settings, since collections of earlier versions do not have it.
SETTINGS_SCHEMA = "CREATE TABLE IF NOT EXISTS tuning (settings TEXT NOT NULL) STRICT"

# Created when the collection is compressed.
ORIGINALS_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS originals (seq INTEGER PRIMARY KEY REFERENCES items (seq) ON DELETE CASCADE,"
    " vector BLOB NOT NULL) STRICT"
)

ITEM_COLUMNS = "id, uri, label, attributes, sha256, signature"

_MAX_QUOTE = 40

CHUNK = 5000
"""Maximum number of rows or values of one statement; SQLite allows 32,766 placeholders."""


def to_row(item: Item, uri: str) -> tuple[str | None, ...]:
    """Convert an item to the values of `ITEM_COLUMNS`, with its uri as the catalogue holds it."""
    return (item.id, uri, item.label, json.dumps(dict(item.attributes)), item.sha256, item.signature)


def to_item(row: Sequence[Any]) -> Item:
    """Convert the values of `ITEM_COLUMNS` to an item.

    Raises:
        UnsafeDatabaseError: the row is damaged, or a stranger made it.
    """
    ident, uri, label, attributes, sha256, signature = row
    try:
        known: Mapping[str, str] = {} if attributes == "{}" else json.loads(attributes)
        texts = (ident, uri, "" if label is None else label, sha256, signature, *known, *known.values())
        text = "".join(texts)
        text.encode()  # JSON can hold half a surrogate pair
        valid = (
            bool(ident) and len(text) <= MAX_TEXT and "\0" not in text and isinstance(known, dict) and is_digest(sha256)
        )
    except (TypeError, AttributeError, ValueError, RecursionError):
        valid = False
    if not valid:
        raise UnsafeDatabaseError(f"the item {str(ident)[:_MAX_QUOTE]!r} is invalid")
    return Item(ident, uri, label, known, sha256, signature)


def to_condition(where: Filter) -> tuple[str, list[str]]:
    """Convert a filter to an SQL condition on items and the values of its placeholders."""
    parts, values = ["TRUE"], []
    if where.labels is not None:
        parts.append("label IN (SELECT value FROM json_each(?))")
        values.append(_to_json(where.labels))
    if where.ids is not None:
        parts.append("id IN (SELECT value FROM json_each(?))")
        values.append(_to_json(where.ids))
    for key, value in where.attributes.items():
        parts.append("EXISTS (SELECT 1 FROM json_each(attributes) WHERE key = ? AND value = ?)")
        values.extend((key, value))
    return " AND ".join(parts), values


def placeholders(values: Sequence[Any]) -> str:
    """Return a list of placeholders for values."""
    return ",".join("?" * len(values))


def _to_json(texts: Iterable[str]) -> str:
    # `json_each` truncates texts at a NUL, which no text of an item has.
    return json.dumps(sorted(text for text in texts if "\0" not in text))
