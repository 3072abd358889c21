"""Exact search of bits against its definition: ties, odd lengths, parts of tiles, threads, and without FAISS."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.query import DistanceRange
from lookalike.search import bits, bounds, join, knn, prepare, self_join, within
from test_search import HAMMING, Array, definition, inside, listed, middle, nearest, triples

Way = dict[str, Any]

cases = st.tuples(
    st.sampled_from([1, 2, 3, 8, 12, 17, 24, 40, 70]),  # bytes of a code
    st.sampled_from([1, 2, 4, 256]),  # values of a byte: with few of them, most distances are ties
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 2, 9, 20]),
    st.sampled_from([0, 1, 30, 400]),
)
ways = st.fixed_dictionaries(
    {
        "_FEW": st.sampled_from([0, 2**17]),  # pairs that FAISS selects itself
        "_CELLS": st.sampled_from([7, 200, 2**17]),
        "_THREAD": st.sampled_from([1, 2**27]),
        "load_faiss": st.sampled_from([bounds.load_faiss, lambda _: False]),
    }
)


@pytest.fixture(autouse=True)
def _usual_ways() -> Iterator[None]:
    usual = {name: getattr(bits, name) for name in ("_FEW", "_CELLS", "_THREAD", "load_faiss")}
    yield
    take(usual)


def take(way: Way) -> None:
    """Choose how to search; the answers must be the same."""
    for name, value in way.items():
        setattr(bits, name, value)
    setattr(bounds, "load_faiss", way["load_faiss"])  # noqa: B010 -- mypy refuses another function


def made(case: tuple[int, int, int, int, int]) -> tuple[Array, Array]:
    width, values, seed, q, n = case
    rng = np.random.default_rng(seed)
    return rng.integers(0, values, (q, width), np.uint8), rng.integers(0, values, (n, width), np.uint8)


@settings(max_examples=150)
@given(cases, ways, st.sampled_from([1, 2, 10, 500]), st.randoms(use_true_random=False))
def test_any_way_gives_the_nearest_of_the_definition(
    case: tuple[int, int, int, int, int], way: Way, k: int, random: Random
) -> None:
    a, b = made(case)
    take(way)
    rows = np.array(sorted(random.sample(range(len(b)), random.randint(0, len(b)))), np.int64)
    distances = definition(a, b, HAMMING)
    assert listed(knn(a, b, k, HAMMING)) == nearest(distances, k)
    found = listed(knn(a, b, k, HAMMING, rows=rows))
    assert found == [[(rows[j], x) for j, x in row] for row in nearest(distances[:, rows], k)]


@settings(max_examples=100)
@given(cases, ways, st.floats(0, 1), st.floats(0, 1))
def test_any_way_gives_the_range_of_the_definition(
    case: tuple[int, int, int, int, int], way: Way, one: float, other: float
) -> None:
    a, b = made(case)
    take(way)
    distances = definition(a, b, HAMMING)
    low, high = (middle(distances, part) for part in sorted((one, other)))
    for least, most in ((0, high), (low, high), (low - 0.5, high + 0.5), (0, np.inf)):
        expected = inside(distances, most, max(0, least))
        assert listed(within(a, b, DistanceRange(max(0, least), most), HAMMING)) == expected


@settings(max_examples=30)
@given(cases, ways, st.integers(1, 12))
def test_joins_of_bits(case: tuple[int, int, int, int, int], way: Way, k: int) -> None:
    a, b = made(case)
    take(way)
    expected = nearest(definition(a, b, HAMMING), k)
    assert triples(join(a, b, HAMMING, k=k)) == sorted((i, j, x) for i, row in enumerate(expected) for j, x in row)
    own = definition(a, a, HAMMING)
    radius = middle(own)
    pairs = sorted((i, j, x) for i, row in enumerate(inside(own, radius)) for j, x in row if i < j)
    assert triples(self_join(a, HAMMING, within=DistanceRange(0, radius))) == pairs


def test_codes_may_lie_in_a_file_or_apart(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (500, 24), np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    for few in (0, 2**17):
        bits._FEW = few
        for same in (mapped, np.asfortranarray(codes), np.repeat(codes, 2, axis=0)[::2]):
            gallery = prepare(same, HAMMING)
            assert listed(knn(codes[:20], gallery, 5, HAMMING)) == nearest(definition(codes[:20], codes, HAMMING), 5)


def test_a_small_gallery_is_searched_without_faiss() -> None:
    script = """
import sys, numpy as np
from lookalike.metric import Metric
from lookalike.search import knn
codes = np.arange(2**15, dtype=np.uint8).reshape(-1, 8)
small = knn(codes[:1], codes, 3, Metric.HAMMING)
assert "faiss" not in sys.modules
large = knn(codes[:1], np.tile(codes, (100, 1)), 3, Metric.HAMMING)
assert "faiss" in sys.modules
assert small.distances.tolist() == large.distances.tolist() == [0, 0, 0]
"""
    subprocess.run([sys.executable, "-c", script], check=True)
