"""Approximate indexes over vectors, and approximate joins."""

from lookalike.ann.index import MIN_VECTORS, Index, Kind, RowMap, build, knn, read, within, write
from lookalike.ann.tuning import tune

__all__ = ["MIN_VECTORS", "Index", "Kind", "RowMap", "build", "knn", "read", "tune", "within", "write"]
