"""Writing of items and their vectors into the store."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from lookalike.folder import Folder
from lookalike.ingest.known import Known
from lookalike.ingest.paths import signature
from lookalike.ingest.plan import Entry
from lookalike.ingest.read import Outcome
from lookalike.stores import Item, Store


@dataclass(frozen=True, eq=False)
class Pending:
    """An item to write.

    Attributes:
        entry: its entry.
        item: the item.
        content: the content of an image in memory.
        outcome: of the entry.
    """

    entry: Entry
    item: Item
    content: bytes | None = None
    outcome: Outcome = "embedded"


def count_ready(pending: Sequence[Pending], unfinished: AbstractSet[str]) -> int:
    """Count the items before the first one with an unfinished content."""
    return next((i for i, each in enumerate(pending) if each.item.sha256 in unfinished), len(pending))


def write(store: Store, pending: Sequence[Pending], known: Known, keeper: Folder | None = None) -> list[Pending]:
    """Write items, and record them as known: the ones with a known content in one transaction, the others in another.

    Args:
        store: receives the items.
        pending: items with known contents.
        known: the known contents.
        keeper: the collection's folder, which keeps the images in memory.

    Returns:
        Items that are not written, since another process meanwhile moved or changed them, or removed the vector of their
        content.

    Raises:
        StorageError, BusyError: the store is not writable.
    """
    last = {each.item.id: each for each in pending}  # two images in memory may be the same item
    same, other = list[Pending](), list[Pending]()
    for each in last.values():
        old = known.items.get(each.item.id)
        (same if old and old.sha256 == each.item.sha256 else other).append(each)
    unwritten, deleted = _update(store, same, known, keeper)
    moved = _moved_meanwhile(store, other, known)
    unwritten += moved
    return unwritten + _upsert(store, [each for each in other if each not in moved] + deleted, known, keeper)


def _update(
    store: Store, pending: Sequence[Pending], known: Known, keeper: Folder | None
) -> tuple[list[Pending], list[Pending]]:
    """Write items whose content stays; return those that another process changed, and those that it deleted."""
    if not pending:
        return [], []
    with _keep_images(pending, keeper) as items:
        done = {old.id for old in store.update([(known.items[item.id], item) for item in items])}
    known.record((item for item in items if item.id in done), frozenset())
    failed = [each for each in pending if each.item.id not in done]
    there = store.get([each.item.id for each in failed])
    return [e for e in failed if e.item.id in there], [e for e in failed if e.item.id not in there]


def _moved_meanwhile(store: Store, pending: Sequence[Pending], known: Known) -> list[Pending]:
    """Return items with a new content that another process has moved to another path since they were read."""
    olds = {each.item.id: old for each in pending if (old := known.items.get(each.item.id))}
    there = store.get(list(olds))
    return [
        each
        for each in pending
        if (now := there.get(each.item.id)) and now.uri not in (each.item.uri, olds[now.id].uri)
    ]


def _upsert(store: Store, pending: Sequence[Pending], known: Known, keeper: Folder | None) -> list[Pending]:
    """Write items with their vectors; return those whose vector is not known any longer."""
    # An overwritten content may follow under another name, so its vector is read before.
    replaced = [old for each in pending if (old := known.items.get(each.item.id)) and old.sha256 != each.item.sha256]
    overwritten = {old.sha256 for old in replaced if known.holders.get(old.sha256) == old.id}
    wanted = {each.item.sha256 for each in pending}.difference(known.rows)
    rows = known.rows | known.load_rows(store, wanted | overwritten)
    known.rows |= {content: rows[content] for content in overwritten & rows.keys()}
    ready = [each for each in pending if each.item.sha256 in rows]
    with _keep_images(ready, keeper) as items:
        if items:
            store.upsert(items, np.stack([rows[item.sha256] for item in items]))
    known.record(items, overwritten)
    return [each for each in pending if each.item.sha256 not in rows]


@contextmanager
def _keep_images(pending: Sequence[Pending], keeper: Folder | None) -> Iterator[list[Item]]:
    """Write the images in memory into the folder, and yield all items; the images stay until the end of the block."""
    if keeper is None:
        yield [each.item for each in pending]
        return
    own = {e.item.id: (keeper.own_uri(e.content), e.content) for e in pending if e.content is not None}
    with keeper.keeping(dict(own.values())):
        yield [_in_folder(e.item, own[e.item.id][0], keeper) if e.item.id in own else e.item for e in pending]


def _in_folder(item: Item, uri: str, keeper: Folder) -> Item:
    return replace(item, uri=uri, signature=signature(keeper.path / uri))
