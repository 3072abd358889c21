"""The eight orientations of a square image, and the embeddings of images in all of them."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from enum import StrEnum
from pathlib import Path

import numpy as np

from lookalike.duplicates.source import Contents, Failure
from lookalike.embedding import Embedder
from lookalike.errors import LookalikeError
from lookalike.parallel import prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Shaped, UInt8
from lookalike.untrusted import databases
from lookalike.untrusted.paths import resolve_inside

# Images in a reading thread's task and in a batch of the encoder; each image is embedded seven times.
_BATCH = 16

# Contents in one look-up of the cache.
_LOOKUP = 1024

_CACHE = "cache/turned.sqlite"
_SCHEMA = "CREATE TABLE IF NOT EXISTS turned (sha256 TEXT PRIMARY KEY, vectors BLOB) STRICT"


class Orientation(StrEnum):
    """The symmetry of the square that turns one image into another, in the order of EXIF's orientations 1 to 8."""

    SAME = "same"
    MIRRORED = "mirrored"
    HALF_TURN = "rotated 180°"
    FLIPPED = "flipped upside down"
    TRANSPOSED = "transposed"
    RIGHT = "rotated right"
    TRANSVERSE = "transversed"
    LEFT = "rotated left"

    @property
    def number(self) -> int:
        """The index in `ORIENTATIONS`."""
        return ORIENTATIONS.index(self)

    @property
    def inverse(self) -> "Orientation":
        """The orientation that turns the image back."""
        return {Orientation.LEFT: Orientation.RIGHT, Orientation.RIGHT: Orientation.LEFT}.get(self, self)


ORIENTATIONS = tuple(Orientation)
INVERSES = np.array([orientation.inverse.number for orientation in ORIENTATIONS], np.uint8)

_TRANSPOSING = (Orientation.TRANSPOSED, Orientation.RIGHT, Orientation.TRANSVERSE, Orientation.LEFT)
_REVERSING_ROWS = (Orientation.HALF_TURN, Orientation.FLIPPED, Orientation.TRANSVERSE, Orientation.LEFT)
_REVERSING_COLUMNS = (Orientation.MIRRORED, Orientation.HALF_TURN, Orientation.TRANSVERSE, Orientation.RIGHT)


def orient(batch: UInt8[np.ndarray, "n s s 3"], orientation: Orientation) -> UInt8[np.ndarray, "n s s 3"]:
    """Turn square images into an orientation."""
    if orientation in _TRANSPOSING:
        batch = batch.transpose(0, 2, 1, 3)
    down = -1 if orientation in _REVERSING_ROWS else 1
    across = -1 if orientation in _REVERSING_COLUMNS else 1
    return batch[:, ::down, ::across]


OrientedBatch = tuple[list[int], Shaped[np.ndarray, "n 7 c"]]
"""Indices of contents, and the embeddings of their images in all `ORIENTATIONS` but the first."""


def embed_orientations(
    contents: Contents, failures: list[Failure], progress: Progress = SILENT
) -> Iterator[OrientedBatch]:
    """Embed images in the seven orientations that are not their own.

    Each image is decoded and fitted to the encoder's square once, since fitting treats all sides alike. The embeddings are
    cached by content in the collection's ``cache/``.

    Args:
        contents: the contents to embed.
        failures: the function appends path and reason of each image that cannot be read.
        progress: receives the stage ``"comparing"``.

    Yields:
        The embeddings, batch by batch.
    """
    total, done = len(contents), 0
    with closing(
        _EmbeddingCache(contents.source.folder.path, contents.vectors.dtype, contents.vectors.shape[1])
    ) as cache:
        missing: list[int] = []
        for start in range(0, total, _LOOKUP):
            chunk = range(start, min(start + _LOOKUP, total))
            cached = cache.get([contents.digests[i] for i in chunk])
            missing += [i for i in chunk if contents.digests[i] not in cached]
            if present := [i for i in chunk if contents.digests[i] in cached]:
                done += len(present)
                progress.advance("comparing", done, total)
                yield present, np.stack([cached[contents.digests[i]] for i in present])
        for indices, vectors in _embed(contents, missing, failures):
            done += len(indices)
            if present := [i for i, vector in zip(indices, vectors, strict=True) if vector is not None]:
                oriented = np.stack([vector for vector in vectors if vector is not None])
                cache.put([contents.digests[i] for i in present], oriented)
                yield present, oriented
            progress.advance("comparing", done, total)


def _embed(
    contents: Contents, indices: Sequence[int], failures: list[Failure]
) -> Iterator[tuple[Sequence[int], list[Shaped[np.ndarray, "7 c"] | None]]]:
    """Read and embed images in batches; an image that cannot be read has None for its vectors."""
    embedder = contents.source.embedder

    def read(batch: Sequence[int]) -> list[UInt8[np.ndarray, "s s 3"] | LookalikeError]:
        return [_preprocess(embedder, contents.file(i)) for i in batch]

    batches = [indices[i : i + _BATCH] for i in range(0, len(indices), _BATCH)]
    with closing(prefetch_map(read, batches)) as results:
        for batch, images_or_errors in zip(batches, results, strict=True):
            readable = [image for image in images_or_errors if not isinstance(image, LookalikeError)]
            failures += [
                (contents.file(i), str(error))
                for i, error in zip(batch, images_or_errors, strict=True)
                if isinstance(error, LookalikeError)
            ]
            vectors: Iterator[np.ndarray] = iter(())
            if readable:
                upright = np.stack(readable)
                vectors = iter(np.stack([embedder.embed_array(orient(upright, o)) for o in ORIENTATIONS[1:]], axis=1))
            yield batch, [None if isinstance(image, LookalikeError) else next(vectors) for image in images_or_errors]


def _preprocess(embedder: Embedder, path: Path) -> UInt8[np.ndarray, "s s 3"] | LookalikeError:
    try:
        return embedder.preprocess(path)
    except LookalikeError as e:
        return e


class _EmbeddingCache:
    """An SQLite file that maps contents to embeddings; a file that cannot be used counts as an empty cache.

    It lies in the folder of a collection, which may come from a stranger.
    """

    def __init__(self, folder: Path, dtype: "np.dtype[np.generic]", columns: int) -> None:
        self._shape, self._dtype = (len(ORIENTATIONS) - 1, columns), dtype
        self._sql: sqlite3.Connection | None = None
        with suppress(OSError, sqlite3.Error):
            path = resolve_inside(folder, _CACHE)
            path.parent.mkdir(exist_ok=True)
            self._sql = databases.connect(path, _SCHEMA)
            self._sql.execute("PRAGMA synchronous = OFF")  # a cache may be lost
            self._sql.execute(_SCHEMA)

    def get(self, digests: Sequence[str]) -> dict[str, Shaped[np.ndarray, "7 c"]]:
        """Return the embeddings of those contents that are cached."""
        if self._sql is None:
            return {}
        marks, size = ",".join("?" * len(digests)), self._dtype.itemsize * self._shape[0] * self._shape[1]
        cached: dict[str, Shaped[np.ndarray, "7 c"]] = {}
        with suppress(sqlite3.Error):
            rows = self._sql.execute(f"SELECT sha256, vectors FROM turned WHERE sha256 IN ({marks})", digests)  # noqa: S608 -- placeholders alone
            for digest, blob in rows:
                if isinstance(blob, bytes) and len(blob) == size:
                    cached[digest] = np.frombuffer(blob, self._dtype).reshape(self._shape)
        return {digest: vectors for digest, vectors in cached.items() if self._is_finite(vectors)}

    def _is_finite(self, vectors: Shaped[np.ndarray, "7 c"]) -> bool:
        return self._dtype.kind != "f" or bool(np.isfinite(vectors).all())

    def put(self, digests: Sequence[str], vectors: Shaped[np.ndarray, "n 7 c"]) -> None:
        """Cache the embeddings of contents."""
        if self._sql is not None:
            rows = [(digest, v.tobytes()) for digest, v in zip(digests, vectors, strict=True)]
            with suppress(sqlite3.Error):
                self._sql.executemany("INSERT OR REPLACE INTO turned VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        if self._sql is not None:
            self._sql.close()
