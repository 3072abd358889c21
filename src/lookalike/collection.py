"""A collection: images that share an encoder, a codec, a metric and a store.

::

    with open_collection("shop", encoder="toyshop") as shop:
        shop.add("photos", labels="folder")
        for hit in shop.search("mug.jpg", k=10):
            print(hit.distance, hit.item.uri)
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self, TypeVar, Unpack, overload
from unicodedata import normalize

import numpy as np

from lookalike import chance, compare, expansion, images, ingest
from lookalike.chance import Chance
from lookalike.codec_choice import choose
from lookalike.codecs import Codec
from lookalike.compare import RankedClass, Ranking, Verdict
from lookalike.compress import Compressed, compress, find_codec, undo
from lookalike.duplicates import DuplicateGroups, FindOptions, SearchRadius, find_duplicates
from lookalike.duplicates.find import DEFAULT_OPTIONS
from lookalike.embedding import Embedder, to_batch
from lookalike.encoders import EncoderSource
from lookalike.errors import AlreadyExistsError, LookalikeError, MismatchError, NotFoundError, UsageError
from lookalike.evaluation import fewshot
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.evaluation.labels import LabelledVectors
from lookalike.folder import SUFFIX, Folder, find_folder, load_encoder, manifest_stamp
from lookalike.images import ImageSource
from lookalike.ingest import Added, Entry, GoneFolder, Relocation, absolute_path, signature
from lookalike.joins import Join, JoinPairs
from lookalike.measured_codecs import CodecChoice
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress
from lookalike.query import (
    ALL,
    DEFAULT_K,
    DistanceRange,
    Filter,
    Query,
    Vectors,
    Within,
    check_count,
    check_rescore,
    to_branch,
    to_texts,
)
from lookalike.reindex import Reindexed, adopt, reindex
from lookalike.search_options import SearchOptions, check_photos, to_metric, to_query
from lookalike.state import roots
from lookalike.stores import (
    Answer,
    Indexable,
    IndexSettings,
    Item,
    Relative,
    Replaceable,
    Sampling,
    SQLiteStore,
    Status,
    Store,
    Streaming,
    filters,
    take_snapshot,
)
from lookalike.stores.answer import FILE_NAME
from lookalike.stores.protocol import check_items
from lookalike.unicode_forms import to_path

if TYPE_CHECKING:
    from lookalike.encoders.card import Calibration

__all__ = ["SUFFIX", "Added", "Collection", "Entry", "Join", "Reindexed", "SearchOptions", "open_collection"]


T = TypeVar("T")


@dataclass(frozen=True)
class _Opened:
    """A folder, and the store and the embedder that belong together.

    Attributes:
        folder: the folder on disk.
        store: the items and their vectors.
        embedder: made the vectors.
        stamp: changes when the collection is reindexed.
    """

    folder: Folder
    store: Store
    embedder: Embedder
    stamp: tuple[int, ...] = ()

    @classmethod
    def open(cls, path: Path) -> Self:
        stamp, folder = manifest_stamp(path), Folder.open(path)
        with ExitStack() as undo:
            store = folder.open_store()
            undo.callback(store.close)
            embedder = folder.load_embedder()
            undo.pop_all()
        return cls(folder, store, embedder, stamp)


class Collection:
    """Images that share an encoder, a codec, a metric and a store.

    Safe to use from several threads, and while other processes read and write.

    Example:
        >>> with la.Collection.open("shop") as shop:
        ...     len(shop)
        64
    """

    def __init__(self, folder: Folder, store: Store, embedder: Embedder) -> None:
        """Use `create`, `open` or `open_collection`."""
        self._opened = _Opened(folder, store, embedder, manifest_stamp(folder.path))
        self._reopening = Lock()
        self._chances: dict[tuple[Metric, bool], tuple[tuple[str, Calibration | None], Chance | None]] = {}

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        encoder: EncoderSource,
        metric: Metric | str | None = None,
    ) -> Self:
        """Create an empty collection.

        Args:
            path: a folder that does not exist yet; the suffix ``.lookalike`` may be left out.
            encoder: a name, a folder, ``hf://org/repo`` or a loaded encoder; the folder gets a copy of it.
            metric: the encoder's own by default.

        Raises:
            AlreadyExistsError: the path exists.
            NotFoundError, EncoderError: the encoder does not exist or is damaged.
            UsageError: the metric cannot compare the encoder's vectors.

        Example:
            >>> la.Collection.create("new", encoder="toyshop", metric="cosine")
            <Collection 'new.lookalike': 0 items by toyshop, cosine>
        """
        path = find_folder(to_path(path))
        if path.exists():  # before the encoder is loaded
            raise AlreadyExistsError(f"{path} already exists. Open it, or choose another name.")
        embedder = Embedder.of(load_encoder(encoder), to_metric(metric))
        Folder.create(path, embedder, lambda folder: SQLiteStore.create(folder, embedder.space).close())
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a collection.

        Args:
            path: the collection's folder; the suffix ``.lookalike`` may be left out.

        Raises:
            NotFoundError: there is no collection at the path.
            MismatchError: the collection has another format, or its encoder did not make its vectors.
            StorageError, EncoderError: the collection is damaged.
        """
        opened = _Opened.open(find_folder(to_path(path)))
        return cls(opened.folder, opened.store, opened.embedder)

    def reopen(self) -> None:
        """Open the collection's folder again, after its encoder was replaced or calibrated; raises as `open`."""
        with self._reopening:
            before, self._opened = self._opened, _Opened.open(self.path)
        before.store.close()

    def refresh(self) -> bool:
        """Open the folder again if the collection was reindexed since, by this or another process.

        Searches do so themselves. A program that holds a collection open for long calls this before it uses the attributes.

        Returns:
            Whether the collection was reindexed.
        """
        if self._opened.stamp == manifest_stamp(self.path):
            return False
        return self._follow(self._opened)

    def _follow(self, before: "_Opened") -> bool:
        """Open the folder again if it was reindexed, unless another thread did so; return whether `before` is out of date."""
        with self._reopening:
            if self._opened is not before:
                return True
            stamp = manifest_stamp(self.path)
            try:
                found = Folder.open(self.path)
                same = (found.stored_manifest, found.manifest) == (
                    before.folder.stored_manifest,
                    before.folder.manifest,
                )
            except LookalikeError:  # the next search or write reports it
                return False
            if same:
                self._opened = replace(before, stamp=stamp)
                return False
            self._opened = _Opened.open(self.path)
        before.store.close()
        return True

    def retrying(self, read: Callable[[], T]) -> T:
        """Call a function that only reads; call it again if the collection was reindexed meanwhile.

        A search uses the encoder and the vectors one after the other. This function makes sure that both belong together.

        Example:
            >>> shop = la.open("shop")
            >>> shop.retrying(lambda: shop.search("mug.jpg", k=1))[0].item.label
            'mug'
        """
        while True:
            before = self._opened
            try:
                result = read()
            except LookalikeError:
                if not self._follow(before):
                    raise
            else:
                if self._opened.store is before.store:
                    return result

    @property
    def folder(self) -> Folder:
        """The folder on disk."""
        return self._opened.folder

    @property
    def store(self) -> Store:
        """The items and their vectors."""
        return self._opened.store

    @property
    def embedder(self) -> Embedder:
        """Turns images into vectors."""
        return self._opened.embedder

    @property
    def name(self) -> str:
        """The folder's name without its suffix."""
        return self.folder.name

    @property
    def path(self) -> Path:
        """The path of the folder."""
        return self.folder.path

    @property
    def metric(self) -> Metric:
        """The metric of a query that names none."""
        return self.embedder.metric

    def close(self) -> None:
        """Close files and connections."""
        self.store.close()

    def __enter__(self) -> Self:
        """Return the collection, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the collection."""
        self.close()

    def __len__(self) -> int:
        """Count the items."""
        return self.store.count()

    def count(self, where: Filter = ALL) -> int:
        """Count the items that pass a filter.

        Example:
            >>> la.open("shop").count()
            64
        """
        return self.store.count(filters.in_stored_form(self.store, where))

    def unknown_names(self, where: Filter) -> list[str]:
        """Say which labels, attributes and ids of a filter no item has, with the most similar name that one has.

        Example:
            >>> from lookalike.query import Filter
            >>> la.open("shop").unknown_names(Filter(labels=frozenset({"Mugs"})))
            ['No item has the label “Mugs”; did you mean “mug”?']
        """
        return filters.unknown_names(self.store, where)

    def __iter__(self) -> Iterator[Item]:
        """Iterate over the items, by id."""
        return self.store.scan()

    def __bool__(self) -> bool:
        """Return true, also for an empty collection."""
        return True

    def __repr__(self) -> str:
        """Show the path, the number of items, the encoder and the metric."""
        return f"<Collection {str(self.path)!r}: {len(self):,} items by {self.embedder.name}, {self.metric}>"

    # ---- add and remove

    def add(self, source: ingest.Source, progress: Progress = SILENT, *, labels: ingest.Labels | None = None) -> Added:
        """Add images, or bring them up to date: only new and changed images are embedded.

        An image that cannot be used is reported in the result and skipped. The collection's folder keeps images that
        have no file of their own.

        Args:
            source: a folder that is searched for images, an image, or a sequence of images.
            labels: for a folder, ``"folder"`` labels each image by its first folder, and the path of a CSV file reads
                the labels from it (see `lookalike.ingest.plan`); for a sequence, one label for each image.
            progress: receives the stage ``"indexing"``.

        Raises:
            NotFoundError, DataError: there is no such folder, or the CSV file is invalid.
            UsageError: a source is not an image, or the labels do not fit the source.
            StorageError, BusyError: the collection cannot be written; what was written before stays.

        Example:
            >>> shop = la.open("shop")
            >>> shop.add("photos", labels="folder").unchanged
            64
        """
        entries = ingest.plan(source, labels)
        if isinstance(source, str | os.PathLike):
            self.remember_root(source)
        else:
            roots.record_roots(self.path, [absolute_path(e.path) for e in entries if e.image is None])
        if relative := self._relative_roots():
            entries = ingest.resolve_links(entries, relative)
        return self._writing(
            lambda opened: ingest.add(opened.store, opened.embedder, entries, progress, keeper=opened.folder)
        )

    def remember_root(self, root: str | os.PathLike[str]) -> None:
        """Remember on this machine that its user took images from a folder, or a file; `add` does so.

        The server reads images outside of the collection's folder only below these folders.
        """
        roots.record_roots(self.path, [absolute_path(to_path(root))])

    def make_relative(self, root: str | os.PathLike[str]) -> None:
        """Keep the paths of all files below a folder relative to the collection's folder, now and later.

        Then the collection and the folder can be moved together, to another place or machine. `Item.uri` stays absolute.

        Raises:
            UsageError: the folder is in the collection's folder or on another drive, or the store cannot do it.

        Example:
            >>> shop = la.open("shop")
            >>> shop.make_relative("photos")
            >>> shop.add("photos").unchanged
            64
        """
        if not isinstance(self.store, Relative):
            raise UsageError(f"The store of “{self.name}” is not in a folder, so its paths cannot be relative.")
        if not os.path.isdir(root := to_path(root)):  # noqa: PTH112 -- false for a name that is too long, too
            raise NotFoundError(f"There is no folder {root}. Check the path.")
        self.store.add_relative_root(root)

    def _relative_roots(self) -> tuple[Path, ...]:
        return self.store.relative_roots() if isinstance(self.store, Relative) else ()

    def _locate(self, path: str | os.PathLike[str]) -> Path:
        """Return the absolute path of a file or folder, as its items have it."""
        absolute = absolute_path(to_path(path))
        real = Path(os.path.realpath(absolute))
        return real if any(real.is_relative_to(root) for root in self._relative_roots()) else absolute

    def known_roots(self) -> tuple[Path, ...]:
        """Return the folders and files that the user of this machine added to the collection."""
        return roots.known_roots(self.path)

    def add_image(
        self,
        source: ImageSource,
        label: str | None = None,
        attributes: Mapping[str, str] | None = None,
        *,
        filename: str = "",
    ) -> Item:
        """Add an image that has no file of its own, such as an upload; the collection's folder keeps it.

        An image with the same content replaces the label and the attributes of its item.

        Args:
            source: the image.
            label: its class.
            attributes: more properties, by name.
            filename: the name of the file that was uploaded; an attribute of this name keeps it for `Item.name`.

        Raises:
            ImageError: the image cannot be used.

        Example:
            >>> with la.open("uploads", encoder="toyshop") as uploads:
            ...     item = uploads.add_image(Path("mug.jpg").read_bytes(), label="mug")
            ...     len(uploads)
            1
        """
        if attributes is not None and not isinstance(attributes, Mapping):
            raise UsageError(f"The attributes of an image are a mapping, not {type(attributes).__name__}.")
        data = images.read_bytes(source)
        sha256 = images.fingerprint(data)
        uri = self.folder.own_uri(data)
        known = {FILE_NAME: filename} if filename else {}
        item = Item(sha256[:20], uri, label, {**known, **(attributes or {})}, sha256)
        check_items([item])

        def write(opened: _Opened) -> Item:
            try:
                rows = opened.store.rows([item.id])
            except NotFoundError:
                rows = opened.embedder.embed_items([data])
            with opened.folder.keeping({uri: data}):
                kept = replace(item, signature=signature(opened.folder.path / uri))
                opened.store.upsert([kept], rows)
            return kept

        return self._writing(write)

    def _writing(self, write: Callable[["_Opened"], T]) -> T:
        """Call a function that embeds and writes; call it again if the collection was reindexed before it wrote."""
        while True:
            opened = self._opened
            try:
                return write(opened)
            except LookalikeError:
                if not self._follow(opened):
                    raise

    def remove(self, ids: str | Sequence[str]) -> int:
        """Remove items; return how many there were. Image files outside the collection's folder stay.

        Example:
            >>> shop = la.open("shop")
            >>> shop.remove(["no such item"])
            0
        """
        return self.folder.remove_items(self.store, to_texts("The id of an item", ids))

    def missing(self, folder: str | os.PathLike[str] | None = None) -> list[Item]:
        """Return the items whose files certainly do not exist: those under a folder, or all that are not uploads.

        The folder may be named in another Unicode form than in the items.
        """
        root = "" if folder is None else normalize("NFC", str(self._locate(folder))).rstrip(os.sep) + os.sep
        return [
            item
            for item in self.store.scan()
            if (item.uri if item.uri.isascii() else normalize("NFC", item.uri)).startswith(root)
            and (path := Path(item.uri)).is_absolute()
            and ingest.is_missing(path)
        ]

    def prune(self, folder: str | os.PathLike[str] | None = None) -> tuple[int, list[GoneFolder]]:
        """Remove the items whose files certainly do not exist.

        Args:
            folder: remove only items under this folder, which need not exist itself. Without it, the items of a folder that
                is gone or empty stay, since its disk may not be connected.

        Returns:
            The number of removed items, and the folders whose items stay.

        Example:
            >>> la.open("shop").prune()
            (0, [])
        """
        missing, gone = self.missing(folder), list[GoneFolder]()
        if folder is None:
            missing, gone = ingest.split_gone(missing, self.known_roots())
        return self.remove([item.id for item in missing]), gone

    def relocate(
        self,
        old: str | os.PathLike[str],
        new: str | os.PathLike[str],
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Relocation:
        """Give the items under a folder paths under another folder, to which their files were moved, in one transaction.

        Items keep their ids, labels and attributes. No file is read or moved. Duplicates that were moved into a trash folder before
        are restored into the new folder, also if no item is left under the old one.

        Args:
            old: the folder where the files were, or a file.
            new: the folder where they are now, or the file.
            force: relocate also if none of the files exists there.
            dry_run: change nothing.

        Raises:
            NotFoundError: there is no item under the old folder, and it was never indexed or the new one does not exist; or none
                of the files exists under the new one.

        Example:
            >>> shop = la.open("shop")
            >>> shop.relocate("photos", "photos/../photos", dry_run=True).existing
            64
        """
        planned = ingest.plan_relocation(self.store.scan(), to_path(old), self._locate(new))
        place = os.fspath(old)
        place = place if ingest.is_windows_path(place) else str(absolute_path(to_path(old)))
        if not planned.relocated and not planned.conflicts and not self._may_be_renamed(Path(place), to_path(new)):
            raise NotFoundError(f"{self.path} has no items under {os.fspath(old)}. {self._describe_places()}")
        if planned.relocated and not planned.existing and not force:
            raise NotFoundError(
                f"None of the {planned.relocated:,} files exists under {os.fspath(new)}: there is no {planned.example}."
                " Check the path, or use --force (force=True) if they will be there later."
            )
        if not dry_run:
            if isinstance(self.store, Relative) and not os.path.isfile(to_path(new)):  # noqa: PTH113 -- any name
                relative = self.store.relative_roots()
                if any(Path(item.uri).is_relative_to(root) for item, _ in planned.changes for root in relative):
                    self.store.add_relative_root(to_path(new))
            self.store.update(planned.changes)
            roots.record_relocation(self.path, place, absolute_path(to_path(new)))
        return planned

    def _may_be_renamed(self, old: Path, new: Path) -> bool:
        """Return whether an indexed folder without items may have another name now; its images may be in a trash.

        The images that `duplicates` keeps instead are in the collection, so it is not empty.
        """
        indexed = (*self.known_roots(), *(Path(before) for before, _ in roots.known_relocations(self.path)))
        is_known = any(old.is_relative_to(root) or root.is_relative_to(old) for root in indexed)
        return is_known and len(self) > 0 and new.is_dir() and not os.path.lexists(old)

    def _describe_places(self) -> str:
        """Return a sentence that names the folders of the items' files."""
        if not len(self):
            return "It is empty."
        folders = roots.outermost(Path(item.uri).parent for item in self.store.scan() if not self.folder.owns(item))
        if not folders:
            return "All its images are uploads, which its own folder keeps."
        if len(folders) <= 3:  # noqa: PLR2004 -- enough to see
            return f"Its images are under {', '.join(map(str, folders))}."
        with suppress(ValueError):  # they are on several drives
            common = Path(os.path.commonpath(folders))
            if common != common.parent:
                return f"Its images are under {common}."
        return f"Its images are under {', '.join(map(str, folders[:3]))} and {len(folders) - 3:,} more."

    def is_missing(self, item: Item) -> bool:
        """Return whether an item's file certainly does not exist; a file in a folder that cannot be searched may exist."""
        try:
            return ingest.is_missing(self.folder.file(item))
        except NotFoundError:  # its uri leads outside of the folder
            return True

    def find(self, names: Sequence[str]) -> dict[str, Item]:
        """Find items by their ids, or by the paths of their files; return them by name, without unknown names.

        A path is found in any Unicode form, and under the path that the file has now if it was moved.

        Example:
            >>> shop = la.open("shop")
            >>> item = next(iter(shop))
            >>> shop.find([item.id, item.uri, "nothing"]) == {item.id: item, item.uri: item}
            True
        """
        names = to_texts("The id or path of an item", names)
        found = ingest.find_items(self.store, names)
        if len(found) < len({*names}) and self._relative_roots():
            located = {name: str(self._locate(name)) for name in names if name not in found}
            by_path = ingest.find_items(self.store, list(located.values()))
            found |= {name: by_path[path] for name, path in located.items() if path in by_path}
        return found

    def get(self, ident: str) -> Item:
        """Return an item.

        Raises:
            NotFoundError: there is no such item.
        """
        items = self.store.get(to_texts("The id of an item", [ident]))
        if ident not in items:
            raise NotFoundError(f"“{self.name}” has no item “{ident}”.")
        return items[ident]

    # ---- search

    @overload
    def search(  # type: ignore[overload-overlap]  # a str is one image, though it is a sequence of str
        self, image: ImageSource, **options: Unpack[SearchOptions]
    ) -> Answer: ...

    @overload
    def search(self, image: Sequence[ImageSource], **options: Unpack[SearchOptions]) -> list[Answer]: ...

    @overload
    def search(  # type: ignore[overload-overlap]  # as above
        self, *, item: str, **options: Unpack[SearchOptions]
    ) -> Answer: ...

    @overload
    def search(self, *, item: Sequence[str], **options: Unpack[SearchOptions]) -> list[Answer]: ...

    @overload
    def search(  # type: ignore[overload-overlap]  # as above
        self, *, text: str, **options: Unpack[SearchOptions]
    ) -> Answer: ...

    @overload
    def search(self, *, text: Sequence[str], **options: Unpack[SearchOptions]) -> list[Answer]: ...

    @overload
    def search(self, *, vector: np.ndarray, **options: Unpack[SearchOptions]) -> Answer | list[Answer]: ...

    def search(
        self,
        image: ImageSource | Sequence[ImageSource] | None = None,
        *,
        text: str | Sequence[str] | None = None,
        item: str | Sequence[str] | None = None,
        vector: np.ndarray | None = None,
        **options: Unpack[SearchOptions],
    ) -> Answer | list[Answer]:
        """Find the items that look like an image, an item or a vector, or as a text says.

        Args:
            image: an image (a path, the content of a file, a Pillow image or a uint8 array), or a list of them.
            text: what the images show, such as ``"red shoe"``, or a list of texts; the encoder needs a text branch.
            item: the id of an item, which is not among its own hits; or a list of them.
            vector: an embedding ``(d,)`` by the collection's encoder, or several ``(q, d)``.
            options: see `SearchOptions`: ``k``, ``within``, ``far``, ``sketch``, ``label``, ``where``, ``metric``,
                ``exact``, ``limit``, ``expand``, ``rescore``.

        Returns:
            The answer, a sequence of hits; or a list of answers if a list was given.

        Raises:
            ImageError, NotFoundError: an image or an item cannot be used.
            UsageError: an option is unknown, contradicts another, or has a wrong value; or the encoder takes no texts.

        Example:
            >>> shop = la.open("shop")
            >>> hits = shop.search("mug.jpg", k=3)
            >>> hits[0].item.label, len(hits)
            ('mug', 3)
            >>> len(shop.search("mug.jpg", within="40%")) > 3
            True
            >>> shop.search("sketch.png", sketch=True, k=1)[0].item.label
            'mug'
            >>> [answer[0].item.label for answer in shop.search(["mug.jpg", "other.jpg"], label="mug")]
            ['mug', 'mug']
            >>> shop.search(item=hits[0].item.id, k=1)[0].item.label
            'mug'
        """
        if sum(given is not None for given in (image, text, item, vector)) != 1:
            raise UsageError("A search takes one of an image, text=, item= and vector=. Give exactly one.")
        return self.retrying(lambda: self._search(image, text, item, vector, options))

    def _search(
        self,
        image: ImageSource | Sequence[ImageSource] | None,
        text: str | Sequence[str] | None,
        item: str | Sequence[str] | None,
        vector: np.ndarray | None,
        options: SearchOptions,
    ) -> Answer | list[Answer]:
        embedder = self.embedder_for(rescore=options.get("rescore", False))
        batch, single = ([], False) if image is None else to_batch(image)
        if options.get("far") is not None and options.get("sketch") is None:
            check_photos(self.embedder, batch)
        query = to_query(options, embedder, by_text=text is not None)
        if image is not None:
            answers = self.answer(replace(query, images=batch))
        elif text is not None:
            single = isinstance(text, str)
            answers = self.answer(replace(query, texts=to_texts("A text to search for", text)))
        elif item is not None:
            single = isinstance(item, str)
            answers = self.answer(replace(query, items=to_texts("The id of an item", item)))
        else:
            vectors = np.asarray(vector)
            single = vectors.ndim == 1
            vectors = embedder.project(vectors[None] if single else vectors)
            answers = self.answer(replace(query, vectors=vectors))
        return answers[0] if single else answers

    def embedder_for(self, *, rescore: bool) -> Embedder:
        """Return the embedder of queries: that of the collection, or without its codec if they re-score.

        Raises:
            UsageError: the collection is compressed and has no original vectors, or ``rescore`` is neither true nor false.
        """
        check_rescore(rescore)
        embedder = self.embedder
        if not rescore or not embedder.is_compressed:
            return embedder
        if not embedder.originals:
            raise UsageError(
                f"“{self.name}” is compressed without its original vectors, so it cannot re-score. Leave out rescore"
                " (--rescore)."
            )
        return embedder.without_codec()

    def answer(self, query: Query) -> list[Answer]:
        """Answer a query, one answer for each of its images, texts, items or vectors.

        Raises:
            ImageError, NotFoundError: an image or an item cannot be used.
            UsageError: the query does not fit the collection.
        """
        return self._by_branch(query, self._answer)

    def _answer(self, query: Query) -> list[Answer]:
        # Each item finds itself, and the distance of the tenth hit shows whether the nearest ones are near by chance.
        own = 1 if query.items else 0
        deeper = replace(
            query,
            k=None if query.k is None else max(query.k, chance.NEIGHBOURS) + own,
            limit=None if query.limit is None else query.limit + own,
        )
        resolved, blank = self._resolve(deeper)
        answers = self.store.search(resolved)
        measured = self._chance(query)
        items: Sequence[str | None] = query.items or [None] * len(answers)
        finished = [
            replace(self._finish(_without(answer, item, query.limit), query, measured), blank=is_blank)
            for answer, item, is_blank in zip(answers, items, blank, strict=True)
        ]
        return self._explain_nothing(finished, query.where)

    def stream(self, query: Query, after: tuple[float, str] | None = None) -> Iterator[Answer]:
        """Answer a range query of one image, text, item or vector exactly, in parts of bounded size, nearest first.

        It leaves out items that are removed before their part is read.

        Args:
            query: the query; its limit does not matter.
            after: distance and id of a hit; the answer begins with the next one.

        Raises:
            UsageError: the query has no range, or has several images, texts, items or vectors; the range ends before the
                distance; or the store cannot stream.
        """
        query = self._checked(query)
        if query.branch == "auto":
            query = replace(query, branch=self.embedder.decide_branch(query.images[0]) if query.images else "photo")
        if not isinstance(self.store, Streaming):
            raise UsageError(f"The store of “{self.name}” cannot stream answers; search with a limit.")
        no_match = None
        query = replace(query, limit=None)
        if after is not None and query.within is not None:
            if (
                query.within.min == 0
                and self.embedder_for(rescore=query.rescore).with_metric(query.metric).calibration() is not None
            ):
                (nearest,) = self.answer(replace(query, limit=chance.NEIGHBOURS, exact=True))
                no_match = nearest.no_match
            begin = max(after[0], query.within.min)
            query = replace(query, within=DistanceRange(begin, query.within.max))
        resolved, blank = self._resolve(query)
        parts = self.store.stream(resolved)
        own = query.items[0] if query.items else None
        found = (replace(_without(_after(part, after), own), blank=blank[0]) for part in parts)
        return self._finish_parts(found, query, no_match)

    def answer_after(self, query: Query, after: tuple[float, str]) -> Answer:
        """Continue the answer of a range query that its limit cut off, exactly.

        Args:
            query: the query, with its limit.
            after: distance and id of the last hit so far.

        Raises:
            UsageError: as `stream`.
        """
        rest = (hit for part in self.stream(query, after) for hit in part)
        found = tuple(rest if query.limit is None else islice(rest, query.limit + 1))
        hits, complete = found[: query.limit], len(found) <= (query.limit or len(found))
        metric = query.metric or self.embedder_for(rescore=query.rescore).metric
        return Answer(hits, metric, complete=complete, codec=self.codec_of(query), thumbnail=self.folder.thumbnail)

    def _checked(self, query: Query) -> Query:
        """Check the type of a query; without codes, nothing is re-scored."""
        _check_query(query)
        is_plain = self.embedder_for(rescore=query.rescore) is self.embedder
        return replace(query, rescore=False) if query.rescore and is_plain else query

    def _by_branch(self, query: Query, answer: Callable[[Query], list[T]]) -> list[T]:
        """Answer a query; if its images decide the branch, those of each branch together."""
        query = self._checked(query)
        if query.branch != "auto":
            return answer(query)
        branches = [self.embedder.decide_branch(image) for image in query.images]
        found = dict[int, T]()
        for branch in sorted(set(branches)):
            rows = [row for row, own in enumerate(branches) if own == branch]
            part = replace(query, branch=branch, images=[query.images[row] for row in rows])
            found |= zip(rows, answer(part), strict=True)
        return [found[row] for row in range(len(branches))] if branches else answer(replace(query, branch="photo"))

    def _resolve(self, query: Query) -> tuple[Query, Sequence[bool | None]]:
        """Replace a query's images, texts or items by vectors, and the names of its filter by the stored forms.

        Returns:
            The query, and for each image whether it has one colour only; none for texts, items and vectors.
        """
        where = filters.in_stored_form(self.store, query.where)
        vectors, blank = self._vectors(query)
        resolved = replace(query, images=(), texts=(), items=(), vectors=vectors, where=where)
        if query.expand is None:
            return resolved, blank
        metric = query.metric or self.embedder_for(rescore=query.rescore).metric
        vectors = expansion.expand(self.store, resolved, query.items, metric)
        return replace(resolved, vectors=vectors, expand=None), blank

    def _explain_nothing(self, answers: list[Answer], where: Filter) -> list[Answer]:
        """Add a note to the answers if no item passes the filter."""
        if not where or all(answer.hits for answer in answers) or self.count(where):
            return answers
        note = filters.explain_nothing(self.store, where)
        return [replace(answer, note=note) for answer in answers]

    def _vectors(self, query: Query) -> tuple[Vectors, Sequence[bool | None]]:
        if query.vectors is not None:
            return query.vectors, [None] * len(query.vectors)
        embedder = self.embedder_for(rescore=query.rescore)
        if query.items:
            store = self.store
            if query.rescore and isinstance(store, Replaceable):
                vectors = store.embeddings(query.items)
            else:
                vectors = store.vectors(query.items)
        elif query.branch == "text":
            vectors = embedder.embed_texts(query.texts)
        else:
            return embedder.embed_queries(query.images, query.known_branch)
        return vectors, [None] * len(vectors)

    def _finish_parts(self, parts: Iterable[Answer], query: Query, no_match: bool | None) -> Iterator[Answer]:
        """Finish the parts of an answer; the part with the nearest hit decides whether something looks like the query."""
        measured = self._chance(query)
        for part in parts:
            finished = self._finish(part, query, measured, no_match)
            no_match = finished.no_match
            yield finished

    def _finish(self, answer: Answer, query: Query, measured: Chance | None, no_match: bool | None = None) -> Answer:
        """Keep k hits; add probabilities, closeness and thumbnails, which the store does not have.

        If nothing looks like the query, or the calibration does not hold for the collection, hits have no probability.
        """
        hits = answer.hits[: query.k]
        distances = [hit.distance for hit in answer.hits]
        if no_match is None and hits and measured is not None and (query.within is None or query.within.min == 0):
            # Few items pass a filter, so the tenth may be far although the nearest matches.
            no_match = measured.no_match(distances[:1] if query.where else distances)
        distances = distances[: query.k]
        embedder = self.embedder_for(rescore=query.rescore)
        calibration = embedder.with_metric(answer.metric).calibration(query.known_branch)
        if query.expand is not None:  # its distances are to a mean of images
            calibration = None
        holds = not isinstance(self.store, Sampling) or (measured is not None and measured.calibration_holds)
        if calibration is not None and (no_match or not holds or not calibration.knots):
            calibration = None
        if hits and (calibration is not None or measured is not None):
            known = [None] * len(hits) if calibration is None else calibration.probability(np.array(distances)).tolist()
            close = [None] * len(hits) if measured is None else measured.closeness(distances, answer.metric)
            hits = tuple(replace(hit, probability=p, closeness=c) for hit, p, c in zip(hits, known, close, strict=True))
        kind = None if calibration is None else calibration.kind
        branch = query.known_branch if query.images or query.texts else None
        return replace(
            answer,
            hits=hits,
            no_match=no_match,
            calibrated_on=kind,
            branch=branch,
            codec=self.codec_of(query),
            thumbnail=self.folder.thumbnail,
        )

    def codec_of(self, query: Query) -> str | None:
        """Return `Answer.codec` of a query."""
        return self.embedder_for(rescore=query.rescore).codec_in_words

    def _chance(self, query: Query) -> Chance | None:
        """Return the distances from which hits are no nearer than chance; measured once for each generation.

        None for a text: it lies far from all images, and how far depends on the encoder. None for an expanded query, which lies
        nearer to images than one image does.
        """
        if not isinstance(self.store, Sampling) or query.branch == "text" or query.expand is not None:
            return None
        embedder = self.embedder_for(rescore=query.rescore)
        metric = query.metric or embedder.metric
        calibration = embedder.with_metric(metric).calibration()
        made_of = self.store.generation(), calibration
        if self._chances.get((metric, query.rescore), (None, None))[0] != made_of:
            name = "chance-originals.json" if query.rescore else "chance.json"
            path, key = self.folder.cache / name, chance.cache_key(*made_of, metric)
            measured = chance.load(path, key)
            if measured is None:
                measured = Chance.of(self.store.sample(chance.MAX_ITEMS, originals=query.rescore), metric, calibration)
                if measured is not None:
                    chance.save(path, key, measured)
            self._chances[metric, query.rescore] = made_of, measured
        measured = self._chances[metric, query.rescore][1]
        return measured if measured is None or query.branch == "photo" else measured.for_sketches()

    # ---- another encoder

    def reindex(
        self,
        encoder: EncoderSource,
        metric: Metric | str | None = None,
        *,
        prune: bool = False,
        progress: Progress = SILENT,
    ) -> Reindexed:
        """Embed all images again with another encoder, and swap the encoder and all vectors at once at the end.

        An encoder with the same network for photos, such as one with a new sketch branch, replaces only the encoder: vectors,
        codec and metric stay, unless another metric is given. With another network, a compressed collection gets vectors again,
        without a codec.

        Until then, the collection answers with its old vectors, and this and other processes may search and add images. Items
        keep their ids, labels and attributes. If the process is stopped, the next call continues.

        Args:
            encoder: a name, a folder, ``hf://org/repo`` or a loaded encoder.
            metric: the encoder's own by default.
            prune: remove the items whose images are missing or cannot be used; without it, there must be none.
            progress: receives the stage ``"re-embedding"``.

        Raises:
            NotFoundError: images are missing or cannot be used, or there is no such encoder.
            MismatchError: images have changed since they were indexed, or the collection has this encoder already.
            UsageError: the metric cannot compare the encoder's vectors.
            BusyError: another process reindexes the collection.
            StorageError, EncoderError: the disk is full, or the encoder is damaged.

        Example:
            >>> with la.open("mine", encoder="toyshop") as mine:
            ...     added = mine.add("photos/mug")
            ...     mine.reindex("copies").items == len(mine)
            True
            >>> la.open("mine").embedder.name
            'copies'
        """
        loaded = load_encoder(encoder)
        self.refresh()
        before = self.embedder
        keeps_vectors = (
            to_metric(metric) in (None, before.metric) and before.encoder.photo_fingerprint == loaded.photo_fingerprint
        )
        embedder = replace(before, encoder=loaded) if keeps_vectors else Embedder.of(loaded, to_metric(metric))
        if before.is_compressed and not before.originals and embedder.fingerprint == before.fingerprint:
            keeps_vectors, embedder = False, Embedder.of(loaded, to_metric(metric) or before.codec.embeddings.metric)
        elif (embedder.fingerprint, embedder.space) == (before.fingerprint, before.space):
            raise MismatchError(
                f"{self.path} has the encoder “{embedder.name}” and the metric {embedder.metric} already. Choose others."
            )
        opened = self._opened
        if keeps_vectors:
            adopt(opened.folder, opened.store, embedder)
            result = Reindexed(len(self), 0)
        else:
            result = reindex(opened.folder, opened.store, embedder, progress, prune=prune)
        self._follow(opened)
        return result

    # ---- codes

    def compress(self, codec: str | Codec, *, drop_originals: bool = False, progress: Progress = SILENT) -> Compressed:
        """Replace all vectors by codes, which take fewer bytes, and swap them at once at the end.

        The codec is fitted to the collection. Queries are not quantised: a distance is that of the query to the vector that
        the item's code stands for. Calibrations of the encoder do not hold for codes; calibrate the collection anew.

        Args:
            codec: the name and settings of a codec, such as ``"pca:64"``, ``"scalar:int8"`` or ``"pca:64+scalar:int8"``; the
                path of a collection, whose codec is used; or a fitted codec. Collections with one codec can be joined.
            drop_originals: do not keep the original vectors beside the codes. Then `decompress` is impossible.
            progress: receives the stage ``"encoding"``.

        Raises:
            UsageError: the codec is unknown or does not fit, the collection is empty, or its original vectors were dropped.
            MismatchError: the collection was reindexed or compressed meanwhile.
            BusyError: another process reindexes or compresses the collection.
            StorageError: the disk is full, or read-only.

        Example:
            >>> with la.open("small", encoder="toyshop") as small:
            ...     added = small.add("photos", labels="folder")
            ...     small.compress("scalar:int8").original_bytes
            ...     small.search("mug.jpg", k=1)[0].item.label
            512
            'mug'
        """
        self.refresh()
        opened = self._opened
        fitted = find_codec(opened.folder, opened.store, codec, progress)
        result = compress(opened.folder, opened.store, fitted, progress, drop_originals=drop_originals)
        self._follow(opened)
        return result

    def choose_codec(
        self, *, budget: float | str | None = None, keep: float | str | None = None, progress: Progress = SILENT
    ) -> CodecChoice:
        """Fit codecs to a sample of the collection, measure the quality of each, and choose one for `compress`.

        With labels, the quality is the mAP of held-out items; without, the share of the 10 exact neighbours that are among the
        10 nearest by the codes. The sample has at most 20,000 items, 1,000 of which are queries.

        Args:
            budget: choose the best codec of at most this many bytes an item, as ``16`` or ``"16B"``. They include the item's
                share of the codec's files.
            keep: choose the smallest codec that keeps this share of the quality, as ``0.99`` or ``"99%"``.
            progress: receives the stage ``"measuring"``.

        Raises:
            UsageError: neither is given, no codec fits, or there are too few items.

        Example:
            >>> with la.open("many", encoder="toyshop") as many:  # doctest: +SKIP
            ...     print(choice := many.choose_codec(keep="99%"))
            ...     many.compress(choice.codec)
        """
        self.refresh()
        return choose(self.folder, self.store, budget=budget, keep=keep, progress=progress)

    def decompress(self, progress: Progress = SILENT) -> None:
        """Undo `compress`: the vectors are those from before, bit for bit. Raises as `compress`.

        Example:
            >>> with la.open("small2", encoder="toyshop") as small:
            ...     added = small.add("photos")
            ...     done = small.compress("pca:16")
            ...     small.decompress()
            ...     small.embedder.codec.name
            'none'
        """
        self.refresh()
        opened = self._opened
        undo(opened.folder, opened.store, progress)
        self._follow(opened)

    # ---- approximate indexes

    def status(self) -> Status | None:
        """Return the precision, speed and index of searches; None if the store manages its own index."""
        return self.store.status() if isinstance(self.store, Indexable) else None

    def searches_exactly(self, exact: bool | None = None) -> bool:
        """Return whether a query is answered exactly: as requested, within the budget, or for lack of an index."""
        if exact or not isinstance(self.store, Indexable) or (exact is None and not self.store.over_budget()):
            return True
        return self.store.status().index is None

    def misses_index(self, exact: bool | None = None) -> bool:
        """Return whether a query is answered exactly only for lack of an index that would answer it faster."""
        store = self.store
        if exact or not isinstance(store, Indexable) or (exact is None and not store.over_budget()):
            return False
        status = store.status()
        return status.index is None and (status.due if exact is None else self.indexable)

    def tune(self, settings: IndexSettings) -> None:
        """Set the budget of a query, and the kind of index that `build_index` makes.

        Raises:
            UsageError: the store manages its own index.
            StorageError, BusyError: the settings cannot be written.
        """
        self._indexable_store().tune(lambda current: settings.model_copy(update={"built": current.built}))

    @property
    def indexable(self) -> bool:
        """Whether the settings ask for an index and there are enough items for one; false for bits, which need none."""
        store = self.store
        return isinstance(store, Indexable) and store.indexable() and store.status().settings.index != "none"

    def build_index(
        self,
        progress: Progress = SILENT,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Build the index that the settings ask for; see `Indexable.build_index`."""
        return self._indexable_store().build_index(progress, stopped)

    def measure_latency(self, queries: int = 5) -> tuple[float, float | None]:
        """Measure the median milliseconds of an exact query and, if there is an index, of an approximate one."""
        ids = [item.id for item in islice(self.store.scan(), check_count("queries", queries))]
        vectors, seconds = self.store.vectors(ids), dict[bool, list[float]]()
        for i in range(len(ids)):
            for exact in (True, False):
                start = time.perf_counter()
                (answer,) = self.store.search(Query(vectors=vectors[i : i + 1], exact=exact))
                seconds.setdefault(answer.exact, []).append(time.perf_counter() - start)
        medians = {exact: 1000 * float(np.median(times)) for exact, times in seconds.items()}
        return medians.get(True, 0.0), medians.get(False)

    def _indexable_store(self) -> Indexable:
        if not isinstance(self.store, Indexable):
            raise UsageError(f"The store of “{self.name}” manages its own index; it cannot be tuned here.")
        return self.store

    # ---- verify and classify

    def verify(
        self,
        left: ImageSource,
        right: ImageSource,
        *,
        within: Within | None = None,
        far: float | None = None,
        sketch: bool = False,
    ) -> Verdict:
        """Decide whether two images show the same thing, by the collection's encoder.

        Args:
            left: an image.
            right: another image, a photo.
            within: the threshold: the largest distance of the same thing, as ``0.35``, or the smallest similarity, as
                ``"80%"``. By default the calibrated threshold.
            far: use the threshold of this false accept rate instead of ``within``.
            sketch: the left image is a sketch.

        Raises:
            ImageError, NotFoundError: an image cannot be used.
            UsageError: the threshold is invalid, or the encoder is not calibrated for the rate.

        Example:
            >>> la.open("shop").verify("mug.jpg", "other.jpg", within=0.9).same
            True
        """
        branch = to_branch(sketch)
        threshold = compare.find_threshold(self.embedder, within, far, branch)
        return compare.verify(self.embedder, left, right, threshold, branch)

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is one image, though it is a sequence of str
        self, image: ImageSource, k: int = 5, *, by: ClassifyBy = "example", sketch: bool = False
    ) -> Ranking: ...

    @overload
    def classify(
        self, image: Sequence[ImageSource], k: int = 5, *, by: ClassifyBy = "example", sketch: bool = False
    ) -> list[Ranking]: ...

    def classify(
        self,
        image: ImageSource | Sequence[ImageSource],
        k: int = 5,
        *,
        by: ClassifyBy = "example",
        sketch: bool = False,
    ) -> Ranking | list[Ranking]:
        """Rank the labels of the collection by their distance from an image, nearest first.

        Args:
            image: an image, or a list of them.
            k: return at most this many labels.
            by: ``"example"`` takes the distance of a label's nearest item, ``"prototype"`` that of the mean of its items.
            sketch: the images are sketches.

        Raises:
            ImageError, NotFoundError: an image cannot be used.
            UsageError: k < 1, or no item has a label.

        Example:
            >>> print(la.open("shop").classify("mug.jpg", k=2))
                0.70  mug
                0.97  trousers
        """
        batch, single = to_batch(image)
        query = Query(images=batch, k=k, branch=to_branch(sketch))
        rankings = self.retrying(lambda: self.rank_labels(query, by=by))
        return rankings[0] if single else rankings

    def rank_labels(self, query: Query, by: ClassifyBy = "example") -> list[Ranking]:
        """Rank the ``query.k`` nearest labels for each image, item or vector of a query; see `classify`."""
        fewshot.check_classify_by(by)
        return self._by_branch(query, lambda part: self._rank_labels(part, by))

    def _rank_labels(self, query: Query, by: ClassifyBy) -> list[Ranking]:
        (vectors, _), labels = self._vectors(query), self.store.labels()
        if not labels:
            raise UsageError(
                f"No item of “{self.name}” has a label. Add images with labels, or choose other examples.",
                "lookalike index --labels adds labels.",
            )
        if by == "example":
            single_queries = (
                replace(query, images=(), texts=(), items=(), vectors=vectors[i : i + 1]) for i in range(len(vectors))
            )
            return [self._nearest_labels(single, set(labels)) for single in single_queries]
        embedder = self.embedder.with_metric(query.metric)
        rankings = compare.rank_classes(embedder, vectors, self.labelled(), by=by, branch=query.known_branch)
        return [ranking[: query.k] for ranking in rankings]

    def _nearest_labels(self, query: Query, remaining: set[str]) -> Ranking:
        """Search in rounds: each round finds at least the nearest of the remaining labels."""
        k, ranked = query.k or DEFAULT_K, list[RankedClass]()
        while remaining and len(ranked) < k:
            (answer,) = self.answer(replace(query, where=Filter(labels=frozenset(remaining))))
            # Another process has just removed the items of these labels, or the catalogue is damaged.
            if remaining.isdisjoint(hit.item.label for hit in answer.hits):
                break
            for hit in answer.hits:
                if hit.item.label in remaining:
                    remaining.remove(hit.item.label)
                    probability = hit.probability if answer.calibrated_on == "classes" else None
                    ranked.append(RankedClass(hit.item.label, hit.distance, hit.similarity, probability))
        return Ranking(tuple(ranked[:k]), query.metric or self.metric)

    def labelled(self) -> LabelledVectors:
        """Return the vectors and labels of all items that have a label, ordered by the images' content.

        An order by id would depend on paths, and so would the samples that are drawn from it.
        """
        snapshot = take_snapshot(self.store)
        labelled = {item.id: (item.sha256, item.label) for item in self.store.scan() if item.label is not None}
        rows = [row for row, ident in enumerate(snapshot.ids) if ident in labelled]
        rows.sort(key=lambda row: labelled[snapshot.ids[row]][0])
        if not rows:
            raise UsageError(f"No item of “{self.name}” has a label. Index with --labels, or give labelled images.")
        return LabelledVectors(snapshot.vectors[rows], [labelled[snapshot.ids[row]][1] for row in rows])

    # ---- join

    def join(
        self,
        other: "Collection | None" = None,
        *,
        k: int | None = None,
        within: Within | None = None,
        far: float | None = None,
        approximate: bool = False,
    ) -> JoinPairs:
        """Pair the items of two collections, or of this one, that look alike.

        Args:
            other: the right side; without it the collection is joined with itself, each pair once and no item with
                itself.
            k: pair each item on the left with its k nearest on the right.
            within: pair all items in this range of distances; see `SearchOptions`.
            far: pair all items within the distance of this false accept rate.
            approximate: use an index; its recall is measured.

        Raises:
            MismatchError: the collections have different encoders or metrics.
            UsageError: not exactly one of k, within and far is given, or its value is invalid.

        Example:
            >>> pairs = la.open("shop").join(k=1)
            >>> pairs.write("pairs.csv").pairs > 32
            True
        """
        if not isinstance(other, Collection | None):
            raise UsageError(f"The other side of a join is a Collection, not {type(other).__name__}. Open it first.")
        if other is not None and other.path.resolve() == self.path.resolve():
            other = None
        if other is not None:
            self._check_joinable(other)
        distances = self.embedder.distance_range(within, far)
        store = None if other is None else other.store
        join = Join.between(self.store, store, k=k, within=distances, approximate=approximate)
        return JoinPairs(join, (self.folder.thumbnail, (other or self).folder.thumbnail))

    def _check_joinable(self, other: "Collection") -> None:
        reason = f"“{self.name}” and “{other.name}” cannot be joined"
        if self.embedder.fingerprint != other.embedder.fingerprint:
            raise MismatchError(
                f"{reason}: their vectors were made by different encoders, “{self.embedder.name}” and"
                f" “{other.embedder.name}”. Index the images of one of them again with the encoder of the other."
            )
        if self.embedder.codec_id != other.embedder.codec_id:
            raise MismatchError(
                f"{reason}: their codecs differ, {self.embedder.codec_id} and {other.embedder.codec_id}. Compress one with the"
                " codec of the other: lookalike compress A --codec B. Or undo the compression."
            )
        if self.embedder.space != other.embedder.space:
            raise MismatchError(
                f"{reason}: one is compared by {self.metric}, the other by {other.metric}. Index the images of one of"
                " them again with the --metric of the other."
            )

    # ---- duplicates

    def duplicates(
        self,
        *,
        within: Within | None = None,
        far: float | None = None,
        options: FindOptions = DEFAULT_OPTIONS,
        progress: Progress = SILENT,
    ) -> DuplicateGroups:
        """Find groups of duplicates: identical files, near-duplicates and similar images. No file is moved.

        `lookalike.duplicates.move_to_trash` moves the images that are not kept.

        Args:
            within: compare the pixels of images up to this distance, as ``0.1``, or similarity, as ``"95%"``. By default the
                calibration of the encoder decides.
            far: use the distance of this false accept rate instead of ``within``.
            options: what to search for, and which images to keep.
            progress: receives the stages of the search.

        Raises:
            UsageError: the encoder is not calibrated on copies of images, and no distance is given.

        Example:
            >>> groups = la.open("shop").duplicates(within=0.1)
            >>> print(groups)
            No duplicates among 64 images.
        """
        radius = SearchRadius.parse(self.embedder, within, far)
        return find_duplicates(self, radius, options, progress)


def open_collection(
    path: str | os.PathLike[str],
    encoder: EncoderSource | None = None,
    metric: Metric | str | None = None,
) -> Collection:
    """Open a collection, or create it if an encoder is given and it does not exist.

    Args:
        path: the collection's folder; the suffix ``.lookalike`` may be left out.
        encoder: a name, a folder, ``hf://org/repo`` or a loaded encoder. An existing collection must have been made
            with it.
        metric: the encoder's own by default. An existing collection must have it.

    Raises:
        NotFoundError: the collection does not exist and no encoder is given; or there is no such encoder.
        MismatchError: the collection was made with another encoder or metric, or has another format.
        UsageError: the metric cannot compare the encoder's vectors.
        StorageError, EncoderError: the collection is damaged.

    Example:
        >>> with la.open("mine", encoder="toyshop") as mine:
        ...     added = mine.add("photos/mug")
        ...     len(mine) == added.embedded
        True
    """
    folder, metric = find_folder(to_path(path)), to_metric(metric)
    if encoder is not None and not folder.exists():
        return Collection.create(folder, encoder, metric)
    collection = Collection.open(folder)
    try:
        _check_same(collection, encoder, metric)
    except BaseException:
        collection.close()
        raise
    return collection


def _check_same(collection: Collection, encoder: EncoderSource | None, metric: Metric | None) -> None:
    if encoder is not None:
        requested = load_encoder(encoder)
        if requested.fingerprint != collection.embedder.fingerprint:
            raise MismatchError(
                f"{collection.path} was made with the encoder “{collection.embedder.name}”, not with “{requested.card.name}”."
                " Leave the encoder out, or make another collection."
            )
    if metric is not None and metric is not collection.metric:
        raise MismatchError(
            f"{collection.path} is compared by {collection.metric}, not by {metric}. Leave the metric out."
        )


def _check_query(query: object) -> None:
    if not isinstance(query, Query):
        raise UsageError(f"A Query is needed here, not {type(query).__name__}; `search` takes an image.")


def _without(answer: Answer, item: str | None, limit: int | None = None) -> Answer:
    """Remove an item from its own answer, and hits beyond the limit, which makes it incomplete."""
    if item is None:
        return answer
    hits = [hit for hit in answer.hits if hit.item.id != item]
    complete = answer.complete and (limit is None or len(hits) <= limit)
    return replace(answer, hits=tuple(hits[:limit]), complete=complete)


def _after(answer: Answer, after: tuple[float, str] | None) -> Answer:
    """Remove the hits up to a distance and an id."""
    if after is None:
        return answer
    return replace(answer, hits=tuple(hit for hit in answer.hits if (hit.distance, hit.item.id) > after))
