"""Helpers that create and search stores."""

from pathlib import Path
from typing import Any

from lookalike.metric import VectorSpace
from lookalike.query import ALL, DistanceRange, Filter, Query, Vectors
from lookalike.stores import Answer, SQLiteStore, Store


def create_store(folder: Path, space: VectorSpace) -> SQLiteStore:
    """Create a folder with an empty embedded store."""
    folder.mkdir()
    return SQLiteStore.create(folder, space)


def knn(store: Store, vectors: Vectors, k: int, where: Filter = ALL, **options: Any) -> list[Answer]:  # noqa: ANN401 -- those of Query
    """Search for the k nearest items of each vector."""
    return store.search(Query(vectors=vectors, k=k, where=where, **options))


def range_query(vectors: Vectors, maximum: float, where: Filter = ALL, minimum: float = 0, **options: Any) -> Query:  # noqa: ANN401 -- as above
    """Build a query for all items in a range of distances of each vector."""
    return Query(vectors=vectors, within=DistanceRange(minimum, maximum), where=where, **options)
