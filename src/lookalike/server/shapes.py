"""What goes in and what comes out, as pydantic models."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Json, StringConstraints, Tag, model_validator

from lookalike.collection import Collection
from lookalike.compare import RankedClass, Verdict
from lookalike.evaluation.fewshot import By
from lookalike.metric import Metric
from lookalike.query import Filter
from lookalike.stores import Answer, Hit, Item

MOST = 1000
"""Hits of one answer, and items of one page, at most."""

DEFAULT_K = 10

Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Reach = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ring = Annotated[list[Reach], Field(min_length=2, max_length=2)]
# With a discriminator a mistake is told once, and of the form that was meant.
Within = Annotated[
    Annotated[Reach, Tag("a distance")] | Annotated[Ring, Tag("two distances")],
    Discriminator(lambda given: "two distances" if isinstance(given, list) else "a distance"),
]
Attributes = Annotated[dict[Text, Text], Field(max_length=100)]


_PROBABILITY = (
    "Of being the same, where pairs of the same and of different things are as frequent; null where the encoder is not"
    " calibrated for the question."
)


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class Where(_In):
    """Which items a search is about: those with one of the labels, one of the ids and all of the attributes."""

    labels: list[str] | None = Field(None, max_length=10_000)
    attributes: dict[str, str] = Field(default_factory=dict, max_length=100)
    ids: list[str] | None = Field(None, max_length=10_000)

    def filter(self) -> Filter:
        """As stores have it."""
        labels, ids = (frozenset(some) if some is not None else None for some in (self.labels, self.ids))
        return Filter(labels, self.attributes, ids)


class Query(_In):
    """A search: one of image, sketch and item; k or within."""

    image: str | None = Field(None, description="A photo in Base64, plain or as a data URL.")
    sketch: str | None = Field(None, description="A sketch in Base64, plain or as a data URL.")
    item: str | None = Field(None, description="The id of an item of this collection, which is left out of the answer.")
    k: int | None = Field(None, ge=1, le=MOST, description=f"How many; {DEFAULT_K} where nothing is said.")
    within: Within | None = Field(
        None, description="All within this distance instead, or between two as [0.1, 0.3]; up to the server's limit."
    )
    exact: bool | None = Field(
        None, description="Whether to look at every item. By the collection's budget where nothing is said."
    )
    metric: Metric | None = Field(None, description="The collection's own where nothing is said.")
    filter: Where = Field(default_factory=Where)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if sum(v is not None for v in (self.image, self.sketch, self.item)) != 1:
            raise ValueError("Give one of image, sketch and item.")
        return self.bounded()

    def bounded(self) -> Self:
        """Itself, if it says how many in one way only."""
        if self.k is not None and self.within is not None:
            raise ValueError("Give k or within, not both.")
        if isinstance(self.within, list) and self.within[0] > self.within[1]:
            raise ValueError("Give the smaller distance of within first.")
        return self

    @property
    def ring(self) -> tuple[float, float] | None:
        """(the least distance, the radius), if all within it are asked for."""
        match self.within:
            case None:
                return None
            case [least, radius]:
                return least, radius
            case radius:
                return 0, float(radius)  # type: ignore[arg-type]  # the list is above


class QueryForm(Query):
    """A search as a form: files for pictures, JSON for the filter, and for within where it is two distances."""

    within: Json[Within] | None = None
    filter: Json[Where] = Field(default_factory=Where)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        return self.bounded()  # pictures are files, and not here


class ItemOf(_In):
    """An item in place of a picture."""

    collection: str | None = Field(None, description="Where it is; the one whose encoder judges where nothing is said.")
    item: str


class PairForm(_In):
    """What comes beside the two pictures that are compared."""

    collection: str | None = Field(None, description="Whose encoder judges; the first one's where nothing is said.")
    within: float | None = Field(None, ge=0, allow_inf_nan=False, description="The same is what is this close.")
    far: float | None = Field(
        None, gt=0, lt=1, description="The distance of this false accept rate in place of within."
    )
    metric: Metric | None = Field(None, description="The collection's own where nothing is said.")
    sketch: bool = Field(default=False, description="The left picture is a sketch.")


class Pair(PairForm):
    """Two pictures to be compared, each in Base64 or as an item."""

    left: str | ItemOf
    right: str | ItemOf


class ClassQueryForm(_In):
    """What comes beside the picture whose class is asked for."""

    k: int = Field(5, ge=1, le=MOST, description="How many classes, at most.")
    by: By = Field("example", description="A class is as near as its nearest item, or as the mean of its items.")
    metric: Metric | None = Field(None, description="The collection's own where nothing is said.")


class ClassQuery(ClassQueryForm):
    """A picture whose class is asked for: one of image and sketch."""

    image: str | None = Field(None, description="A photo in Base64, plain or as a data URL.")
    sketch: str | None = Field(None, description="A sketch in Base64, plain or as a data URL.")

    @model_validator(mode="after")
    def _one_picture(self) -> Self:
        if (self.image is None) == (self.sketch is None):
            raise ValueError("Give one of image and sketch.")
        return self


class NewItem(_In):
    """A picture to be added."""

    image: str = Field(description="In Base64, plain or as a data URL.")
    label: Text | None = None
    attributes: Attributes = Field(default_factory=dict)


class NewItemForm(_In):
    """What comes beside the file ``image``."""

    label: Text | None = None
    attributes: Json[Attributes] = Field(default_factory=dict)


class ItemOut(_Out):
    """A picture in a collection."""

    id: str
    uri: str = Field(description="Where its picture is, on this server.")
    label: str | None
    attributes: Mapping[str, str]
    thumbnail: str = Field(description="Where a small JPEG of it is.")


class HitOut(ItemOut):
    """An item that answers a search."""

    distance: float
    similarity: float = Field(description="In 0…1, 1 for the same.")
    probability: float | None = Field(description=_PROBABILITY)


class ItemsOut(_Out):
    """Some of the items of a collection."""

    items: list[ItemOut]
    cursor: str | None = Field(description="Asks for those that follow; null after the last.")
    total: int


class AnswerOut(_Out):
    """What a search found, nearest first."""

    hits: list[HitOut]
    metric: Metric
    exact: bool = Field(description="Whether these are surely the nearest.")
    complete: bool = Field(description="Whether nothing that was asked for was left off.")
    recall: float | None = Field(
        description="Where it is not exact: the share of the nearest that such an answer finds. Null where it is."
    )
    took_ms: float


class VerdictOut(_Out):
    """Whether two pictures are the same."""

    distance: float
    similarity: float = Field(description="In 0…1, 1 for the same.")
    probability: float | None = Field(description=_PROBABILITY)
    metric: Metric
    threshold: float | None = Field(
        description="The same is what lies at most this far apart; null where none is known."
    )
    same: bool | None = Field(description="What follows; null without a threshold.")


class ClassOut(_Out):
    """A class, as near as it comes."""

    label: str
    distance: float
    similarity: float = Field(description="In 0…1, 1 for the same.")
    probability: float | None = Field(description=_PROBABILITY)


class ClassesOut(_Out):
    """The classes that a picture may be of, nearest first."""

    classes: list[ClassOut]
    metric: Metric
    by: By


class PlainOut(_Out):
    """The answer of the simple contract."""

    results: dict[str, float] = Field(description="The picture's address to its distance, nearest first.")


class EncoderOut(_Out):
    """What makes the embeddings."""

    name: str
    description: str
    branches: list[Literal["photo", "sketch"]]
    size: int = Field(description="Pixels a side of what it sees.")


class CollectionOut(_Out):
    """A collection."""

    name: str
    items: int
    dimension: int
    metric: Metric
    metrics: list[Metric] = Field(description="Those a search may ask for.")
    codec: str
    encoder: EncoderOut
    labels: dict[str, int]
    read_only: bool


class CollectionsOut(_Out):
    """All collections of a server."""

    collections: list[CollectionOut]


class HealthOut(_Out):
    """That the server is there, and what it serves."""

    status: Literal["ok"]
    version: str
    collections: dict[str, int] = Field(description="Name to number of items.")


def item_out(request: Request, collection: Collection, item: Item) -> ItemOut:
    """An item as a client sees it."""
    known = {"id": item.id, "label": item.label, "attributes": dict(item.attributes)}
    return ItemOut(**known, **_addresses(request, collection, item))


def hit_out(request: Request, collection: Collection, hit: Hit) -> HitOut:
    """A hit as a client sees it."""
    return HitOut(**hit.to_dict() | _addresses(request, collection, hit.item))


def answer_out(request: Request, collection: Collection, answer: Answer, took_ms: float) -> AnswerOut:
    """Convert an answer to its HTTP form: that of `Answer.to_dict`, with addresses in place of paths."""
    hits = [hit_out(request, collection, hit) for hit in answer]
    return AnswerOut(**answer.to_dict() | {"hits": hits, "took_ms": took_ms})


def verdict_out(verdict: Verdict) -> VerdictOut:
    """A verdict as a client sees it."""
    return VerdictOut(**vars(verdict))


def class_out(ranked: RankedClass) -> ClassOut:
    """A class as a client sees it."""
    return ClassOut(**vars(ranked))


def _addresses(request: Request, collection: Collection, item: Item) -> dict[str, str]:
    def at(route: str) -> str:
        return request.url_for(route, c=collection.name, ident=item.id).path

    return {"uri": at("image"), "thumbnail": at("thumbnail")}
