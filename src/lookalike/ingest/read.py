"""Reading of entries: their content, fitted to the encoder unless its vector is known."""

import os
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lookalike import images
from lookalike.embedding import Embedder
from lookalike.errors import ImageError, LookalikeError, NotFoundError, StorageError, UnreadableImageError, UsageError
from lookalike.ingest.known import Known
from lookalike.ingest.paths import absolute_path, shows_changes, signature
from lookalike.ingest.plan import Entry
from lookalike.shapes import UInt8
from lookalike.stores import Item
from lookalike.stores.protocol import check_items

_ID_DIGITS = 20

Outcome = Literal["embedded", "reused", "moved", "unchanged", "failed", "overwritten"]
"""The outcome of an entry. ``reused``: the vector of its content was known under another name. ``moved``: the file of that
name is missing, or has the content of another item. ``overwritten``, of an item without an entry: the file of another item took
its place."""


@dataclass(frozen=True, eq=False)
class Read:
    """An entry after reading.

    Attributes:
        item: its item. The uri of an image in memory is empty until it is written.
        fitted: the image, fitted to the encoder; none if the vector of its content is known.
        content: the content of an image in memory, which is kept in the collection's folder.
    """

    item: Item
    fitted: UInt8[np.ndarray, "s s 3"] | None = None
    content: bytes | None = None


def read(entry: Entry, known: Known, embedder: Embedder) -> Read | LookalikeError:
    """Read an entry, or return the error if it is unusable; safe to call from several threads.

    It does not open a file with the size and times of its item, and does not decode a known content.
    """
    try:
        return _read_file(entry, known, embedder) if entry.image is None else _read_memory(entry, known, embedder)
    except (ImageError, NotFoundError, StorageError, UsageError) as error:
        return error


def _read_file(entry: Entry, known: Known, embedder: Embedder) -> Read:
    path = absolute_path(entry.path)
    try:
        uri = os.fsencode(path).decode()
    except UnicodeError:
        raise UnreadableImageError(f"The name of {str(path)!r} is not UTF-8. Rename the file.") from None
    item = _keep_labels(Item(entry.id or known.id_of(path, uri), uri, entry.label, dict(entry.attributes)), known)
    old, now = known.items.get(item.id), signature(path)
    if old and shows_changes(now) and (now, uri) == (old.signature, old.uri):
        return Read(replace(item, sha256=old.sha256, signature=now))
    content = images.read_bytes(path)
    images.media_type(content, name=repr(str(path)))  # `load` also takes a drawing, which is a query and not an item
    item = replace(item, sha256=images.fingerprint(content), signature=now)
    if item.sha256 in known:
        return Read(item)
    network = embedder.encoder.card.input
    return Read(item, images.load(content, network.side, network.fitting, name=repr(str(path))))


def _read_memory(entry: Entry, known: Known, embedder: Embedder) -> Read:
    if entry.image is None:
        raise UsageError(f"The entry {entry.path} has no image.")
    name, network = f"Image {entry.path}", embedder.encoder.card.input
    if isinstance(entry.image, bytes):
        images.media_type(entry.image, name=name)  # as above
    fitted = images.load(
        entry.image, network.side, network.fitting, name=name
    )  # first, since its errors name the image
    content = images.read_bytes(entry.image)
    sha256 = images.fingerprint(content)
    ident = entry.id or sha256[:_ID_DIGITS]
    item = _keep_labels(Item(ident, "", entry.label, dict(entry.attributes), sha256), known)
    return Read(item, None if sha256 in known else fitted, content)


def _keep_labels(item: Item, known: Known) -> Item:
    check_items([item])
    old = known.items.get(item.id)
    return keep_labels(item, old) if old else item


def keep_labels(item: Item, old: Item) -> Item:
    """Copy the label and attributes of the stored item to an item that has neither."""
    if item.label is None and not item.attributes:
        return replace(item, label=old.label, attributes=old.attributes)
    return item
