"""The collections that a server serves, and the dependencies that pass them to routes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Path, Request

from lookalike.collection import Collection
from lookalike.errors import NotFoundError


@dataclass(frozen=True)
class ServedCollections:
    """The collections of an application.

    Attributes:
        collections: the collections by name; the first one is the default.
        read_only: whether requests that add or remove items are refused.
        max_hits: maximum number of hits of a range search.
    """

    collections: Mapping[str, Collection]
    read_only: bool
    max_hits: int = 1000

    def get(self, name: str | None) -> Collection:
        """Return a collection by name, or the default one.

        Raises:
            NotFoundError: no collection has the name.
        """
        if name is None:
            return next(iter(self.collections.values()))
        if name not in self.collections:
            raise NotFoundError("This server has no collection of that name. Choose one from its list of collections.")
        return self.collections[name]


def _get_served(request: Request) -> ServedCollections:
    return cast("ServedCollections", request.app.state.served)


Served = Annotated[ServedCollections, Depends(_get_served)]


def _get_collection(served: Served, c: Annotated[str, Path(description="The collection's name.")]) -> Collection:
    return served.get(c)


NamedCollection = Annotated[Collection, Depends(_get_collection)]
"""The collection that the path names."""

ItemId = Annotated[str, Path(description="The item's id.")]


def require_writable(served: Served) -> None:
    """Refuse a request that would change a collection of a read-only server."""
    if served.read_only:
        raise HTTPException(403, "This server is read-only. Add and remove items with the command line.")
