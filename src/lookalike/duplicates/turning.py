"""The eight symmetries of the square, and what an encoder makes of pictures turned by them."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from enum import StrEnum
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from lookalike import images
from lookalike.collection import Collection
from lookalike.duplicates.contents import Contents
from lookalike.errors import LookalikeError
from lookalike.parallel import prefetch_map

# Pictures of a task for a reading thread, and of a batch: each is embedded seven times.
_TASK = 16


class Turn(StrEnum):
    """What has to be done to one picture to make it the other, in the order of EXIF's orientations 1 to 8."""

    NONE = "as it is"
    MIRRORED = "mirrored"
    HALF = "turned by 180°"
    FLIPPED = "upside down"
    TRANSPOSED = "transposed"
    RIGHT = "turned right"
    TRANSVERSE = "transversed"
    LEFT = "turned left"

    @property
    def number(self) -> int:
        """Its place in `TURNS`."""
        return TURNS.index(self)

    @property
    def inverse(self) -> "Turn":
        """What undoes it."""
        return {Turn.LEFT: Turn.RIGHT, Turn.RIGHT: Turn.LEFT}.get(self, self)


TURNS = tuple(Turn)
INVERSE = np.array([turn.inverse.number for turn in TURNS], np.uint8)


def apply(pictures: UInt8[np.ndarray, "n s s 3"], turn: Turn) -> UInt8[np.ndarray, "n s s 3"]:
    """Turn square pictures."""
    if turn in (Turn.TRANSPOSED, Turn.RIGHT, Turn.TRANSVERSE, Turn.LEFT):
        pictures = pictures.transpose(0, 2, 1, 3)
    down = -1 if turn in (Turn.HALF, Turn.FLIPPED, Turn.TRANSVERSE, Turn.LEFT) else 1
    across = -1 if turn in (Turn.MIRRORED, Turn.HALF, Turn.TRANSVERSE, Turn.RIGHT) else 1
    return pictures[:, ::down, ::across]


Turned = tuple[list[int], Shaped[np.ndarray, "n 7 c"]]
"""Places of contents, and the embeddings of their pictures turned by `TURNS` but for the first."""


def embed(
    collection: Collection,
    contents: Contents,
    failed: Callable[[Path, str], None],
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Turned]:
    """Embed pictures in all the ways they may be turned.

    They are fitted to the encoder's square first, so each is decoded once; how to fit treats all sides alike. What was
    embedded is kept in ``cache/``, by content.

    Args:
        collection: of the pictures.
        contents: what is in it.
        failed: hears path and reason of each picture that could not be used.
        tell: hears (done, total).

    Yields:
        A batch.
    """
    about, total, done = collection.encoder.card.input, len(contents), 0

    def read(part: Sequence[int]) -> list[UInt8[np.ndarray, "s s 3"] | LookalikeError]:
        return [_load(collection.file(contents.items[i][0]), about.size, about.fit) for i in part]

    with closing(_Cache(collection, contents.vectors.dtype, contents.vectors.shape[1])) as cache:
        places = list(range(total))
        missing: list[int] = []
        for part in (places[i : i + 1024] for i in range(0, total, 1024)):
            found = cache.get([contents.digests[i] for i in part])
            missing += [i for i in part if contents.digests[i] not in found]
            here = [i for i in part if contents.digests[i] in found]
            if here:
                done += len(here)
                tell(done, total)
                yield here, np.stack([found[contents.digests[i]] for i in here])
        parts = [missing[i : i + _TASK] for i in range(0, len(missing), _TASK)]
        with closing(prefetch_map(read, parts)) as pictures:
            for part, results in zip(parts, pictures, strict=True):
                done += len(part)
                for i, result in zip(part, results, strict=True):
                    if isinstance(result, LookalikeError):
                        failed(collection.file(contents.items[i][0]), str(result))
                good = [(i, r) for i, r in zip(part, results, strict=True) if not isinstance(r, LookalikeError)]
                if good:
                    upright = np.stack([r for _, r in good])
                    turned = np.stack([collection.embedder.embed_array(apply(upright, t)) for t in TURNS[1:]], axis=1)
                    cache.put([contents.digests[i] for i, _ in good], turned)
                    yield [i for i, _ in good], turned
                tell(done, total)


def _load(path: Path, size: int, how: images.Fit) -> UInt8[np.ndarray, "s s 3"] | LookalikeError:
    try:
        return images.load(path, size, how)
    except LookalikeError as e:
        return e


class _Cache:
    """``cache/turned.sqlite``: content → embeddings. Whatever is wrong with it, there is just nothing in it."""

    def __init__(self, collection: Collection, dtype: "np.dtype[np.generic]", columns: int) -> None:
        self._shape, self._dtype = (len(TURNS) - 1, columns), dtype
        self._sql: sqlite3.Connection | None = None
        path = collection.path / "cache" / "turned.sqlite"
        with suppress(OSError, sqlite3.Error):
            path.parent.mkdir(exist_ok=True)
            self._sql = sqlite3.connect(path, isolation_level=None)
            self._sql.execute("PRAGMA synchronous = OFF")  # a cache may be lost
            self._sql.execute("CREATE TABLE IF NOT EXISTS turned (sha256 TEXT PRIMARY KEY, vectors BLOB) STRICT")

    def get(self, digests: Sequence[str]) -> dict[str, Shaped[np.ndarray, "7 c"]]:
        if self._sql is None:
            return {}
        marks, size = ",".join("?" * len(digests)), self._dtype.itemsize * self._shape[0] * self._shape[1]
        found: dict[str, Shaped[np.ndarray, "7 c"]] = {}
        with suppress(sqlite3.Error):
            rows = self._sql.execute(f"SELECT sha256, vectors FROM turned WHERE sha256 IN ({marks})", digests)  # noqa: S608 -- placeholders alone
            for digest, blob in rows:
                if len(blob) == size:
                    found[digest] = np.frombuffer(blob, self._dtype).reshape(self._shape)
        return {digest: vectors for digest, vectors in found.items() if self._usable(vectors)}

    def _usable(self, vectors: Shaped[np.ndarray, "7 c"]) -> bool:
        return self._dtype.kind != "f" or bool(np.isfinite(vectors).all())

    def put(self, digests: Sequence[str], vectors: Shaped[np.ndarray, "n 7 c"]) -> None:
        if self._sql is not None:
            rows = [(digest, v.tobytes()) for digest, v in zip(digests, vectors, strict=True)]
            with suppress(sqlite3.Error):
                self._sql.executemany("INSERT OR REPLACE INTO turned VALUES (?, ?)", rows)

    def close(self) -> None:
        if self._sql is not None:
            self._sql.close()
