"""Routes that return an item, its image and its thumbnail.

A request names an item, never a path. The server sends a file only if its content is an image.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from lookalike import images
from lookalike.collection import Collection
from lookalike.errors import NotFoundError
from lookalike.server.problems import responses
from lookalike.server.schemas import ItemOut, item_out
from lookalike.server.served import ItemId, NamedCollection, Served, ServedCollections
from lookalike.stores import Item

# The route with the id alone comes last, because an id may contain slashes.
router = APIRouter(prefix="/api/collections/{c}/items/{ident:path}", tags=["items"])

# An item keeps its address when its file changes, so browsers must ask again after five minutes.
_CACHE_CONTROL = "private, max-age=300"

_SIZE = 256  # of a thumbnail, in pixels

_IfNoneMatch = Annotated[str | None, Header(description="The ETag of the client's version.")]


def _documented(media_type: str, description: str) -> dict[int | str, dict[str, object]]:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": description, "content": content},
        304: {"description": "The client has this version."},
        **responses(403, 404, 413, 422, 500, 503),
    }


@router.get("/image", response_class=Response, responses=_documented("image/*", "The file, unchanged."))
def get_image(
    collection: NamedCollection, served: Served, ident: ItemId, if_none_match: _IfNoneMatch = None
) -> Response:
    """Return the image file of an item."""
    with served.files[collection.name].open(_get_item(collection, ident)) as file:
        if _matches(if_none_match, file.version):
            return _not_modified(file.version)
        return _image_response(file.content, images.media_type(file.content), file.version)


@router.get("/thumbnail", response_class=Response, responses=_documented("image/jpeg", "At most 256 pixels a side."))
async def get_thumbnail(
    collection: NamedCollection, served: Served, ident: ItemId, if_none_match: _IfNoneMatch = None
) -> Response:
    """Return a small JPEG of an item."""
    answer = await run_in_threadpool(_cached_thumbnail, collection, served, ident, if_none_match)
    if answer is None:
        async with served.concurrency.hold_slot():
            answer = await run_in_threadpool(_new_thumbnail, collection, served, ident)
    return answer


def _cached_thumbnail(
    collection: Collection, served: ServedCollections, ident: str, if_none_match: str | None
) -> Response | None:
    item = _get_item(collection, ident)
    with served.files[collection.name].open(item) as file:
        etag = f"{file.version}-{_SIZE}"
        if _matches(if_none_match, etag):
            return _not_modified(etag)
        data = collection.folder.cached_thumbnail(file.sha256(item), _SIZE)
        return None if data is None else _image_response(data, "image/jpeg", etag)


def _new_thumbnail(collection: Collection, served: ServedCollections, ident: str) -> Response:
    item = _get_item(collection, ident)
    with served.files[collection.name].open(item) as file:
        with served.pixels.hold(file.content, at_least=_SIZE):
            data = collection.folder.make_thumbnail(file.content, item, _SIZE)
        return _image_response(data, "image/jpeg", f"{file.version}-{_SIZE}")


@router.get("", responses=responses(404, 422, 500))
def get_item(request: Request, collection: NamedCollection, ident: ItemId) -> ItemOut:
    """Return an item."""
    return item_out(request, collection, _get_item(collection, ident))


def _get_item(collection: Collection, ident: str) -> Item:
    items = collection.store.get([ident])
    if ident not in items:
        raise NotFoundError("The collection has no such item. It may have been removed.")
    return items[ident]


def _matches(if_none_match: str | None, etag: str) -> bool:
    return if_none_match is not None and (f'"{etag}"' in if_none_match or if_none_match.strip() == "*")


def _not_modified(etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": f'"{etag}"', "Cache-Control": _CACHE_CONTROL})


def _image_response(data: bytes, media_type: str, etag: str) -> Response:
    return Response(data, headers={"ETag": f'"{etag}"', "Cache-Control": _CACHE_CONTROL}, media_type=media_type)
