"""Compare exact search with another checkout of lookalike: the same work, in turns.

    python benchmarks/against.py ../before/src            # the folder with the other `lookalike` package
    python benchmarks/against.py ../before/src --quick    # without the sizes that take minutes

Two processes, one with each checkout, take turns, so that other load of the machine hits both alike. Prints the median
milliseconds of each case and their ratio; below 1 this checkout is faster. The vectors are clusters in 24 dimensions, turned
into more, with a little noise, as embeddings are.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent.parent / "src"
SIZES = [(14_660, 64), (14_660, 512), (14_660, 2_048), (100_000, 512), (1_000_000, 128)]
QUICK = 20_000_000
"""Numbers in the vectors of a quick run, at most."""
BATCH, NEIGHBOURS = 256, 10
JOINED = 50_000, 512
ROUNDS = 7


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the folder with the other package `lookalike`")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return
    cases = [
        (kind, rows, columns, precision)
        for rows, columns in SIZES
        for precision in ("float32", "int8")
        for kind in ("single", "batch")
    ]
    cases.append(("selfjoin", *JOINED, "float32"))
    workers = [start(folder.resolve()) for folder in (HERE, options.other)]
    sys.stdout.write(f"{'case':38}{'this ms':>10}{'other ms':>10}{'ratio':>8}\n")
    for case in cases:
        if options.quick and case[1] * case[2] > QUICK:
            continue
        for worker in workers:
            ask(worker, ["prepare", *case])
        times = [[ask(worker, ["run"]) for worker in workers] for _ in range(ROUNDS)]
        this, other = (statistics.median(column) for column in zip(*times, strict=True))
        kind, rows, columns, precision = case
        name = f"{kind} {rows:,} × {columns:,} {precision}"
        sys.stdout.write(f"{name:38}{this:10.2f}{other:10.2f}{this / other:8.2f}\n")
        sys.stdout.flush()
    for worker in workers:
        worker.terminate()


def start(folder: Path) -> "subprocess.Popen[str]":
    """Start a process that uses the package in a folder."""
    command = [sys.executable, __file__, str(folder), "--work"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.Popen(  # noqa: S603 -- this file
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(worker: "subprocess.Popen[str]", message: list[Any]) -> float:
    """Have a process do something; return what it measured."""
    if worker.stdin is None or worker.stdout is None:
        raise AssertionError
    worker.stdin.write(json.dumps(message) + "\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def work() -> None:
    """Answer `ask`, in a process of its own."""
    run: Callable[[], object] = list
    for line in sys.stdin:
        message = json.loads(line)
        took = 0.0
        if message[0] == "prepare":
            run = prepare(*message[1:])
            run()  # fills the caches
        else:
            runs, began = 0, time.perf_counter()
            while took < 0.2:  # noqa: PLR2004 -- a fifth of a second of it
                run()
                runs, took = runs + 1, time.perf_counter() - began
            took /= runs
        sys.stdout.write(f"{1000 * took}\n")
        sys.stdout.flush()


def prepare(kind: str, rows: int, columns: int, precision: str) -> Callable[[], object]:
    """Make vectors, and return the work on them."""
    from lookalike import search  # noqa: PLC0415 -- this process's own
    from lookalike.metric import Metric  # noqa: PLC0415 -- as above

    vectors, queries = make_vectors(rows + BATCH, columns)[BATCH:], make_vectors(rows + BATCH, columns)[:BATCH]
    gallery: Any = search.prepare(vectors, Metric.EUCLIDEAN, precision)  # type: ignore[arg-type]  # read from JSON
    if kind == "selfjoin":
        distances = np.sort(search.knn(queries, gallery, 2, Metric.EUCLIDEAN).distances[1::2])
        radius = float(distances[len(distances) // 2])
        try:
            from lookalike.query import DistanceRange  # noqa: PLC0415 -- not in older checkouts
        except ImportError:
            return lambda: [len(c) for c in search.self_join(gallery, Metric.EUCLIDEAN, radius=radius)]  # type: ignore[call-arg]  # as it was
        return lambda: [len(c) for c in search.self_join(gallery, Metric.EUCLIDEAN, within=DistanceRange(0, radius))]
    asked = queries[:1] if kind == "single" else queries
    return lambda: search.knn(asked, gallery, NEIGHBOURS, Metric.EUCLIDEAN)


def make_vectors(rows: int, columns: int) -> np.ndarray:
    """Make unit vectors in clusters, the same each time."""
    rng = np.random.default_rng(0)
    inner = 24
    centres = rng.standard_normal((rows // 50 + 1, inner))
    points = centres[rng.integers(0, len(centres), rows)] + 0.3 * rng.standard_normal((rows, inner))
    vectors = (points @ rng.standard_normal((inner, columns))).astype(np.float32)
    vectors += 0.05 * np.sqrt(inner) * rng.standard_normal((rows, columns), np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


if __name__ == "__main__":
    main()
