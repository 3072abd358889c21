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
ASKED = 256
"""Queries there are: of a batch, or one by one."""

LONG = 2.0
"""Seconds that a call of a batch may take; of what would take longer, a share is measured."""
UNPACKED = 10**9
"""Bytes that codes may take at one byte a bit; NumPy as R4 wrote it is left out beyond."""
CHECKED = 8
"""Queries by which answers are checked."""
PRODUCT = 2_048
"""Side of the square matrices whose product gives the peak of arithmetic."""
FLOOR = "floor"


def single(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """The 10 nearest of one query."""
    return [_floats(source, rows, dimension, 1) for rows, dimension in sizes]


def batch(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """The 10 nearest of 256 queries in one call."""
    return [_floats(source, rows, dimension, ASKED) for rows, dimension in sizes]


def bits(source: Source, sizes: Iterable[tuple[int, int]] = CODES) -> list[dict[str, Any]]:
    """The 10 codes with the fewest differing bits, of one query and of 256."""
    cases = []
    for rows, length in sizes:
        codes, queries = source.codes(rows, length), source.query_codes(ASKED, length)
        ours = prepare(codes, Metric.HAMMING)
        made: dict[str, Callable[[], Search]] = {
            "lookalike": partial(_ours, ours, Metric.HAMMING),
            "FAISS": partial(peers.faiss_binary, codes, K),
            "USearch": partial(peers.usearch_exact, codes, K),
            "NumPy": partial(peers.numpy_bits, codes, K),
        }
        notes = {"NumPy": "unpacked, a byte for each bit, as R4"}
        if rows * length > UNPACKED:
            del made["NumPy"]
        searches = _made(made)
        for asked in (1, ASKED):
            floors = [_reading(codes.nbytes)] if asked == 1 else []
            case = _case(searches, queries, notes=notes, asked=asked, floors=floors, gallery=ours)
            cases.append({"rows": rows, "dimension": length, "queries": asked, "bytes": codes.nbytes, **case})
            say(_line(cases[-1]))
    return cases


def _floats(source: Source, rows: int, dimension: int, asked: int) -> dict[str, Any]:
    vectors, queries = source.gallery(rows, dimension), source.queries(ASKED, dimension)
    plain = prepare(vectors, Metric.EUCLIDEAN)
    reduced = prepare(vectors, Metric.EUCLIDEAN, precision="int8")
    with peers.workplace() as folder:
        made: dict[str, Callable[[], Search]] = {
            "lookalike": lambda: _ours(plain, Metric.EUCLIDEAN),
            "lookalike, condensed": lambda: _ours(reduced, Metric.EUCLIDEAN),
            "FAISS": lambda: peers.faiss_flat(vectors, K),
            "scikit-learn": lambda: peers.sklearn_brute(vectors, K),
            "hnswlib": lambda: peers.hnswlib_brute(vectors, K),
            "USearch": lambda: peers.usearch_exact(vectors, K),
            "LanceDB": lambda: peers.lancedb_search(peers.lancedb_table(vectors, folder), K),
            "NumPy": lambda: peers.numpy_floats(vectors, K),
        }
        notes = {"LanceDB": "on disk, in the page cache", "lookalike, condensed": "answers equal to float32's"}
        floors = [Contender(FLOOR, lambda i: vectors @ queries[i % ASKED])] if asked == 1 else [_product()]
        case = _case(_made(made), queries, notes=notes, asked=asked, floors=floors, gallery=plain)
    if asked > 1:  # the peak, scaled to the operations of this batch
        floor = case["contenders"][0]
        operations, scale = 2 * asked * rows * dimension, asked * rows * dimension / PRODUCT**3
        floor.update({key: floor[key] * scale for key in ("ms", "low_ms", "high_ms")})
        case["gflops"] = operations / floor["ms"] / 1e6
    whole = {"rows": rows, "dimension": dimension, "queries": asked, "bytes": vectors.nbytes, **case}
    whole["held_bytes"] = {"lookalike": array_bytes(plain), "lookalike, condensed": array_bytes(reduced)}
    say(_line(whole))
    return whole


def _case(
    searches: dict[str, Search],
    queries: np.ndarray,
    *,
    notes: dict[str, str],
    asked: int,
    floors: list[Contender],
    gallery: Gallery,
) -> dict[str, Any]:
    """Check the answers of all contenders, then time them."""
    metric = Metric.HAMMING if gallery.vectors.dtype == np.uint8 else Metric.EUCLIDEAN
    few = queries[:CHECKED]
    farthest = knn(few, gallery, K, metric).distances.reshape(len(few), K)[:, -1]
    right = {
        name: recall(np.asarray(search(few)).astype(np.int64), few, gallery.vectors, farthest, metric)
        for name, search in searches.items()
    }
    contenders = [
        Contender(name, *_call(search, queries, asked), notes.get(name, "")) for name, search in searches.items()
    ]
    figures = interleaved([*floors, *contenders])
    return {"contenders": [{**figure, "recall": right.get(figure["name"])} for figure in figures]}


def _call(search: Search, queries: np.ndarray, asked: int) -> tuple[Callable[[int], object], float]:
    """What is timed, and which share of the work that is."""
    if asked == 1:
        return lambda i: search(queries[i % len(queries)][None]), 1.0
    begun = time.perf_counter()
    search(queries[:CHECKED])
    a_query = (time.perf_counter() - begun) / CHECKED
    count = asked if a_query * asked < 2 * LONG else max(CHECKED, int(LONG / a_query))
    return lambda _: search(queries[:count]), count / asked


def _ours(gallery: Gallery, metric: Metric) -> Search:
    return lambda queries: knn(queries, gallery, K, metric).rows.reshape(len(queries), K)


def _made(makers: dict[str, Callable[[], Search]]) -> dict[str, Search]:
    """The contenders whose packages are installed."""
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except ModuleNotFoundError as missing:
            say(f"  without {name}: {missing}")
    return made


def _reading(size: int) -> Contender:
    """A BLAS matrix-vector product over so many bytes, which does nothing but read them."""
    matrix, vector = np.ones((max(1, size // 512), 128), np.float32), np.ones(128, np.float32)
    return Contender(FLOOR, lambda _: matrix @ vector)


def _product() -> Contender:
    """A BLAS product of two square matrices, for the peak of the arithmetic."""
    left, right = (np.ones((PRODUCT, PRODUCT), np.float32) for _ in range(2))
    return Contender(FLOOR, lambda _: left @ right)


def _line(case: dict[str, Any]) -> str:
    times = ", ".join(f"{it['name']} {it['ms']:.3g}" for it in case["contenders"])
    return f"  {case['rows']:,} × {case['dimension']}, {case['queries']} asked, ms: {times}"
