"""When a store answers approximately: a budget, an estimate, and what is known of its index."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

IndexKind = Literal["hnsw", "ivf-pq", "none"]

# Bytes a second that a process reckons with before it has seen any: half of what one core of a laptop reads. A batch of
# queries reads a tile once for many of them.
_FIRST_ONE = 10e9
_FIRST_BATCH = 40e9

# What takes less tells more of fixed costs than of memory.
_TELLING = 2**23

# Of a new measurement, in the mean of all.
_WEIGHT = 0.3


class Tuning(BaseModel):
    """Settings of a collection. What they say is kept in the catalogue.

    Attributes:
        budget: milliseconds of a query. It is exact where it is estimated to take no longer, and else approximate if
            there is an index.
        index: the kind that is built.
        recall: that the index should reach, at k = 10.
        built: the generation whose index belongs to this catalogue. A catalogue put back from a backup knows of none
            that was built later, from other vectors.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    budget: float = Field(50, ge=0, allow_inf_nan=False)
    index: IndexKind = "hnsw"
    recall: float = Field(0.95, gt=0, le=1)
    built: str = ""


@dataclass
class Pace:
    """How fast this process scans, learned from its own queries."""

    one: float = _FIRST_ONE
    batch: float = _FIRST_BATCH

    def estimate(self, size: int, queries: int) -> float:
        """Milliseconds that a query takes, of so many at once over so many bytes."""
        return 1000 * size / (self.one if queries <= 1 else self.batch)

    def learn(self, size: int, queries: int, seconds: float) -> None:
        """A scan that took so long."""
        if size < _TELLING or not queries or seconds <= 0:
            return
        rate = size * queries / seconds
        if queries == 1:
            self.one += _WEIGHT * (rate - self.one)
        else:
            self.batch += _WEIGHT * (rate - self.batch)


@dataclass(frozen=True)
class IndexState:
    """An index that can be used.

    Attributes:
        kind: hnsw or ivf-pq.
        generation: of the vectors it was built from.
        recall: at k = 10, measured when it was built.
        bytes: of its file.
        seconds: that building it took.
        added: items that are searched exactly beside it.
        gone: vectors in it that are not there any more.
    """

    kind: str
    generation: str
    recall: float
    bytes: int
    seconds: float
    added: int
    gone: int


@dataclass(frozen=True)
class Status:
    """How a store answers.

    Attributes:
        tuning: its settings.
        scan: what an exact query reads: float32, int8, bits.
        estimate: milliseconds of one exact query.
        index: that which there is.
        due: whether an index should be built: queries are over budget, and there is none or too much has changed.
    """

    tuning: Tuning
    scan: str
    estimate: float
    index: IndexState | None = field(default=None)
    due: bool = False
