"""Exact search over arrays: the k nearest, everything within a radius, and joins of two collections or of one.

This is the oracle that everything else is compared with: the answers, rows and distances alike, are those of
`lookalike.metric.pairwise` rounded to float32 and sorted by (distance, row), on any data.

They come by filter and refine (Seidl and Kriegel, "Optimal multi-step k-nearest neighbor search", SIGMOD 1998). BLAS
gives a *lower bound* of every distance at the speed of memory; what the bound cannot rule out is measured by definition.
So rounding in BLAS, and the cancellation in ‖a‖² - 2ab + ‖b‖², cost a few more measurements and never a wrong answer.
What reads fewer bytes or dimensions first, a `Scan` for one query or a `Projection` for batches and joins, gives a lower
bound too.

Queries and galleries go through in tiles, so that the memory in use does not grow with either.
"""

from lookalike.search.answers import Hits, JoinChunk, Pairs
from lookalike.search.bounds import Gallery, prepare
from lookalike.search.exact import join, knn, self_join, within, within_sorted
from lookalike.search.projection import Projection
from lookalike.search.scan import Scan

__all__ = [
    "Gallery",
    "Hits",
    "JoinChunk",
    "Pairs",
    "Projection",
    "Scan",
    "join",
    "knn",
    "prepare",
    "self_join",
    "within",
    "within_sorted",
]
