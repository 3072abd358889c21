"""The runner of ingest: read and embed in one thread for each core, and write every few seconds."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from lookalike.embedding import Embedder
from lookalike.errors import BusyError, LookalikeError, MismatchError, StorageError, UsageError
from lookalike.folder import Folder
from lookalike.images import NotTaken
from lookalike.ingest.embed import EmbeddingQueue
from lookalike.ingest.known import Known
from lookalike.ingest.moves import Moves
from lookalike.ingest.paths import absolute_path
from lookalike.ingest.plan import Entry, Plan
from lookalike.ingest.read import Outcome, Read, keep_labels, read
from lookalike.ingest.write import Pending, count_ready, write
from lookalike.parallel import available_cores, prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.stores import Item, Store


@dataclass(frozen=True)
class Schedule:
    """The sizes of the runner's tasks, batches and transactions.

    Attributes:
        batch: images in a batch; none: as many as the encoder says.
        batches_per_core: batches in flight for each core, so that no core waits during a transaction.
        task: files that a thread reads at a time; with single files, the overhead of tasks would matter.
        write_every: items after which to write: few, so that a kill loses little work, but enough that the disk is not
            the bottleneck.
        write_after: seconds after which to write.
    """

    batch: int | None = None
    batches_per_core: int = 2
    task: int = 8
    write_every: int = 1024
    write_after: float = 5.0


SCHEDULE = Schedule()


class Failure(NamedTuple):
    """An unusable image.

    Attributes:
        path: of the file as given, or the name of an image in memory.
        reason: why it is unusable, as a sentence.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Added:
    """The result of adding images.

    Attributes:
        embedded: number of images embedded.
        reused: number of images whose content was known under another name.
        unchanged: number of images whose content did not change.
        failures: unusable images.
        moved: number of images that were found under another path while the file at their old path is missing, or is another
            known image, as when two files swap their names. Their items keep their ids, labels and attributes.
        relabelled: number of images, among those that were known, whose label or attributes changed.
        not_taken: files of the folder that show something but are not taken, such as videos, by kind.
        notes: sentences about the labels.
    """

    embedded: int = 0
    reused: int = 0
    unchanged: int = 0
    failures: tuple[Failure, ...] = ()
    moved: int = 0
    relabelled: int = 0
    not_taken: tuple[NotTaken, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Number of unusable images."""
        return len(self.failures)

    @property
    def total(self) -> int:
        """Number of images."""
        return self.embedded + self.reused + self.moved + self.unchanged + self.failed

    def __str__(self) -> str:
        """Format the counts as one line."""
        counts = {
            "moved": self.moved,
            "reused": self.reused,
            "unchanged": self.unchanged,
            "relabelled": self.relabelled,
            "failed": self.failed,
        }
        return ", ".join([f"{self.embedded:,} embedded", *(f"{n:,} {name}" for name, n in counts.items() if n)])


def add(
    store: Store,
    embedder: Embedder,
    entries: Sequence[Entry],
    progress: Progress = SILENT,
    *,
    keeper: Folder | None = None,
) -> Added:
    """Add images to a store, or update their items.

    Unusable images are reported and skipped, and their existing items stay unchanged. On an interrupt, such as Ctrl-C, the
    images that are embedded are still written.

    Args:
        store: receives the items and vectors.
        embedder: made the store's vectors.
        entries: the images, as listed by `plan`; of several entries with the same id, the last one counts.
        progress: receives the stage ``"indexing"``.
        keeper: the collection's folder, which keeps images in memory.

    Raises:
        StorageError, BusyError: the store is not writable; earlier writes stay.
        MismatchError: another process replaced the vectors of the store by those of another encoder.
        EncoderError: the encoder fails.
        UsageError: there is an image in memory and no keeper.
    """
    if keeper is None and any(entry.image is not None for entry in entries):
        raise UsageError("An image in memory can only be added to a collection with a folder. Save it to a file first.")
    last = {
        entry.id or (id(entry) if entry.image is not None else str(absolute_path(entry.path))): entry
        for entry in entries
    }
    added = _Run(store, embedder, keeper).run(list(last.values()), progress)
    return replace(added, not_taken=entries.not_taken, notes=entries.notes) if isinstance(entries, Plan) else added


class _Run:
    """One call of `add`. This thread classifies and writes, the others read and embed.

    Reading and embedding share the threads, so the slower of the two gets most of the cores.
    """

    def __init__(self, store: Store, embedder: Embedder, keeper: Folder | None) -> None:
        self.store, self.embedder, self.keeper = store, embedder, keeper
        self.known = Known.of(store)
        self.threads = ThreadPoolExecutor(available_cores())
        self.queue = EmbeddingQueue(embedder.embed_item_batch, self.threads, self.known.rows)
        self.moves = Moves(self.known)
        self.counts: Counter[Outcome] = Counter()
        self.relabelled = 0
        self.failures: list[Failure] = []
        self.pending: list[Pending] = []  # in the order of the entries
        self.deferred: list[Pending] = []  # perhaps moved; the whole run decides
        self.left_by_last_write = 0
        self.last_write = time.monotonic()

    def run(self, entries: Sequence[Entry], progress: Progress) -> Added:
        groups = [entries[i : i + SCHEDULE.task] for i in range(0, len(entries), SCHEDULE.task)]
        try:
            with closing(prefetch_map(self.read_group, groups, self.threads)) as read_groups:
                for group, results in zip(groups, read_groups, strict=True):
                    for entry, result in zip(group, results, strict=True):
                        self.accept(entry, result)
                    progress.advance("indexing", self.counts.total(), len(entries))
            self.embed()
            self.queue.collect(0)
        except (BusyError, MismatchError, StorageError):  # another write would fail, too
            raise
        except BaseException:
            self.queue.shut_down()
            self.write()
            raise
        finally:
            self.threads.shutdown(cancel_futures=True)
        self.write()
        self.write_deferred()
        progress.advance("indexing", self.counts.total(), len(entries))
        return Added(
            embedded=self.counts["embedded"],
            reused=self.counts["reused"],
            unchanged=self.counts["unchanged"],
            failures=tuple(self.failures),
            moved=self.counts["moved"],
            relabelled=self.relabelled,
        )

    def read_group(self, group: Sequence[Entry]) -> list[Read | LookalikeError]:
        return [read(entry, self.known, self.embedder) for entry in group]

    def accept(self, entry: Entry, result: Read | LookalikeError) -> None:
        """Classify an entry, and embed and write once there is enough work."""
        if isinstance(result, LookalikeError):
            self.fail(entry, str(result))
            return
        item = result.item
        old, outcome = self.known.items.get(item.id), self.classify(result)
        self.counts[outcome] += 1
        if outcome == "embedded" and result.fitted is not None:
            self.queue.put(item.sha256, result.fitted)
        if item != old:  # an unchanged content may have a new label or new times
            self.pending.append(Pending(entry, item, result.content, outcome))
        if self.queue.waiting >= (SCHEDULE.batch or self.embedder.encoder.batch_size()):
            self.embed()
        enough = len(self.pending) >= self.left_by_last_write + SCHEDULE.write_every
        if enough or time.monotonic() - self.last_write > SCHEDULE.write_after:
            self.embed()
            self.write()

    def classify(self, result: Read) -> Outcome:
        content, old = result.item.sha256, self.known.items.get(result.item.id)
        if old and old.sha256 == content:
            return "unchanged"
        # Several threads may have read the same content before its vector was known.
        known = result.fitted is None or content in self.queue.unfinished or content in self.known
        return "reused" if known else "embedded"

    def fail(self, entry: Entry, reason: str) -> None:
        self.failures.append(Failure(entry.path, reason))
        self.counts["failed"] += 1

    def embed(self) -> None:
        self.queue.submit()
        self.queue.collect(SCHEDULE.batches_per_core * available_cores())

    def write(self) -> None:
        ready = count_ready(self.pending, self.queue.unfinished)
        found = self.find_moves(self.pending[:ready])
        self.pending[:ready], ready = found, len(found)
        self.write_items(self.pending[:ready])
        self.pending = self.pending[ready:]  # after the write, which an interrupt may end
        self.left_by_last_write, self.last_write = len(self.pending), time.monotonic()

    def write_items(self, pending: Sequence[Pending]) -> None:
        relabelled = {each.item.id for each in pending if self.is_relabelled(each.item)}
        for unwritten in write(self.store, pending, self.known, self.keeper):
            self.fail_unwritten(unwritten)
            relabelled.discard(unwritten.item.id)
        self.relabelled += len(relabelled)

    def write_deferred(self) -> None:
        """Write the items of files that took the places of others; afterwards those of files that are copies."""
        moved, overwritten = self.moves.find_exchanges({each.item.uri: each.item.sha256 for each in self.deferred})
        self.counts["reused"] -= len(moved)
        self.counts["moved"] += len(moved)
        items = [self.known.items[ident] for ident in overwritten]
        self.write_items(
            [
                *(self.follow(each, moved[each.item.uri]) for each in self.deferred if each.item.uri in moved),
                *(Pending(Entry(Path(i.uri)), replace(i, uri=overwritten[i.id]), None, "overwritten") for i in items),
            ]
        )
        self.write_items([self.stay(each) for each in self.deferred if each.item.uri not in moved])

    def find_moves(self, pending: Sequence[Pending]) -> list[Pending]:
        """Give new paths of known contents the items whose files are missing, or are the same files under other paths."""
        items = self.known.items
        new = [
            p for p in pending if p.outcome == "reused" and p.entry.id is None and p.item.uri and p.item.id not in items
        ]
        moved, same = self.moves.find([each.item for each in new]), dict[str, Item]()
        for item in (each.item for each in new if each.item.uri not in moved):
            if old := self.moves.find_same_file(item):
                # Two names of one file are one name on a disk that ignores case or Unicode forms: it was renamed.
                found_as = same if Path(old.uri).name == Path(item.uri).name else moved
                found_as[item.uri] = old
        self.counts["reused"] -= len(moved) + len(same)
        self.counts["moved"] += len(moved)
        self.counts["unchanged"] += len(same)
        found = []
        for each in pending:
            if old := moved.get(each.item.uri):
                found.append(self.follow(each, old))
            elif old := same.get(each.item.uri):
                item = keep_labels(replace(old, label=each.item.label, attributes=each.item.attributes), old)
                if item != old:
                    found.append(replace(each, item=item, outcome="unchanged"))
            elif self.may_be_exchanged(each):
                self.deferred.append(each)
            else:
                found.append(each)
        return found

    def may_be_exchanged(self, pending: Pending) -> bool:
        """Return whether a known content may have come from the path of its item, which has another content now."""
        content = pending.item.sha256
        if pending.outcome != "reused" or pending.entry.id is not None or content not in self.moves.contents:
            return False
        return bool(pending.item.uri) and (pending.item.id in self.known.items or self.moves.may_have_departed(content))

    def follow(self, pending: Pending, old: Item) -> Pending:
        """Keep the item of a file that was moved."""
        return replace(pending, item=keep_labels(_labelled(pending, old.id), old), outcome="moved")

    def stay(self, pending: Pending) -> Pending:
        """Keep the item of a path, or make another one if the path's own item has moved away."""
        uri, old = pending.item.uri, self.known.items.get(pending.item.id)
        if old is None or old.uri == uri:
            return pending
        return replace(pending, item=_labelled(pending, self.known.id_of(Path(uri), uri)))

    def is_relabelled(self, item: Item) -> bool:
        old = self.known.items.get(item.id)
        return old is not None and (item.label, item.attributes) != (old.label, old.attributes)

    def fail_unwritten(self, pending: Pending) -> None:
        self.counts[pending.outcome] -= 1
        reason = "another process changed or removed items of the same content meanwhile. Index again."
        self.fail(pending.entry, f"{pending.item.uri or str(pending.entry.path)!r}: {reason}")


def _labelled(pending: Pending, ident: str) -> Item:
    """Return an item with another id, and with the label and attributes of its entry alone."""
    return replace(pending.item, id=ident, label=pending.entry.label, attributes=dict(pending.entry.attributes))
