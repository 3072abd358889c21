"""Exact search: floats, one query and 256; bits, one query and 256."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import peers
from data import Source, say
from measuring import Contender, array_bytes, interleaved, recall
from peers import Search

from lookalike.metric import Metric
from lookalike.search import Gallery, knn, prepare

SIZES = ((14_660, 64), (14_660, 512), (14_660, 1_024), (14_660, 2_048), (100_000, 512), (1_000_000, 128))
CODES = tuple((rows, bits) for rows in (14_660, 1_000_000) for bits in (128, 512, 2_048))
K = 10
QUERIES = 256
"""Queries of a batch, and of the single-query timings."""

LONG = 2.0
"""Maximum seconds of a call of a batch; of a slower one, a share is measured."""
UNPACKED = 10**9
"""Maximum bytes of codes at one byte a bit; above, NumPy as in R4 is skipped."""
CHECKED = 8
"""Number of queries whose answers are checked."""
PRODUCT = 2_048
"""Side of the square matrices whose product gives the peak of arithmetic."""
FLOOR = "floor"


def single(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Measure the search for the 10 nearest of one query."""
    return [_floats(source, rows, dimension, 1) for rows, dimension in sizes]


def batch(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Measure the search for the 10 nearest of 256 queries in one call."""
    return [_floats(source, rows, dimension, QUERIES) for rows, dimension in sizes]


def bits(source: Source, sizes: Iterable[tuple[int, int]] = CODES) -> list[dict[str, Any]]:
    """Measure the search for the 10 codes with the fewest differing bits, of one query and of 256."""
    cases = []
    for rows, length in sizes:
        codes, queries = source.codes(rows, length), source.query_codes(QUERIES, length)
        gallery = prepare(codes, Metric.HAMMING)
        made: dict[str, Callable[[], Search]] = {
            "lookalike": partial(_lookalike, gallery, Metric.HAMMING),
            "FAISS": partial(peers.faiss_binary, codes, K),
            "USearch": partial(peers.usearch_exact, codes, K),
            "NumPy": partial(peers.numpy_bits, codes, K),
        }
        notes = {"NumPy": "unpacked, a byte for each bit, as R4"}
        if rows * length > UNPACKED:
            del made["NumPy"]
        searches = _installed(made)
        recalls = _check(searches, queries, gallery, Metric.HAMMING)
        for count in (1, QUERIES):
            floors = [_reading(codes.nbytes)] if count == 1 else []
            contenders = _time(searches, queries, count, floors, notes)
            case = {"contenders": [{**it, "recall": recalls.get(it["name"])} for it in contenders]}
            cases.append({"rows": rows, "dimension": length, "queries": count, "bytes": codes.nbytes, **case})
            say(_line(cases[-1]))
    return cases


def _floats(source: Source, rows: int, dimension: int, count: int) -> dict[str, Any]:
    vectors, queries = source.gallery(rows, dimension), source.queries(QUERIES, dimension)
    plain = prepare(vectors, Metric.EUCLIDEAN)
    condensed = prepare(vectors, Metric.EUCLIDEAN, precision="int8")
    with peers.workplace() as folder:
        made: dict[str, Callable[[], Search]] = {
            "lookalike": lambda: _lookalike(plain, Metric.EUCLIDEAN),
            "lookalike, condensed": lambda: _lookalike(condensed, Metric.EUCLIDEAN),
            "FAISS": lambda: peers.faiss_flat(vectors, K),
            "scikit-learn": lambda: peers.sklearn_brute(vectors, K),
            "hnswlib": lambda: peers.hnswlib_brute(vectors, K),
            "USearch": lambda: peers.usearch_exact(vectors, K),
            "LanceDB": lambda: peers.lancedb_search(peers.lancedb_table(vectors, folder), K),
            "NumPy": lambda: peers.numpy_floats(vectors, K),
        }
        notes = {"LanceDB": "on disk, in the page cache", "lookalike, condensed": "answers equal to float32's"}
        floors = [Contender(FLOOR, lambda i: vectors @ queries[i % QUERIES])] if count == 1 else [_product()]
        searches = _installed(made)
        recalls = _check(searches, queries, plain, Metric.EUCLIDEAN)
        contenders = _time(searches, queries, count, floors, notes)
    case: dict[str, Any] = {"contenders": [{**it, "recall": recalls.get(it["name"])} for it in contenders]}
    if count > 1:  # the peak, scaled to the operations of this batch
        floor = case["contenders"][0]
        operations, scale = 2 * count * rows * dimension, count * rows * dimension / PRODUCT**3
        floor.update({key: floor[key] * scale for key in ("ms", "low_ms", "high_ms")})
        case["gflops"] = operations / floor["ms"] / 1e6
    case = {"rows": rows, "dimension": dimension, "queries": count, "bytes": vectors.nbytes, **case}
    case["held_bytes"] = {"lookalike": array_bytes(plain), "lookalike, condensed": array_bytes(condensed)}
    say(_line(case))
    return case


def _check(searches: dict[str, Search], queries: np.ndarray, gallery: Gallery, metric: Metric) -> dict[str, float]:
    """Measure the recall of each contender on some queries."""
    few = queries[:CHECKED]
    farthest = knn(few, gallery, K, metric).distances.reshape(len(few), K)[:, -1]
    return {
        name: recall(np.asarray(search(few)).astype(np.int64), few, gallery.array, farthest, metric)
        for name, search in searches.items()
    }


def _time(
    searches: dict[str, Search], queries: np.ndarray, count: int, floors: list[Contender], notes: dict[str, str]
) -> list[dict[str, Any]]:
    """Time all contenders in turns."""
    contenders = [
        Contender(name, *_call(search, queries, count), notes.get(name, "")) for name, search in searches.items()
    ]
    return interleaved([*floors, *contenders])


def _call(search: Search, queries: np.ndarray, count: int) -> tuple[Callable[[int], object], float]:
    """Return the call to time, and the share of the work that it does."""
    if count == 1:
        return lambda i: search(queries[i % len(queries)][None]), 1.0
    begun = time.perf_counter()
    search(queries[:CHECKED])
    a_query = (time.perf_counter() - begun) / CHECKED
    some = count if a_query * count < 2 * LONG else max(CHECKED, int(LONG / a_query))
    return lambda _: search(queries[:some]), some / count


def _lookalike(gallery: Gallery, metric: Metric) -> Search:
    return lambda queries: knn(queries, gallery, K, metric).rows.reshape(len(queries), K)


def _installed(makers: dict[str, Callable[[], Search]]) -> dict[str, Search]:
    """Make the contenders whose packages are installed."""
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except ModuleNotFoundError as missing:
            say(f"  without {name}: {missing}")
    return made


def _reading(size: int) -> Contender:
    """Make the floor of one query: a BLAS matrix-vector product over a number of bytes, which only reads them."""
    matrix, vector = np.ones((max(1, size // 512), 128), np.float32), np.ones(128, np.float32)
    return Contender(FLOOR, lambda _: matrix @ vector)


def _product() -> Contender:
    """Make the floor of a batch: a BLAS product of two square matrices, for the peak of the arithmetic."""
    left, right = (np.ones((PRODUCT, PRODUCT), np.float32) for _ in range(2))
    return Contender(FLOOR, lambda _: left @ right)


def _line(case: dict[str, Any]) -> str:
    times = ", ".join(f"{it['name']} {it['ms']:.3g}" for it in case["contenders"])
    return f"  {case['rows']:,} × {case['dimension']}, {case['queries']} queries, ms: {times}"
