"""Searching without looking at every row: approximate indexes, and pivots that leave distances out."""

from lookalike.ann.index import FEWEST, Index, Kind, Places, build, knn, read, within, write
from lookalike.ann.tuning import tuned

__all__ = ["FEWEST", "Index", "Kind", "Places", "build", "knn", "read", "tuned", "within", "write"]
