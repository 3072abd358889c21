"""A model of the latency of exact queries, learned from the queries of this process."""

from dataclasses import dataclass

# Bytes a second before the first measurement: half of the memory bandwidth of a laptop's core. A batch reads a tile of the
# matrix once for many queries.
_FIRST_SINGLE = 10e9
_FIRST_BATCH = 40e9

# The model ignores shorter scans, whose time is mostly fixed costs.
_MIN_BYTES = 2**23

# Weight of a new measurement in the exponential moving average.
_WEIGHT = 0.3


@dataclass
class LatencyModel:
    """An estimate of the time of exact queries from the bytes that they read.

    Attributes:
        single: bytes a second of single queries.
        batch: bytes a second of batches, counted once for each query.
    """

    single: float = _FIRST_SINGLE
    batch: float = _FIRST_BATCH

    def estimate(self, size: int, queries: int) -> float:
        """Estimate the milliseconds that one query of a batch takes to read ``size`` bytes."""
        return 1000 * size / (self.single if queries <= 1 else self.batch)

    def learn(self, size: int, queries: int, seconds: float) -> None:
        """Update the model with the time that a batch of queries took to read ``size`` bytes."""
        if size < _MIN_BYTES or not queries or seconds <= 0:
            return
        rate = size * queries / seconds
        if queries == 1:
            self.single += _WEIGHT * (rate - self.single)
        else:
            self.batch += _WEIGHT * (rate - self.batch)
