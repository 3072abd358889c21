"""Routes that search: the API's search and the simple contract."""

import math
import time

from fastapi import APIRouter, Request
from pydantic import BaseModel, RootModel

from lookalike import images
from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.query import Branch, Query
from lookalike.server import bodies
from lookalike.server.problems import BODY_ERRORS, responses
from lookalike.server.schemas import AnswerOut, SearchBody, SearchForm, SimpleAnswerOut, address, answer_out
from lookalike.server.served import ComputeSlot, NamedCollection, Served
from lookalike.stores import Answer

router = APIRouter(tags=["search"])

BRANCHES: dict[str, Branch] = {"image": "photo", "sketch": "sketch"}
"""Name of the field that holds the image → branch of the encoder."""


@router.post(
    "/api/collections/{c}/search",  # noqa: FAST003 -- `NamedCollection` reads it
    responses=responses(*BODY_ERRORS, 404, 415, 422, 500, 503),
    openapi_extra=bodies.documented(SearchBody, SearchForm, *BRANCHES),
)
def search(request: Request, collection: NamedCollection, served: Served, body: bodies.OneImage) -> AnswerOut:
    """Find the items nearest to an image, a sketch, a text or an item."""
    start = time.perf_counter()
    fields, sources = _read_search(body)

    def find() -> Answer:
        query = _to_query(fields, sources, collection, served.max_hits)
        return collection.answer(query)[0] if fields.cursor is None else _continue(collection, query, fields.cursor)

    with served.decode(collection, *sources.values()):
        answer = collection.retrying(find)
    return answer_out(request, collection, answer, round((time.perf_counter() - start) * 1000, 2))


def _continue(collection: Collection, query: Query, cursor: str) -> Answer:
    """Answer the part of a range search that follows a cursor: the distance and the id of the last hit."""
    text, _, ident = cursor.partition(" ")
    try:
        distance = float(text)
    except ValueError:
        distance = math.nan
    if query.within is None or not query.within.min <= distance <= query.within.max:
        raise bodies.invalid_field("cursor", "not the cursor of a search within this range; send it unchanged")
    return collection.answer_after(query, (distance, ident))


def _to_query(
    fields: SearchBody | SearchForm, sources: dict[str, bytes], collection: Collection, max_hits: int
) -> Query:
    text = fields.text if isinstance(fields, SearchBody) else None
    if fields.branch == "photo" and "sketch" in sources:
        raise bodies.invalid_field("branch", "photo, but the field “sketch” has the image; send it as “image”")
    if fields.branch is not None and not sources:
        raise bodies.invalid_field("branch", "goes with an image; leave it out")
    try:
        within = (
            collection.embedder_for(rescore=fields.rescore).with_metric(fields.metric).distance_range(fields.within)
        )
    except UsageError as e:
        raise bodies.invalid_field("metric" if fields.within is None else "within", e.message) from e
    return Query(
        images=list(sources.values()),
        texts=() if text is None else (text,),
        items=() if fields.item is None else (fields.item,),
        branch="sketch" if "sketch" in sources else fields.branch or "auto",
        metric=fields.metric,
        k=fields.k,
        within=within,
        where=fields.filter.to_filter(),
        exact=fields.exact,
        expand=fields.expand,
        rescore=fields.rescore,
        limit=None if within is None else max_hits,
    )


def _read_search(body: bodies.Body) -> tuple[SearchBody | SearchForm, dict[str, bytes]]:
    """Read a search, and its image by the name of the field; a search for a text or an item has no image."""
    if body.json is not None:
        fields = bodies.validate_json(SearchBody, body.json)
        encoded = {"image": fields.image, "sketch": fields.sketch}
        return fields, {name: images.from_base64(data) for name, data in encoded.items() if data is not None}
    uploaded = bodies.form_images(body, *BRANCHES)
    form = bodies.form_fields(body, SearchForm, *BRANCHES)
    if len(uploaded) + (form.item is not None) != 1 or len(uploaded) < len(body.form.files):
        raise UsageError("The form needs one file, named “image” or “sketch”, or the id of an “item”.")
    return form, uploaded


class _ImageObject(BaseModel):
    image: str


class _SimpleBody(RootModel[str | _ImageObject]):
    """A JSON string in Base64, or an object that has one."""


@router.post(
    "/search",
    responses=responses(*BODY_ERRORS, 422, 500, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/plain": {"schema": {"type": "string", "description": "Base64, plain or as a data URL."}},
                "application/json": {
                    "schema": {
                        "oneOf": [
                            {"type": "string"},
                            {"type": "object", "required": ["image"], "properties": {"image": {"type": "string"}}},
                        ]
                    }
                },
            },
        }
    },
)
def search_simple(request: Request, served: Served, body: bodies.RawBody, _: ComputeSlot) -> SimpleAnswerOut:
    """Find the ten nearest items of the first collection for an image in Base64, sent with any content type."""
    collection = served.get(None)
    text: str | bytes = body.strip()
    if isinstance(text, bytes) and text[:1] in {b'"', b"{"}:  # neither is in Base64's alphabet
        root = bodies.validate_json(_SimpleBody, text).root
        text = root.image if isinstance(root, _ImageObject) else root
    data = images.from_base64(text)
    with served.decode(collection, data):
        answer = collection.search(data)
    host = f"{request.url.scheme}://{request.url.netloc}"
    return SimpleAnswerOut(
        results={host + address(request, "get_image", collection, hit.item): hit.distance for hit in answer}
    )
