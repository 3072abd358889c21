"""Searching without looking at every row: approximate indexes, and pivots that leave distances out."""

from lookalike.ann.index import MIN_VECTORS, Index, Kind, RowMap, build, knn, read, within, write
from lookalike.ann.tuning import tune

__all__ = ["MIN_VECTORS", "Index", "Kind", "RowMap", "build", "knn", "read", "tune", "within", "write"]
