"""Exact k-NN, range search and joins over arrays, the reference for every store and index.

Answers equal those of `lookalike.metric.pairwise` rounded to float32 and sorted by (distance, row), on any data. BLAS or a
prefilter computes a lower bound of each distance. Pairs that the bound does not rule out are measured by definition. So
rounding in BLAS, and the cancellation in ‖a‖² - 2ab + ‖b‖², cost a few more measurements and never a wrong answer.

A query goes through these files: `exact` (or `joins`) checks the arguments and splits the queries into batches, `engine`
goes through the gallery in tiles, a file in `prefilters` or `bounds` finds the candidates of a tile, and `bounds.measure`
measures them. Memory does not grow with the number of queries or rows.
"""

from lookalike.search.answers import Hits, JoinChunk, Pairs
from lookalike.search.coded import CodedVectors
from lookalike.search.exact import knn, within, within_sorted
from lookalike.search.gallery import Gallery, Prefilter
from lookalike.search.joins import join, self_join
from lookalike.search.prefilters.quantised import Precision
from lookalike.search.preparation import prepare, update

__all__ = [
    "CodedVectors",
    "Gallery",
    "Hits",
    "JoinChunk",
    "Pairs",
    "Precision",
    "Prefilter",
    "join",
    "knn",
    "prepare",
    "self_join",
    "update",
    "within",
    "within_sorted",
]
