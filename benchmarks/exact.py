"""Measure exact search against the machine's limits: memory for one query, arithmetic for a batch.

``python benchmarks/exact.py`` prints a table, ``--json`` the same figures as JSON. A ratio of 1 is the limit. For one
query the limit is a plain matrix-vector product over the vectors' bytes, which does nothing but read them, and a scan in
fewer bytes may go below it; for a batch it is a plain matrix product in float32. The vectors are those of ``data.py``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import data
from rich.console import Console
from rich.table import Table

from lookalike.metric import Metric
from lookalike.search import Precision, knn, prepare

SIZES = [(14_660, 64), (14_660, 512), (14_660, 1_024), (14_660, 2_048), (100_000, 512), (1_000_000, 128)]
BATCH = 256


@dataclass(frozen=True)
class Figure:
    """The measurement of one search: median times, in milliseconds."""

    metric: str
    scan: str
    rows: int
    dimension: int
    queries: int
    limit_ms: float
    search_ms: float
    ratio: float
    rate: float
    """The limit, as GB/s read for one query and as GFLOP/s for a batch."""


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Measure the median time, after one run that fills the caches."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def measure(
    source: data.Source, metric: Metric, rows: int, dimension: int, *, k: int, repeats: int
) -> Iterator[Figure]:
    """Time the k nearest of one query by each scan, those of a batch, and the limits."""
    gallery, asked = source.gallery(rows, dimension), source.queries(BATCH, dimension)
    for scan in get_args(Precision):
        prepared = prepare(gallery, metric, scan)
        for queries in (1, BATCH) if scan == "float32" else (1,):
            some = asked[:queries]
            limit = median_ms(lambda some=some: some @ gallery.T, repeats)
            search = median_ms(lambda some=some, it=prepared: knn(some, it, k, metric), repeats)
            work = gallery.nbytes if queries == 1 else 2 * queries * rows * dimension
            rate = work / limit / 1e6
            yield Figure(metric, scan, rows, dimension, queries, limit, search, search / limit, rate)


def main() -> None:
    """Measure every size, scan and number of queries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metric", choices=["euclidean", "cosine"], default="euclidean")
    parser.add_argument("--data", type=Path, help="images to describe; without it the toy shop's")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    source, metric = data.source(chosen.data), Metric.parse(chosen.metric)
    figures = [
        figure
        for rows, dimension in SIZES
        for figure in measure(source, metric, rows, dimension, k=chosen.k, repeats=chosen.repeats)
    ]
    console = Console()
    if chosen.json:
        console.print_json(json.dumps([asdict(figure) for figure in figures]))
        return
    table = Table(
        "rows", "dimension", "queries", "scan", "limit, ms", "search, ms", "ratio", "limit", title=chosen.metric
    )
    for it in figures:
        rate = f"{it.rate:.0f} {'GB/s' if it.queries == 1 else 'GFLOP/s'}"
        times = f"{it.limit_ms:.2f}", f"{it.search_ms:.2f}", f"{it.ratio:.2f}"
        table.add_row(f"{it.rows:,}", f"{it.dimension:,}", str(it.queries), it.scan, *times, rate)
    console.print(table)


if __name__ == "__main__":
    main()
