"""Searching without looking at every row: approximate indexes, and pivots that leave distances out."""
