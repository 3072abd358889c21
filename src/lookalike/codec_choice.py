"""The choice of a codec by measurement: quality against bytes, on the vectors of a collection.

With labels, the quality is the mAP of held-out items as queries. Without, it is the share of the 10 exact neighbours by the
embeddings that are among the 10 nearest by the codes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lookalike import search
from lookalike.codecs import Chain, Codec, Pca
from lookalike.compress import check, draw, parse_codec
from lookalike.errors import UsageError
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.folder import Folder
from lookalike.measured_codecs import CodecChoice, MeasuredCodec
from lookalike.metric import Metric, VectorSpace, paired
from lookalike.progress import SILENT, Progress
from lookalike.query import Vectors
from lookalike.search import Hits
from lookalike.stores import Item, Store

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
"""For a budget, codecs that take less than this part of the largest one are not measured: larger ones of a kind are better."""

_GAIN = 0.01
"""Share of the quality by which product quantisation can exceed 8 bits for each number of the same vectors, by chance."""

_NUMBER = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*(?:B|bytes?)?")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%")


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
        UsageError: neither is given, no codec fits or makes the vectors smaller, there are too few items, or the collection
            cannot be compressed.
    """
    if budget is None and keep is None:
        raise UsageError("Give a budget in bytes, or the share of the quality to keep.")
    most = np.inf if budget is None else parse_budget(budget)
    least = None if keep is None else parse_keep(keep)
    replaceable, space = check(folder, store), folder.manifest.embedding_space
    names = candidates(space)
    items = draw(store, SAMPLE)
    trial = _Trial.of(items, replaceable.embeddings([item.id for item in items]), space)
    fitter = _Fitter.of(trial.gallery, space, store.count())
    base = trial.quality(trial.queries, trial.gallery, space.metric)
    base_bytes = space.columns * space.dtype.itemsize
    sizes = {name: size for name in names if (size := fitter.bytes_per_item(name)) < base_bytes}
    _check_sizes(sizes, most, store.count())

    def measure(name: str) -> MeasuredCodec:
        progress.advance("measuring", len(measured), len(names), name)
        codec, decoded = fitter.fit(name)
        quality = trial.quality(codec.project(trial.queries), decoded, codec.space.metric)
        return MeasuredCodec(name, codec, fitter.size_of(codec), quality, quality / base if base else 1.0)

    measured: dict[str, MeasuredCodec] = {}
    for name in _quick(sizes, most, least):
        measured[name] = measure(name)
    for name in _slow(sizes, most, least, measured):
        measured[name] = measure(name)
    progress.advance("measuring", len(names), len(names))
    by_size = sorted(measured.values(), key=lambda one: one.bytes_per_item)
    return CodecChoice(
        collection=folder.name,
        items=store.count(),
        measure=trial.measure,
        queries=len(trial.queries),
        gallery=len(trial.gallery),
        base=base,
        base_bytes=base_bytes,
        rule=_describe(budget, least),
        measured=tuple(by_size),
        chosen=pick(by_size, most, least),
    )


def pick(measured: Sequence[MeasuredCodec], budget: float, keep: float | None) -> MeasuredCodec:
    """Choose among codecs by ascending bytes: the smallest that keeps a share, or else the best within the budget.

    Raises:
        UsageError: none keeps the share.
    """
    fitting = [one for one in measured if one.bytes_per_item <= budget]
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


def _check_sizes(sizes: Mapping[str, float], budget: float, items: int) -> None:
    if not sizes:
        raise UsageError(
            f"No codec makes the vectors of {items:,} items smaller: its own files take more bytes than it saves. Add images"
            " first, or leave the collection as it is."
        )
    name = min(sizes, key=sizes.__getitem__)
    if sizes[name] > budget:
        raise UsageError(
            f"No codec takes at most {budget:g} bytes an item here: {name} takes {sizes[name]:,.1f}, its files included,"
            f" which {items:,} items share. Choose a larger budget."
        )


def _describe(budget: float | str | None, keep: float | None) -> str:
    limit = "" if budget is None else f" of at most {parse_budget(budget):g} bytes"
    if keep is None:
        return f"The chosen codec is the best one{limit}."
    return f"The chosen codec is the smallest one{limit} that keeps {100 * keep:g}% of the quality of the original vectors."


def _is_slow(name: str) -> bool:
    """Return whether a codec takes seconds to fit: product quantisation does, others do not."""
    return "product:" in name


def _quick(sizes: Mapping[str, float], budget: float, keep: float | None) -> list[str]:
    """Return the codecs that are measured in any case, all but the slow ones."""
    fitting = {name: size for name, size in sizes.items() if size <= budget}
    smallest = max(fitting.values()) / _SMALLER if keep is None else 0
    return [name for name, size in fitting.items() if size >= smallest and not _is_slow(name)]


def _slow(
    sizes: Mapping[str, float], budget: float, keep: float | None, measured: Mapping[str, MeasuredCodec]
) -> Iterator[str]:
    """Yield the slow codecs that may be chosen, while their measures arrive.

    More parts keep more. So for a budget, only the one with the most parts may be the best. To keep a share, they are tried from
    the most parts on, until one does not keep it, and none that a smaller codec makes superfluous.
    """
    slow = sorted((name for name in sizes if _is_slow(name) and sizes[name] <= budget), key=lambda name: -sizes[name])
    if keep is None:
        yield from slow[:1]
        return
    good = min((one.bytes_per_item for one in measured.values() if one.kept >= keep), default=np.inf)
    for name in slow:
        finer = measured.get(f"{name.rpartition('product:')[0].replace(':no-centre', '')}scalar:8")
        if sizes[name] >= good or (finer is not None and finer.kept < keep - _GAIN):
            continue
        yield name
        if measured[name].kept < keep:
            return


@dataclass(frozen=True, eq=False)
class _Fitter:
    """Fits codecs to one gallery; all that begin with principal components share them.

    Attributes:
        gallery: embeddings.
        space: of the embeddings.
        items: of the collection, which share a codec's files.
        components: the most principal components that a codec has.
        reduced: these of the gallery.
    """

    gallery: Vectors
    space: VectorSpace
    items: int
    components: Pca
    reduced: Vectors

    @classmethod
    def of(cls, gallery: Vectors, space: VectorSpace, items: int) -> "_Fitter":
        components = Pca(space, min(_DIMENSIONS[0], space.dimension)).fit(gallery)
        return cls(gallery, space, items, components, components.encode(gallery))

    def fit(self, name: str, count: int | None = None) -> tuple[Codec, Vectors]:
        """Fit a codec to the gallery, or to its first items; return also the vectors that their codes stand for."""
        codec = parse_codec(name, self.space)
        first = codec.steps[0] if isinstance(codec, Chain) else codec
        shared = replace(self.components, dimension=min(first.code_columns, self.components.dimension))
        if not isinstance(codec, Chain) or str(first) != str(shared):
            fitted = codec.fit(self.gallery[:count])
            return fitted, fitted.decode(fitted.encode(self.gallery[:count]))
        reduced = np.ascontiguousarray(self.reduced[:count, : shared.dimension])
        last = codec.steps[1].fit(reduced)
        steps = self.components.first(shared.dimension), last
        return replace(codec, steps=steps), last.decode(last.encode(reduced))

    def bytes_per_item(self, name: str) -> float:
        """Return the bytes that an item takes; the files of a codec have the same size if it is fitted to a few items."""
        return self.size_of(self.fit(name, _FEW)[0])

    def size_of(self, codec: Codec) -> float:
        return codec.code_bytes + codec.size / self.items


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
