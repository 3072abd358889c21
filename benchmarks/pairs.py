"""Self-joins by a range of distances, each contender in its own process so that its memory can be measured.

python benchmarks/pairs.py CONTENDER VECTORS.npy RADIUS [SHARE]       what such a process runs
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
from data import Source, say

from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import knn, self_join

ROWS, DIMENSION, PAIRS = 50_000, 512, 100_000
ROUNDS = 3
SLOW = 120.0
"""Seconds of a join beyond which a contender joins a share of the rows, scaled up."""
BRIEF = 10.0
"""Seconds that such a share takes."""
TRIAL = 0.004
"""Share of the rows that predicts the time of all rows, and the smallest measured share."""
LEFT = 1_000
"""Rows whose neighbours determine the radius."""

PROTOCOL = (
    f"{ROWS:,} vectors of {DIMENSION} numbers with themselves, at the radius that gives about {PAIRS:,} pairs. Each contender runs"
    f" in processes of its own, one for each of {ROUNDS} rounds in which they take turns; times are medians, without the loading of"
    " vectors and packages. Memory is the peak of the process less what it held with vectors and packages loaded. Peers give"
    " each pair twice and each row with itself, which is not counted. A contender that would take over"
    f" {SLOW:.0f} s asks for a share of the rows against all, scaled up; the table says which."
)


def lookalike(vectors: np.ndarray, radius: float, share: float) -> int:  # noqa: ARG001 -- always the whole
    """Count the pairs by lookalike, each once."""
    return sum(len(chunk) for chunk in self_join(vectors, Metric.EUCLIDEAN, within=DistanceRange(0, radius)))


def faiss(vectors: np.ndarray, radius: float, share: float) -> int:
    """Count the pairs by FAISS's IndexFlatL2.range_search, which takes squares."""
    import faiss  # noqa: PLC0415

    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    queries = vectors[: int(share * len(vectors))]
    limits, _, _ = index.range_search(queries, float(np.nextafter(np.float32(radius) ** 2, np.float32(np.inf))))
    return (int(limits[-1]) - len(queries)) // 2


def sklearn(vectors: np.ndarray, radius: float, share: float) -> int:
    """Count the pairs by scikit-learn's NearestNeighbors.radius_neighbors, by brute force."""
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    queries = vectors[: int(share * len(vectors))]
    model = NearestNeighbors(radius=radius, algorithm="brute", n_jobs=-1).fit(vectors)
    found = model.radius_neighbors(queries, return_distance=False)
    return (sum(len(rows) for rows in found) - len(queries)) // 2


def plain(vectors: np.ndarray, radius: float, share: float) -> int:
    """Count the pairs by NumPy as R5 wrote it: a row at a time."""
    queries = vectors[: int(share * len(vectors))]
    found = sum(int((np.linalg.norm(vectors - row, axis=1) <= radius).sum()) for row in queries)
    return (found - len(queries)) // 2


CONTENDERS: dict[str, Callable[[np.ndarray, float, float], int]] = {
    "lookalike": lookalike,
    "FAISS": faiss,
    "scikit-learn": sklearn,
    "NumPy": plain,
}
IMPORTS = {"FAISS": "faiss", "scikit-learn": "sklearn.neighbors"}


def compare(source: Source, rows: int = ROWS, dimension: int = DIMENSION, pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Time the joins of all contenders in turns."""
    vectors = source.gallery(rows, dimension)
    radius = radius_of(vectors, pairs)
    say(f"  {rows:,} × {dimension}, radius {radius:.4f}")
    shares: dict[str, float] = {}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    with peers.workplace() as folder:
        path = folder / "vectors.npy"
        np.save(path, vectors)
        for name in CONTENDERS:
            shares[name] = 1.0 if name == "lookalike" else _share(name, path, radius)
        for _ in range(ROUNDS):
            for name, its in runs.items():
                its.append(_run(name, path, radius, shares[name]))
    contenders = [
        {
            "name": name,
            "share": shares[name],
            "seconds": statistics.median(run["seconds"] for run in its) / shares[name],
            "low_seconds": min(run["seconds"] for run in its) / shares[name],
            "high_seconds": max(run["seconds"] for run in its) / shares[name],
            "pairs": its[0]["pairs"],
            "bytes": max(run["bytes"] for run in its),
        }
        for name, its in runs.items()
        if all("seconds" in run for run in its)
    ]
    for it in contenders:
        say(f"  {it['name']}: {it['seconds']:.1f} s, {it['pairs']:,} pairs, {it['bytes'] / 1e6:.0f} MB")
    return [{"rows": rows, "dimension": dimension, "radius": radius, "bytes": vectors.nbytes, "contenders": contenders}]


def _share(name: str, path: Path, radius: float) -> float:
    """Return the share of the rows that a contender joins: all rows if that takes at most `SLOW` seconds.

    Few rows take more time each than many, as some contenders look at them in another way: so it tries more and more.
    """
    share = TRIAL
    while True:
        seconds: float = _run(name, path, radius, share).get("seconds", 0.0)
        if seconds / share < SLOW:
            return 1.0
        if 4 * seconds > BRIEF:
            return max(TRIAL, share * BRIEF / seconds)
        share *= 4


def radius_of(vectors: np.ndarray, pairs: int) -> float:
    """Find a radius that gives about this number of pairs, from the distances of some rows to all."""
    left = min(LEFT, len(vectors))
    count = max(1, round(2 * pairs / len(vectors) * left))
    k = min(len(vectors), max(64, 32 * count // left + 2))
    rows = np.linspace(0, len(vectors) - 1, left).astype(int)
    distances = knn(vectors[rows], vectors, k, Metric.EUCLIDEAN).distances.reshape(left, k)[:, 1:]
    ordered = np.sort(distances, axis=None)
    # Between two distances, where rounding moves no pair across the radius.
    return float(ordered[min(count, len(ordered)) - 1] + ordered[min(count, len(ordered) - 1)]) / 2


def _run(name: str, path: Path, radius: float, share: float) -> dict[str, Any]:
    command = [sys.executable, __file__, name, str(path), str(radius), str(share)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        say(f"  without {name}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return {}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _alone(name: str, path: str, radius: str, share: str = "1") -> dict[str, Any]:
    peers.limit_threads(peers.threads())
    if name in IMPORTS:
        __import__(IMPORTS[name])
    vectors = np.load(path)
    before = _memory("VmRSS")
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    begun = time.perf_counter()
    found = CONTENDERS[name](vectors, float(radius), float(share))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "pairs": found, "bytes": max(0, _memory("VmHWM") - before)}


def _memory(field: str) -> int:
    """Return the current or the peak bytes in memory; without /proc, the peak of the process."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_alone(*sys.argv[1:])) + "\n")
