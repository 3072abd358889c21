"""A collection: pictures that share one encoder, one metric and a store.

shop = Collection.create("shop.lookalike", encoders.load("toyshop"))
shop.add(entries(Path("photos"), labels="folder"))
for hit in shop.knn(shop.embed([Path("mug.jpg")]), k=10)[0].hits:
    print(hit.distance, hit.item.uri)
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from jaxtyping import Shaped

from lookalike import atomic, compare, images, ingest, progress
from lookalike.compare import LabelledVectors, RankedClass, Verdict
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import MismatchError, NotFoundError, StorageError, UsageError
from lookalike.evaluation.fewshot import By
from lookalike.ingest import Added, Entry, Progress, absolute, entries
from lookalike.joins import Join
from lookalike.metric import Metric
from lookalike.progress import SILENT
from lookalike.query import ALL, Branch, DistanceRange, Filter, Query, Vectors
from lookalike.stores import Answer, Item, SQLiteStore, Store, open_store
from lookalike.stores.manifest import EncoderPin, Manifest
from lookalike.stores.protocol import check
from lookalike.stores.tuning import Status, Tuning

__all__ = ["Added", "Collection", "Entry", "Join", "Progress", "entries"]

SUFFIX = ".lookalike"

_THUMBNAILS = "cache/thumbnails"


class Collection:
    """See the module. Safe to use from several threads, and while other processes read and write."""

    def __init__(self, path: Path, store: Store, encoder: Encoder) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.store = store
        self.encoder = encoder
        self.embedder = Embedder.of(encoder, store.metric)
        self._pictures = Lock()  # those kept in the folder come and go with their items

    @classmethod
    def create(cls, path: str | Path, encoder: Encoder, metric: Metric | None = None) -> Self:
        """Make an empty collection.

        Args:
            path: a folder that is not there yet; by custom its name ends in ``.lookalike``.
            encoder: a copy of it goes into the folder.
            metric: the encoder's own unless given.

        Raises:
            AlreadyExistsError: something is at the path.
            UsageError: a metric that does not fit the encoder's output.
        """
        path = Path(path)
        card = encoder.card
        metric = metric or card.metric
        if (metric is Metric.HAMMING) != (card.output == "bits"):
            raise UsageError(f"“{card.name}” makes {card.output}s, which {metric} does not compare.")
        manifest = Manifest(
            metric=metric,
            dimension=card.dimension,
            encoder=EncoderPin(name=card.name, fingerprint=encoder.fingerprint),
        )
        files = ((f"encoder/{name}", (encoder.folder / name).read_bytes()) for name in encoder.files)
        SQLiteStore.create(path, manifest, files).close()
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a collection.

        Raises:
            NotFoundError: there is none.
            MismatchError: it is of another format, or its encoder is not the one that made its vectors.
            StorageError, EncoderError: it is damaged.
        """
        path = Path(path)
        with ExitStack() as undo:
            store = open_store(path)
            undo.callback(store.close)
            try:
                encoder = Encoder.open(path / "encoder")
            except NotFoundError as e:
                raise StorageError(f"{path} is damaged: {path / 'encoder'} is missing. Put it back.") from e
            _check_match(path, store, encoder)
            undo.pop_all()
        return cls(path, store, encoder)

    @property
    def name(self) -> str:
        """The folder's name without its ending."""
        return self.path.resolve().name.removesuffix(SUFFIX)

    def close(self) -> None:
        """Let go of files and connections."""
        self.store.close()

    def __enter__(self) -> Self:
        """The collection itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # ---- putting in and taking out

    def add(
        self,
        new: Sequence[Entry],
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> Added:
        """Add pictures, or bring them up to date.

        See `ingest.add`.

        Args:
            new: the pictures.
            progress: is told how far it is, a few times a second.

        Raises:
            StorageError, BusyError: the collection cannot be written; what was written before stays.
        """
        return ingest.add(self.store, self.embedder, new, progress)

    def add_bytes(self, data: bytes, label: str | None = None, attributes: Mapping[str, str] | None = None) -> Item:
        """Add a picture that has no file, such as an upload; its bytes are kept in the collection's folder.

        The same bytes again are the same item, with the new label and attributes.

        Raises:
            ImageError: the bytes are no usable picture.
        """
        suffix = images.media_type(data).removeprefix("image/")
        sha256 = images.fingerprint(data)
        item = Item(sha256[:20], f"images/{sha256}.{suffix}", label, dict(attributes or {}), sha256)
        check([item])
        try:
            vector = self.store.vectors([item.id])
        except NotFoundError:
            vector = self.embed([data])
        with self._pictures:
            try:
                self.file(item).parent.mkdir(exist_ok=True)
                atomic.write_bytes(self.file(item), data)
            except OSError as e:
                raise StorageError(f"The picture cannot be kept in {self.path}: {e.strerror}.") from e
            self.store.upsert([item], vector)
        return item

    def remove(self, ids: Sequence[str]) -> int:
        """Take items out; returns how many there were. Pictures kept in the folder go, files elsewhere stay."""
        with self._pictures:
            items = self.store.get(ids)
            removed = self.store.delete(ids)
            for item in items.values():
                if self.owns(item):
                    with suppress(OSError):  # what is left behind is in nobody's way
                        self.file(item).unlink()
        contents = {item.sha256 for item in items.values()}
        with suppress(OSError):
            for path in (self.path / _THUMBNAILS).iterdir():
                if path.name.partition("-")[0] in contents:
                    path.unlink(missing_ok=True)
        return removed

    def gone(self, folder: Path) -> list[Item]:
        """Items under a folder whose files are not there any more."""
        root = str(absolute(folder)).rstrip(os.sep) + os.sep
        return [item for item in self.store.scan() if item.uri.startswith(root) and _is_gone(Path(item.uri))]

    # ---- looking

    def embed(self, pictures: Sequence[Path | bytes], branch: Branch = "photo") -> Vectors:
        """Embeddings of pictures, in order.

        Raises:
            ImageError: one of them cannot be used.
            UsageError: the encoder has no such branch.
        """
        return self.embedder.embed(pictures, branch)

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """Vectors of items, in order; NotFoundError where one is not there."""
        return self.store.vectors(ids)

    def get(self, ident: str) -> Item:
        """One item; NotFoundError where it is not there."""
        found = self.store.get([ident])
        if ident not in found:
            raise NotFoundError(f"“{self.name}” has no item “{ident}”.")
        return found[ident]

    def owns(self, item: Item) -> bool:
        """Whether the picture is kept in the collection's folder."""
        return item.uri.startswith("images/")

    def file(self, item: Item) -> Path:
        """Where an item's picture is; it may have gone."""
        return self.path / item.uri  # an absolute uri stands for itself

    def thumbnail(self, item: Item, size: int = 256) -> bytes:
        """A small JPEG of an item, kept in ``cache/`` for the next time.

        Raises:
            NotFoundError, ImageError: its picture has gone, or cannot be read.
        """
        kept = self.path / _THUMBNAILS / f"{item.sha256}-{size}.jpg"
        with suppress(OSError):
            small = kept.read_bytes()
            if small.startswith(b"\xff\xd8") and small.endswith(b"\xff\xd9"):  # whole, as far as one can see
                return small
        data = images.read_bytes(self.file(item))
        small = images.thumbnail(data, size, name=repr(item.uri))
        if images.fingerprint(data) == item.sha256:
            with suppress(OSError):  # a cache that cannot be written is no reason to show nothing
                kept.parent.mkdir(parents=True, exist_ok=True)
                atomic.write_bytes(kept, small)
        return small

    def knn(
        self,
        queries: Vectors,
        k: int,
        where: Filter = ALL,
        *,
        metric: Metric | None = None,
        branch: Branch = "photo",
        exact: bool | None = None,
    ) -> list[Answer]:
        """The k nearest items of each query vector; see `embed` and `vectors`.

        Args:
            queries: their vectors.
            k: how many.
            where: among which items.
            metric: the collection's own unless given.
            branch: which way the queries came in; hits get a probability where the encoder is calibrated for it.
            exact: true is exact however long it takes; false takes an index, if there is one that can answer this. By
                the collection's budget where nothing is said, see `tune`. Each answer says what it is.
        """
        answers = self.store.search(Query(vectors=queries, k=k, where=where, metric=metric, exact=exact))
        return [self._calibrated(answer, branch) for answer in answers]

    def within(
        self,
        queries: Vectors,
        radius: float,
        where: Filter = ALL,
        *,
        least: float = 0,
        most: int | None = None,
        metric: Metric | None = None,
        branch: Branch = "photo",
        exact: bool | None = None,
    ) -> list[Answer]:
        """All items within a distance of each query vector, but for those nearer than ``least``; the rest as in `knn`.

        ``most`` leaves off what comes after so many, and then the answer is not complete.
        """
        within = DistanceRange(least, radius)
        answers = self.store.search(
            Query(vectors=queries, within=within, where=where, limit=most, metric=metric, exact=exact)
        )
        return [self._calibrated(answer, branch) for answer in answers]

    def stream(
        self,
        query: Vectors,
        radius: float,
        where: Filter = ALL,
        *,
        least: float = 0,
        metric: Metric | None = None,
        branch: Branch = "photo",
    ) -> Iterator[Answer]:
        """What `within` gives exactly for one query, however much it is: in parts of bounded size, nearest first.

        Items that are removed meanwhile are left out.
        """
        within = DistanceRange(least, radius)
        parts = self.store.stream(Query(vectors=query, within=within, where=where, metric=metric))
        return (self._calibrated(part, branch) for part in parts)

    def _calibrated(self, answer: Answer, branch: Branch) -> Answer:
        distances = np.asarray([hit.distance for hit in answer.hits])
        likely = self.embedder.compared_by(answer.metric).probabilities(distances, branch)
        if likely is None:
            return answer
        hits = (replace(hit, probability=p) for hit, p in zip(answer.hits, likely.tolist(), strict=True))
        return replace(answer, hits=tuple(hits))

    # ---- how it is searched

    def status(self) -> Status | None:
        """How exact searches are, how long they take, and what index there is; none for a store that sees to that itself."""
        return self.store.status() if isinstance(self.store, SQLiteStore) else None

    def over_budget(self) -> bool:
        """Whether exact queries take longer than the budget; see `SQLiteStore.over_budget`."""
        return isinstance(self.store, SQLiteStore) and self.store.over_budget()

    def tune(self, tuning: Tuning) -> None:
        """Set the budget, and the index that `build_index` makes; see `Tuning`. Which one was built stays as it is.

        Raises:
            UsageError: the store sees to that itself.
            StorageError, BusyError: it cannot be written.
        """
        self._tunable().tune(lambda now: tuning.model_copy(update={"built": now.built}))

    @property
    def indexable(self) -> bool:
        """Whether an index is wanted, and can be made: of enough items, and not of bits, which are searched exactly."""
        store = self.store
        return isinstance(store, SQLiteStore) and store.indexable and store.status().tuning.index != "none"

    def build_index(
        self,
        progress: progress.Progress = SILENT,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Make the index that the settings ask for; see `SQLiteStore.build_index`."""
        return self._tunable().build_index(progress, stopped)

    def pace(self, queries: int = 5) -> tuple[float, float | None]:
        """Milliseconds of one exact query and of an approximate one, if there is an index: medians of some items' own."""
        ids = [item.id for item in islice(self.store.scan(), queries)]
        vectors, took = self.store.vectors(ids), dict[bool, list[float]]()
        for i in range(len(ids)):
            for exact in (True, False):
                began = time.perf_counter()
                (answer,) = self.store.search(Query(vectors=vectors[i : i + 1], exact=exact))
                took.setdefault(answer.exact, []).append(time.perf_counter() - began)
        medians = {exact: 1000 * float(np.median(times)) for exact, times in took.items()}
        return medians.get(True, 0.0), medians.get(False)

    def _tunable(self) -> SQLiteStore:
        if not isinstance(self.store, SQLiteStore):
            raise UsageError(f"The store of “{self.name}” has an index of its own, which is not tuned here.")
        return self.store

    # ---- judging

    def verify(
        self,
        left: Shaped[np.ndarray, "1 c"],
        right: Shaped[np.ndarray, "1 c"],
        *,
        metric: Metric | None = None,
        within: DistanceRange | str | float | None = None,
        false_accept_rate: float | None = None,
        branch: Branch = "photo",
    ) -> Verdict:
        """Whether two vectors are of the same thing, by the collection's metric unless another is given.

        See `embed` and `vectors` for the vectors, and `compare.verify` for the rest.
        """
        embedder = self.embedder.compared_by(metric)
        threshold = compare.find_threshold(embedder, within, false_accept_rate, branch)
        return compare.judge(embedder, left, right, threshold, branch)

    def classify(
        self,
        queries: Vectors,
        k: int = 5,
        *,
        by: By = "example",
        metric: Metric | None = None,
        branch: Branch = "photo",
    ) -> list[tuple[RankedClass, ...]]:
        """The labels of the collection that are nearest to each query vector, nearest first.

        Args:
            queries: see `embed` and `vectors`.
            k: how many labels.
            by: a label is as near as its nearest item, or as its prototype; see `compare.classify`.
            metric: the collection's own unless given.
            branch: which way the queries came in.

        Raises:
            UsageError: k < 1, no item has a label, or vectors that do not fit.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}.")
        if not (labels := self.store.labels()):
            raise UsageError(f"No item of “{self.name}” has a label. Index with --labels, or give a folder of classes.")
        if by == "example":
            return [
                self._nearest_labels(queries[i : i + 1], k, set(labels), metric, branch) for i in range(len(queries))
            ]
        embedder = self.embedder.compared_by(metric)
        ranked = compare.rank_classes(embedder, queries, self.labelled(), by=by)
        return [classes[:k] for classes in ranked]

    def _nearest_labels(
        self, query: Vectors, k: int, left: set[str], metric: Metric | None, branch: Branch
    ) -> tuple[RankedClass, ...]:
        """By the store's index: each round finds at least the nearest of the labels that are left."""
        ranked: list[RankedClass] = []
        while left and len(ranked) < k:
            (answer,) = self.knn(query, k, Filter(labels=frozenset(left)), metric=metric, branch=branch)
            if not answer.hits:  # they were removed a moment ago
                break
            for hit in answer.hits:
                if hit.item.label in left:
                    left.remove(hit.item.label)
                    ranked.append(RankedClass(hit.item.label, hit.distance, hit.similarity, hit.probability))
        return tuple(ranked[:k])

    def labelled(self) -> LabelledVectors:
        """The vectors of all items that have a label, and their labels.

        They come in the order of the pictures' contents: ids follow paths, and what is drawn of the same pictures should not.
        """
        snapshot = self.store.snapshot()
        known = {item.id: (item.sha256, item.label) for item in self.store.scan() if item.label is not None}
        rows = [row for row, ident in enumerate(snapshot.ids) if ident in known]
        rows.sort(key=lambda row: known[snapshot.ids[row]][0])
        return LabelledVectors(snapshot.vectors[rows], [known[snapshot.ids[row]][1] or "" for row in rows])

    def join(
        self,
        other: "Collection | None" = None,
        *,
        k: int | None = None,
        within: DistanceRange | None = None,
        approximate: bool = False,
    ) -> Join:
        """Pairs of items of two collections, or of this one alone: each with its k nearest, or all in a range.

        ``for chunk in shop.join(within=DistanceRange(0, 0.2)).matches()`` gives them as ids; `joins.write` puts them into a file.

        Args:
            other: the right side; none joins the collection with itself, each pair once and none with itself.
            k: this or
            within: this.
            approximate: by an index, with a recall that is measured.

        Raises:
            MismatchError: the two were not made by the same encoder, or have different metrics.
            UsageError: both or neither of k and within, or values that make no sense.
        """
        if other is None:
            return Join.between(self.store, k=k, within=within, approximate=approximate)
        both = f"“{self.name}” and “{other.name}” cannot be joined"
        if self.encoder.fingerprint != other.encoder.fingerprint:
            names = f"“{self.encoder.card.name}” and “{other.encoder.card.name}”"
            raise MismatchError(
                f"{both}: their vectors were made by different encoders, {names}."
                " Index the pictures of one of them anew with the encoder of the other."
            )
        if self.store.metric != other.store.metric:
            raise MismatchError(
                f"{both}: one is compared by {self.store.metric} and the other by {other.store.metric}."
                " Index the pictures of one of them anew with the --metric of the other."
            )
        return Join.between(self.store, other.store, k=k, within=within, approximate=approximate)


def _check_match(path: Path, store: Store, encoder: Encoder) -> None:
    """Refuse an encoder that did not make a store's vectors, or cannot have."""
    card = encoder.card
    if isinstance(store, SQLiteStore) and store.manifest.encoder.fingerprint != encoder.fingerprint:
        raise MismatchError(
            f"The encoder in {path} is not the one that made its vectors (“{store.manifest.encoder.name}”)."
            " Put that one back, or index the pictures again into another collection."
        )
    if store.dimension != card.dimension or (store.metric is Metric.HAMMING) != (card.output == "bits"):
        raise MismatchError(
            f"{path} holds vectors of dimension {store.dimension} for the {store.metric} metric, and its encoder makes"
            f" {card.dimension} {card.output}s. Put back its manifest.json, or index the pictures again."
        )


def _is_gone(path: Path) -> bool:
    """Whether there is surely no such file; one in a folder that may not be looked into is not gone."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False
