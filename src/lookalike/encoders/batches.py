"""The number of images in a batch, which is measured on a GPU."""

from threading import Lock

ON_CPU = 16
"""Images in a batch on a CPU. Small batches divide evenly among many cores, and no other size is faster for all encoders
(``benchmarks/indexing.py``)."""

_ON_GPU = (ON_CPU, 32, 64)

_SAMPLES = 3

# Another size must save this share of the time, so that noise does not choose.
_GAIN = 0.03


class BatchSize:
    """The batch size of a network on a GPU: the first batches have each size three times, the others the fastest.

    It is kept in memory only.
    """

    def __init__(self) -> None:
        """Start without measurements."""
        self._seconds: dict[int, list[float]] = {size: [] for size in _ON_GPU}
        self._lock = Lock()

    @property
    def size(self) -> int:
        """The size of the next batch."""
        with self._lock:
            size, known = min(self._seconds.items(), key=lambda each: len(each[1]))
            if len(known) < _SAMPLES:
                return size
            best = {size: min(known) for size, known in self._seconds.items()}
            fastest = min(best, key=lambda size: best[size])
            return fastest if best[fastest] < (1 - _GAIN) * best[ON_CPU] else ON_CPU

    def record(self, size: int, seconds: float) -> None:
        """Record how many seconds a batch took; the first of each size count."""
        with self._lock:
            if len(known := self._seconds.get(size, [])) < _SAMPLES:
                known.append(seconds / size)
