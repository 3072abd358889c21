"""Writing of items and their vectors into the store."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from lookalike.folder import Folder
from lookalike.ingest.known import Known
from lookalike.ingest.paths import signature
from lookalike.ingest.plan import Entry
from lookalike.stores import Item, Store


@dataclass(frozen=True, eq=False)
class Pending:
    """An item to write.

    Attributes:
        entry: its entry.
        item: the item.
        content: the content of an image in memory.
    """

    entry: Entry
    item: Item
    content: bytes | None = None


@dataclass(frozen=True)
class Keeper:
    """A place to keep images in memory.

    Attributes:
        folder: the collection's folder, which receives the images.
        lock: held while images and their items are written, so that nobody removes the images in between.
    """

    folder: Folder
    lock: AbstractContextManager[object]


def count_ready(pending: Sequence[Pending], unfinished: AbstractSet[str]) -> int:
    """Count the items before the first one with an unfinished content."""
    return next((i for i, each in enumerate(pending) if each.item.sha256 in unfinished), len(pending))


def write(store: Store, pending: Sequence[Pending], known: Known, keeper: Keeper | None = None) -> list[Pending]:
    """Write items in one transaction, and record them as known.

    Args:
        store: receives the items.
        pending: items with known contents.
        known: the known contents.
        keeper: keeps the images in memory.

    Returns:
        Items that are not written, since another process removed the vector of their content meanwhile.

    Raises:
        StorageError, BusyError: the store is not writable.
    """
    # An overwritten content may follow under another name, so its vector is read before.
    replaced = [old for each in pending if (old := known.items.get(each.item.id)) and old.sha256 != each.item.sha256]
    overwritten = {old.sha256 for old in replaced if known.holders.get(old.sha256) == old.id}
    wanted = {each.item.sha256 for each in pending}.difference(known.vectors)
    vectors = known.vectors | known.load_vectors(store, wanted | overwritten)
    known.vectors |= {content: vectors[content] for content in overwritten & vectors.keys()}
    # Two images in memory may be the same item.
    ready = list({each.item.id: each for each in pending if each.item.sha256 in vectors}.values())
    with keeper.lock if keeper else nullcontext():
        items = [_keep_image(each, keeper) for each in ready]
        if items:
            store.upsert(items, np.stack([vectors[item.sha256] for item in items]))
    known.record(items, overwritten)
    return [each for each in pending if each.item.sha256 not in vectors]


def _keep_image(pending: Pending, keeper: Keeper | None) -> Item:
    if pending.content is None or keeper is None:
        return pending.item
    uri = keeper.folder.own_uri(pending.content)
    keeper.folder.keep_image(uri, pending.content)
    return replace(pending.item, uri=uri, signature=signature(keeper.folder.path / uri))
