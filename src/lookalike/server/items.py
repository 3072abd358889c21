"""Routes that list, add and remove the items of a collection."""

import hashlib
import heapq
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from lookalike import images
from lookalike.collection import Collection
from lookalike.errors import NotFoundError, UsageError
from lookalike.query import Filter
from lookalike.server import bodies
from lookalike.server.problems import BODY_ERRORS, responses
from lookalike.server.schemas import MAX_COUNT, ItemOut, ItemsOut, NewItemBody, NewItemForm, item_out
from lookalike.server.served import ItemId, NamedCollection, Served, hold_slot, require_writable
from lookalike.stores import Item

router = APIRouter(prefix="/api/collections/{c}/items", tags=["items"])

_Label = Annotated[list[str] | None, Query(description="Only items with this label; may be repeated.")]
_Shuffle = Annotated[
    int | None,
    Query(ge=0, lt=2**63, description="Seed of a random order. Without it, items come in the order of their ids."),
]
_Cursor = Annotated[str, Query(max_length=4096, description="The cursor of the previous page.")]
_MAX_NAME = 255  # characters of a file name that are kept

_Limit = Annotated[int, Query(ge=1, le=MAX_COUNT)]


@router.get("", dependencies=[Depends(hold_slot, scope="function")], responses=responses(404, 422, 500, 503))
def list_items(
    request: Request,
    collection: NamedCollection,
    *,
    label: _Label = None,
    shuffle: _Shuffle = None,
    cursor: _Cursor = "",
    limit: _Limit = 50,
) -> ItemsOut:
    """List the items of a collection, page by page."""
    where = Filter(labels=frozenset(label)) if label else Filter()
    if shuffle is None:
        items = list(islice(collection.store.scan(where, after=cursor), limit))
        last = items[-1].id if items else ""
    else:
        keyed = _shuffled(collection, where, shuffle, cursor, limit)
        items = [item for _, item in keyed]
        last = keyed[-1][0] if keyed else ""
    return ItemsOut(
        items=[item_out(request, collection, item) for item in items],
        cursor=last if len(items) == limit else None,
        total=collection.store.count(where),
    )


def _shuffled(collection: Collection, where: Filter, seed: int, cursor: str, limit: int) -> list[tuple[str, Item]]:
    """Return the next items in the order of a keyed hash, with their hashes.

    The server stores nothing between two pages, and holds only one page in memory.
    """
    key = seed.to_bytes(8)

    def sort_key(item: Item) -> str:
        return hashlib.blake2b(item.id.encode(), digest_size=10, key=key).hexdigest()

    keyed = ((sort_key(item), item) for item in collection.store.scan(where))
    return heapq.nsmallest(limit, (pair for pair in keyed if pair[0] > cursor), key=lambda pair: pair[0])


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(require_writable)],
    responses=responses(*BODY_ERRORS, 403, 404, 415, 422, 500, 503, 507),
    openapi_extra=bodies.documented(NewItemBody, NewItemForm, "image"),
)
def add_item(
    request: Request, response: Response, collection: NamedCollection, served: Served, body: bodies.OneImage
) -> ItemOut:
    """Add an image. An image with the same content replaces the label and the attributes of its item."""
    new: NewItemBody | NewItemForm
    if body.json is not None:
        new = bodies.validate_json(NewItemBody, body.json)
        data = images.from_base64(new.image)
    else:
        uploaded = bodies.form_images(body, "image")
        if not uploaded or len(uploaded) < len(body.form.files):
            raise UsageError("The form needs one file, named “image”.")
        data = uploaded["image"]
        new = bodies.form_fields(body, NewItemForm, "image")
    filename = body.form.files["image"].filename if "image" in body.form.files else ""
    with served.decode(collection, data):
        item = collection.add_image(data, new.label, new.attributes, filename=filename[-_MAX_NAME:])
    out = item_out(request, collection, item)
    response.headers["Location"] = out.uri.removesuffix("/image")
    return out


@router.delete(
    "/{ident:path}",
    status_code=204,
    dependencies=[Depends(require_writable)],
    responses=responses(403, 404, 422, 500, 503, 507),
)
def remove_item(collection: NamedCollection, ident: ItemId) -> None:
    """Remove an item. The server deletes an uploaded image with its item; a file that was indexed stays in its place."""
    if not collection.remove([ident]):
        raise NotFoundError("The collection has no such item. It may have been removed.")
