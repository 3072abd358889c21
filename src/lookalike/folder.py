"""The folder of a collection: its manifest, encoder, codec, images, thumbnails and decisions.

::

    shop.lookalike/
      manifest.json      metric and dimension of the vectors, and the encoder and codec that made them
      encoder/           a copy of the encoder's artefact; encoder-FINGERPRINT/ after the collection was reindexed
      codec-FINGERPRINT/ the fitted codec, if the collection is compressed
      images/            images that were added without a file, such as uploads; named by their content
      images.lock        locked while images and their items are written or removed
      identity           a random number that tells this collection from others, see `lookalike.state.roots`
      decisions.json     pairs of images that users decided are distinct
      catalog.sqlite     items and vectors; the manifest, too, after the collection was reindexed or compressed
      reindex/           the vectors of another encoder, until it has embedded all images
      cache/             can be deleted at any time

A collection whose vectors are in an external database has the same folder without the last three.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike import atomic, codecs, encoders, images, locks
from lookalike.codecs import Codec, NoCodec
from lookalike.codecs.saved import SETTINGS
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder, EncoderSource
from lookalike.errors import AlreadyExistsError, MismatchError, NotFoundError, StorageError, reason_of
from lookalike.images.sources import quote
from lookalike.metric import Metric, VectorSpace
from lookalike.rows import RowFormat
from lookalike.stores import Item, SQLiteStore, Store, open_store
from lookalike.unicode_forms import find_existing
from lookalike.untrusted import parsing
from lookalike.untrusted.paths import read_inside, resolve_inside

SUFFIX = ".lookalike"
"""The usual suffix of a collection's folder."""

MANIFEST = "manifest.json"

FORMAT = 1
COMPRESSED = 2
"""The format of a compressed collection, which earlier versions of lookalike cannot read."""

_MAX_MANIFEST = 2**20

_OWN_IMAGES = "images"
_THUMBNAILS = "cache/thumbnails"
_MAX_THUMBNAIL = 2**24
_SHA256 = re.compile("[0-9a-f]{64}")

# The endings of images that the folder keeps; other formats, such as those of cameras, have the last one.
_ENDINGS = ("avif", "bmp", "gif", "heic", "heif", "jpeg", "png", "tiff", "webp", "raw")

# The uri of an image that the folder keeps.
_OWN_URI = re.compile(rf"{_OWN_IMAGES}/[0-9a-f]{{64}}\.(?:{'|'.join(_ENDINGS)})")


class EncoderPin(BaseModel):
    """Name and fingerprint of the encoder that made the vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=200)
    fingerprint: str = Field(pattern=f"^{_SHA256.pattern}$")


class CodecPin(BaseModel):
    """The codec of a compressed collection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str = Field(pattern=f"^{_SHA256.pattern}$", description="SHA-256 of codec.json")
    metric: Metric = Field(description="metric of the embeddings that it encodes")
    dimension: int = Field(gt=0, le=2**20, description="their dimension")
    originals: bool = Field(description="whether the catalogue keeps the embeddings beside the codes")

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the embeddings."""
        return VectorSpace(self.metric, self.dimension)


class Manifest(BaseModel):
    """The contents of ``manifest.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["lookalike-collection"] = "lookalike-collection"
    version: int = FORMAT
    metric: Metric
    dimension: int = Field(gt=0, le=2**20, description="floats of a vector, or bits of a code")
    codec: str = "none"
    compression: CodecPin | None = Field(default=None, description="of another codec than “none”")
    encoder: EncoderPin
    store: str | None = Field(
        default=None,
        pattern="^[a-z][a-z0-9+.-]*://",  # and never the path of another folder
        description="URL of the store; none: it is in the folder",
    )

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the vectors that searches compare."""
        return VectorSpace(self.metric, self.dimension)

    @property
    def embedding_space(self) -> VectorSpace:
        """Metric and dimension of the embeddings, which are those vectors unless the collection is compressed."""
        return self.compression.space if self.compression else self.space

    @classmethod
    def of(cls, embedder: Embedder) -> Self:
        """Describe the vectors of an embedder."""
        pin = None
        if embedder.is_compressed:
            space = embedder.codec.embeddings
            pin = CodecPin(
                fingerprint=embedder.codec_fingerprint,
                metric=space.metric,
                dimension=space.dimension,
                originals=embedder.originals,
            )
        return cls(
            version=FORMAT if pin is None else COMPRESSED,
            compression=pin,
            metric=embedder.metric,
            dimension=embedder.space.dimension,
            codec=embedder.codec.name,
            encoder=EncoderPin(name=embedder.name, fingerprint=embedder.fingerprint),
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a collection.

        Raises:
            NotFoundError: there is no collection.
            MismatchError: another version wrote it.
            StorageError: it is damaged.
        """
        try:
            content = read_inside(folder, MANIFEST, _MAX_MANIFEST)
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotFoundError(_describe_missing(folder)) from e
        except OSError as e:
            raise StorageError(f"{folder / MANIFEST} cannot be read: {reason_of(e)}.") from e
        return cls.parse(content, folder)

    @classmethod
    def parse(cls, content: bytes, folder: Path) -> Self:
        """Parse the text of the manifest of a collection; raises as `read`."""
        path = folder / MANIFEST
        try:
            tree = parsing.parse_json(content)
        except ValueError as e:
            raise StorageError(f"{path} cannot be read: {reason_of(e)}.") from e
        if isinstance(tree, dict) and tree.get("version", FORMAT) not in (FORMAT, COMPRESSED):
            raise MismatchError(
                f"{folder} has format {str(tree['version'])[:20]}; this lookalike reads formats {FORMAT} and {COMPRESSED}. Open it with the version that"
                " wrote it, or index the images again."
            )
        try:
            return cls.model_validate(tree)
        except ValidationError as e:
            raise StorageError(f"{path} is damaged: {e.errors()[0]['msg']}.") from e

    def to_json(self) -> str:
        """Return the text of ``manifest.json``."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def _describe_missing(folder: Path) -> str:
    """Say why there is no collection at a path, and what to do."""
    if folder.is_dir():
        return (
            f"The folder {folder} has no manifest.json, so it is not a collection. Choose another name, or delete it."
        )
    if os.path.lexists(folder):
        return f"{folder} is a file, not the folder of a collection. Choose another name, or delete it."
    return (
        f"There is no collection at {folder}. Make one with: lookalike index IMAGES --to {folder}; in Python,"
        " la.open(…, encoder=…)."
    )


def manifest_stamp(folder: Path) -> tuple[int, ...]:
    """Return numbers that change when ``manifest.json`` is replaced; none if it cannot be read."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def encoder_name(manifest: Manifest) -> str:
    """Return the name of the folder that an encoder gets in a collection that is reindexed with it."""
    return f"encoder-{manifest.encoder.fingerprint[:16]}"


def codec_name(fingerprint: str) -> str:
    """Return the name of the folder of a codec in a compressed collection."""
    return f"codec-{fingerprint[:16]}"


def find_folder(name: Path) -> Path:
    """Find the folder of a collection that is named with or without its suffix; with the suffix added, in any Unicode form."""
    if name.suffix == SUFFIX or name.name in ("", "..") or os.path.exists(name / "manifest.json"):  # noqa: PTH110 -- false for a name that is too long, too
        return name
    return find_existing(name.with_name(name.name + SUFFIX))


def load_encoder(source: EncoderSource) -> Encoder:
    """Load an encoder; `source` may also be the folder of a collection. Arguments and errors as for `lookalike.encoders.load`.

    A collection that `reindex` was stopped in holds two encoders, and its catalogue says which one made its vectors.
    """
    if isinstance(source, str | os.PathLike) and os.fspath(source) not in encoders.bundled():
        folder = find_existing(Path(source).expanduser())
        if os.path.exists(folder / MANIFEST):  # noqa: PTH110 -- false for a name that is too long, too
            return Folder.open(folder).load_embedder().encoder
    return encoders.load(source)


def is_collection(name: Path) -> bool:
    """Return whether a name, with or without the suffix, is that of an existing collection."""
    try:
        return (find_folder(name) / "manifest.json").exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


@dataclass(frozen=True)
class Folder:
    """The folder of a collection; see the module.

    Attributes:
        path: of the folder.
        manifest: describes the vectors and what made them.
        stored_manifest: its text in the catalogue, if the collection was ever reindexed.
    """

    path: Path
    manifest: Manifest
    stored_manifest: str | None = None

    @classmethod
    def create(cls, path: Path, embedder: Embedder, create_store: Callable[[Path], None]) -> Self:
        """Create the folder of a collection atomically.

        Args:
            path: a folder that does not exist yet; its parents are made.
            embedder: makes the vectors, without a codec; a copy of its encoder goes into the folder.
            create_store: puts an empty store into the new folder.

        Raises:
            AlreadyExistsError: something is at the path.
            StorageError: the folder cannot be written.
        """
        new = path.with_name(f".new-{secrets.token_hex(8)}")
        manifest = Manifest.of(embedder)
        try:
            if path.exists():
                raise AlreadyExistsError(f"{path} already exists. Open it, or choose another name.")
            (new / "encoder").mkdir(parents=True)
            embedder.encoder.write_files(new / "encoder")
            (new / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
            create_store(new)
            for file in (*new.rglob("*"), new):
                atomic.sync(file)
            new.rename(path)
            atomic.sync(path.parent)
        except OSError as e:
            if e.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR) and path.exists():
                raise AlreadyExistsError(f"{path} already exists. Open it, or choose another name.") from e
            advice = "Free some space" if e.errno == errno.ENOSPC else "Choose another place"
            raise StorageError(f"{path} cannot be created: {reason_of(e)}. {advice}.") from e
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return cls(path, manifest)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder of a collection; raises as `Manifest.read`.

        The manifest in the catalogue counts if there is one: ``manifest.json`` is written after it.
        """
        manifest = Manifest.read(path)
        stored = None if manifest.store else SQLiteStore.read_manifest(path)
        return cls(path, manifest if stored is None else Manifest.parse(stored.encode(), path), stored)

    def open_store(self) -> Store:
        """Open the store of the items and vectors; raises as `lookalike.stores.open_store`."""
        manifest, pin = self.manifest, self.manifest.compression
        codec = None if manifest.codec == NoCodec.name else self.codec
        rows = RowFormat(manifest.space, codec, pin is not None and pin.originals)
        return open_store(manifest.store or self.path, rows, self.stored_manifest)

    @cached_property
    def codec(self) -> Codec:
        """The codec of the vectors.

        Raises:
            MismatchError: this version does not know it, or it is not the one that made the codes.
            StorageError: it is missing or damaged.
        """
        manifest, pin = self.manifest, self.manifest.compression
        if manifest.codec == NoCodec.name:
            return NoCodec(manifest.space)
        folder = self.path / codec_name(pin.fingerprint if pin else "")
        self._refuse_links(folder.name)
        codec = codecs.load(manifest.codec, folder, manifest.embedding_space)
        fits = _fits(codec.space, manifest.space)
        if pin is None or codec_fingerprint(folder) != pin.fingerprint or not fits:
            raise MismatchError(
                f"The codec in {folder} did not make the codes of {self.path}. Put back a backup, or index the images again."
            )
        return codec

    @property
    def name(self) -> str:
        """The folder's name without its suffix."""
        return self.path.resolve().name.removesuffix(SUFFIX)

    @property
    def cache(self) -> Path:
        """The folder of files that can be rebuilt at any time; it may not exist."""
        return self.path / "cache"

    @property
    def decisions(self) -> Path:
        """The file of decisions about duplicates; it may not exist."""
        return self.path / "decisions.json"

    @property
    def encoder(self) -> Path:
        """The folder of the encoder that made the vectors."""
        named = self.path / encoder_name(self.manifest)
        return named if named.is_dir() else self.path / "encoder"

    def load_embedder(self) -> Embedder:
        """Load the encoder and the codec that made the vectors.

        Raises:
            MismatchError: they are not the ones that made the vectors.
            StorageError, EncoderError: they are missing or damaged.
        """
        manifest, folder = self.manifest, self.encoder
        self._refuse_links(folder.name)
        try:
            encoder = Encoder.open(folder)
        except NotFoundError as e:
            raise StorageError(f"{self.path} is damaged: {folder} is missing. Put it back.") from e
        if encoder.fingerprint != manifest.encoder.fingerprint:
            raise MismatchError(
                f"The encoder in {self.path} did not make its vectors; “{manifest.encoder.name}” did. Put that encoder back,"
                " or index the images again into another collection."
            )
        codec, pin = self.codec, manifest.compression
        space, stored = VectorSpace(encoder.card.metric, encoder.card.dimension), manifest.embedding_space
        if not _fits(space, stored):
            raise MismatchError(
                f"{self.path} holds vectors of dimension {stored.dimension} for the {stored.metric} metric; its encoder"
                f" makes {space.dimension} {encoder.card.output}s. Put back its manifest.json, or index the images again."
            )
        if pin is None:
            return Embedder.of(encoder, manifest.metric)
        return Embedder(encoder, codec, manifest.metric, pin.originals, pin.fingerprint)

    def _refuse_links(self, name: str) -> None:
        """Check that a folder in this one and its files are not links.

        Raises:
            StorageError: one is a link.
        """
        try:
            for path in resolve_inside(self.path, name).iterdir():
                resolve_inside(self.path, f"{name}/{path.name}")
        except (FileNotFoundError, NotADirectoryError):
            pass  # reported later, if it is needed
        except OSError as e:
            raise StorageError(f"{self.path / name} cannot be read: {e.strerror}. Put back a backup.") from e

    # ---- images

    def owns(self, item: Item) -> bool:
        """Return whether the image of an item is kept in the folder: its uri is ``images/SHA-256.png`` or the like."""
        return _OWN_URI.fullmatch(item.uri) is not None

    def file(self, item: Item) -> Path:
        """Return the path of an item's image, which may have been deleted.

        The image is in this folder, or anywhere on this machine if the item's uri is absolute. The catalogue may come from
        a stranger. Code that shows a file to other people must check that the folder `owns` the item, or that its user
        named or indexed the place (`lookalike.state.roots`).

        Raises:
            NotFoundError: the uri is relative and not that of an image in the folder, or leads through a link there.
        """
        if self.owns(item):
            try:
                return resolve_inside(self.path, item.uri)
            except OSError as e:
                reason = e.strerror
        elif (path := Path(item.uri)).is_absolute():
            return path
        else:
            reason = "it is neither an absolute path nor an image in the collection's folder"
        raise NotFoundError(
            f"The file {quote(item.uri)} of the item {quote(item.id)} is not read: {reason}. Remove the item."
        )

    def own_uri(self, data: bytes) -> str:
        """Compute the uri that an image in the folder has, from the content of its file.

        Raises:
            UnreadableImageError: the content is not an image.
        """
        ending = images.media_type(data).removeprefix("image/")
        return f"{_OWN_IMAGES}/{images.fingerprint(data)}.{ending if ending in _ENDINGS else _ENDINGS[-1]}"

    @contextmanager
    def keeping(self, contents: Mapping[str, bytes]) -> Iterator[None]:
        """Write images into the folder, durably, and keep them there while their items are written in the block.

        No other thread or process removes items in the meantime. A process that is killed leaves at most an image without
        an item, and never an item without its image.

        Args:
            contents: the contents of image files by their `own_uri`.

        Raises:
            StorageError, BusyError: they cannot be written.
        """
        if not contents:
            yield
            return
        for uri, data in contents.items():
            self._write_image(uri, data)
        with self._locked():
            for uri, data in contents.items():
                if not (self.path / uri).exists():  # removed since, with another item
                    self._write_image(uri, data)
            yield

    def remove_items(self, store: Store, ids: Sequence[str]) -> int:
        """Remove items from the collection's store, with their thumbnails and the images that the folder keeps for them.

        An image stays if another item has it; so do files outside of the folder.

        Returns:
            The number of removed items.

        Raises:
            StorageError, BusyError: they cannot be removed.
        """
        with self._locked():
            items = store.get(ids).values()
            removed = store.delete(ids)
            owned = [item.uri for item in items if self.owns(item)]
            for uri in {*owned}.difference(store.find_uris(owned) if owned else ()):
                with suppress(OSError):  # a file that stays does no harm
                    resolve_inside(self.path, uri).unlink()
        contents = {item.sha256 for item in items}
        with suppress(OSError):
            for path in resolve_inside(self.path, _THUMBNAILS).iterdir():
                if path.name.partition("-")[0] in contents:
                    path.unlink(missing_ok=True)
        return removed

    def _locked(self) -> AbstractContextManager[None]:
        """Hold the lock of images and their items, between threads and processes."""
        return locks.exclusive(self.path / "images.lock")

    def _write_image(self, uri: str, data: bytes) -> None:
        try:
            path = resolve_inside(self.path, uri)
            if not path.parent.exists():
                path.parent.mkdir(exist_ok=True)
                atomic.sync(self.path)
            atomic.write_bytes(path, data)
        except OSError as e:
            raise StorageError(f"The image cannot be written into {self.path}: {e.strerror}.") from e

    def thumbnail(self, item: Item, size: int = 256) -> bytes:
        """Return a small JPEG of an item's image, from the cache if possible.

        Raises:
            NotFoundError, ImageError: the image was deleted, or cannot be read.
        """
        cached = self.cached_thumbnail(item.sha256, size)
        return cached or self.make_thumbnail(images.read_bytes(self.file(item)), item, size)

    def cached_thumbnail(self, sha256: str, size: int = 256) -> bytes | None:
        """Return the thumbnail of an image with this content from the cache, if it is there."""
        data = b""
        if name := _thumbnail_name(sha256, size):
            with suppress(OSError):
                data = read_inside(self.path, name, _MAX_THUMBNAIL)
        return data if data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9") else None  # a complete JPEG

    def make_thumbnail(self, content: bytes, item: Item, size: int = 256) -> bytes:
        """Make a small JPEG of the content of an item's file; keep it in the cache if the item was indexed with this content.

        Raises:
            ImageError: the content is not an image, or exceeds a limit.
        """
        data = images.thumbnail(content, size, name=repr(item.uri))
        name = _thumbnail_name(item.sha256, size)
        if name and images.fingerprint(content) == item.sha256:
            with suppress(OSError):  # the cache is optional
                cached = resolve_inside(self.path, name)
                cached.parent.mkdir(parents=True, exist_ok=True)
                atomic.write_bytes(cached, data)
        return data


def codec_fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a codec's settings, which hold that of its arrays.

    Raises:
        StorageError: they cannot be read.
    """
    try:
        return hashlib.sha256(read_inside(folder, SETTINGS, _MAX_MANIFEST)).hexdigest()
    except OSError as e:
        raise StorageError(f"The codec in {folder} cannot be read: {reason_of(e)}.") from e


def _fits(made: VectorSpace, stored: VectorSpace) -> bool:
    return (made.dimension, made.dtype) == (stored.dimension, stored.dtype)


def _thumbnail_name(sha256: str, size: int) -> str | None:
    return f"{_THUMBNAILS}/{sha256}-{size}.jpg" if _SHA256.fullmatch(sha256) else None
