"""What goes in and what comes out, as pydantic models."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, Json, StringConstraints, model_validator

from lookalike.collection import Collection
from lookalike.metric import Metric
from lookalike.stores import Filter, Hit, Item

MOST = 1000
"""Hits of one answer, and items of one page, at most."""

DEFAULT_K = 10

Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Attributes = Annotated[dict[Text, Text], Field(max_length=100)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class Where(_In):
    """Which items a search is about: those with one of the labels and all of the attributes."""

    labels: list[str] | None = Field(None, max_length=10_000)
    attributes: dict[str, str] = Field(default_factory=dict, max_length=100)

    def filter(self) -> Filter:
        """As stores have it."""
        return Filter(frozenset(self.labels) if self.labels is not None else None, self.attributes)


class Query(_In):
    """A search: one of image, sketch and item; k or within."""

    image: str | None = Field(None, description="A photo in Base64, plain or as a data URL.")
    sketch: str | None = Field(None, description="A sketch in Base64, plain or as a data URL.")
    item: str | None = Field(None, description="The id of an item of this collection, which is left out of the answer.")
    k: int | None = Field(None, ge=1, le=MOST, description=f"How many; {DEFAULT_K} where nothing is said.")
    within: float | None = Field(
        None, ge=0, allow_inf_nan=False, description=f"All within this distance instead, up to {MOST}."
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
        return self


class QueryForm(Query):
    """A search as a form: files for pictures, JSON for the filter."""

    filter: Json[Where] = Field(default_factory=Where)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        return self.bounded()  # pictures are files, and not here


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
    complete: bool = Field(description="Whether nothing that was asked for is missing.")
    took_ms: float


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
    return ItemOut(**_common(request, collection, item))


def hit_out(request: Request, collection: Collection, hit: Hit) -> HitOut:
    """A hit as a client sees it."""
    return HitOut(**_common(request, collection, hit.item), distance=hit.distance, similarity=hit.similarity)


def _common(request: Request, collection: Collection, item: Item) -> dict[str, Any]:
    def at(route: str) -> str:
        return request.url_for(route, c=collection.name, ident=item.id).path

    return {
        "id": item.id,
        "uri": at("image"),
        "label": item.label,
        "attributes": dict(item.attributes),
        "thumbnail": at("thumbnail"),
    }
