"""Loading of datasets: open a source, stream its images in batches, or decode them all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lookalike import sample
from lookalike.datasets.dataset import COUNTED, Dataset, LabelledImages, select
from lookalike.datasets.folders import open_folder, open_unlabelled
from lookalike.datasets.lazy_images import ToyShopImages
from lookalike.datasets.npz import open_npz
from lookalike.datasets.sources import CsvSource, FolderSource, NpzSource, Source, ToyShopSource
from lookalike.datasets.tables import open_table
from lookalike.errors import DataError, ImageError, NotFoundError
from lookalike.images import Fit, Fitting
from lookalike.parallel import prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Int64, UInt8

# Images decoded in one task: enough that passing small images between threads costs little.
_TASK_SIZE = 16

T = TypeVar("T")


def open_dataset(source: Source, *, labelled: bool = True) -> Dataset:
    """Open a source without decoding its images.

    Args:
        source: where the images are.
        labelled: false ignores labels and lists all images under a folder.

    Raises:
        DataError: the source does not exist or is invalid, or has no such split or class.
    """
    match source:
        case FolderSource():
            dataset = open_folder(source) if labelled else open_unlabelled(source)
        case CsvSource():
            dataset = open_table(source)
        case NpzSource():
            dataset = open_npz(source)
        case ToyShopSource():
            dataset = _open_toy_shop(source)
    return select(dataset, source.split, source.classes, source.limit)


@dataclass(frozen=True)
class Batch:
    """Decoded images of a dataset.

    Attributes:
        rows: their rows in the dataset.
        images: RGB, fitted to squares.
        failures: for each image since the previous batch that could not be decoded, the reason.
    """

    rows: Int64[np.ndarray, " b"]
    images: UInt8[np.ndarray, "b size size 3"]
    failures: tuple[str, ...]


def decode_batches(dataset: Dataset, size: int, fit: Fitting, count: int = 256) -> Iterator[Batch]:
    """Decode images in order, in threads, in memory that does not grow with the dataset.

    Args:
        dataset: the images.
        size: pixels a side.
        fit: how an image becomes square.
        count: images in a batch; the last batch may have fewer, or none if it only has failures.

    Raises:
        DataError: none of the images can be decoded.
    """
    rows: list[int] = []
    decoded: list[np.ndarray] = []
    failures: list[str] = []
    total = 0
    for row, image in map_rows(lambda row: dataset.images.load(row, size, fit), len(dataset)):
        if isinstance(image, Exception):
            failures.append(str(image))
            continue
        rows.append(row)
        decoded.append(image)
        total += 1
        if len(rows) == count:
            yield Batch(np.asarray(rows), np.stack(decoded), tuple(failures))
            rows, decoded, failures = [], [], []
    if not total:
        reason = f" The first error: {failures[0]}" if failures else ""
        raise DataError(f"None of the {len(dataset):,} images of {dataset.name} could be read.{reason}")
    if rows or failures:
        pixels = np.stack(decoded) if decoded else np.empty((0, size, size, 3), np.uint8)
        yield Batch(np.asarray(rows, dtype=np.int64), pixels, tuple(failures))


def map_rows(function: Callable[[int], T], count: int) -> Iterator[tuple[int, T | ImageError | NotFoundError]]:
    """Apply a function to the rows 0, 1, … in threads; yield each row with its result, or with the image's error."""

    def apply_to_task(rows: Sequence[int]) -> list[tuple[int, T | ImageError | NotFoundError]]:
        return [(row, apply(row)) for row in rows]

    def apply(row: int) -> T | ImageError | NotFoundError:
        try:
            return function(row)
        except (ImageError, NotFoundError) as e:
            return e

    tasks = [range(start, min(start + _TASK_SIZE, count)) for start in range(0, count, _TASK_SIZE)]
    with closing(prefetch_map(apply_to_task, tasks)) as results:
        for task in results:
            yield from task


def decode(dataset: Dataset, size: int, fit: Fit, progress: Progress = SILENT) -> LabelledImages:
    """Decode all images of a dataset into memory.

    Args:
        dataset: the images.
        size: pixels a side.
        fit: how an image becomes square.
        progress: receives the stage “decoding”, and a note for every image that is left out, and one if sketches are only counted.

    Raises:
        DataError: none of the images can be decoded.
    """
    return decode_rows(dataset, size, fit, progress)[0]


def decode_rows(
    dataset: Dataset, size: int, fit: Fit, progress: Progress = SILENT
) -> tuple[LabelledImages, Int64[np.ndarray, " n"]]:
    """Decode as `decode` does, and also return the row of each image in the dataset."""
    if dataset.sketches_counted:
        progress.note(f"{dataset.name}: {COUNTED}.")
    pixels = np.empty((len(dataset), size, size, 3), dtype=np.uint8)
    decoded, end = [], 0
    for batch in decode_batches(dataset, size, fit):
        pixels[end : end + len(batch.rows)] = batch.images
        decoded.append(batch.rows)
        end += len(batch.rows)
        for failure in batch.failures:
            progress.note(f"left out: {failure}")
        progress.advance("decoding", end, len(dataset))
    rows = np.concatenate(decoded)
    labelled = LabelledImages(
        pixels[:end], dataset.labels[rows], dataset.items[rows], dataset.sketch[rows], dataset.classes
    )
    return labelled, rows


def load(sources: Sequence[Source], size: int, fit: Fit, progress: Progress = SILENT) -> LabelledImages:
    """Load all sources into memory as one dataset.

    Args:
        sources: what to load; see `concatenate` for their classes.
        size: pixels a side.
        fit: how an image becomes square.
        progress: as in `decode`.

    Raises:
        DataError: a source is invalid, or there are fewer than two classes.
    """
    return concatenate([decode(open_dataset(source), size, fit, progress) for source in sources])


def concatenate(parts: Sequence[LabelledImages]) -> LabelledImages:
    """Concatenate labelled images; equal class names or item numbers in two parts stay different.

    Raises:
        DataError: there are fewer than two classes.
    """
    if sum(len(p.classes) for p in parts) < 2:  # noqa: PLR2004 -- a pair of classes
        raise DataError("There is only one class; training needs at least two.")
    first_class = np.cumsum([0, *(len(p.classes) for p in parts)])
    first_item = np.cumsum([0, *(int(p.items.max(initial=-1)) + 1 for p in parts)])
    return LabelledImages(
        images=np.concatenate([p.images for p in parts]),
        labels=np.concatenate([p.labels + n for p, n in zip(parts, first_class, strict=False)]),
        items=np.concatenate([p.items + n for p, n in zip(parts, first_item, strict=False)]),
        sketch=np.concatenate([p.sketch for p in parts]),
        classes=tuple(name for p in parts for name in p.classes),
    )


def _open_toy_shop(source: ToyShopSource) -> Dataset:
    products = sample.catalogue(source.count, source.seed)
    images_per_product = 1 + source.sketches
    items = np.repeat(np.arange(len(products)), images_per_product)
    variants = np.tile(np.arange(images_per_product) - 1, len(products))
    labels = np.asarray([sample.CLASSES.index(p.label) for p in products], dtype=np.int64)
    return Dataset(
        name="the toy shop",
        images=ToyShopImages(tuple(products), np.stack([items, variants], axis=1)),
        labels=np.repeat(labels, images_per_product),
        classes=sample.CLASSES,
        items=items,
        sketch=variants >= 0,
    )
