"""The collections that a server serves, and the dependencies that pass them to routes."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Path, Request

from lookalike.collection import Collection
from lookalike.errors import NotFoundError, UsageError
from lookalike.server.concurrency import ConcurrencyLimit
from lookalike.server.counts import ItemCounts
from lookalike.server.files import FileAccess
from lookalike.server.pixels import PixelBudget


def check_names(served: Sequence[Collection]) -> None:
    """Check that the addresses of the collections differ.

    Raises:
        UsageError: two have the same name.
    """
    for one, other in combinations(served, 2):
        if one.path.resolve() == other.path.resolve():
            raise UsageError(f"The collection {one.path} is given twice. Give it once.")
        if one.name == other.name:
            raise UsageError(
                f"Two collections are named “{one.name}”: {one.path} and {other.path}. Rename the folder of one of them, or start a server"
                " for each."
            )


@dataclass(frozen=True)
class ServedCollections:
    """The collections of an application.

    Attributes:
        collections: the collections by name; the first one is the default.
        files: the image files of each collection, by its name.
        read_only: whether requests that add or remove items are refused.
        max_hits: maximum number of hits of a range search.
        show_paths: whether items have the path of their file.
        pixels: the images that may be decoded at once.
        concurrency: the limit of the requests that compute at once.
    """

    collections: Mapping[str, Collection]
    files: Mapping[str, FileAccess]
    read_only: bool = False
    max_hits: int = 1000
    show_paths: bool = False
    pixels: PixelBudget = field(default_factory=PixelBudget)
    concurrency: ConcurrencyLimit = field(default_factory=ConcurrencyLimit)

    @cached_property
    def counts(self) -> ItemCounts:
        """The numbers of items."""
        return ItemCounts(self.collections)

    def get(self, name: str | None) -> Collection:
        """Return a collection by name, or the default one, with the encoder that it has now.

        Raises:
            NotFoundError: no collection has the name.
        """
        if name is None:
            name = next(iter(self.collections))
        if name not in self.collections:
            raise NotFoundError("This server has no collection of that name. Choose one from its list of collections.")
        collection = self.collections[name]
        collection.refresh()
        return collection

    def decode(self, collection: Collection, *contents: bytes) -> AbstractContextManager[None]:
        """Reserve memory for image files that the block embeds; raises as `PixelBudget.hold`."""
        return self.pixels.hold(*contents, at_least=collection.embedder.encoder.card.input.decoded_side)


def get_served(request: Request) -> ServedCollections:
    """Return what the application of a request serves."""
    return cast("ServedCollections", request.app.state.served)


# The dependencies are `async`, so that FastAPI calls them on the event loop: a request would have to wait for a thread.


async def _depend_on_served(request: Request) -> ServedCollections:
    return get_served(request)


Served = Annotated[ServedCollections, Depends(_depend_on_served)]


async def _get_collection(served: Served, c: Annotated[str, Path(description="The collection's name.")]) -> Collection:
    return served.get(c)


NamedCollection = Annotated[Collection, Depends(_get_collection)]
"""The collection that the path names."""

ItemId = Annotated[str, Path(description="The item's id.")]


async def require_writable(served: Served) -> None:
    """Refuse a request that would change a collection of a read-only server."""
    if served.read_only:
        raise HTTPException(403, "This server is read-only. Ask the server's owner to add or remove items.")


async def hold_slot(served: Served) -> AsyncIterator[None]:
    """Let a request compute when a slot is free; raises as `ConcurrencyLimit.hold_slot`."""
    async with served.concurrency.hold_slot():
        yield


ComputeSlot = Annotated[None, Depends(hold_slot, scope="function")]
"""A slot of `ConcurrencyLimit`. It is taken when the body has arrived, and freed before the answer is sent: the client may be slow."""
