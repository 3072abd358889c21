"""The distance of chance, and what answers say of it."""

import numpy as np
import pytest

from lookalike import chance
from lookalike.metric import Metric


def test_the_distance_of_chance_is_that_within_which_almost_every_item_has_another() -> None:
    line = np.arange(1000, dtype=np.float32)[:, None] * [[0.5, 0]]
    assert chance.chance_distance(line.astype(np.float32), Metric.EUCLIDEAN) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
def test_too_few_items_and_items_that_are_all_alike_have_no_distance_of_chance(metric: Metric) -> None:
    assert chance.chance_distance(np.ones((chance.MIN_ITEMS - 1, 4), np.float32), metric) is None
    assert chance.chance_distance(np.ones((200, 4), np.float32), metric) is None
    assert chance.chance_distance(np.empty((0, 4), np.float32), metric) is None


def test_bits_have_a_distance_of_chance() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (300, 8), np.uint8)
    assert 8 < (chance.chance_distance(codes, Metric.HAMMING) or 0) < 32
