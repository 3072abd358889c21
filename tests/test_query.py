"""Queries and distance ranges."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace, similarity
from lookalike.query import DEFAULT_K, DistanceRange, Query

EUCLIDEAN = VectorSpace(Metric.EUCLIDEAN, 4)
BITS = VectorSpace(Metric.HAMMING, 64)


@pytest.mark.parametrize(
    ("value", "space", "expected"),
    [
        ("0.35", EUCLIDEAN, (0, 0.35)),
        (0.35, EUCLIDEAN, (0, 0.35)),
        (np.float32(0.5), EUCLIDEAN, (0, 0.5)),
        ("0.1..0.3", EUCLIDEAN, (0.1, 0.3)),
        ((0.1, 0.3), EUCLIDEAN, (0.1, 0.3)),
        ([1], EUCLIDEAN, (0, 1)),
        ("80%", EUCLIDEAN, (0, 0.25)),
        ("50%..80%", EUCLIDEAN, (0.25, 1)),
        ("80%..50%", EUCLIDEAN, (0.25, 1)),
        ("0%", EUCLIDEAN, (0, math.inf)),
        ("inf", EUCLIDEAN, (0, math.inf)),
        (" 75% ", BITS, (0, 16)),
        (DistanceRange(1, 2), EUCLIDEAN, (1, 2)),
    ],
)
def test_a_distance_range_is_parsed(value: Any, space: VectorSpace, expected: tuple[float, float]) -> None:  # noqa: ANN401 -- any type
    found = DistanceRange.parse(value, space)
    assert (found.min, found.max) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value", ["", "x", "1..2..3", "80%%", "nan", "-1", "3..2", "101%", (), (1, 2, 3), None, object(), ("a", "b")]
)
def test_an_invalid_distance_range_is_refused(value: Any) -> None:  # noqa: ANN401 -- as above
    with pytest.raises(UsageError):
        DistanceRange.parse(value, EUCLIDEAN)


@given(st.floats(0, 100), st.sampled_from([EUCLIDEAN, BITS, VectorSpace(Metric.COSINE, 3)]))
def test_a_percentage_is_the_distance_of_that_similarity(per_cent: float, space: VectorSpace) -> None:
    found = DistanceRange.parse(f"{per_cent!r}%", space)
    assert similarity(found.max, space.metric, space.dimension) == pytest.approx(per_cent / 100, abs=1e-9)


def test_a_query_finds_the_nearest_by_default() -> None:
    vectors = np.zeros((3, 4), np.float32)
    assert Query(vectors=vectors).k == DEFAULT_K
    assert Query(vectors=vectors, within=DistanceRange(0, 1)).k is None
    assert len(Query(vectors=vectors)) == 3
    assert len(Query(items=["a", "b"])) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 1.5},
        {"k": "3"},
        {"k": 3, "within": DistanceRange(0, 1)},
        {"limit": 0},
        {"limit": 5},
        {"branch": "painting"},
        {"branch": None},
        {"items": ["a"]},
        {"images": [b"x"]},
    ],
)
def test_an_invalid_query_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Query(vectors=np.zeros((1, 4), np.float32), **wrong)
