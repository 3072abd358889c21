"""Joins of stores: pairs of items, streamed or written to a file by a resumable job."""

from lookalike.joins.matching import Join, Matches
from lookalike.joins.pairs import JoinPairs, Pair
from lookalike.joins.writing import WrittenJoin, stream, write

__all__ = ["Join", "JoinPairs", "Matches", "Pair", "WrittenJoin", "stream", "write"]
