"""Reading what a study compresses: a collection, or arrays in a file."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from lookalike import datasets
from lookalike.compress import check, draw
from lookalike.compression_study.data import StudyData
from lookalike.embedding import Embedder
from lookalike.errors import DataError, MismatchError, NotFoundError, UsageError
from lookalike.evaluation.embedded import embed_dataset
from lookalike.evaluation.labels import LabelledVectors
from lookalike.folder import Folder, find_folder, is_collection
from lookalike.metric import Metric, VectorSpace
from lookalike.progress import SILENT, Progress

SAMPLE = 20_000
"""Maximum number of items; of a larger collection as many are drawn."""

ARRAYS = ".npz"


def read(source: Path, queries: Path | None = None, *, sketch: bool = False, progress: Progress = SILENT) -> StudyData:
    """Read items and queries.

    Args:
        source: a collection, or an .npz file with the arrays `embeddings` and `labels`, compared by Euclidean distance.
        queries: another collection with the same encoder, or labelled images that the collection's encoder embeds; of an
            .npz file another one. Without it, each item is a query.
        sketch: the images are sketches.
        progress: receives the stage “embedding” and notes.

    Raises:
        NotFoundError: a file does not exist.
        DataError: a file is invalid.
        UsageError: items have no labels or are bits, or no query has the label of an item.
        MismatchError: the queries are of a collection with another encoder.
    """
    if source.suffix == ARRAYS:
        items = read_arrays(source)
        asked = read_arrays(queries) if queries else None
        space = VectorSpace(Metric.EUCLIDEAN, items.vectors.shape[1])
        return StudyData(source.name, space, items, _related(asked, items))
    folder = Folder.open(find_folder(source))
    items = _items(folder)
    asked = _queries(folder, queries, items, sketch=sketch, progress=progress) if queries else None
    return StudyData(folder.name, folder.manifest.embedding_space, items, _related(asked, items))


def read_arrays(path: Path) -> LabelledVectors:
    """Read the arrays `embeddings` and `labels` of an .npz file.

    Raises:
        NotFoundError: the file does not exist.
        DataError: it does not have these arrays, or they do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            vectors, labels = file["embeddings"], file["labels"].astype(str)
    except FileNotFoundError as e:
        raise NotFoundError(f"There is no file {path}. Check the path.") from e
    except KeyError as e:
        raise DataError(f"{path} lacks one of the arrays “embeddings” and “labels”. Save both with numpy.savez.") from e
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise DataError(
            f"{path} is not an .npz file of arrays. Save “embeddings” and “labels” with numpy.savez."
        ) from e
    if vectors.ndim != 2 or labels.shape != (len(vectors),) or vectors.dtype.kind != "f":  # noqa: PLR2004 -- rows and columns
        raise DataError(
            f"{path} has embeddings {vectors.dtype} {vectors.shape} and labels {labels.shape}; a study needs floats (n, d) and n"
            " labels."
        )
    return LabelledVectors(vectors.astype(np.float32), labels)


def _items(folder: Folder) -> LabelledVectors:
    """Read the labelled items of a collection, ordered by the images' content: ids depend on paths, and so would the folds."""
    store = folder.open_store()
    try:
        replaceable = check(folder, store)
        items = [item for item in draw(store, SAMPLE) if item.label is not None]
        if not items:
            raise UsageError(f"No item of “{folder.name}” has a label. Index with --labels.")
        items.sort(key=lambda item: (item.sha256 or "", item.id))
        return LabelledVectors(
            replaceable.embeddings([item.id for item in items]), np.array([item.label for item in items])
        )
    finally:
        store.close()


def _queries(
    folder: Folder, queries: Path, items: LabelledVectors, *, sketch: bool, progress: Progress
) -> LabelledVectors:
    if is_collection(queries):
        other = Folder.open(find_folder(queries))
        if other.manifest.encoder.fingerprint != folder.manifest.encoder.fingerprint:
            raise MismatchError(
                f"“{other.name}” and “{folder.name}” have different encoders, so the items of one do not search the other."
                " Index both with one encoder."
            )
        return _items(other)
    dataset = datasets.open_dataset(datasets.infer_source(queries))
    known = set(map(str, items.labels))
    dataset = dataset.take(np.array([dataset.classes[label] in known for label in dataset.labels.tolist()], bool))
    if not len(dataset):
        raise UsageError(f"No image of {queries} has the label of an item of “{folder.name}”. Check the labels.")
    embedder = Embedder.of(folder.load_embedder().encoder, folder.manifest.embedding_space.metric)
    embedded = embed_dataset(embedder, replace(dataset, sketch=np.full(len(dataset), sketch)), progress)
    for failure in embedded.failures:
        progress.note(f"skipped: {failure}")
    return LabelledVectors(
        embedded.embeddings, np.array([embedded.class_name(int(label)) for label in embedded.labels])
    )


def _related(queries: LabelledVectors | None, items: LabelledVectors) -> LabelledVectors | None:
    """Leave out queries without a relevant item."""
    if queries is None:
        return None
    rows = np.flatnonzero(np.isin(np.asarray(queries.labels), np.asarray(items.labels)))
    if not len(rows):
        raise UsageError("No query has the label of an item. Check the labels.")
    return LabelledVectors(queries.vectors[rows], np.asarray(queries.labels)[rows])
