"""Times that compare: contenders take turns, so that what else the machine does hits all of them alike."""

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
TURN = 0.03
"""Seconds that a contender has in a round, at least; one call where that takes longer."""
SLOW = 0.5
"""Seconds of a call beyond which a contender has only `SLOW_ROUNDS` rounds, and no warm-up but the first."""
SLOW_ROUNDS = 3
CALLS = 1_000

PROTOCOL = (
    f"Contenders take turns, {ROUNDS} rounds ({SLOW_ROUNDS} where a call takes over {SLOW} s), in an order that goes round. A"
    f" turn is one call that is not counted, then calls with new queries for {1000 * TURN:.0f} ms or more. A time is the"
    " median over the rounds of a round's median call."
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
    """Something that is timed.

    Attributes:
        name: what a table calls it.
        call: what is timed; it gets the number of the call, by which it chooses its query.
        share: the part of the whole work that a call does; its time is divided by this.
        note: what a table must say of it.
    """

    name: str
    call: Callable[[int], object]
    share: float = 1.0
    note: str = ""


def interleaved(contenders: Sequence[Contender], rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Time contenders in turns, see `PROTOCOL`.

    Returns:
        For each ``name``, ``note``, ``share``, the median ``ms`` of a call that did all the work, the fastest and the slowest
        round ``low_ms`` and ``high_ms``, and how many ``calls`` were counted.
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
            "name": one.name,
            "note": one.note,
            "share": one.share,
            "ms": 1e3 * statistics.median(its) / one.share,
            "low_ms": 1e3 * min(its) / one.share,
            "high_ms": 1e3 * max(its) / one.share,
            "calls": calls,
        }
        for one, its, calls in zip(contenders, times, counted, strict=True)
    ]


def _turn(call: Callable[[int], object], number: int, *, warm: bool) -> tuple[float, int]:
    if warm:
        call(number)
    times: list[float] = []
    while not times or (sum(times) < TURN and len(times) < CALLS):
        begun = time.perf_counter()
        call(number + len(times))
        times.append(time.perf_counter() - begun)
    return statistics.median(times), len(times)


def recall(found: np.ndarray, queries: np.ndarray, gallery: np.ndarray, farthest: np.ndarray, metric: Metric) -> float:
    """Share of the k answers that are no farther than the k-th nearest: recall at k, any of several equally far ones right.

    Args:
        found: rows ``(q, k)``; -1 where there was none.
        queries: ``(q, d)``.
        gallery: ``(n, d)``.
        farthest: distance of the k-th nearest of each query, as `lookalike.search.knn` gives it.
        metric: what they are compared with.
    """
    distances = paired(queries[:, None], gallery[np.maximum(found, 0)], metric)
    right = (found >= 0) & (distances <= farthest[:, None] * (1 + 1e-6))
    return float(right.mean())


def held(thing: object) -> int:
    """Bytes of the arrays of a dataclass, and of the dataclasses in it, each array counted once."""
    seen: dict[int, int] = {}

    def visit(value: object) -> None:
        if isinstance(value, np.ndarray):
            seen[id(value)] = value.nbytes
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                visit(getattr(value, name))

    visit(thing)
    return sum(seen.values())


def environment(threads: int, data: str) -> dict[str, Any]:
    """Where and when something was measured, and with what."""
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
    """The commit; a + behind it says that the code has changed since."""
    root = Path(__file__).parent.parent
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--", "src/lookalike", "benchmarks/*.py")
    return _output("git", "-C", str(root), "rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
