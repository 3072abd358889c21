"""Exact search of bits: differing bits are counted and the nearest selected in one pass, in tiles that stay in the cache."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lookalike.query import DistanceRange
from lookalike.search import bounds
from lookalike.search.answers import Pairs, concatenate
from lookalike.search.bounds import count_differing_bits, kth_bound, load_faiss
from lookalike.search.chunks import chunks
from lookalike.search.gallery import Gallery, Rows
from lookalike.shapes import Int32, Int64, UInt8

_CELLS = 2**17
"""Counts in a tile, which take half a megabyte: they are written and read again in the processor's cache."""

_MIN_CELLS = 2**15
"""Counts in a tile of long codes: fewer would take less time than the calls that count and select them."""

_CODES = 2**19
"""Bytes of the codes in a tile, which all queries read."""

_CELL = 16
"""Maximum bytes of a cell: its count, whether it is near, and its place."""

_PAIR = 64
"""Maximum bytes of a pair while it is found."""

_FEW = 2**17
"""Pairs that FAISS compares and selects in one call; of more, the tiles select faster."""

_COUNTERS = 2**16
"""Maximum number of queries times neighbours times bytes of a code in that call: it takes 64 bytes of memory for each."""

_THREAD = 2**27
"""Bytes of codes that a thread compares in about two milliseconds; less is not worth a thread."""

_SPARSE = 3
"""A span of rows is compared in place if it has at most this many unwanted rows for each wanted one and query."""


def nearest(queries: Gallery, gallery: Gallery, k: int, rows: Int64[np.ndarray, " m"] | None = None) -> Pairs:
    """Find the k nearest rows of each query, or all if there are fewer, sorted by (query, distance, row).

    Args:
        queries: a batch.
        gallery: packed bits.
        k: at least 1.
        rows: the rows to search, ascending; by default all.
    """
    length, (count, width) = len(gallery if rows is None else rows), queries.vectors.shape
    k = min(k, length)
    loaded = load_faiss(count * length * width)  # for all tiles
    few = 0 < count * length <= _FEW and count * k * width <= _COUNTERS
    # Copying a large share of the rows would take longer than comparing the span that they lie in.
    if loaded and few and (rows is None or len(gallery) > (1 + _SPARSE) * length):
        return _nearest_of_few(queries.array, gallery.vectors[slice(None) if rows is None else rows], k, rows)
    parts = _split(count, count * length * (width + 16) if loaded else 0)
    if len(parts) == 1:
        return _nearest(queries.array, gallery, k, rows)
    with ThreadPoolExecutor(len(parts)) as threads:
        found = threads.map(lambda part: _nearest(queries.array[part], gallery, k, rows).shifted(part.start), parts)
        return concatenate(list(found))


def within(
    queries: Gallery,
    gallery: Gallery,
    within: DistanceRange,
    rows: Int64[np.ndarray, " m"] | None = None,
    begin: int = 0,
) -> Iterator[Pairs]:
    """Find all rows in a range of distances, in parts of bounded size.

    Args:
        queries: a batch.
        gallery: packed bits.
        within: the range, rounded as `round_range` does.
        rows: as in `nearest`.
        begin: the first row to search.
    """
    load_faiss(len(queries) * queries.vectors.shape[1] * len(gallery if rows is None else rows))  # for all tiles
    # Codes have fewer than 2^30 bits, so no number of bits is cut off, and none is too large for float32.
    low, high = math.ceil(np.float32(min(within.min, 2.0**30))), math.floor(np.float32(min(within.max, 2.0**30)))
    parts, size = list[Pairs](), 0
    for tile, counts in _tiles(queries.array, gallery, rows, begin):
        near = counts <= high
        if low > 0:
            near &= counts >= low
        places = np.flatnonzero(near)
        if not len(places):
            continue
        left, columns = _unravel(places, counts.shape)
        parts.append(Pairs(left, _number(columns, tile), counts.reshape(-1)[places].astype(np.float32)))
        size += len(places)
        if size * _PAIR >= bounds.BUDGET // 2:
            yield concatenate(parts)
            parts, size = [], 0
    if parts:
        yield concatenate(parts)


def _split(queries: int, work: int) -> list[slice]:
    """Split queries into one part for each thread that is worth its start."""
    wanted = min(queries, work // _THREAD)
    if wanted > 1:
        import faiss  # noqa: PLC0415 -- see `load_faiss`

        wanted = min(wanted, faiss.omp_get_max_threads())
    return list(chunks(queries, -(-queries // max(1, wanted))))


def _nearest_of_few(
    queries: UInt8[np.ndarray, "q bytes"],
    codes: UInt8[np.ndarray, "m bytes"],
    k: int,
    rows: Int64[np.ndarray, " m"] | None,
) -> Pairs:
    """Find the k nearest of at least k codes by FAISS's lists of the first k codes at each number of differing bits.

    So of codes at one distance the first are found, unlike with its heaps.
    """
    import faiss  # noqa: PLC0415 -- see `load_faiss`

    distances, places = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64)
    a, b = np.ascontiguousarray(queries), np.ascontiguousarray(codes)
    found = faiss.swig_ptr(distances), faiss.swig_ptr(places)
    faiss.hammings_knn_mc(faiss.swig_ptr(a), faiss.swig_ptr(b), len(a), len(b), k, a.shape[1], *found)
    left = np.zeros(k, np.int64) if len(a) == 1 else np.repeat(np.arange(len(a)), k)
    found_rows = places.reshape(-1) if rows is None else rows[places.reshape(-1)]
    return Pairs(left, found_rows, distances.reshape(-1).astype(np.float32))


def _nearest(
    queries: UInt8[np.ndarray, "q bytes"], gallery: Gallery, k: int, rows: Int64[np.ndarray, " m"] | None
) -> Pairs:
    length, steps = len(gallery if rows is None else rows), 8 * queries.shape[1] + 1
    # A pair is one number, (query * steps + distance) * length + place among the rows, so that numbers sort as pairs do. It
    # is smaller than 2^63 if the codes take less than a petabyte.
    best, pending, seen = np.empty(0, np.int64), list[Int64[np.ndarray, " n"]](), 0
    limits: Int32[np.ndarray, "q m"] | None = None
    for _, counts in _tiles(queries, gallery, rows):
        places = np.flatnonzero(
            counts <= kth_bound(counts, k)[:, None] if limits is None else counts < limits[:, : counts.shape[1]]
        )
        if len(places):
            left, columns = _unravel(places, counts.shape)
            pending.append((left * steps + counts.reshape(-1)[places]) * length + (columns + seen))
        seen += counts.shape[1]
        # Sorting costs more than the few pairs that old limits let through.
        if sum(map(len, pending)) >= k * len(queries):
            best, pending = _first(np.concatenate([best, *pending]), k, len(queries), steps * length), []
            if seen >= k:  # later rows must be nearer: in a tie, the lower row is first
                farthest = (best[k - 1 :: k] // length % steps).astype(np.int32)
                # NumPy compares two whole arrays in half the time of an array and a column.
                limits = np.repeat(farthest[:, None], counts.shape[1], axis=1)
    best = _first(np.concatenate([best, *pending]), k, len(queries), steps * length)
    pairs, places = np.divmod(best, max(1, length))
    left, distances = np.divmod(pairs, steps)
    return Pairs(left, places if rows is None else rows[places], distances.astype(np.float32))


def _first(numbers: Int64[np.ndarray, " n"], k: int, queries: int, step: int) -> Int64[np.ndarray, " m"]:
    """Sort the numbers of pairs, and select the k lowest of each query."""
    numbers.sort()
    if queries == 1 or len(numbers) <= k:
        return numbers[:k]
    starts = np.searchsorted(numbers, np.arange(queries) * step)
    return np.asarray(numbers[np.arange(len(numbers)) - np.repeat(starts, np.diff(starts, append=len(numbers))) < k])


def _tiles(
    queries: UInt8[np.ndarray, "q bytes"], gallery: Gallery, rows: Int64[np.ndarray, " m"] | None, begin: int = 0
) -> Iterator[tuple[Rows, Int32[np.ndarray, "q m"]]]:
    """Count the differing bits of all pairs, a tile of rows at a time. The counts are valid until the next tile."""
    count, width = queries.shape
    size = _CELLS // max(1, count)
    if count > 1:
        size = min(size, max(_CODES // max(1, width), _MIN_CELLS // count))
    size = max(1, min(size, bounds.BUDGET // (_CELL * (count + 1) + 2 * width)))
    memory = np.empty(count * size, np.int32)
    for part in chunks(len(gallery if rows is None else rows), size, begin):
        tile = part if rows is None else rows[part]
        yield tile, _count(queries, gallery, tile, memory)


def _count(
    queries: UInt8[np.ndarray, "q bytes"], gallery: Gallery, tile: Rows, memory: Int32[np.ndarray, " cells"]
) -> Int32[np.ndarray, "q m"]:
    if isinstance(tile, np.ndarray):
        span = slice(int(tile[0]), int(tile[-1]) + 1)
        unwanted = span.stop - span.start - len(tile)
        if not unwanted:
            tile = span
        elif unwanted * len(queries) <= _SPARSE * len(tile):
            return count_differing_bits(queries, gallery.vectors[span])[:, tile - span.start]
    codes = gallery.vectors[tile]
    return count_differing_bits(queries, codes, memory[: len(queries) * len(codes)].reshape(len(queries), len(codes)))


def _unravel(
    places: Int64[np.ndarray, " n"], shape: tuple[int, ...]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return the query and the column of places in a tile."""
    return np.divmod(places, shape[1]) if shape[0] > 1 else (np.zeros_like(places), places)


def _number(columns: Int64[np.ndarray, " n"], tile: Rows) -> Int64[np.ndarray, " n"]:
    """Return the rows of columns of a tile."""
    return np.asarray(columns + tile.start if isinstance(tile, slice) else tile[columns])
