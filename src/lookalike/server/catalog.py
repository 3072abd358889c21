"""Routes about collections as wholes."""

from fastapi import APIRouter

from lookalike import __version__
from lookalike.collection import Collection
from lookalike.metric import Metric
from lookalike.server.problems import responses
from lookalike.server.shapes import CollectionOut, CollectionsOut, EncoderOut, HealthOut
from lookalike.server.shelf import One, Served

router = APIRouter(tags=["collections"])


@router.get("/api/collections", responses=responses(500))
def list_collections(served: Served) -> CollectionsOut:
    """All collections of this server; the first one is the default."""
    return CollectionsOut(collections=[_out(c, served.read_only) for c in served.collections.values()])


@router.get("/api/collections/{c}", responses=responses(404, 422, 500))  # noqa: FAST003 -- `One` takes it
def get_collection(collection: One, served: Served) -> CollectionOut:
    """One collection."""
    return _out(collection, served.read_only)


@router.get("/health", tags=["health"], responses=responses(500))
def health(served: Served) -> HealthOut:
    """That the server is there and can read its collections."""
    items = {name: c.store.count() for name, c in served.collections.items()}
    return HealthOut(status="ok", version=__version__, collections=items)


def _out(collection: Collection, read_only: bool) -> CollectionOut:
    store, card = collection.store, collection.encoder.card
    return CollectionOut(
        name=collection.name,
        items=store.count(),
        dimension=store.dimension,
        metric=store.metric,
        metrics=[m for m in Metric if m.dtype == store.metric.dtype],
        codec=store.codec,
        encoder=EncoderOut(
            name=card.name, description=card.description, branches=list(card.branches), size=card.input.size
        ),
        labels=store.labels(),
        read_only=read_only,
    )
