"""Routes that search: the API's own, and the simple contract."""

import time
from dataclasses import replace
from typing import Annotated, TypedDict

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, RootModel

from lookalike import images
from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import Branch, Vectors
from lookalike.server import bodies
from lookalike.server.problems import responses
from lookalike.server.shapes import DEFAULT_K, AnswerOut, PlainOut, Query, QueryForm, answer_out
from lookalike.server.shelf import One, Served
from lookalike.stores import Answer

router = APIRouter(tags=["search"])


class Asked(TypedDict):
    """What knn and within have in common."""

    metric: Metric | None
    branch: Branch
    exact: bool | None


BRANCHES: dict[str, Branch] = {"image": "photo", "sketch": "sketch"}


@router.post(
    "/api/collections/{c}/search",  # noqa: FAST003 -- `One` takes it
    responses=responses(400, 404, 413, 415, 422, 500, 503),
    openapi_extra=bodies.documented(Query, QueryForm, "image", "sketch"),
)
def search(request: Request, collection: One, served: Served, body: bodies.Received) -> AnswerOut:
    """The items nearest to an image, a sketch or an item."""
    start = time.perf_counter()
    query, pictures = _understood(body)
    if pictures:
        ((name, data),) = pictures.items()
        branch = BRANCHES[name]
        answer = _ask(collection, collection.embed([data], branch), query, served.max_hits, branch)
    else:
        vector = collection.vectors([query.item or ""])
        answer = _ask(collection, vector, query, served.max_hits, leaving_out=query.item)
    return answer_out(request, collection, answer, round((time.perf_counter() - start) * 1000, 2))


def _understood(body: bodies.Body) -> tuple[Query, dict[str, bytes]]:
    """The question, and the picture it is about if it is not about an item."""
    if body.json is not None:
        query = bodies.checked(Query, body.json)
        given = {"image": query.image, "sketch": query.sketch}
        return query, {name: images.from_base64(text) for name, text in given.items() if text is not None}
    found = bodies.pictures(body, *BRANCHES)
    query = bodies.checked(QueryForm, {k: v for k, v in body.fields.items() if k not in BRANCHES})
    if len(found) + (query.item is not None) != 1 or len(found) < len(body.files):
        raise UsageError("The form needs one file, under the name “image” or “sketch”, or the id of an “item”.")
    return query, found


def _ask(
    collection: Collection,
    vectors: Vectors,
    query: Query,
    max_hits: int,
    branch: Branch = "photo",
    *,
    leaving_out: str | None = None,
) -> Answer:
    where = query.filter.filter()
    how = Asked(metric=query.metric, branch=branch, exact=query.exact)
    most = max_hits if query.ring else query.k or DEFAULT_K
    more = most + (leaving_out is not None)
    if query.ring:
        least, radius = query.ring
        (answer,) = collection.within(vectors, radius, where, least=least, most=more, **how)
    else:
        (answer,) = collection.knn(vectors, more, where, **how)
    hits = [hit for hit in answer.hits if hit.item.id != leaving_out]
    complete = answer.complete and (not query.ring or len(hits) <= most)
    return replace(answer, hits=tuple(hits[:most]), complete=complete)


class _Wrapped(BaseModel):
    image: str


class _Plain(RootModel[str | _Wrapped]):
    """JSON that holds Base64."""


async def _raw(request: Request) -> bytes:
    return await request.body()


@router.post(
    "/search",
    responses=responses(413, 422, 500, 503),
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
def search_plainly(request: Request, served: Served, body: Annotated[bytes, Depends(_raw)]) -> PlainOut:
    """The ten nearest items of the first collection to the Base64 image that is the body, whatever type it claims."""
    collection = served.first()
    text: str | bytes = body.strip()
    if isinstance(text, bytes) and text[:1] in {b'"', b"{"}:  # neither is in Base64's alphabet
        given = bodies.checked(_Plain, text).root
        text = given.image if isinstance(given, _Wrapped) else given
    (answer,) = collection.knn(collection.embed([images.from_base64(text)]), DEFAULT_K)
    urls = (str(request.url_for("image", c=collection.name, ident=hit.item.id)) for hit in answer.hits)
    return PlainOut(results=dict(zip(urls, (hit.distance for hit in answer.hits), strict=True)))
