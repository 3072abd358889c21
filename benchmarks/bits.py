"""Compare the search of bits with FAISS's binary index, and with the search of floats.

    python benchmarks/bits.py                     galleries of 1,000, 14,660 and 100,000 codes, one thread
    python benchmarks/bits.py --threads 2         as many threads for all
    python benchmarks/bits.py --large             also a million codes of 256 bits

Both take turns. The tables give the median milliseconds, and their ratio. With one thread they are milliseconds of the
processor, which other load on the machine hardly affects; with several, of the clock. Codes are the signs of vectors in clusters
(`against.make_vectors`), ranges end at the distance of the tenth neighbour of the median query.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import peers
from against import make_vectors

from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import knn, prepare, within

Clock = Callable[[], float]

ROWS = 1_000, 14_660, 100_000
BITS = 64, 128, 256, 512, 2_048
LARGE = 1_000_000, 256
COUNTS = 1, 100
K = 10
ROUNDS = 9
TURN = 0.02
FLOATS = (14_660, 2_048, 2_048), (14_660, 64, 2_048), (14_660, 16, 512), (14_660, 8, 256), (14_660, 4, 128)
"""Rows, numbers of the floats, bits: as many bits as numbers, and equal bytes."""


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    options = parser.parse_args()
    peers.limit_threads(options.threads)
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    show(["codes", "queries", "k-NN: FAISS", "lookalike", "ratio", "range: FAISS", "lookalike", "ratio"])
    sizes = [(rows, bits) for rows in options.rows for bits in BITS] + [LARGE] * options.large
    for rows, bits in sizes:
        for count in COUNTS:
            show([f"{rows:,} × {bits:,}", str(count), *against_faiss(rows, bits, count, clock)])
    show(["vectors", "queries", "floats", "bits", "floats / bits"])
    for size in FLOATS:
        for count in COUNTS:
            show(["{:,} × {:,}, {:,} bits".format(*size), str(count), *against_floats(size, count, clock)])


def against_faiss(rows: int, bits: int, count: int, clock: Clock) -> list[str]:
    """Compare k-NN and range searches with FAISS's IndexBinaryFlat."""
    import faiss  # noqa: PLC0415 -- after the number of threads is set

    codes, queries = make_codes(rows, bits, count)
    gallery, index = prepare(codes, Metric.HAMMING), faiss.IndexBinaryFlat(bits)
    index.add(codes)
    radius = int(np.median(index.search(queries, K)[0][:, -1]))
    inside = DistanceRange(0, radius)
    return [
        *compare(lambda: index.search(queries, K), lambda: knn(queries, gallery, K, Metric.HAMMING), clock),
        *compare(
            lambda: index.range_search(queries, radius + 1),
            lambda: within(queries, gallery, inside, Metric.HAMMING),
            clock,
        ),
    ]


def against_floats(size: tuple[int, int, int], count: int, clock: Clock) -> list[str]:
    """Compare k-NN among floats with k-NN among bits."""
    rows, dimension, bits = size
    vectors = make_vectors(rows + count, dimension)
    floats, asked = prepare(vectors[count:], Metric.EUCLIDEAN), vectors[:count]
    codes, queries = make_codes(rows, bits, count)
    gallery = prepare(codes, Metric.HAMMING)
    of_bits, of_floats, ratio = compare(
        lambda: knn(queries, gallery, K, Metric.HAMMING), lambda: knn(asked, floats, K, Metric.EUCLIDEAN), clock
    )
    return [of_floats, of_bits, ratio]


def make_codes(rows: int, bits: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a gallery and queries: signs of vectors in clusters."""
    codes = np.packbits(make_vectors(rows + count, bits) > 0, axis=1)
    return codes[count:].copy(), codes[:count].copy()


def compare(one: Callable[[], object], other: Callable[[], object], clock: Clock) -> list[str]:
    """Time two searches in turns: both medians, and the ratio of the second to the first."""
    rounds = [(turn(one, clock), turn(other, clock)) for _ in range(ROUNDS)]
    first, second = (1e3 * statistics.median(times) for times in zip(*rounds, strict=True))
    return [f"{first:.3g}", f"{second:.3g}", f"{second / first:.2f}"]


def turn(call: Callable[[], object], clock: Clock) -> float:
    """Time calls for at least `TURN` seconds, after one that fills the caches; return the median."""
    call()
    times: list[float] = []
    while sum(times) < TURN:
        begun = clock()
        call()
        times.append(clock() - begun)
    return statistics.median(times)


def show(cells: Sequence[str]) -> None:
    """Print a row of a table, and the line below a heading."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    if not cells[-1][0].isdigit():
        sys.stdout.write(f"{'| --- ' * len(cells)}|\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
