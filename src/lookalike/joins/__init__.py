"""Joins of what is in stores: pairs of items, streamed, or written into a file by a job that goes on where it was ended."""

from lookalike.joins.matching import Join, Matches
from lookalike.joins.pairs import JoinPairs, Pair
from lookalike.joins.writing import WrittenJoin, stream, write

__all__ = ["Join", "JoinPairs", "Matches", "Pair", "WrittenJoin", "stream", "write"]
