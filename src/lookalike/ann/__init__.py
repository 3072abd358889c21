"""Approximate indexes over vectors, and approximate joins."""

from lookalike.ann.far_queries import FarQueries, merge, nearest, tune_far
from lookalike.ann.index import MIN_VECTORS, Index, Kind, RowMap, build, knn, read, within, write
from lookalike.ann.tuning import tune

__all__ = [
    "MIN_VECTORS",
    "FarQueries",
    "Index",
    "Kind",
    "RowMap",
    "build",
    "knn",
    "merge",
    "nearest",
    "read",
    "tune",
    "tune_far",
    "within",
    "write",
]
