"""What a request can ask for: the collections that are served, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Path, Request

from lookalike.collection import Collection
from lookalike.errors import NotFoundError


@dataclass(frozen=True)
class Shelf:
    """The collections of an application, whether they may be changed, and how many hits within a distance it gives."""

    collections: Mapping[str, Collection]
    read_only: bool
    max_hits: int = 1000

    def get(self, name: str) -> Collection:
        """One of them; NotFoundError where there is none of this name."""
        if name not in self.collections:
            raise NotFoundError(
                "This server has no collection of that name. Its list of collections says which it has."
            )
        return self.collections[name]

    def first(self) -> Collection:
        """The one that answers where none is named."""
        return next(iter(self.collections.values()))


def shelf(request: Request) -> Shelf:
    """The collections of the application that a request came to."""
    return cast("Shelf", request.app.state.shelf)


Served = Annotated[Shelf, Depends(shelf)]


def _one(served: Served, c: Annotated[str, Path(description="The collection's name.")]) -> Collection:
    return served.get(c)


One = Annotated[Collection, Depends(_one)]
"""The collection that the path names."""

Id = Annotated[str, Path(description="The item's id.")]


def writable(served: Served) -> None:
    """Refuse what would change a collection where that is not allowed."""
    if served.read_only:
        raise HTTPException(403, "This server only reads: items are neither added nor removed here.")
