"""Interleaved timing: contenders take turns, so that other load on the machine affects all of them alike."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.metric import Metric, paired

ROUNDS = 7
"""Turns of each contender."""
TURN = 0.03
"""Minimum seconds of a turn; a slower contender makes one call."""
SLOW = 0.5
"""A call that takes more seconds gets only `SLOW_ROUNDS` rounds, and only one warm-up."""
SLOW_ROUNDS = 3
MAX_CALLS = 1_000
"""Maximum calls of a turn."""

PROTOCOL = (
    f"Contenders take turns in {ROUNDS} rounds ({SLOW_ROUNDS} if a call takes over {SLOW} s); each round begins with the next"
    f" contender. A turn is one warm-up call, then calls with new queries for at least {1000 * TURN:.0f} ms. A time is the"
    " median of the rounds' median calls."
)

_PACKAGES = [
    "numpy",
    "faiss-cpu",
    "usearch",
    "hnswlib",
    "scikit-learn",
    "lancedb",
    "numkong",
    "fastdup",
    "onnxruntime",
    "threadpoolctl",
    "pyarrow",
]


@dataclass(frozen=True)
class Contender:
    """A function to time.

    Attributes:
        name: for tables.
        call: the function; it gets the number of the call, to choose its query.
        share: the share of the whole work that a call does; times are divided by it.
        note: a remark for tables.
    """

    name: str
    call: Callable[[int], object]
    share: float = 1.0
    note: str = ""


def interleaved(contenders: Sequence[Contender], rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Time contenders in turns, see `PROTOCOL`.

    Returns:
        For each contender ``name``, ``note`` and ``share``; the median ``ms`` of the whole work; ``low_ms`` and ``high_ms``,
        the fastest and the slowest round; and ``calls``, the number of timed calls.
    """
    times: list[list[float]] = [[] for _ in contenders]
    counted = [0] * len(contenders)
    for turn in range(rounds):
        for offset in range(len(contenders)):
            place = (turn + offset) % len(contenders)
            slow = bool(times[place]) and times[place][0] > SLOW
            if slow and len(times[place]) >= SLOW_ROUNDS:
                continue
            median, calls = _turn(contenders[place].call, counted[place], warm=not slow)
            times[place].append(median)
            counted[place] += calls
    return [
        {
            "name": contender.name,
            "note": contender.note,
            "share": contender.share,
            "ms": 1e3 * statistics.median(seconds) / contender.share,
            "low_ms": 1e3 * min(seconds) / contender.share,
            "high_ms": 1e3 * max(seconds) / contender.share,
            "calls": calls,
        }
        for contender, seconds, calls in zip(contenders, times, counted, strict=True)
    ]


def _turn(call: Callable[[int], object], number: int, *, warm: bool) -> tuple[float, int]:
    if warm:
        call(number)
    times: list[float] = []
    while not times or (sum(times) < TURN and len(times) < MAX_CALLS):
        begun = time.perf_counter()
        call(number + len(times))
        times.append(time.perf_counter() - begun)
    return statistics.median(times), len(times)


def recall(rows: np.ndarray, queries: np.ndarray, gallery: np.ndarray, farthest: np.ndarray, metric: Metric) -> float:
    """Compute recall at k: the share of the k answers that are not farther than the k-th nearest item.

    Args:
        rows: ``(q, k)``, the answers; -1 for a missing one.
        queries: ``(q, d)``.
        gallery: ``(n, d)``.
        farthest: distance of the k-th nearest item of each query, from `lookalike.search.knn`.
        metric: compares the vectors.
    """
    distances = paired(queries[:, None], gallery[np.maximum(rows, 0)], metric)
    right = (rows >= 0) & (distances <= farthest[:, None] * (1 + 1e-6))
    return float(right.mean())


def array_bytes(thing: object) -> int:
    """Count the bytes of the arrays in a dataclass and its nested dataclasses and tuples, each array once."""
    seen: dict[int, int] = {}

    def visit(value: object) -> None:
        if isinstance(value, np.ndarray):
            seen[id(value)] = value.nbytes
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                visit(getattr(value, name))
        elif isinstance(value, tuple):
            for one in value:
                visit(one)

    visit(thing)
    return sum(seen.values())


def environment(threads: int, data: str) -> dict[str, Any]:
    """Describe the time, the machine and the package versions of a measurement."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": dict(_versions(_PACKAGES)),
        "blas": _blas(),
        "threads": threads,
        "data": data,
    }


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for package in packages:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _blas() -> str:
    libraries = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{libraries['name']} {libraries['version']}"


def _commit() -> str:
    """Return the commit, with a + if the code has changed since."""
    root = Path(__file__).parent.parent
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--", "src/lookalike", "benchmarks/*.py")
    return _output("git", "-C", str(root), "rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
