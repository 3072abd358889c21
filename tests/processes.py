"""Commands that tests run in subprocesses: python processes.py COMMAND ARGUMENT…"""

import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

import image_files
from lookalike import images
from lookalike.cli import main
from lookalike.collection import Collection
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import StorageError
from lookalike.ingest import run
from lookalike.metric import Metric, VectorSpace
from lookalike.progress import Progress
from lookalike.query import Branch
from lookalike.stores import IndexSettings, Item, SQLiteStore, open_store
from lookalike.stores.sqlite import indexes
from lookalike.stores.sqlite.indexes import SavedIndex
from lookalike.stores.sqlite.matrix import Matrix
from recorder import Recorder, Report
from searching import knn

SPACE = VectorSpace(Metric.EUCLIDEAN, 8)
"""The space of the stores that tests give to these commands."""


def start(command: Callable[..., None], *arguments: object) -> "subprocess.Popen[str]":
    """Start one of the functions below in a subprocess."""
    line = [sys.executable, __file__, command.__name__, *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for a process that should succeed, and return its output."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


class Logging(Encoder):
    """An encoder that writes the fingerprint of each image that it embeds to a file, and is slow."""

    log: int
    seconds = 0.002

    def embed(self, batch: np.ndarray, branch: Branch = "photo", *, threads: int = 1) -> np.ndarray:
        vectors = super().embed(batch, branch, threads=threads)
        os.write(self.log, "".join(images.fingerprint(p.tobytes()) + "\n" for p in batch).encode())
        time.sleep(self.seconds * len(batch))
        return vectors


def add(path: str, folder: str, log: str) -> None:
    """Add a folder of images slowly; Ctrl-C ends with exit status 130, as on the command line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it
    run.SCHEDULE = replace(run.SCHEDULE, batch=4, write_every=12)
    with Collection.open(path) as collection:
        encoder = Logging.open(collection.embedder.encoder.folder)
        encoder.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            Collection(collection.folder, collection.store, Embedder.of(encoder)).add(Path(folder))
        except KeyboardInterrupt:
            sys.exit(130)


def create(folder: str, encoder: str) -> None:
    """Create one collection after the other, until killed."""
    for i in itertools.count():
        Collection.create(Path(folder) / f"{i}.lookalike", Encoder.open(Path(encoder))).close()


def step(number: int, dimension: int, count: int) -> tuple[list[Item], np.ndarray]:
    """Return the items and vectors of a step of `advance`; labels and vectors hold its number."""
    items = [Item(f"{i:02}", "", str(number)) for i in range(count)]
    return items, np.full((count, dimension), number, np.float32)


def advance(path: str, steps: str) -> None:
    """Overwrite the same items with each step, and every other time delete one of them first."""
    store = open_store(path, SPACE)
    for number in range(1, int(steps) + 1):
        if number % 2:
            store.delete(["00"])
        store.upsert(*step(number, SPACE.dimension, 20))
    store.close()


def watch(path: str, last: str) -> None:
    """Search until the last step is seen, and print how many were seen; every answer must be of one step."""
    store = open_store(path, SPACE)
    seen = set()
    while last not in seen:
        hits = knn(store, np.zeros((1, SPACE.dimension), np.float32), 100)[0].hits
        steps = {hit.item.label for hit in hits}
        assert len(steps) == 1, steps
        (label,) = steps
        assert label is not None
        assert {hit.distance for hit in hits} == {float(np.float32(np.sqrt(SPACE.dimension) * int(label)))}
        assert [hit.item.id for hit in hits] == [f"{i:02}" for i in range(20 - len(hits), 20)]
        seen.add(label)
    store.close()
    print(len(seen))  # noqa: T201 -- the test reads it


def insert(path: str, prefix: str, count: str) -> None:
    """Write items one after the other."""
    store = open_store(path, SPACE)
    for i in range(int(count)):
        store.upsert([Item(f"{prefix}{i}", "")], np.full((1, SPACE.dimension), i, np.float32))
    store.close()


def abandon(path: str, count: str) -> None:
    """Write items and die, leaving SQLite's log behind."""
    store = open_store(path, SPACE)
    store.upsert(*step(1, SPACE.dimension, int(count)))
    os.kill(os.getpid(), signal.SIGKILL)


def fill(path: str, limit: str) -> None:
    """Write items until a file reaches the size limit; print how many were written."""
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    store = open_store(path, SPACE)
    written = 0
    try:
        while True:
            items = [Item(f"{written + i:06}", "") for i in range(10)]
            store.upsert(items, np.ones((10, SPACE.dimension), np.float32))
            written += 10
    except StorageError:
        print(written)  # noqa: T201 -- the test reads it


def build(path: str) -> None:
    """Build an index; print when it has begun."""
    with closing(SQLiteStore.open(Path(path), SPACE)) as store:
        store.build_index(Recorder(lambda _: print("begun", flush=True)))  # noqa: T201 -- the test reads it


def tune(path: str) -> None:
    """Run the command tune; print when it has begun to build."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it
    build = indexes.build

    def build_and_print(
        matrix: Matrix, metric: Metric, settings: IndexSettings, progress: Progress, stopped: Callable[[], bool]
    ) -> SavedIndex | None:
        def report(report: Report) -> None:
            print("begun", flush=True)  # noqa: T201 -- the test reads it
            progress.advance(*report)

        return build(matrix, metric, settings, Recorder(report), stopped)

    indexes.build = build_and_print
    sys.argv = ["lookalike", "tune", path]
    main()


def upload(path: str, count: str) -> None:
    """Add the same images again and again; whenever nobody changes the folder, each item has its image."""
    with Collection.open(path) as collection:
        for i in range(int(count)):
            collection.add_image(image_files.png(i % 3))
            collection.add([image_files.png(i % 3)])
            with collection.folder._locked():
                assert all(collection.folder.file(item).exists() for item in collection)


def take_out(path: str) -> None:
    """Remove all items again and again, slowly between an item and its image, until killed; print when it has begun."""
    unlink = Path.unlink

    def unlink_slowly(file: Path, missing_ok: bool = False) -> None:
        time.sleep(0.01)
        unlink(file, missing_ok=missing_ok)

    Path.unlink = unlink_slowly  # type: ignore[assignment, method-assign]
    with Collection.open(path) as collection:
        print("begun", flush=True)  # noqa: T201 -- the test reads it
        while True:
            collection.remove([item.id for item in collection])


def work(path: str, folder: str, seed: str) -> None:
    """Index, upload, remove and build an index in turns, until killed; print when it has begun."""
    generator = np.random.default_rng(int(seed))
    run.SCHEDULE = replace(run.SCHEDULE, batch=8, write_every=16)
    with Collection.open(path) as collection:
        print("begun", flush=True)  # noqa: T201 -- the test reads it
        while True:
            match generator.integers(5):
                case 0:
                    collection.add(Path(folder), labels="folder")
                case 1:
                    collection.add_image(image_files.png(int(generator.integers(1000, 1040))))
                case 2:
                    collection.add([image_files.png(int(i)) for i in generator.integers(1000, 1040, 12)])
                case 3:
                    ids = [item.id for item in collection]
                    collection.remove([ids[i] for i in generator.integers(len(ids), size=min(len(ids), 20))])
                case _ if collection.indexable:
                    collection.build_index()
            collection.search(image_files.png(1), k=3)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
