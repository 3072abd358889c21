"""Metrics, compared with arithmetic by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.errors import UsageError
from lookalike.metric import Metric, paired, pairwise, similarity, similarity_to_distance

A = np.array([[3, 4], [0, 0], [-1, 2]], np.float32)
B = np.array([[3, 4], [6, 8], [-4, 3], [0, 0]], np.float32)


def test_euclidean_is_the_distance_and_not_its_square() -> None:
    expected = [[math.dist(a, b) for b in B.tolist()] for a in A.tolist()]
    assert pairwise(A, B, Metric.EUCLIDEAN) == pytest.approx(np.array(expected))
    assert pairwise(A, B, Metric.EUCLIDEAN)[0, 1] == 5


def test_cosine_is_one_minus_the_cosine_and_one_for_a_zero_vector() -> None:
    distances = pairwise(A, B, Metric.COSINE)
    assert distances[0] == pytest.approx(np.array([0, 0, 1, 1]))
    assert np.all(distances[1] == 1)
    assert distances[2] == pytest.approx(
        np.array([1 - 1 / math.sqrt(5), 1 - 1 / math.sqrt(5), 1 - 2 / math.sqrt(5), 1])
    )


def test_hamming_counts_bits() -> None:
    codes = np.array([[0b1010_0000, 0], [0b0101_0000, 1], [255, 255]], np.uint8)
    assert pairwise(codes, codes, Metric.HAMMING).tolist() == [[0, 5, 14], [5, 0, 13], [14, 13, 0]]


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
@pytest.mark.parametrize("scale", [1e-44, 1e-20, 1, 1e18, 3e37])
def test_the_distance_of_a_vector_to_itself_is_exactly_zero(metric: Metric, scale: float) -> None:
    vectors = (np.random.default_rng(0).standard_normal((50, 33)) * scale).astype(np.float32)
    assert np.all(paired(vectors, vectors, metric) == 0)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("dimension", [1, 2, 7, 8, 9, 127, 129, 1000])
def test_a_distance_depends_on_its_two_rows_alone(metric: Metric, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    a, b = (rng.standard_normal((2, 40, dimension)) * 100).astype(metric.dtype)
    whole = pairwise(a, b, metric)
    assert np.array_equal(whole, pairwise(b, a, metric).T)
    assert np.array_equal(whole, pairwise(np.asfortranarray(a), b[::-1], metric)[:, ::-1])
    assert np.array_equal(whole.diagonal(), paired(a, b, metric))
    assert [paired(a[i : i + 1], b[i : i + 1], metric)[0] for i in range(40)] == whole.diagonal().tolist()


@pytest.mark.parametrize("metric", list(Metric))
def test_empty_arrays_have_a_shape(metric: Metric) -> None:
    empty, three = np.zeros((0, 4), metric.dtype), np.zeros((3, 4), metric.dtype)
    assert pairwise(empty, three, metric).shape == (0, 3)
    assert pairwise(three, empty, metric).shape == (3, 0)


def test_parse() -> None:
    assert Metric.parse(" Cosine") is Metric.COSINE
    assert Metric.parse(Metric.HAMMING) is Metric.HAMMING
    with pytest.raises(UsageError, match=r"manhattan.*euclidean, cosine, hamming"):
        Metric.parse("manhattan")


def test_every_metric_has_a_unit() -> None:
    assert [metric.unit for metric in Metric] == ["Euclidean distance", "cosine distance", "bits"]


def test_similarity() -> None:
    distances = np.array([0, 1, 2], np.float32)
    assert similarity(distances, Metric.EUCLIDEAN, 512).tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert similarity(distances, Metric.COSINE, 512).tolist() == [1, 0.5, 0]
    assert similarity(distances, Metric.HAMMING, 4).tolist() == [1, 0.75, 0.5]
    assert similarity(math.inf, Metric.EUCLIDEAN, 2) == 0


@given(st.sampled_from(list(Metric)), st.floats(0, 1), st.integers(1, 4096))
def test_a_threshold_in_similarity_is_one_in_distance(metric: Metric, value: float, dimension: int) -> None:
    distance = similarity_to_distance(value, metric, dimension)
    assert distance >= 0
    assert similarity(distance, metric, dimension) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_similarity_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        similarity_to_distance(value, Metric.COSINE, 2)
