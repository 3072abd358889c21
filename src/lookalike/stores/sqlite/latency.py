"""A model of how long an exact query takes, learned from the queries of this process."""

from dataclasses import dataclass

# Bytes a second that are assumed before the first measurement: half of what one core of a laptop reads. A batch reads a
# tile of the matrix once for many queries.
_FIRST_SINGLE = 10e9
_FIRST_BATCH = 40e9

# Shorter scans say more about fixed costs than about memory, so the model ignores them.
_MIN_BYTES = 2**23

# Weight of a new measurement in the exponential moving average.
_WEIGHT = 0.3


@dataclass
class LatencyModel:
    """Estimates the time of exact queries from the bytes that they read.

    Attributes:
        single: bytes a second of single queries.
        batch: bytes a second of batches, counted once for each query.
    """

    single: float = _FIRST_SINGLE
    batch: float = _FIRST_BATCH

    def estimate(self, size: int, queries: int) -> float:
        """Return the milliseconds that one query of a batch takes over ``size`` bytes."""
        return 1000 * size / (self.single if queries <= 1 else self.batch)

    def learn(self, size: int, queries: int, seconds: float) -> None:
        """Take in the time that a batch of queries took over ``size`` bytes."""
        if size < _MIN_BYTES or not queries or seconds <= 0:
            return
        rate = size * queries / seconds
        if queries == 1:
            self.single += _WEIGHT * (rate - self.single)
        else:
            self.batch += _WEIGHT * (rate - self.batch)
