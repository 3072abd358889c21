"""Embeddings of a dataset, with the labels that an evaluation needs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lookalike import datasets
from lookalike.datasets import Dataset, LabelledImages
from lookalike.embedding import Embedder
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Bool, Int64, Shaped, UInt8

# Pixels a side of the images that a report shows, and how many of them stay decoded.
_REPORT_SIZE = 96
_CACHED = 4096

ImageOfRow = Callable[[int], UInt8[np.ndarray, "h w 3"]]
"""Row → its image, RGB."""


@dataclass(frozen=True, eq=False)
class EmbeddedDataset:
    """Embeddings and labels to evaluate.

    Attributes:
        embeddings: float32, or codes packed into uint8 for Hamming.
        labels: the class of each.
        metric: compares the embeddings.
        classes: the names of the labels 0, 1, …; without names, a class is called by its number.
        items: the thing that each image shows; a sketch has the number of its photo.
        sketch: true for sketches, false for photos.
        is_query: the queries of retrieval; by default all, or the sketches if there are some.
        is_gallery: the gallery of retrieval; by default all, or the photos.
        sketches_counted: the sketches have only classes; see `lookalike.datasets.dataset.COUNTED`.
        image: row → its image, for a report.
        failures: for each image that could not be embedded, the reason.
    """

    embeddings: Shaped[np.ndarray, "n d"]
    labels: Int64[np.ndarray, " n"]
    metric: Metric
    classes: tuple[str, ...] = ()
    items: Int64[np.ndarray, " n"] | None = None
    sketch: Bool[np.ndarray, " n"] | None = None
    is_query: Bool[np.ndarray, " n"] | None = None
    is_gallery: Bool[np.ndarray, " n"] | None = None
    sketches_counted: bool = False
    image: ImageOfRow | None = None
    failures: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the embeddings."""
        return len(self.labels)

    @property
    def photos(self) -> Int64[np.ndarray, " m"]:
        """The rows of photos."""
        return np.arange(len(self)) if self.sketch is None else np.flatnonzero(~self.sketch)

    def vectors(self, rows: Int64[np.ndarray, " m"], labels: Int64[np.ndarray, " n"] | None = None) -> LabelledVectors:
        """Select rows, with their classes or with other labels such as ``items``."""
        return LabelledVectors(self.embeddings[rows], (self.labels if labels is None else labels)[rows])

    def class_name(self, label: int) -> str:
        """Return the name of a class."""
        return self.classes[label] if self.classes else str(label)


def embed_dataset(embedder: Embedder, dataset: Dataset, progress: Progress = SILENT) -> EmbeddedDataset:
    """Embed a dataset, sketches by the encoder's sketch branch, and leave out images that cannot be decoded.

    Args:
        embedder: embeds the images.
        dataset: labelled images.
        progress: receives the stage “embedding”.

    Raises:
        DataError: none of the images can be decoded.
        UsageError: there are sketches, and the encoder has no sketch branch.
    """
    spec = embedder.encoder.card.input
    rows: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    failures: list[str] = []
    for batch in datasets.decode_batches(dataset, spec.side, spec.fitting):
        failures += batch.failures
        if len(batch.rows):
            vectors.append(_embed(embedder, batch.images, dataset.sketch[batch.rows]))
            rows.append(batch.rows)
            progress.advance("embedding", int(batch.rows[-1]) + 1, len(dataset))
    usable = dataset.take(np.concatenate(rows))
    return EmbeddedDataset(
        np.concatenate(vectors),
        usable.labels,
        embedder.metric,
        usable.classes,
        usable.items,
        usable.sketch,
        usable.is_query,
        usable.is_gallery,
        usable.sketches_counted,
        image=lru_cache(_CACHED)(lambda row: usable.images.load(row, _REPORT_SIZE, "pad")),
        failures=tuple(failures),
    )


def embed_images(embedder: Embedder, images: LabelledImages) -> EmbeddedDataset:
    """Embed images that are decoded already, fitted to the encoder's input."""
    return EmbeddedDataset(
        _embed(embedder, images.images, images.sketch),
        images.labels,
        embedder.metric,
        images.classes,
        images.items,
        images.sketch if images.sketch.any() else None,
        image=lambda row: images.images[row],
    )


def _embed(
    embedder: Embedder, images: UInt8[np.ndarray, "b s s 3"], sketch: Bool[np.ndarray, " b"]
) -> Shaped[np.ndarray, "b d"]:
    by_branch = {
        is_sketch: embedder.embed_array(images[sketch == is_sketch], "sketch" if is_sketch else "photo")
        for is_sketch in np.unique(sketch).tolist()
    }
    first = next(iter(by_branch.values()))
    out = np.empty((len(images), first.shape[1]), first.dtype)
    for is_sketch, vectors in by_branch.items():
        out[sketch == is_sketch] = vectors
    return out
