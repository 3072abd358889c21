"""Routes that describe collections, and the health check."""

from fastapi import APIRouter

from lookalike.collection import Collection
from lookalike.server.problems import responses
from lookalike.server.schemas import CollectionOut, CollectionsOut, EncoderOut, HealthOut
from lookalike.server.served import NamedCollection, Served
from lookalike.version import __version__

router = APIRouter(tags=["collections"])


@router.get("/api/collections", responses=responses(500))
def list_collections(served: Served) -> CollectionsOut:
    """List all collections of this server; the first one is the default."""
    return CollectionsOut(
        collections=[_collection_out(served.get(name), served.read_only) for name in served.collections]
    )


@router.get("/api/collections/{c}", responses=responses(404, 422, 500))  # noqa: FAST003 -- `NamedCollection` reads it
def get_collection(collection: NamedCollection, served: Served) -> CollectionOut:
    """Describe a collection."""
    return _collection_out(collection, served.read_only)


@router.get("/health", tags=["health"], responses=responses(500))
async def health(served: Served) -> HealthOut:
    """Check that the server runs and can read its collections. It answers soon, however busy the server is."""
    return HealthOut(status="ok", version=__version__, collections=await served.counts.get())


def _collection_out(collection: Collection, read_only: bool) -> CollectionOut:
    store, embedder = collection.store, collection.embedder
    card = embedder.encoder.card
    return CollectionOut(
        name=collection.name,
        items=store.count(),
        dimension=embedder.space.dimension,
        metric=embedder.metric,
        metrics=list(embedder.space.metrics),
        codec=embedder.codec.name,
        encoder=EncoderOut(
            name=card.name,
            description=card.description,
            scope=embedder.scope,
            branches=list(card.branches),
            size=card.input.size,
        ),
        labels=store.labels(),
        read_only=read_only,
    )
