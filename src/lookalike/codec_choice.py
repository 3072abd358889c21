"""The choice of a codec by measurement: quality against bytes, on the vectors of a collection.

With labels, the quality is the mAP of held-out items as queries. Without, it is the share of the 10 exact neighbours by the
embeddings that are among the 10 nearest by the codes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookalike import search
from lookalike.codecs import Codec
from lookalike.compress import check, draw, parse_codec
from lookalike.errors import UsageError
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.folder import Folder
from lookalike.metric import Metric, VectorSpace, paired
from lookalike.progress import SILENT, Progress
from lookalike.query import Vectors
from lookalike.search import Hits
from lookalike.stores import Item, Store
from lookalike.tables import text_table

SAMPLE = 20_000
"""Maximum number of items that codecs are fitted to and measured on."""

QUERIES = 1000
"""Maximum number of items that are held out as queries; at most a fifth of the sample."""

NEIGHBOURS = 10

_FEW = 20
"""Minimum number of queries; with fewer that have another item of their label, labels do not count."""

_DIMENSIONS = 256, 128, 64, 32, 16
_PARTS = 64, 32, 16, 8

_REDUCED = 128
"""Principal components before product quantisation: with more numbers, its centroids fit noise, and its codec is larger."""

_LEAST_OF_PART = 4
"""Minimum numbers of a part for that: with fewer, the components that are left out cost more."""

_SMALLER = 8
"""For a budget, codecs of less than this part of the largest one are not measured: larger ones of a kind are better."""

_NUMBER = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*(?:B|bytes?)?")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%")


@dataclass(frozen=True, eq=False)
class MeasuredCodec:
    """A codec with its measured quality.

    Attributes:
        name: the codec's name and settings, see `lookalike.compress.parse_codec`.
        codec: the codec, fitted to the sample without the queries.
        bytes_per_item: bytes of a code, and the item's share of the codec's files.
        quality: mAP, or the share of neighbours found.
        kept: the quality as a share of that of the embeddings.
    """

    name: str
    codec: Codec
    bytes_per_item: float
    quality: float
    kept: float


@dataclass(frozen=True, eq=False)
class CodecChoice:
    """Measured codecs, and the chosen one. It prints as a table.

    Attributes:
        measure: ``"mAP"`` or ``"recall@10"``.
        queries: number of queries.
        gallery: number of items that they searched.
        base: the quality of the embeddings.
        base_bytes: bytes of an embedding.
        measured: the codecs, by ascending bytes.
        chosen: one of them.
    """

    measure: str
    queries: int
    gallery: int
    base: float
    base_bytes: int
    measured: tuple[MeasuredCodec, ...]
    chosen: MeasuredCodec

    @property
    def codec(self) -> Codec:
        """The chosen codec, which `Collection.compress` takes."""
        return self.chosen.codec

    def __str__(self) -> str:
        """Return a table with the choice marked."""
        rows = [
            (one.name, f"{one.bytes_per_item:,.1f}", f"{one.quality:.3f}", f"{one.kept:.1%}", self._mark(one))
            for one in self.measured
        ]
        rows.append(("original vectors", f"{self.base_bytes:,.1f}", f"{self.base:.3f}", "100.0%", ""))
        table = text_table(("codec", "bytes an item", self.measure, "kept", ""), rows)
        return f"{table}\nMeasured with {self.queries:,} queries over {self.gallery:,} items."

    def _mark(self, one: MeasuredCodec) -> str:
        return "chosen" if one is self.chosen else ""

    def to_dict(self) -> dict[str, object]:
        """Return values for JSON."""
        return {
            "measure": self.measure,
            "queries": self.queries,
            "gallery": self.gallery,
            "base": self.base,
            "base_bytes": self.base_bytes,
            "chosen": self.chosen.name,
            "measured": [
                {
                    "codec": one.name,
                    "bytes_per_item": one.bytes_per_item,
                    "quality": one.quality,
                    "kept": one.kept,
                }
                for one in self.measured
            ],
        }


def parse_budget(budget: float | str) -> float:
    """Parse a number of bytes, such as ``16`` or ``"16B"``.

    Raises:
        UsageError: it is not a positive number.
    """
    found = _NUMBER.fullmatch(str(budget).strip())
    if found is None or not float(found[1]):
        raise UsageError(f"A budget is the bytes of an item, such as 16B, not {str(budget)[:40]!r}.")
    return float(found[1])


def parse_keep(keep: float | str) -> float:
    """Parse the share of the quality to keep, such as ``0.99`` or ``"99%"``.

    Raises:
        UsageError: it is not a share in 0…1.
    """
    found = _SHARE.fullmatch(str(keep).strip())
    try:
        share = float(found[1]) / 100 if found else float(keep)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"The quality to keep is a share, such as 99%, not {str(keep)[:40]!r}.")
    return share


def choose(
    folder: Folder,
    store: Store,
    *,
    budget: float | str | None = None,
    keep: float | str | None = None,
    progress: Progress = SILENT,
) -> CodecChoice:
    """Fit codecs to a sample of a collection, measure them, and choose one.

    Args:
        folder: of the collection.
        store: of the collection.
        budget: choose the best codec of at most this many bytes an item, see `parse_budget`.
        keep: choose the smallest codec that keeps this share of the quality, see `parse_keep`.
        progress: receives the stage ``"measuring"``.

    Raises:
        UsageError: neither is given, no codec fits, there are too few items, or the collection cannot be compressed.
    """
    if budget is None and keep is None:
        raise UsageError("Give a budget in bytes, or the share of the quality to keep.")
    most = np.inf if budget is None else parse_budget(budget)
    least = None if keep is None else parse_keep(keep)
    replaceable, space = check(folder, store), folder.manifest.embedding_space
    sizes = {name: parse_codec(name, space).code_bytes for name in candidates(space)}
    largest = max((size for size in sizes.values() if size <= most), default=0)
    smallest = largest / _SMALLER if keep is None else 0
    names = [name for name, size in sizes.items() if smallest <= size <= largest]
    if not names:
        raise UsageError(f"No codec makes codes of {most:g} bytes of these vectors. Choose a larger budget.")
    items = draw(store, SAMPLE)
    trial = _Trial.of(items, replaceable.embeddings([item.id for item in items]), space)
    base = trial.quality(trial.queries, trial.gallery, space.metric)
    measured: list[MeasuredCodec] = []
    count = store.count()
    for done, name in enumerate(names):
        progress.advance("measuring", done, len(names), name)
        codec = parse_codec(name, space).fit(trial.gallery)
        size = codec.code_bytes + codec.size / count
        decoded = codec.decode(codec.encode(trial.gallery))
        quality = trial.quality(codec.project(trial.queries), decoded, codec.space.metric)
        measured.append(MeasuredCodec(name, codec, size, quality, quality / base if base else 1.0))
    progress.advance("measuring", len(names), len(names))
    measured.sort(key=lambda one: one.bytes_per_item)
    chosen = pick(measured, most, least)
    base_bytes = space.columns * space.dtype.itemsize
    return CodecChoice(trial.measure, len(trial.queries), len(trial.gallery), base, base_bytes, tuple(measured), chosen)


def pick(measured: Sequence[MeasuredCodec], budget: float, keep: float | None) -> MeasuredCodec:
    """Choose among codecs by ascending bytes: the smallest that keeps a share, or else the best within the budget.

    Raises:
        UsageError: none fits.
    """
    fitting = [one for one in measured if one.bytes_per_item <= budget]
    if not fitting:
        smallest = measured[0]
        raise UsageError(
            f"No codec takes at most {budget:g} bytes an item here: {smallest.name} takes {smallest.bytes_per_item:,.1f}, its"
            " files included, which few items share. Choose a larger budget."
        )
    if keep is None:
        return max(fitting, key=lambda one: one.quality)
    good = [one for one in fitting if one.kept >= keep]
    if not good:
        best = max(fitting, key=lambda one: one.kept)
        raise UsageError(f"No codec keeps {keep:.1%}; {best.name} keeps {best.kept:.1%}. Choose a smaller share.")
    return good[0]


def candidates(space: VectorSpace) -> list[str]:
    """Return the codecs to measure for vectors of a space: all keep the metric."""
    if space.metric is Metric.HAMMING:
        raise UsageError("These vectors are bits, which no codec makes smaller. Leave the collection as it is.")
    names = ["scalar:float16", *(f"scalar:{bits}" for bits in (8, 4, 2)), *(f"rabitq:{bits}" for bits in (2, 1))]
    for dimension in _DIMENSIONS:
        if dimension < space.dimension:
            names += [f"pca:{dimension}+{last}" for last in ("scalar:8", "scalar:4", "rabitq:1")]
    for parts in _PARTS:
        if space.dimension > _REDUCED and parts * _LEAST_OF_PART <= _REDUCED:
            names.append(f"pca:{_REDUCED}:no-centre+product:{parts}")
        elif parts < space.dimension and space.dimension % parts == 0:
            names.append(f"product:{parts}")
    return names


@dataclass(frozen=True, eq=False)
class _Trial:
    """Queries, and the gallery that they search.

    Attributes:
        queries: embeddings of held-out items.
        gallery: embeddings of the other items.
        labels: of the queries and of the gallery; none if there are too few.
        metric: of the embeddings.
        exact: the nearest items of each query by the embeddings.
    """

    queries: Vectors
    gallery: Vectors
    labels: tuple[list[str], list[str]] | None
    metric: Metric
    exact: Hits

    @classmethod
    def of(cls, items: Sequence[Item], embeddings: Vectors, space: VectorSpace) -> "_Trial":
        order = np.random.default_rng(0).permutation(len(items))
        count = min(QUERIES, len(items) // 5)
        if count < _FEW:
            raise UsageError(
                f"{len(items)} different images are too few to measure codecs on; at least {5 * _FEW} are needed. Choose a"
                " codec with --codec."
            )
        held, rest = order[:count], np.sort(order[count:])
        kinds = [[items[i].label or "" for i in rows] for rows in (held, rest)]
        known = {label for label in kinds[1] if label}
        related = [i for i, label in enumerate(kinds[0]) if label in known]
        labels = None
        if len(related) >= _FEW and len(known) > 1:
            held, labels = held[related], ([kinds[0][i] for i in related], kinds[1])
        queries, gallery = embeddings[held], embeddings[rest]
        return cls(queries, gallery, labels, space.metric, search.knn(queries, gallery, NEIGHBOURS, space.metric))

    @property
    def measure(self) -> str:
        return "mAP" if self.labels else f"recall@{NEIGHBOURS}"

    def quality(self, queries: Vectors, gallery: Vectors, metric: Metric) -> float:
        if self.labels:
            left, right = (LabelledVectors(*one) for one in zip((queries, gallery), self.labels, strict=True))
            return retrieval.evaluate(left, right, metric).map
        found, correct = search.knn(queries, gallery, NEIGHBOURS, metric), 0
        for query, (rows, _), (_, distances) in zip(self.queries, found, self.exact, strict=True):
            near = paired(query, self.gallery[rows], self.metric).astype(np.float32) <= distances[-1]
            correct += int(np.count_nonzero(near))
        return correct / max(1, len(self.exact.rows))
