"""Settings and status of a store's approximate index."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

IndexKind = Literal["hnsw", "ivf-pq", "none"]


GENERATION = "[0-9]{12}-[0-9a-f]{16}"
"""The pattern of a generation, which is part of the names of files."""


class IndexSettings(BaseModel):
    """Settings of a store's approximate index.

    Attributes:
        budget: latency budget in milliseconds. The index, if there is one, answers queries whose estimated time exceeds it.
        index: the kind of index to build.
        recall: the share of the 10 nearest items that the index should find.
        built: the generation of the index's vectors; empty without an index. An index that was built after a backup has
            another generation, so it is not used after the backup is restored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    budget: float = Field(50, ge=0, allow_inf_nan=False)
    index: IndexKind = "hnsw"
    recall: float = Field(0.95, gt=0, le=1)
    built: str = Field("", pattern=f"^({GENERATION})?$")


@dataclass(frozen=True)
class IndexState:
    """The state of a store's index.

    Attributes:
        kind: hnsw or ivf-pq.
        generation: of its vectors.
        recall: the share of the 10 nearest items that it finds, measured when it was built.
        bytes: size of its file.
        seconds: build time.
        added: number of items added since, which are searched exactly.
        gone: number of its vectors whose items were deleted or changed since.
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
    """How a store answers queries now.

    Attributes:
        settings: see `IndexSettings`.
        precision: the vectors that an exact query reads first: float32, int8 or bits.
        estimate: estimated time of an exact query, in milliseconds.
        index: the state of the index; none without an index.
        due: whether an index should be built: the estimate exceeds the budget, and there is no index or it is outdated.
    """

    settings: IndexSettings
    precision: str
    estimate: float
    index: IndexState | None = None
    due: bool = False
