"""What is measured: embeddings with what is known of each, made from a data set or given as arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from lookalike import datasets
from lookalike.datasets import Dataset, LabelledImages
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress

# Side of the pictures that a report shows, and how many are kept once decoded.
_SHOWN = 96
_KEPT = 4096


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured.

    Attributes:
        embeddings: float32, or codes packed into uint8 for Hamming.
        labels: the class of each.
        metric: what to measure with.
        items: which thing is shown, so that a sketch has the number of its photo.
        sketch: which are sketches.
        is_query: which ask; by default all, or the sketches where there are some.
        is_gallery: which are found; by default all, or the photos.
    """

    embeddings: Shaped[np.ndarray, "n d"]
    labels: Int64[np.ndarray, " n"]
    metric: Metric
    items: Int64[np.ndarray, " n"] | None = None
    sketch: Bool[np.ndarray, " n"] | None = None
    is_query: Bool[np.ndarray, " n"] | None = None
    is_gallery: Bool[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def photos(self) -> Int64[np.ndarray, " m"]:
        """Rows of what is no sketch."""
        return np.arange(len(self)) if self.sketch is None else np.flatnonzero(~self.sketch)


def embed(
    encoder: Encoder,
    dataset: Dataset,
    progress: Progress = SILENT,
) -> tuple[Subject, Dataset, tuple[str, ...]]:
    """Embed a data set, sketches by the encoder's branch for them.

    Args:
        encoder: does it.
        dataset: labelled pictures.
        progress: gets the stage “embedding”.

    Returns:
        What to measure, the data set without what was left out (row for row the same), and why each was left out.

    Raises:
        DataError: none of the pictures could be read.
        UsageError: there are sketches, and the encoder takes none.
    """
    about = encoder.card.input
    kept: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    failures: list[str] = []
    for batch in datasets.decode_batches(dataset, about.size, about.fit):
        failures += batch.failures
        if len(batch.rows):
            parts.append(_embed(encoder, batch.images, dataset.sketch[batch.rows]))
            kept.append(batch.rows)
            progress.advance("embedding", int(batch.rows[-1]) + 1, len(dataset))
    dataset = dataset.take(np.concatenate(kept))
    subject = Subject(
        np.concatenate(parts),
        dataset.labels,
        encoder.card.metric,
        dataset.items,
        dataset.sketch,
        dataset.is_query,
        dataset.is_gallery,
    )
    return subject, dataset, tuple(failures)


def of_samples(encoder: Encoder, samples: LabelledImages) -> Subject:
    """Pictures that are in memory already, embedded as `embed` does."""
    return Subject(
        _embed(encoder, samples.images, samples.sketch),
        samples.labels,
        encoder.card.metric,
        samples.items,
        samples.sketch if samples.sketch.any() else None,
    )


def _embed(encoder: Encoder, pictures: UInt8[np.ndarray, "b s s 3"], sketch: Bool[np.ndarray, " b"]) -> np.ndarray:
    done = {
        kind: Embedder.of(encoder).embed_array(pictures[sketch == kind], "sketch" if kind else "photo")
        for kind in np.unique(sketch).tolist()
    }
    first = next(iter(done.values()))
    out = np.empty((len(pictures), first.shape[1]), first.dtype)
    for kind, vectors in done.items():
        out[sketch == kind] = vectors
    return out


def embed_files(encoder: Encoder, files: Sequence[bytes]) -> np.ndarray:
    """Embeddings of picture files' contents, as `lookalike.evaluation.fewshot.one_shot` asks for them."""
    return Embedder.of(encoder).embed(files)


def shown(dataset: Dataset) -> Callable[[int], UInt8[np.ndarray, "h w 3"]]:
    """Row → its picture, as a report shows it."""
    return lru_cache(_KEPT)(lambda row: dataset.images.load(row, _SHOWN, "pad"))


def choose(path: Path, split: str | None, **settings: object) -> tuple[Dataset, Dataset | None]:
    """The labelled pictures to measure, and the validation split where figures are of the test split.

    Args:
        path: a folder, .csv or .npz.
        split: the one to measure; by default test, or validation where there is no test.
        settings: others of the source, as `lookalike.datasets.guess` takes them.

    Raises:
        NotFoundError, DataError, UsageError: as `lookalike.datasets.guess` and `lookalike.datasets.find`.
    """
    whole = datasets.open_dataset(datasets.infer_source(path, **settings))
    if split is None:
        split = next((part for part in ("test", "validation") if part in whole.split_names), None)
    measured = whole if split is None else datasets.open_dataset(datasets.infer_source(path, split=split, **settings))
    is_test = set(measured.split_names) == {"test"}
    if not is_test or "validation" not in whole.split_names:
        return measured, None
    return measured, datasets.open_dataset(datasets.infer_source(path, split="validation", **settings))
