"""Measure the distances that a pivot table saves, and its time against a scan, by intrinsic dimension.

    python benchmarks/pivots.py --data data/cifar10          prints tables; --json the same figures

The vectors are uniform points of a cube of few dimensions, rotated into 128 numbers, which have a known intrinsic dimension,
and real embeddings of `data.py` with 128, 512 and 2,048 numbers. Queries are from the same source, with k = 10.

- *share*: the share of all distances that a query still measures, including those to the pivots.
- *floor*: a matrix-vector product over the vectors, which is the scan of one query without its answer.
- *scan*: `search.knn` in float32 without the table, which gives the same answers.

Pivots are chosen by incremental selection, so the first 4 of 64 are also the choice for 4 pivots.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import Source, source
from measuring import Contender, environment, interleaved
from rich.console import Console
from rich.table import Table

from lookalike.metric import Metric, paired
from lookalike.search import Gallery, knn, prepare
from lookalike.search.bounds import measure as measure_pairs
from lookalike.search.prefilters import pivots
from lookalike.search.prefilters.pivots import PivotTable

ROWS = 50_000
CUBES = [1, 2, 4, 6, 8, 12, 16, 32]
NUMBERS = 128
DIMENSIONS = [128, 512, 2_048]
PIVOTS = [4, 8, 16, 32, 64]
TIMED = [4, 16, 64]
ASKED = 30
K = 10
SAMPLE = 5_000


def cube(dimension: int, rows: int) -> np.ndarray:
    """Draw points uniformly in a cube, as vectors of `NUMBERS` numbers with the same distances."""
    rng = np.random.default_rng(dimension)
    turn = np.linalg.qr(rng.standard_normal((NUMBERS, dimension)))[0].T
    return np.asarray(rng.random((rows, dimension)) @ turn, np.float32)


def measure(real: Source, rows: int = ROWS) -> dict[str, Any]:
    """Measure everything: one entry for each kind of vectors, and the costs that `pivots.estimate` uses."""
    euclidean = Metric.EUCLIDEAN
    figures = []
    for dimension in CUBES:
        both = cube(dimension, rows + ASKED)
        figures.append(_figures(f"cube of {dimension}", both[:rows], both[rows:], euclidean))
    for dimension in DIMENSIONS:
        gallery, queries = real.gallery(rows, dimension), real.queries(ASKED, dimension)
        figures.append(_figures(f"{real.name}, {dimension}", gallery, queries, euclidean))
    costs = {name: float(np.median([f[name] for f in figures[-len(DIMENSIONS) :]])) for name in ("table", "measuring")}
    return {"rows": rows, "k": K, "figures": figures, "costs": costs}


def _figures(name: str, vectors: np.ndarray, queries: np.ndarray, metric: Metric) -> dict[str, Any]:
    gallery, prepared = prepare(vectors, metric), prepare(queries, metric)
    whole = pivots.build(gallery, metric, max(PIVOTS))
    tables = {p: PivotTable(whole.pivots[:p], whole.distances[:p], metric) for p in PIVOTS}
    rows = np.random.default_rng(0).choice(len(vectors), min(SAMPLE, len(vectors)), replace=False)
    estimate = pivots.estimate(gallery.take(rows), metric)
    contenders = [
        Contender("floor", lambda i: vectors @ queries[i % ASKED]),
        Contender("scan", lambda i: knn(queries[i % ASKED][None], gallery, K, metric)),
        *(Contender(str(p), _searching(queries, gallery, tables[p])) for p in TIMED),
    ]
    times = {one["name"]: one["ms"] for one in interleaved(contenders)}
    reach = knn(prepared, gallery, K, metric).distances.reshape(-1, K)[:, -1]
    chosen = {
        "incremental": tables[16],
        "separation": _table_of(vectors[_separated(vectors, 16)], gallery, metric),
        "random": _table_of(vectors[np.random.default_rng(1).choice(len(vectors), 16, replace=False)], gallery, metric),
    }

    def share(table: PivotTable) -> float:
        return float(pivots.count_measured(gallery, prepared, table, reach).mean()) / len(gallery)

    return {
        "name": name,
        "numbers": vectors.shape[1],
        "intrinsic_dimension": estimate.intrinsic_dimension,
        "estimated_share": estimate.share,
        "pays": estimate.pays,
        "share": {str(p): share(table) for p, table in tables.items()},
        "selection": {how: share(table) for how, table in chosen.items()},
        "ms": times,
        **_costs(prepared.take(slice(0, 1)), gallery, whole, times["floor"] / vectors.size),
    }


def _searching(queries: np.ndarray, gallery: Gallery, table: PivotTable) -> Callable[[int], object]:
    with_table = replace(gallery, prefilters=(table,))
    return lambda i: knn(queries[i % ASKED][None], with_table, K, table.metric)


def _costs(query: Gallery, gallery: Gallery, table: PivotTable, floor: float) -> dict[str, float]:
    """Measure the time of a number of the table, and of one measured by definition, over that of one in a scan."""
    rows, everything = np.random.default_rng(0).choice(len(gallery), 1_000, replace=False), slice(0, len(gallery))
    zeros = np.zeros_like(rows)
    both = interleaved(
        [
            Contender("table", lambda _: table.bind(query).compare(everything)),
            Contender("measuring", lambda _: measure_pairs(query, gallery, zeros, rows, table.metric)),
        ]
    )
    sizes = {"table": table.distances.size, "measuring": 1_000 * gallery.vectors.shape[1]}
    return {one["name"]: one["ms"] / sizes[one["name"]] / floor for one in both}


def _separated(vectors: np.ndarray, count: int) -> np.ndarray:
    """Choose pivots as LAESA does: each has the largest sum of distances to the earlier ones; the first is arbitrary."""
    chosen = [0]
    sums = np.zeros(len(vectors))
    while len(chosen) < count:
        sums += paired(vectors[chosen[-1]], vectors, Metric.EUCLIDEAN)
        sums[chosen] = -1
        chosen.append(int(sums.argmax()))
    return np.array(chosen)


def _table_of(chosen: np.ndarray, gallery: Gallery, metric: Metric) -> PivotTable:
    distances = np.stack([paired(pivot, gallery.array, metric) for pivot in chosen]).astype(np.float32)
    return PivotTable(chosen, distances, metric)


def show(result: dict[str, Any], console: Console) -> None:
    """Print tables."""
    shares = Table(title=f"Share of distances measured, {result['rows']:,} rows, k = {K}, by the number of pivots")
    for column in ("vectors", "ρ", *map(str, PIVOTS), "16 separated", "16 random"):
        shares.add_column(column, justify="left" if column == "vectors" else "right")
    times = Table(title="Milliseconds of a query")
    for column in ("vectors", "ρ", "floor", "scan", *(f"{p} pivots" for p in TIMED), "16 pay, by estimate"):
        times.add_column(column, justify="left" if column == "vectors" else "right")
    for one in result["figures"]:
        name, dimension = one["name"], f"{one['intrinsic_dimension']:.1f}"
        others = (one["selection"]["separation"], one["selection"]["random"])
        shares.add_row(name, dimension, *(f"{s:.2%}" for s in (*one["share"].values(), *others)))
        times.add_row(name, dimension, *(f"{ms:.2f}" for ms in one["ms"].values()), "yes" if one["pays"] else "no")
    console.print(shares, times)
    costs = result["costs"]
    console.print(f"A number of the table takes {costs['table']:.1f} times as long as one of a vector in a scan,")
    console.print(f"one that is measured by definition {costs['measuring']:.1f} times.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of images; the toy shop's products if not given")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    chosen = parser.parse_args()
    real = source(chosen.data)
    result = measure(real, chosen.rows) | {"environment": environment(0, real.name)}
    console = Console()
    if chosen.json:
        console.print_json(json.dumps(result))
    else:
        show(result, console)


if __name__ == "__main__":
    main()
