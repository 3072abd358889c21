"""Compression of a collection: its vectors become codes, in one transaction, and back.

The embeddings stay in the catalogue beside the codes, unless the user drops them. A process that is killed leaves the old
vectors or the new codes. Other processes may search and write until the swap, and open the collection again after it.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lookalike import atomic
from lookalike.codecs import CODECS, Chain, Codec, Learned, NoCodec
from lookalike.embedding import Embedder
from lookalike.errors import MismatchError, MissingExtraError, StorageError, UsageError, reason_of
from lookalike.folder import Folder, Manifest, codec_fingerprint, codec_name, find_folder, is_collection
from lookalike.metric import VectorSpace
from lookalike.progress import SILENT, Progress
from lookalike.reindex import clean_up, lock_vectors
from lookalike.rows import Rows
from lookalike.stores import Item, Replaceable, Store
from lookalike.untrusted.paths import resolve_inside

SAMPLE = 50_000
"""Maximum number of embeddings that a codec is fitted to."""

TRAINABLE = "crs", "cbs", "dsh", "dtsh", "parametric-umap"
"""The codecs that `lookalike.learn.codecs` trains."""

LABELLED = "crs", "cbs", "dsh", "dtsh"
"""Those that learn from labels."""

_NEW_CODEC = "codec.new"

# A number, or the type of a number: 64, int8, float16, 4bit
_NUMBER = re.compile("(?:int|float)?([0-9]{1,7})(?:bits?)?")


@dataclass(frozen=True)
class Compressed:
    """The result of compressing.

    Attributes:
        items: number of items.
        codec: the codec, in words.
        bytes_per_item: bytes of a code, and the item's share of the codec's files.
        original_bytes: bytes of an embedding.
        originals: whether the embeddings stay beside the codes.
    """

    items: int
    codec: str
    bytes_per_item: float
    original_bytes: int
    originals: bool

    def __str__(self) -> str:
        """Describe it in one line."""
        kept = "The original vectors stay beside the codes." if self.originals else "The original vectors are gone."
        return f"{self.original_bytes:,} → {self.bytes_per_item:,.1f} bytes an item by {self.codec}. {kept}"


def parse_codec(text: str, space: VectorSpace, progress: Progress = SILENT) -> Codec:
    """Make a codec of its name and settings, not fitted yet, such as ``pca:64``, ``scalar:int8`` or ``pca:64+scalar:4``.

    A name is followed by its first setting, a number; then by the names of settings to switch on or, with ``no-``, off, and by
    values of settings that are words: ``pca:64:whiten``, ``product:8:no-rotate``, ``binary:256:sign``.

    Args:
        text: the name and settings, or those of several codecs in sequence with ``+`` between.
        space: of the embeddings.
        progress: receives the stage ``"training"`` of a codec of `TRAINABLE`.

    Raises:
        UsageError: the codec is unknown, or a setting is invalid.
        MissingExtraError: the codec is one of `TRAINABLE`, and the extra ``learn`` is not installed.
    """
    steps: list[Codec] = []
    for part in text.split("+"):
        steps.append(_parse_step(part.strip(), steps[-1].space if steps else space, progress))
    return steps[0] if len(steps) == 1 else Chain(space, tuple(steps))


def _parse_step(text: str, space: VectorSpace, progress: Progress) -> Codec:
    name, *values = text.split(":")
    known = [known for known in (*CODECS, *TRAINABLE) if known not in (NoCodec.name, Chain.name, Learned.name)]
    if name not in known:
        raise UsageError(f"The codec “{name}” is unknown. Choose one of {', '.join(known)}, such as pca:64.")
    kind = _trainable(name) if name in TRAINABLE else CODECS[name]
    types = {field.name: field.type for field in fields(kind)}
    settings: dict[str, Any] = {"progress": progress} if name in TRAINABLE else {}
    for i, value in enumerate(values):
        number, setting = _NUMBER.fullmatch(value), value.removeprefix("no-")
        word = next((field for field, kind in types.items() if value in get_args(kind)), None)
        if number and i == 0:
            settings[next(field for field, kind in types.items() if kind is int)] = int(number[1])
        elif types.get(setting) is bool:
            settings[setting] = setting == value
        elif word is not None:
            settings[word] = value
        else:
            raise UsageError(f"“{value}” is not a setting of the codec “{name}”. Give a number, as in pca:64.")
    return kind(space, **settings)


def _trainable(name: str) -> type[Codec]:
    try:
        # By its name, so that a server, which trains nothing, does not depend on torch.
        found: type[Codec] = import_module("lookalike.learn.codecs").TRAINABLE[name]
    except ImportError as e:
        raise MissingExtraError("learn", f"The codec “{name}”") from e
    return found


def find_codec(folder: Folder, store: Store, wanted: str | Codec, progress: Progress = SILENT) -> Codec:
    """Return a codec that is fitted to the embeddings of a collection, or that of another collection.

    Args:
        folder: of the collection.
        store: of the collection.
        wanted: a fitted codec; its name and settings, see `parse_codec`; or the path of a compressed collection.
        progress: receives the stage ``"training"`` of a codec that is trained.

    Raises:
        UsageError: the codec is unknown or does not fit the embeddings, or the collection is empty or cannot be compressed.
        MismatchError: the other collection has another encoder.
    """
    replaceable, space = check(folder, store), folder.manifest.embedding_space
    if not isinstance(wanted, str):
        codec = wanted
    elif is_collection(Path(wanted)):
        other = Folder.open(find_folder(Path(wanted)))
        if other.manifest.encoder.fingerprint != folder.manifest.encoder.fingerprint:
            raise MismatchError(
                f"“{other.name}” and “{folder.name}” have different encoders, so the codec of one does not fit the other."
                " Give a codec by its name, such as pca:64."
            )
        codec = other.codec
    else:
        unfitted = parse_codec(wanted, space, progress)
        sample = draw(store, SAMPLE)
        if any(part.partition(":")[0].strip() in LABELLED for part in wanted.split("+")):
            labelled = [item for item in sample if item.label is not None]
            if sample and not labelled:
                raise UsageError(
                    f"The codec {wanted} learns from labels, and no image of “{folder.name}” has one. Index the images with"
                    " --labels, or use a codec such as pca:64."
                )
            sample = labelled
        labels = [item.label for item in sample if item.label is not None]
        embeddings = replaceable.embeddings([item.id for item in sample])
        codec = unfitted.fit(embeddings, labels if len(labels) == len(sample) else None)
    if codec.embeddings != space or codec.name == NoCodec.name:
        raise UsageError(
            f"The codec “{codec}” does not compress {space.dimension} numbers by the {space.metric} metric. Give a codec by"
            " its name, such as pca:64."
        )
    return codec


def compress(
    folder: Folder, store: Store, codec: Codec, progress: Progress = SILENT, *, drop_originals: bool = False
) -> Compressed:
    """Replace all vectors of a collection by codes.

    Args:
        folder: of the collection.
        store: of the collection.
        codec: from `find_codec`.
        progress: receives the stage ``"encoding"``.
        drop_originals: do not keep the embeddings; then the compression cannot be undone.

    Raises:
        UsageError: the embeddings were dropped before, or the store is not in the folder.
        MismatchError: the collection was reindexed or compressed meanwhile.
        BusyError: another process reindexes or compresses the collection.
        StorageError: the disk is full, or read-only.
    """
    originals = check(folder, store)
    before = folder.load_embedder()
    with lock_vectors(folder):
        fingerprint = _install(folder, codec, before.fingerprint)
        embedder = Embedder(before.encoder, codec, codec.space.metric, not drop_originals, fingerprint)

        def encode(ids: Sequence[str]) -> Rows:
            return embedder.rows.encode(originals.embeddings(ids))

        _swap(folder, originals, embedder, _Counted(encode, store.count(), progress))
    count, space = store.count(), codec.embeddings
    size = codec.code_bytes + codec.size / max(1, count)
    return Compressed(count, str(codec), size, space.columns * space.dtype.itemsize, not drop_originals)


def undo(folder: Folder, store: Store, progress: Progress = SILENT) -> None:
    """Replace all codes of a collection by the embeddings that it keeps beside them, bit for bit; raises as `compress`."""
    if folder.manifest.compression is None:
        raise UsageError(f"“{folder.name}” is not compressed.")
    originals = check(folder, store)
    before = folder.load_embedder()
    embedder = Embedder.of(before.encoder, before.codec.embeddings.metric)
    with lock_vectors(folder):
        _swap(folder, originals, embedder, _Counted(originals.embeddings, store.count(), progress))


def check(folder: Folder, store: Store) -> Replaceable:
    """Check that a collection can be compressed, or its compression undone.

    Raises:
        UsageError: its embeddings were dropped, or its store is not in the folder.
    """
    if not isinstance(store, Replaceable):
        raise UsageError(f"The store of “{folder.name}” is not in its folder, so it cannot be compressed here.")
    pin = folder.manifest.compression
    if pin is not None and not pin.originals:
        raise UsageError(
            f"“{folder.name}” is compressed without its original vectors.",
            f"Embed the images again: lookalike reindex {folder.path} --encoder {folder.manifest.encoder.name}",
        )
    return store


def draw(store: Store, count: int, seed: int = 0) -> list[Item]:
    """Draw at most this many items at random, without several of one content, in the order of ids."""
    contents: dict[str, Item] = {}
    for item in store.scan():
        contents.setdefault(item.sha256 or item.id, item)
    items = list(contents.values())
    chosen = np.random.default_rng(seed).permutation(len(items))[:count]
    return [items[i] for i in np.sort(chosen).tolist()]


class _Counted:
    """A function that finds the new rows of items, and reports its progress."""

    def __init__(self, convert: Callable[[Sequence[str]], Rows], count: int, progress: Progress) -> None:
        self._convert, self._count, self._progress, self._done = convert, count, progress, 0

    def __call__(self, items: Sequence[Item]) -> Mapping[str, np.ndarray]:
        """Find the rows."""
        ids = [item.id for item in items]
        rows = dict(zip(ids, self._convert(ids), strict=True))
        self._done += len(ids)
        self._progress.advance("encoding", self._done, max(self._done, self._count))
        return rows


def _install(folder: Folder, codec: Codec, encoder: str) -> str:
    """Write a codec into the collection, beside the one in use, and return its fingerprint."""
    try:
        new = resolve_inside(folder.path, _NEW_CODEC)
        shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
        new.mkdir()
        codec.save(new, encoder)
        fingerprint = codec_fingerprint(new)
        target = resolve_inside(folder.path, codec_name(fingerprint))
        if target.exists():  # in use, or of a process that was killed
            shutil.rmtree(new)
        else:
            atomic.sync(new)
            new.rename(target)
            atomic.sync(folder.path)
    except OSError as e:
        raise StorageError(f"The codec cannot be written into {folder.path}: {reason_of(e)}.") from e
    return fingerprint


def _swap(folder: Folder, store: Replaceable, embedder: Embedder, find: _Counted) -> None:
    manifest = Manifest.of(embedder)
    store.replace_vectors(find, manifest.to_json(), embedder.rows)
    clean_up(folder, manifest, folder.encoder)
    store.compact()
