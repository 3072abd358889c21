"""Routes about the items of a collection: list, add, look at, remove."""

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
from lookalike.server.problems import responses
from lookalike.server.shapes import MOST, ItemOut, ItemsOut, NewItem, NewItemForm, item_out
from lookalike.server.shelf import Id, One, writable
from lookalike.stores import Item

router = APIRouter(prefix="/api/collections/{c}/items", tags=["items"])

_Label = Annotated[list[str] | None, Query(description="Only items with this label; several may be given.")]
_Shuffle = Annotated[
    int | None,
    Query(
        ge=0, lt=2**63, description="A random order that is the same for the same number. By id where none is given."
    ),
]
_Cursor = Annotated[str, Query(max_length=4096, description="What the page before gave.")]
_Limit = Annotated[int, Query(ge=1, le=MOST)]


@router.get("", responses=responses(404, 422, 500))
def list_items(
    request: Request,
    collection: One,
    *,
    label: _Label = None,
    shuffle: _Shuffle = None,
    cursor: _Cursor = "",
    limit: _Limit = 50,
) -> ItemsOut:
    """The items of a collection, page by page."""
    where = Filter(labels=frozenset(label)) if label else Filter()
    if shuffle is None:
        found = list(islice(collection.store.scan(where, after=cursor), limit))
        last = found[-1].id if found else ""
    else:
        keyed = _shuffled(collection, where, shuffle, cursor, limit)
        found = [item for _, item in keyed]
        last = keyed[-1][0] if keyed else ""
    return ItemsOut(
        items=[item_out(request, collection, item) for item in found],
        cursor=last if len(found) == limit else None,
        total=collection.store.count(where),
    )


def _shuffled(collection: Collection, where: Filter, seed: int, cursor: str, limit: int) -> list[tuple[str, Item]]:
    """The next items in the order of a hash, with these: nothing is kept from page to page, and few in memory."""
    key = seed.to_bytes(8)

    def place(item: Item) -> str:
        return hashlib.blake2b(item.id.encode(), digest_size=10, key=key).hexdigest()

    keyed = ((place(item), item) for item in collection.store.scan(where))
    return heapq.nsmallest(limit, (pair for pair in keyed if pair[0] > cursor), key=lambda pair: pair[0])


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(writable)],
    responses=responses(400, 403, 404, 413, 415, 422, 500, 503, 507),
    openapi_extra=bodies.documented(NewItem, NewItemForm, "image"),
)
def add_item(request: Request, response: Response, collection: One, body: bodies.Received) -> ItemOut:
    """Add a picture. The same file again is the same item, with the new label and attributes."""
    about: NewItem | NewItemForm
    if body.json is not None:
        about = bodies.checked(NewItem, body.json)
        data = images.from_base64(about.image)
    else:
        found = bodies.pictures(body, "image")
        if not found or len(found) < len(body.files):
            raise UsageError("The form needs one file, under the name “image”.")
        data = found["image"]
        about = bodies.checked(NewItemForm, {k: v for k, v in body.fields.items() if k != "image"})
    item = collection.add_bytes(data, about.label, about.attributes)
    out = item_out(request, collection, item)
    response.headers["Location"] = out.uri.removesuffix("/image")
    return out


@router.delete(
    "/{ident:path}",
    status_code=204,
    dependencies=[Depends(writable)],
    responses=responses(403, 404, 422, 500, 503, 507),
)
def remove_item(collection: One, ident: Id) -> None:
    """Take an item out. A picture that was uploaded goes with it; files that were indexed stay where they are."""
    if not collection.remove([ident]):
        raise NotFoundError("There is no such item, or not any more.")
