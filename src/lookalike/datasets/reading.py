"""From a source to labelled pictures: found, streamed in batches, or read into memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from lookalike import sample
from lookalike.datasets import arrays, folders, tables
from lookalike.datasets.dataset import Dataset, Samples, narrow
from lookalike.datasets.pictures import Drawn
from lookalike.datasets.sources import CsvSource, FolderSource, NpzSource, Report, Source, ToyShopSource
from lookalike.errors import DataError, ImageError, NotFoundError
from lookalike.images import Fit
from lookalike.parallel import prefetch_map

# Pictures of a task for a reading thread, as tiny pictures would else be lost in the handing over.
_TASK = 16

T = TypeVar("T")


def find(source: Source, *, labelled: bool = True) -> Dataset:
    """What a source offers, its pictures not decoded yet.

    Args:
        source: where to look.
        labelled: false where labels do not count: all pictures in a folder are then found, in whatever folders.

    Raises:
        DataError: nothing there, or what is there cannot be used; no such split or class.
    """
    match source:
        case FolderSource():
            dataset = folders.find(source) if labelled else folders.find_unlabelled(source)
        case CsvSource():
            dataset = tables.find(source)
        case NpzSource():
            dataset = arrays.find(source)
        case ToyShopSource():
            dataset = _shop(source)
    return narrow(dataset, source.split, source.classes, source.limit)


def batches(
    dataset: Dataset, size: int, fit: Fit, report: Report, count: int = 256
) -> Iterator[tuple[Int64[np.ndarray, " b"], UInt8[np.ndarray, "b size size 3"]]]:
    """Pictures in order, decoded ahead in threads, in memory that does not grow with the dataset.

    Args:
        dataset: whose pictures.
        size: pixels a side.
        fit: how a picture becomes square.
        report: gets a line for every picture that is left out.
        count: pictures a batch; the last one may have fewer.

    Yields:
        Positions in the dataset, and the pictures there.

    Raises:
        DataError: none of the pictures could be read.
    """
    rows: list[int] = []
    pictures: list[np.ndarray] = []
    some = False
    for row, picture in in_threads(lambda row: dataset.pictures.load(row, size, fit), len(dataset)):
        if isinstance(picture, Exception):
            report(str(picture))
            continue
        rows.append(row)
        pictures.append(picture)
        if len(rows) == count:
            yield np.asarray(rows), np.stack(pictures)
            rows, pictures, some = [], [], True
    if rows:
        yield np.asarray(rows), np.stack(pictures)
    elif not some:
        raise DataError(f"None of the {len(dataset):,} pictures of {dataset.name} could be read.")


def in_threads(work: Callable[[int], T], count: int) -> Iterator[tuple[int, T | ImageError | NotFoundError]]:
    """Work on 0, 1, … in all cores, a few tasks ahead; pictures that cannot be used come as their errors."""

    def each(rows: Sequence[int]) -> list[tuple[int, T | ImageError | NotFoundError]]:
        return [(row, one(row)) for row in rows]

    def one(row: int) -> T | ImageError | NotFoundError:
        try:
            return work(row)
        except (ImageError, NotFoundError) as e:
            return e

    tasks = [range(start, min(start + _TASK, count)) for start in range(0, count, _TASK)]
    with closing(prefetch_map(each, tasks)) as results:
        for some in results:
            yield from some


def read(dataset: Dataset, size: int, fit: Fit, report: Report) -> Samples:
    """All pictures of a dataset in memory; arguments and errors as `batches`."""
    return decode(dataset, size, fit, report)[0]


def decode(dataset: Dataset, size: int, fit: Fit, report: Report) -> tuple[Samples, Int64[np.ndarray, " n"]]:
    """As `read`, and which of the dataset's pictures these are."""
    pictures = np.empty((len(dataset), size, size, 3), dtype=np.uint8)
    good, at = [], 0
    for rows, some in batches(dataset, size, fit, report):
        pictures[at : at + len(rows)] = some
        good.append(rows)
        at += len(rows)
    rows = np.concatenate(good)
    samples = Samples(pictures[:at], dataset.labels[rows], dataset.items[rows], dataset.sketch[rows], dataset.classes)
    return samples, rows


def load(sources: Sequence[Source], size: int, fit: Fit, report: Report) -> Samples:
    """Read all sources into memory, their classes side by side.

    Args:
        sources: what is read.
        size: pixels a side.
        fit: how a picture becomes square.
        report: gets a line for every picture that is left out.

    Raises:
        DataError: a source that cannot be read, fewer than two classes.
    """
    return join([read(find(source), size, fit, report) for source in sources])


def join(parts: Sequence[Samples]) -> Samples:
    """Put samples side by side: classes of the same name stay different ones, as do items.

    Raises:
        DataError: there are fewer than two classes.
    """
    if sum(len(p.classes) for p in parts) < 2:  # noqa: PLR2004 -- nothing differs from a single class
        raise DataError("There is one class only; learning what differs takes two at least.")
    first_class = np.cumsum([0, *(len(p.classes) for p in parts)])
    first_item = np.cumsum([0, *(int(p.items.max(initial=-1)) + 1 for p in parts)])
    return Samples(
        images=np.concatenate([p.images for p in parts]),
        labels=np.concatenate([p.labels + n for p, n in zip(parts, first_class, strict=False)]),
        items=np.concatenate([p.items + n for p, n in zip(parts, first_item, strict=False)]),
        sketch=np.concatenate([p.sketch for p in parts]),
        classes=tuple(name for p in parts for name in p.classes),
    )


def _shop(source: ToyShopSource) -> Dataset:
    products = sample.catalogue(source.count, source.seed)
    each = 1 + source.sketches
    items = np.repeat(np.arange(len(products)), each)
    variants = np.tile(np.arange(each) - 1, len(products))
    labels = np.asarray([sample.CLASSES.index(p.label) for p in products], dtype=np.int64)
    return Dataset(
        name="the toy shop",
        pictures=Drawn(tuple(products), np.stack([items, variants], axis=1)),
        labels=np.repeat(labels, each),
        classes=sample.CLASSES,
        items=items,
        sketch=variants >= 0,
    )
