"""Write: items and their vectors into the store."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from lookalike.folder import Folder
from lookalike.ingest.known import Known
from lookalike.ingest.plan import Entry
from lookalike.stores import Item, Store


@dataclass(frozen=True, eq=False)
class Pending:
    """An item to be written.

    Attributes:
        entry: the entry that it comes from.
        item: the item.
        content: the content of an image in memory.
    """

    entry: Entry
    item: Item
    content: bytes | None = None


@dataclass(frozen=True)
class Keeper:
    """Where images in memory are kept.

    Attributes:
        folder: the collection's, which gets the content of the images.
        lock: held until the item of an image is written too, so that nobody removes its file in between.
    """

    folder: Folder
    lock: AbstractContextManager[object]


def count_ready(pending: Sequence[Pending], coming: AbstractSet[str]) -> int:
    """Count the items before the first one whose vector is still to come."""
    return next((i for i, each in enumerate(pending) if each.item.sha256 in coming), len(pending))


def write(store: Store, pending: Sequence[Pending], known: Known, keeper: Keeper | None = None) -> list[Pending]:
    """Write items in one transaction, and record them as known.

    Args:
        store: gets the items.
        pending: items whose contents are known.
        known: has their vectors, or knows which items of the store have them.
        keeper: keeps the images in memory.

    Returns:
        Items that could not be written: another process removed the vector of their content meanwhile.

    Raises:
        StorageError, BusyError: the store is not writable.
    """
    # A content that is about to be overwritten may come again under another name, so its vector is read before.
    olds = [old for each in pending if (old := known.items.get(each.item.id)) and old.sha256 != each.item.sha256]
    overwritten = {old.sha256 for old in olds if known.holders.get(old.sha256) == old.id}
    wanted = {each.item.sha256 for each in pending}.difference(known.vectors)
    vectors = known.vectors | known.load_vectors(store, wanted | overwritten)
    known.vectors |= {content: vectors[content] for content in overwritten & vectors.keys()}
    # Two images in memory may be the same item.
    ready = list({each.item.id: each for each in pending if each.item.sha256 in vectors}.values())
    with keeper.lock if keeper else nullcontext():
        items = [_keep(each, keeper) for each in ready]
        if items:
            store.upsert(items, np.stack([vectors[item.sha256] for item in items]))
    known.record(items, overwritten)
    return [each for each in pending if each.item.sha256 not in vectors]


def _keep(pending: Pending, keeper: Keeper | None) -> Item:
    if pending.content is None or keeper is None:
        return pending.item
    uri = keeper.folder.own_uri(pending.content)
    keeper.folder.keep_image(uri, pending.content)
    return replace(pending.item, uri=uri)
