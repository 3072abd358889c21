"""Routes to the pictures of items, and to one item.

A picture is asked for by its item, never by a path, and sent only if its bytes are an image.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from lookalike import images
from lookalike.collection import Collection
from lookalike.errors import NotFoundError
from lookalike.server.problems import responses
from lookalike.server.shapes import ItemOut, item_out
from lookalike.server.shelf import Id, One
from lookalike.stores import Item

# The catch-all for ids comes last: an id may hold a slash.
router = APIRouter(prefix="/api/collections/{c}/items/{ident:path}", tags=["items"])

# An item keeps its address when its file changes, so a browser asks again after a while.
_CACHE = "private, max-age=300"

_IfNoneMatch = Annotated[str | None, Header(description="An ETag that the client has.")]


def _documented(kind: str, schema_of: str) -> dict[int | str, dict[str, object]]:
    content = {kind: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": schema_of, "content": content},
        304: {"description": "The client has it already."},
        **responses(404, 413, 422, 500),
    }


@router.get("/image", response_class=Response, responses=_documented("image/*", "The file as it is."))
def image(collection: One, ident: Id, if_none_match: _IfNoneMatch = None) -> Response:
    """An item's picture in full, in the format of its file."""
    item = _item(collection, ident)
    if _has(if_none_match, item.sha256):
        return _unchanged(item.sha256)
    try:
        data = images.read_bytes(collection.file(item))
    except NotFoundError as e:
        raise _gone() from e
    # Not the item's: the file may have changed since it was indexed.
    return _picture(data, images.media_type(data), images.fingerprint(data))


@router.get("/thumbnail", response_class=Response, responses=_documented("image/jpeg", "At most 256 pixels a side."))
def thumbnail(collection: One, ident: Id, if_none_match: _IfNoneMatch = None) -> Response:
    """An item's picture made small."""
    item = _item(collection, ident)
    mark = f"{item.sha256}-256"
    if _has(if_none_match, mark):
        return _unchanged(mark)
    try:
        return _picture(collection.thumbnail(item), "image/jpeg", mark)
    except NotFoundError as e:
        raise _gone() from e


@router.get("", responses=responses(404, 422, 500))
def get_item(request: Request, collection: One, ident: Id) -> ItemOut:
    """One item."""
    return item_out(request, collection, _item(collection, ident))


def _item(collection: Collection, ident: str) -> Item:
    found = collection.store.get([ident])
    if ident not in found:
        raise NotFoundError("There is no such item, or not any more.")
    return found[ident]


def _gone() -> NotFoundError:
    return NotFoundError("The item is there, but its file is gone. Index the folder again, or remove the item.")


def _has(if_none_match: str | None, mark: str) -> bool:
    return if_none_match is not None and bool(mark) and (f'"{mark}"' in if_none_match or if_none_match.strip() == "*")


def _unchanged(mark: str) -> Response:
    return Response(status_code=304, headers={"ETag": f'"{mark}"', "Cache-Control": _CACHE})


def _picture(data: bytes, kind: str, mark: str) -> Response:
    return Response(data, headers={"ETag": f'"{mark}"', "Cache-Control": _CACHE}, media_type=kind)
