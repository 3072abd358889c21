"""Re-embedding of a collection with another encoder: beside the old vectors, and swapped in one transaction at the end.

The new vectors collect in the folder ``reindex/``, which is a collection itself. So a stopped run continues where it ended, and the
collection answers with its old vectors until all images have new ones. Other processes may search and write meanwhile.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import numpy as np

from lookalike import atomic, ingest, locks
from lookalike.embedding import Embedder
from lookalike.errors import (
    LookalikeError,
    MismatchError,
    NotFoundError,
    StorageError,
    UsageError,
    reason_of,
)
from lookalike.folder import MANIFEST, Folder, Manifest, codec_name, encoder_name
from lookalike.ingest import Entry
from lookalike.ingest.known import Known
from lookalike.progress import SILENT, Progress
from lookalike.state import roots
from lookalike.stores import Item, Replaceable, SQLiteStore, Store
from lookalike.tables import plural
from lookalike.untrusted.paths import resolve_inside

_STAGING = "reindex"
_LOCK = "reindex.lock"
_NEW_ENCODER = "encoder.new"
_ENCODERS = re.compile("encoder(-[0-9a-f]{16})?")
_CODECS = re.compile("codec(-[0-9a-f]{16})?")


@dataclass(frozen=True)
class Reindexed:
    """The result of reindexing.

    Attributes:
        items: number of items, all of which have vectors of the new encoder.
        embedded: number of images that this run embedded; an earlier one may have embedded others.
        removed: items that were removed, since their images are missing or cannot be used.
    """

    items: int
    embedded: int
    removed: tuple[Item, ...] = ()


def reindex(
    folder: Folder, store: Store, embedder: Embedder, progress: Progress = SILENT, *, prune: bool = False
) -> Reindexed:
    """Embed all images of a collection again, and replace its encoder and all vectors at once.

    Items keep their ids, labels and attributes. A process that is killed leaves the old encoder and vectors, or the new ones.

    Args:
        folder: of the collection.
        store: of the collection.
        embedder: the new one.
        progress: receives the stage ``"re-embedding"``.
        prune: remove the items whose images are missing or cannot be used, unless a whole folder is missing.

    Raises:
        NotFoundError: images are missing or cannot be used.
        MismatchError: images have changed since they were indexed, or the collection was reindexed meanwhile.
        BusyError: another process reindexes the collection.
        StorageError: the disk is full, or read-only.
        UsageError: the store cannot replace its vectors.
    """
    if not isinstance(store, Replaceable):
        raise UsageError(f"The store of “{folder.name}” is not in its folder. Index the images into a new collection.")
    with ExitStack() as stack:
        stack.enter_context(lock_vectors(folder))
        staging = _open_staging(folder, embedder)
        staged = stack.enter_context(closing(staging.open_store()))
        run = _Run(folder, store, staged, embedder, progress, prune=prune)
        run.embed()
        while True:
            try:
                encoder = _install_encoder(folder, staging)
                store.replace_vectors(run.find, staging.manifest.to_json(), embedder.rows)
                break
            except _NotEmbeddedError:  # another process has just added or changed items
                run.embed()
        result = Reindexed(run.found, run.embedded, tuple(run.lost.values()))
    clean_up(folder, staging.manifest, encoder)
    shutil.rmtree(folder.path / _STAGING, ignore_errors=True)
    return result


def adopt(folder: Folder, store: Store, embedder: Embedder) -> None:
    """Replace the encoder of a collection by one that embeds photos alike, and keep all vectors.

    A process that is killed leaves the old encoder or the new one.

    Args:
        folder: of the collection.
        store: of the collection.
        embedder: the new one, with the photo network, codec and metric of the collection's.

    Raises:
        BusyError: another process reindexes the collection.
        MismatchError: the collection was reindexed meanwhile.
        StorageError: the disk is full, or read-only.
    """
    manifest = folder.manifest.model_copy(update={"encoder": Manifest.of(embedder).encoder})
    with lock_vectors(folder):
        encoder = folder.path / encoder_name(manifest)
        new = folder.path / _NEW_ENCODER
        try:
            shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
            new.mkdir()
            embedder.encoder.write_files(new)
            for file in (*new.iterdir(), new):
                atomic.sync(file)
            shutil.rmtree(resolve_inside(folder.path, encoder.name), ignore_errors=True)  # as above
            new.rename(encoder)
            atomic.sync(folder.path)
            if isinstance(store, Replaceable):
                store.replace_manifest(manifest.to_json())
            else:
                atomic.write_text(folder.path / MANIFEST, manifest.to_json())
        except OSError as e:
            raise StorageError(f"The encoder cannot be written into {folder.path}: {reason_of(e)}.") from e
        finally:
            shutil.rmtree(new, ignore_errors=True)
        clean_up(folder, manifest, encoder)


def lock_vectors(folder: Folder) -> AbstractContextManager[None]:
    """Hold the lock of the collection's encoder, codec and vectors in a block.

    Raises:
        BusyError: another process has it.
    """
    busy = f"Another process is reindexing or compressing {folder.path}. Wait until it ends."
    return locks.exclusive(folder.path / _LOCK, timeout=0, busy=busy)


class _NotEmbeddedError(Exception):
    """An item has no vector of the new encoder yet."""


@dataclass
class _Run:
    """One call of `reindex`.

    Attributes:
        staged: the store of the new vectors. Its items have the ids of the collection's, and the contents of their files now.
        holders: content → id of a staged item.
        lost: items without a usable image, by what `_key` returns.
        embedded: number of images that were embedded.
        found: number of items that `find` was asked for last and that have vectors.
    """

    folder: Folder
    store: Store
    staged: Store
    embedder: Embedder
    progress: Progress
    prune: bool = field(kw_only=True)
    holders: dict[str, str] = field(default_factory=dict)
    lost: dict[tuple[str, ...], Item] = field(default_factory=dict)
    embedded: int = 0
    found: int = 0

    def embed(self) -> None:
        """Embed the images of all items that have no new vectors yet.

        Raises:
            NotFoundError, MismatchError: see `reindex`.
        """
        self.holders = self._read_holders()
        wanted = [item for item in self.store.scan() if self._holder(item) is None and _key(item) not in self.lost]
        self._check_files(wanted)
        while wanted:
            known = self.staged.count()
            entries = [Entry(path, id=item.id) for item in wanted if (path := self._path(item)) is not None]
            added = ingest.add(self.staged, self.embedder, entries, _Counted(self.progress, known))
            self.embedded += added.embedded
            self.holders = self._read_holders()
            self._check_embedded(wanted, dict(added.failures))
            wanted = [item for item in self.store.scan() if self._holder(item) is None and _key(item) not in self.lost]

    def find(self, items: Sequence[Item]) -> Mapping[str, np.ndarray]:
        """Return the new vectors of items by id, without lost items.

        Raises:
            _NotEmbeddedError: another process has changed an item.
        """
        holders = {item.id: self._holder(item) for item in items if _key(item) not in self.lost}
        ids = [ident for ident in holders.values() if ident is not None]
        if len(ids) < len(holders):
            raise _NotEmbeddedError
        self.found += len(ids)
        return dict(zip(holders, self.staged.vectors(ids), strict=True))

    def _read_holders(self) -> dict[str, str]:
        self.found = 0
        return Known.of(self.staged).holders

    def _holder(self, item: Item) -> str | None:
        """Return the id of the staged item with the content of an item."""
        if item.sha256:
            return self.holders.get(item.sha256)
        return item.id if self.staged.get([item.id]) else None  # a program wrote it into the store itself

    def _path(self, item: Item) -> Path | None:
        try:
            return self.folder.file(item)
        except NotFoundError:  # its uri leads outside of the folder
            return None

    def _check_files(self, items: Sequence[Item]) -> None:
        """Check that the files exist, before hours of embedding."""
        missing = [item for item in items if (path := self._path(item)) is None or ingest.is_missing(path)]
        ids = {item.id for item in missing}
        copies = {item.sha256 for item in items if item.id not in ids and item.sha256}
        self._lose([item for item in missing if item.sha256 not in copies], {})

    def _check_embedded(self, items: Sequence[Item], failures: Mapping[Path, str]) -> None:
        now = self.store.get([item.id for item in items])  # another process may have indexed it meanwhile
        rest = [i for i in items if now.get(i.id) == i and self._holder(i) is None and _key(i) not in self.lost]
        paths = {item.id: self._path(item) for item in rest}
        changed = [item for item in rest if paths[item.id] not in failures and item.id in self.staged.get([item.id])]
        if changed:
            place, name = Path(changed[0].uri).parent, quote(str(self.folder.path))
            raise MismatchError(
                f"{plural(len(changed), 'file')} changed after they were indexed, such as {changed[0].uri}. Index them first:"
                f" lookalike index {quote(str(place))} --to {name}. Then reindex again, which keeps what it has embedded."
            )
        self._lose(rest, {ident: failures[path] for ident, path in paths.items() if path and path in failures})

    def _lose(self, items: Sequence[Item], reasons: Mapping[str, str]) -> None:
        """Remember items to remove, or refuse to.

        Raises:
            NotFoundError: they must stay, or a whole folder of them is missing.
        """
        if not items:
            return
        _, gone = ingest.split_gone([i for i in items if i.id not in reasons], roots.known_roots(self.folder.path))
        if gone:
            name, place = quote(str(self.folder.path)), quote(str(gone[0].path))
            raise NotFoundError(
                f"{gone[0].path} is gone or empty, and {plural(gone[0].items, 'item')} of {self.folder.path} had images there."
                f" Connect its disk, or say where it is now: lookalike relocate {name} {place} NEW. To remove its items: lookalike"
                f" index {place} --to {name} --prune"
            )
        if not self.prune:
            first = items[0]
            raise NotFoundError(
                f"{plural(len(items), 'item')} of {self.folder.path} {'has' if len(items) == 1 else 'have'} no usable image, such as"
                f" {first.uri}: {reasons.get(first.id, 'the file is missing').rstrip('.')}. Put the files back, or remove these items"
                " with --prune (prune=True). What is embedded so far is kept."
            )
        self.lost |= {_key(item): item for item in items}


def _key(item: Item) -> tuple[str, ...]:
    return item.id, item.uri, item.sha256


class _Counted:
    """A receiver of the progress of `ingest.add` that counts the images of earlier runs, too."""

    def __init__(self, progress: Progress, before: int) -> None:
        self.progress, self.before = progress, before

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002 -- replaced by one of its own
        """Pass the report on."""
        self.progress.advance("re-embedding", self.before + done, self.before + total, detail)

    def note(self, message: str) -> None:
        """Pass the message on."""
        self.progress.note(message)


# ---- files


def _open_staging(folder: Folder, embedder: Embedder) -> Folder:
    """Open the folder of new vectors, or make it; one of another encoder is removed.

    Raises:
        StorageError: it is a link or a file, or cannot be written.
    """
    try:
        path = resolve_inside(folder.path, _STAGING)
    except OSError as e:
        raise StorageError(f"{folder.path / _STAGING} cannot be used: {e.strerror}. Remove it.") from e
    if path.is_file():
        raise StorageError(f"{path} is a file, where the folder of the new vectors belongs. Remove it.")
    with suppress(LookalikeError):  # none yet, or a damaged one
        staging = Folder.open(path)
        staging.open_store().close()
        if staging.manifest == Manifest.of(embedder):
            return staging
    if path.exists():
        shutil.rmtree(path, ignore_errors=True)
    return Folder.create(path, embedder, lambda new: SQLiteStore.create(new, embedder.space).close())


def _install_encoder(folder: Folder, staging: Folder) -> Path:
    """Move the new encoder into the collection, beside the old one."""
    try:
        target = resolve_inside(folder.path, encoder_name(staging.manifest))
        if not target.exists():  # it does if this run was killed here before
            (staging.path / "encoder").rename(target)
            atomic.sync(folder.path)
    except OSError as e:
        raise StorageError(f"The encoder cannot be written into {folder.path}: {reason_of(e)}.") from e
    return target


def clean_up(folder: Folder, manifest: Manifest, encoder: Path) -> None:
    """Write the new manifest, and remove the encoders and codecs that are not needed any longer.

    The catalogue has the manifest, too, so a kill here does no harm.
    """
    with suppress(OSError):
        atomic.write_text(folder.path / MANIFEST, manifest.to_json())
        pin = manifest.compression
        codec = None if pin is None else codec_name(pin.fingerprint)
        for path in folder.path.iterdir():
            old_encoder = _ENCODERS.fullmatch(path.name) and path != encoder
            if old_encoder or (_CODECS.fullmatch(path.name) and path.name != codec):
                shutil.rmtree(path, ignore_errors=True)
