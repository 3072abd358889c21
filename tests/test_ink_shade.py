"""Drawings that are painted as solid things."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lookalike.learn.networks.ink_shade import InkShade


def square(gap: int = 0) -> Tensor:
    """Draw the outline of a square, black on white, with a gap at its top."""
    x = torch.ones(1, 1, 60, 60)
    for side in (slice(15, 17), slice(43, 45)):
        x[:, :, side, 15:45] = -1
        x[:, :, 15:45, side] = -1
    if gap:
        x[:, :, 15:17, 30 : 30 + gap] = 1
    return x


def test_the_inside_is_painted_and_the_outside_is_background() -> None:
    painted = InkShade(60)(square())[0]
    outside, inside = painted[:, 5, 5], painted[:, 30, 30]
    assert (inside < outside - 0.5).all()
    assert outside[2] > outside[0]  # a pale blue
    assert inside[0] > inside[2]  # a brown
    assert (painted[:, 16, 30] == -1).all()  # ink stays black
    rim, middle = painted[:, 18, 18], painted[:, 30, 30]
    assert (rim >= middle).all()
    assert rim.sum() > middle.sum()


def test_a_gap_in_the_outline_leaves_out_only_a_strip() -> None:
    whole, with_gap = (InkShade(60)(square(gap))[0] for gap in (0, 6))
    background = whole[:, :1, :1]
    assert (with_gap[:, 20:40, 30:36] == background).all()
    for beside in (with_gap[:, 20:40, 20:29], with_gap[:, 20:40, 37:43]):
        assert (beside < background - 0.3).all()


def test_a_blank_sheet_is_finite_and_of_one_colour() -> None:
    for value in (-1.0, 0.0, 1.0):
        painted = InkShade(60)(torch.full((1, 1, 60, 60), value))
        assert torch.isfinite(painted).all()
        assert (painted == painted[:, :, :1, :1]).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1_000), scale=st.floats(0.1, 4), offset=st.floats(-3, 3), count=st.integers(1, 3))
def test_contrast_and_brightness_only_scale_the_result(seed: int, scale: float, offset: float, count: int) -> None:
    levels = np.array([-1, -0.6, 0.2, 0.8], np.float32)  # none is as dark as the lightest ink
    x = torch.from_numpy(np.random.default_rng(seed).choice(levels, (count, 1, 24, 24)))
    shade = InkShade(24)
    assert torch.allclose(shade(scale * x + offset), scale * shade(x) + offset, atol=1e-3 * max(1, scale))


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    both = torch.cat([square(), square(6)])
    shade = InkShade(60)
    assert torch.equal(shade(both), torch.cat([shade(square()), shade(square(6))]))
