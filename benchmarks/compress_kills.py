"""Kill ``lookalike compress`` at moments spread over its run, and check after each that nothing is lost.

::

    lookalike embed photos --encoder copies --out photos.npz
    python benchmarks/compress_kills.py photos.npz --encoder copies --codec pca:64+scalar:int8

A collection gets the embeddings as its vectors. One run that nobody kills gives the time of a run, and the codes to expect. Each further run is killed (SIGKILL) a little
later than the one before. After each, the collection is opened again: all its vectors must be the old ones or those of the new codes, bit for bit, and
searches must answer with them. The table has the bytes of the folder after each kill; at the end, the codes are undone, and the folder must be as small as
after an undo that no kill preceded.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike import search
from lookalike.collection import Collection
from lookalike.stores import Item

_BATCH = 10_000
_QUERIES = 20
_SPARE = 2**20
"""Bytes that a folder may have more than one after no kill: SQLite keeps empty pages."""


@dataclass(frozen=True)
class State:
    """What a collection holds: the name, and all vectors in the order of ids."""

    name: str
    vectors: np.ndarray


def main() -> None:
    """Print a line for each kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path, help="an npz of lookalike embed")
    parser.add_argument("--encoder", required=True, help="the encoder of the embeddings")
    parser.add_argument("--codec", default="pca:64+scalar:int8")
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), given)


def _measure(folder: Path, given: argparse.Namespace) -> None:
    pristine, path = folder / "pristine.lookalike", folder / "killed.lookalike"
    old = State("old vectors", fill(pristine, given.encoder, np.load(given.embeddings)["embeddings"]))
    shutil.copytree(pristine, path)
    begun = time.perf_counter()
    _start(path, given.codec).wait()
    seconds = time.perf_counter() - begun
    new = State("new codes", read(path))
    with Collection.open(path) as collection:
        collection.decompress()
    smallest = size(path)
    say(f"{len(old.vectors):,} items. A run takes {seconds:.1f} s; the folder has {smallest / 1e6:.1f} MB.")
    say("| killed after | the collection has | whole | MB |\n|---|---|---|---|")
    for kill in range(given.kills):
        moment = (kill + 0.5) / given.kills * seconds
        process = _start(path, given.codec)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        killed = process.wait() == -signal.SIGKILL
        found = check(path, old, new)
        say(f"| {moment:.1f} s{'' if killed else ', finished'} | {found} | yes | {size(path) / 1e6:.1f} |")
        if found == new.name:
            with Collection.open(path) as collection:
                collection.decompress()
    _start(path, given.codec).wait()
    if check(path, old, new) != new.name:
        raise SystemExit("The run after the kills did not compress the collection.")
    with Collection.open(path) as collection:
        collection.decompress()
    if check(path, old, new) != old.name or size(path) > smallest + _SPARE:
        raise SystemExit(f"After the kills and an undo, the folder has {size(path):,} bytes, not {smallest:,}.")
    say(f"After one more run and an undo: {old.name}, {size(path) / 1e6:.1f} MB.")


def fill(path: Path, encoder: str, embeddings: np.ndarray) -> np.ndarray:
    """Create a collection with these vectors, and return them in the order of ids."""
    with Collection.create(path, encoder) as collection:
        for begin in range(0, len(embeddings), _BATCH):
            part = embeddings[begin : begin + _BATCH]
            collection.store.upsert([Item(f"{begin + i:08}", "") for i in range(len(part))], part)
    return read(path)


def read(path: Path) -> np.ndarray:
    """Return all vectors of a collection in the order of ids."""
    with Collection.open(path) as collection:
        return collection.store.vectors([item.id for item in collection.store.scan()])


def check(path: Path, *states: State) -> str:
    """Return which of the states a collection is in; its searches must be those of the plain engine over its vectors."""
    vectors = read(path)
    for state in states:
        if np.array_equal(vectors, state.vectors):
            break
    else:
        raise SystemExit(f"{path} holds neither the old vectors nor the new codes.")
    with Collection.open(path) as collection:
        rows = np.linspace(0, len(vectors) - 1, _QUERIES).astype(int)
        answers = collection.search(item=[f"{row:08}" for row in rows], k=5)
        expected = search.knn(vectors[rows], vectors, 6, collection.metric)
        for row, answer, (found, distances) in zip(rows, answers, expected, strict=True):
            others = [float(d) for near, d in zip(found, distances, strict=True) if near != row][:5]
            if [hit.distance for hit in answer] != others:
                raise SystemExit(f"{path} answers otherwise than its vectors.")
    return state.name


def size(path: Path) -> int:
    """Return the bytes of all files of a collection, but those of the cache, which can be deleted."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and "cache" not in file.parts)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


def _start(path: Path, codec: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "lookalike", "compress", str(path), "--codec", codec]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


if __name__ == "__main__":
    main()
