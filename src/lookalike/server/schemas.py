"""Request and response bodies, as pydantic models."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from fastapi import Request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    StringConstraints,
    Tag,
    model_validator,
)

from lookalike.collection import Collection
from lookalike.compare import RankedClass, Verdict
from lookalike.encoders.card import CalibrationKind
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.metric import Metric
from lookalike.query import DEFAULT_K, MAX_TEXT, Branch, Filter
from lookalike.server.served import get_served
from lookalike.stores import Answer, Item
from lookalike.untrusted.parsing import ParseError, parse_json

MAX_COUNT = 1000
"""Maximum number of hits in an answer, and of items on a page."""

MAX_EXPAND = 100
"""Maximum number of nearest items that expand a query: most items after them are of other classes."""

MAX_EXAMPLES = 100
"""Maximum number of examples of classes in a request."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Attributes = Annotated[dict[Text, Text], Field(max_length=100)]


def _refuse_bool(value: object) -> object:
    """Refuse true and false, which pydantic would take for 1 and 0."""
    if value is True or value is False:
        raise ValueError("must be a number, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_refuse_bool)]
Number = Annotated[float, BeforeValidator(_refuse_bool)]
Distance = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
RangeText = Annotated[str, StringConstraints(min_length=1, max_length=100)]


def _within_tag(value: object) -> str:
    return "two distances" if isinstance(value, list) else "a text" if isinstance(value, str) else "a distance"


def _parse_list(value: object) -> object:
    """Read the JSON list of two distances that a form may hold; return any other value unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return parse_json(value, max_bytes=200)
        except ParseError as e:
            raise ValueError("Two distances are written [0.1, 0.3].") from e
    return value


# With the discriminator, an error names only the form that the client chose.
Within = Annotated[
    Annotated[Distance, Tag("a distance")]
    | Annotated[Annotated[list[Distance], Field(min_length=2, max_length=2)], Tag("two distances")]
    | Annotated[RangeText, Tag("a text")],
    Discriminator(_within_tag),
]
Threshold = Annotated[
    Annotated[Distance, Tag("a distance")] | Annotated[RangeText, Tag("a text")], Discriminator(_within_tag)
]

_SIMILARITY = "From 0 to 1; 1 means identical."
_PROBABILITY = (
    "The probability that both show the same thing, if pairs of the same and of different things are equally frequent;"
    " null for sketches and texts, if the encoder is not calibrated for the metric, and in a search if its calibration does not hold for"
    " the collection."
)
_CALIBRATED_ON = (
    "What is the same, for the probability: two images of one class, or an image and a changed copy of it; null if the encoder"
    " is not calibrated for this answer."
)
_METRIC = "The metric; by default the collection's own."
_PHOTO = "A photo in Base64, plain or as a data URL."
_SKETCH = "A sketch in Base64, plain or as a data URL."
_BRANCH = (
    "Whether the image is a photo or a sketch. By default the image decides: it is a sketch if it looks like a line drawing and"
    " the collection's encoder has a sketch branch."
)


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class Where(_In):
    """Conditions on items: one of the labels, one of the ids, and all of the attributes."""

    labels: list[str] | None = Field(None, max_length=10_000)
    attributes: dict[str, str] = Field(default_factory=dict, max_length=100)
    ids: list[str] | None = Field(None, max_length=10_000)

    def to_filter(self) -> Filter:
        """Convert to the filter of a query."""
        labels = None if self.labels is None else frozenset(self.labels)
        ids = None if self.ids is None else frozenset(self.ids)
        return Filter(labels, self.attributes, ids)


class _Search(_In):
    item: str | None = Field(None, description="The id of an item of this collection; the answer leaves it out.")
    k: Whole | None = Field(None, ge=1, le=MAX_COUNT, description=f"The number of hits; by default {DEFAULT_K}.")
    within: Annotated[Within | None, BeforeValidator(_parse_list)] = Field(  # a form holds a list as text
        None,
        description="Instead of k: find all items in a range, up to the server's limit of hits. A distance, two distances"
        " such as [0.1, 0.3], or a text such as “80%” or “0.1..0.3”.",
    )
    cursor: str | None = Field(
        None,
        description="With within: the cursor of the previous answer, to get the hits that follow it.",
        max_length=4096,
    )
    exact: bool | None = Field(
        None, description="Whether to compare every item; by default the collection's budget decides."
    )
    expand: Whole | None = Field(
        None,
        ge=1,
        le=MAX_EXPAND,
        description="Search for the midpoint of the query and the mean of this many nearest items. This finds more items of a class, and"
        " one exact item less often.",
    )
    rescore: bool = Field(
        default=False,
        description="Rank the items of a compressed collection by their original vectors, which it keeps beside the codes. With exact or"
        " within, the answer is that before compression.",
    )
    metric: Metric | None = Field(None, description=_METRIC)
    branch: Literal["photo", "sketch"] | None = Field(None, description=_BRANCH)

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        if self.k is not None and self.within is not None:
            raise ValueError("Give k or within, not both.")
        if self.cursor is not None and self.within is None:
            raise ValueError("A cursor continues a search within a range; give within, too.")
        return self


class SearchForm(_Search):
    """A search as a form, with the image as a file."""

    filter: Json[Where] = Field(default_factory=Where)


class SearchBody(_Search):
    """A search as JSON: one of image, sketch, text and item; k or within."""

    image: str | None = Field(None, description=_PHOTO)
    sketch: str | None = Field(None, description=_SKETCH)
    text: str | None = Field(
        None,
        description="What the images show, such as “red shoe”, if the branches of the collection's encoder include text.",
        max_length=MAX_TEXT,
    )
    filter: Where = Field(default_factory=Where)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if sum(v is not None for v in (self.image, self.sketch, self.text, self.item)) != 1:
            raise ValueError("Give one of image, sketch, text and item.")
        return self


class ItemReference(_In):
    """An item that replaces an image."""

    collection: str | None = Field(
        None, description="The item's collection; by default the collection whose encoder compares."
    )
    item: str


class VerifyForm(_In):
    """The fields of a comparison, without its two images."""

    collection: str | None = Field(None, description="The collection whose encoder compares; by default the first one.")
    within: Threshold | None = Field(
        None, description="The threshold: the largest distance of the same thing, or a text such as “80%”."
    )
    false_accept_rate: Number | None = Field(
        None, gt=0, lt=1, description="Instead of within: use the threshold of this false accept rate."
    )
    metric: Metric | None = Field(None, description=_METRIC)
    sketch: bool = Field(default=False, description="The left image is a sketch.")


class VerifyBody(VerifyForm):
    """Two images to compare, each in Base64 or as an item."""

    left: str | ItemReference
    right: str | ItemReference


def _check_one_source(model: "Example | ClassifyBody") -> None:
    if sum(v is not None for v in (model.image, model.sketch, model.item)) != 1:
        raise ValueError("Give one of image, sketch and item.")
    if model.branch is not None and model.image is None:
        raise ValueError("Give a branch only beside image.")


class Example(_In):
    """An example of a class: one of image, sketch and item. In a form, the first two are names of files."""

    label: Text = Field(description="The class.")
    image: str | None = Field(None, description=f"{_PHOTO} In a form: the name of its file's field.")
    sketch: str | None = Field(None, description=f"{_SKETCH} In a form: the name of its file's field.")
    item: str | None = Field(None, description="The id of an item of this collection.")
    branch: Literal["photo", "sketch"] | None = Field(None, description=_BRANCH)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        _check_one_source(self)
        return self


Support = Annotated[list[Example], Field(min_length=1, max_length=MAX_EXAMPLES)]

_SUPPORT = (
    "Examples of the classes to choose from, one or more of each; by default the classes are the labels of the collection,"
    " and its items the examples."
)


class _Classify(_In):
    item: str | None = Field(None, description="The id of an item of this collection, if there is a support.")
    branch: Literal["photo", "sketch"] | None = Field(None, description=_BRANCH)
    k: Whole = Field(5, ge=1, le=MAX_COUNT, description="The maximum number of classes.")
    by: ClassifyBy = Field(
        "example", description="Compare with the nearest example of a class, or with the mean of its examples."
    )
    metric: Metric | None = Field(None, description=_METRIC)


class ClassifyForm(_Classify):
    """A classification as a form, with images as files."""

    support: Json[Support] | None = Field(None, description=_SUPPORT)


class ClassifyBody(_Classify):
    """A classification as JSON: one of image, sketch and item."""

    image: str | None = Field(None, description=_PHOTO)
    sketch: str | None = Field(None, description=_SKETCH)
    support: Support | None = Field(None, description=_SUPPORT)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        _check_one_source(self)
        return self


class NewItemBody(_In):
    """An image to add."""

    image: str = Field(description="The image in Base64, plain or as a data URL.")
    label: Text | None = None
    attributes: Attributes = Field(default_factory=dict)


class NewItemForm(_In):
    """The fields of an image to add, without its file."""

    label: Text | None = None
    attributes: Json[Attributes] = Field(default_factory=dict)


class ItemOut(_Out):
    """An image in a collection."""

    id: str
    uri: str = Field(description="The address of the image on this server.")
    label: str | None
    attributes: Mapping[str, str]
    name: str = Field(description="The name of its file, without folders.")
    size: int | None = Field(description="The bytes of its file; null if unknown.")
    modified: str | None = Field(description="The time of the last change of its file, in ISO 8601; null if unknown.")
    missing: bool | None = Field(description="Whether the file does not exist; null if this server may not look there.")
    path: str | None = Field(description="The path of its file, if the server was started to show paths.")
    thumbnail: str = Field(description="The address of a small JPEG.")


class HitOut(ItemOut):
    """An item that answers a search."""

    distance: float
    similarity: float = Field(description=_SIMILARITY)
    probability: float | None = Field(description=f"{_PROBABILITY} Null, too, if nothing looks like the query.")
    closeness: float | None = Field(
        description="From 0 to 1: 1 at distance 0, 0 if the item is no nearer than chance; null if chance is unknown."
    )


class ItemsOut(_Out):
    """A page of the items of a collection."""

    items: list[ItemOut]
    cursor: str | None = Field(description="Send this value to get the next page; null on the last page.")
    total: int


class AnswerOut(_Out):
    """The answer of a search: hits, nearest first."""

    hits: list[HitOut]
    metric: Metric
    exact: bool = Field(description="Whether these are certainly the nearest items.")
    complete: bool = Field(description="Whether the answer has all hits, or all that follow the cursor.")
    cursor: str | None = Field(description="Send this value to get the next hits of a range; null if there are none.")
    recall: float | None = Field(
        description="The share of the nearest items that the index finds; null if the answer is exact."
    )
    no_match: bool | None = Field(
        description="Whether the nearest hit is no nearer than chance: nothing here looks like the query; null if unknown."
    )
    calibrated_on: CalibrationKind | None = Field(description=_CALIBRATED_ON)
    branch: Branch | None = Field(
        description="Whether the query was searched for as a photo, a sketch or a text; null for an item."
    )
    codec: str | None = Field(
        description="What made the codes whose distances these are; null if the collection is not compressed, or the query re-scores."
    )
    note: str | None = Field(description="Why there are no hits, if no item passes the filter.")
    blank: bool | None = Field(
        description="Whether the image has one colour only, so that it shows nothing to search for; null for a text or an item."
    )
    took_ms: float


class VerdictOut(_Out):
    """The decision whether two images show the same thing."""

    distance: float
    similarity: float = Field(description=_SIMILARITY)
    probability: float | None = Field(description=_PROBABILITY)
    metric: Metric
    threshold: float | None = Field(description="The largest distance of the same thing; null if unknown.")
    same: bool | None = Field(description="Whether the distance is at most the threshold; null without a threshold.")
    calibrated_on: CalibrationKind | None = Field(description=_CALIBRATED_ON)


class ClassOut(_Out):
    """A class, at its distance from an image."""

    label: str
    distance: float
    similarity: float = Field(description=_SIMILARITY)
    probability: float | None = Field(description=_PROBABILITY)


class ExampleOut(_Out):
    """An example of a class, at its distance from an image."""

    index: int = Field(description="Its place in the support of the request, from 0.")
    label: str
    distance: float
    similarity: float = Field(description=_SIMILARITY)
    branch: Branch | None = Field(description="Whether it was taken for a photo or a sketch; null for an item.")


class ClassesOut(_Out):
    """Classes of an image, nearest first."""

    classes: list[ClassOut]
    examples: list[ExampleOut] | None = Field(
        description="All examples of the support, nearest first; null if the labels of the collection are the classes."
    )
    metric: Metric
    by: ClassifyBy
    branch: Branch | None = Field(description="Whether the image was taken for a photo or a sketch; null for an item.")


class SimpleAnswerOut(_Out):
    """The answer of the simple contract."""

    results: dict[str, float] = Field(description="Address of an image → its distance, nearest first.")


class EncoderOut(_Out):
    """The encoder of a collection."""

    name: str
    description: str
    scope: str = Field(description="What the encoder was trained on, in one line.")
    branches: list[Branch]
    size: int = Field(description="The side of its input, in pixels.")


class CollectionOut(_Out):
    """A collection."""

    name: str
    items: int
    dimension: int
    metric: Metric
    metrics: list[Metric] = Field(description="The metrics that a search may use.")
    codec: str
    encoder: EncoderOut
    labels: dict[str, int]
    read_only: bool


class CollectionsOut(_Out):
    """All collections of a server."""

    collections: list[CollectionOut]


class HealthOut(_Out):
    """The state of a server, and its collections."""

    status: Literal["ok"]
    version: str
    collections: dict[str, int | None] = Field(
        description="The number of items of each collection, as last counted; null before that."
    )


def item_out(request: Request, collection: Collection, item: Item) -> ItemOut:
    """Convert an item, with addresses on this server instead of paths."""
    return ItemOut(**item.to_dict() | _on_this_server(request, collection, item))


def answer_out(request: Request, collection: Collection, answer: Answer, took_ms: float) -> AnswerOut:
    """Convert an answer as `Answer.to_dict` does, with addresses on this server instead of paths."""
    body = answer.to_dict()
    cursor = None if answer.complete or not answer.hits else f"{answer.hits[-1].distance!r} {answer.hits[-1].item.id}"
    body["hits"] = [
        out | _on_this_server(request, collection, hit.item) for out, hit in zip(body["hits"], answer, strict=True)
    ]
    return AnswerOut(**body, cursor=cursor, took_ms=took_ms)


def verdict_out(verdict: Verdict) -> VerdictOut:
    """Convert a verdict."""
    return VerdictOut(**verdict.to_dict())


def class_out(ranked: RankedClass) -> ClassOut:
    """Convert a class of a ranking."""
    return ClassOut(**ranked.to_dict())


def address(request: Request, route: str, collection: Collection, item: Item) -> str:
    """Return the path of a route about an item on this server, as a part of a URL."""
    path = request.app.url_path_for(route, c=collection.name, ident=item.id)
    return quote(request.scope.get("root_path", "") + path)


def _on_this_server(request: Request, collection: Collection, item: Item) -> dict[str, Any]:
    served = get_served(request)
    files = served.files[collection.name]
    return {
        "uri": address(request, "get_image", collection, item),
        "thumbnail": address(request, "get_thumbnail", collection, item),
        "missing": files.is_missing(item),
        "path": files.path(item) if served.show_paths else None,
    }
