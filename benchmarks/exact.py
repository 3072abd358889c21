"""Exact search against the machine's own limits: memory for one query, arithmetic for a batch.

``python benchmarks/exact.py`` prints a table, ``--json`` the same figures as JSON. A ratio of 1 is the limit. For one
query the limit is a plain matrix-vector product over the same bytes, which does nothing but read them; for a batch it
is a plain matrix product in float32.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from lookalike.metric import Metric
from lookalike.search import knn, prepare

SIZES = [(14_660, 64), (14_660, 512), (14_660, 2_048), (100_000, 512)]
BATCH = 256


@dataclass(frozen=True)
class Figure:
    """One search, measured: times are medians, in milliseconds."""

    metric: str
    rows: int
    dimension: int
    queries: int
    limit_ms: float
    search_ms: float
    ratio: float
    rate: float
    """The limit, as GB/s read for one query and as GFLOP/s for a batch."""


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median time, after one run that fills the caches."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def measure(metric: Metric, rows: int, dimension: int, queries: int, *, k: int, repeats: int) -> Figure:
    """Time the k nearest of so many queries, and the limit."""
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((rows, dimension), np.float32)
    asked = rng.standard_normal((queries, dimension), np.float32)
    prepared = prepare(gallery, metric)
    limit = median_ms(lambda: asked @ gallery.T, repeats)
    search = median_ms(lambda: knn(asked, prepared, k, metric), repeats)
    work = gallery.nbytes if queries == 1 else 2 * queries * rows * dimension
    return Figure(metric, rows, dimension, queries, limit, search, search / limit, work / limit / 1e6)


def main() -> None:
    """Measure every size with one query and with a batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metric", choices=["euclidean", "cosine"], default="euclidean")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    figures = [
        measure(Metric.parse(chosen.metric), rows, dimension, queries, k=chosen.k, repeats=chosen.repeats)
        for rows, dimension in SIZES
        for queries in (1, BATCH)
    ]
    console = Console()
    if chosen.json:
        console.print_json(json.dumps([asdict(figure) for figure in figures]))
        return
    table = Table("rows", "dimension", "queries", "limit, ms", "search, ms", "ratio", "limit", title=chosen.metric)
    for it in figures:
        rate = f"{it.rate:.0f} {'GB/s' if it.queries == 1 else 'GFLOP/s'}"
        times = f"{it.limit_ms:.2f}", f"{it.search_ms:.2f}", f"{it.ratio:.2f}"
        table.add_row(f"{it.rows:,}", f"{it.dimension:,}", str(it.queries), *times, rate)
    console.print(table)


if __name__ == "__main__":
    main()
