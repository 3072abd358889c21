"""Settings and status of a store's approximate index."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

IndexKind = Literal["hnsw", "ivf-pq", "none"]


class IndexSettings(BaseModel):
    """When a store answers approximately, and by which index.

    Attributes:
        budget: milliseconds. A query that is estimated to take longer is answered by the index, if there is one.
        index: the kind of index to build.
        recall: the share of the 10 nearest items that the index should find.
        built: the generation of the vectors that the index was built from; empty if none was built. After a backup is
            put back, an index that was built later from other vectors has another generation and is not used.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    budget: float = Field(50, ge=0, allow_inf_nan=False)
    index: IndexKind = "hnsw"
    recall: float = Field(0.95, gt=0, le=1)
    built: str = ""


@dataclass(frozen=True)
class IndexState:
    """An index that the store can use.

    Attributes:
        kind: hnsw or ivf-pq.
        generation: of the vectors that it was built from.
        recall: share of the 10 nearest items that it finds, measured when it was built.
        bytes: size of its file.
        seconds: time that building it took.
        added: items that were added since and are searched exactly beside it.
        gone: vectors in it whose items were deleted or changed since.
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
        precision: what an exact query reads first: float32, int8 or bits.
        estimate: milliseconds that one exact query takes.
        index: the index; none if there is none.
        due: whether an index should be built: queries are over budget, and there is no index or it is outdated.
    """

    settings: IndexSettings
    precision: str
    estimate: float
    index: IndexState | None = None
    due: bool = False
