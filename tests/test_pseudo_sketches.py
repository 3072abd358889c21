"""Pseudo-sketches: what they trace, how they depend on style and seed, and their place in a run."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tiny_run
from lookalike.datasets import LabelledImages
from lookalike.errors import RecipeError
from lookalike.learn import data, recipe
from lookalike.learn.pseudo_sketches import pseudo_sketch, with_pseudo_sketches
from lookalike.learn.recipe.pseudo_sketches import PseudoSketches, PseudoSketchKind, PseudoSketchStyle
from lookalike.progress import SILENT
from lookalike.shapes import UInt8

KINDS: tuple[PseudoSketchKind, ...] = ("edges", "regions", "lines")


def product(side: int = 96) -> UInt8[np.ndarray, "s s 3"]:
    """Make a photo of a dark box on white, from a quarter to three quarters of each side."""
    image = np.full((side, side, 3), 250, np.uint8)
    image[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = (40, 60, 120)
    return image


@settings(max_examples=30, deadline=None)
@given(
    image=st.tuples(st.integers(8, 40), st.integers(8, 40)).flatmap(lambda s: arrays(np.uint8, (*s, 3))),
    kind=st.sampled_from(KINDS),
    drop=st.floats(0, 0.9),
    deform=st.floats(0, 20),
    seed=st.integers(0, 1_000),
)
def test_a_drawing_is_grey_of_the_photos_shape_and_follows_from_the_seed(
    image: UInt8[np.ndarray, "h w 3"], kind: PseudoSketchKind, drop: float, deform: float, seed: int
) -> None:
    style = PseudoSketchStyle(kinds=(kind,), drop=drop, deform=deform)
    before = image.copy()
    one, two = (pseudo_sketch(image, style, np.random.default_rng(seed)) for _ in range(2))
    assert (one == two).all()
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    assert (one == one[:, :, :1]).all()
    assert (image == before).all()


def test_the_kind_photo_is_the_photo_itself() -> None:
    image = product()
    assert (pseudo_sketch(image, PseudoSketchStyle(kinds=("photo",)), np.random.default_rng(0)) == image).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drop", [0.0, 0.9])
def test_strokes_follow_the_outline_of_a_product(kind: PseudoSketchKind, drop: float) -> None:
    style = PseudoSketchStyle(kinds=(kind,), drop=drop, deform=1.0)
    for seed in range(5):
        ink = np.argwhere(pseudo_sketch(product(), style, np.random.default_rng(seed))[:, :, 0] < 128)
        assert len(ink) > 50
        from_middle = np.abs(ink - 47.5).max(axis=1)  # 24 on the outline
        assert from_middle.min() > 12
        assert from_middle.max() < 36


@settings(max_examples=20, deadline=None)
@given(colour=st.tuples(*[st.integers(0, 255)] * 3), kind=st.sampled_from(KINDS), seed=st.integers(0, 100))
def test_a_photo_of_one_colour_gives_a_white_sheet(
    colour: tuple[int, int, int], kind: PseudoSketchKind, seed: int
) -> None:
    image = np.full((24, 32, 3), colour, np.uint8)
    drawing = pseudo_sketch(image, PseudoSketchStyle(kinds=(kind,)), np.random.default_rng(seed))
    assert (drawing == 255).all()


def test_thicker_strokes_have_more_ink() -> None:
    ink = [
        sum(int((pseudo_sketch(product(), style, np.random.default_rng(seed)) < 128).sum()) for seed in range(4))
        for style in (PseudoSketchStyle(thickness=(1, 1)), PseudoSketchStyle(thickness=(4, 4)))
    ]
    assert ink[1] > 1.5 * ink[0]


def test_without_deformation_two_drawings_of_one_style_differ_less() -> None:
    def spread(deform: float) -> float:
        style = PseudoSketchStyle(kinds=("regions",), thickness=(2, 2), drop=0, deform=deform)
        drawings = [pseudo_sketch(product(), style, np.random.default_rng(seed))[:, :, 0] for seed in range(6)]
        return float(np.std(drawings, axis=0).mean())

    assert spread(0) < spread(10)


def test_each_photo_gets_drawings_of_its_class_and_item(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path)
    samples = data.load(recipe.read(path), 0, SILENT).training
    both = with_pseudo_sketches(samples, PseudoSketches(count=2), seed=1)
    n = len(samples)
    assert len(both) == 3 * n
    assert (both.images[:n] == samples.images).all()
    assert (both.sketch == (np.arange(3 * n) >= n)).all()
    for column in ("labels", "items"):
        assert (getattr(both, column)[n:] == np.repeat(getattr(samples, column), 2)).all()
    again = with_pseudo_sketches(samples, PseudoSketches(count=2), seed=1)
    assert (both.images == again.images).all()


def test_pseudo_sketches_alone_train_and_validate_a_sketch_branch(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path)
    run = data.load(recipe.read(path, ["data.pseudo_sketches={count: 2}"]), 0, SILENT)
    assert int(run.training.sketch.sum()) == 2 * int((~run.training.sketch).sum())
    assert int(run.validation.sketch.sum()) == int((~run.validation.sketch).sum())


def test_real_sketches_validate_alone(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path, tiny_run.SKETCHES)
    run = data.load(recipe.read(path, ["data.pseudo_sketches={count: 2}"]), 0, SILENT)
    for samples, drawings in ((run.training, 3), (run.validation, 1)):
        assert int(samples.sketch.sum()) == drawings * int((~samples.sketch).sum())


@pytest.mark.parametrize("without", ["class", "item"])
def test_photos_of_drawn_classes_or_items_get_no_drawings(without: Literal["class", "item"]) -> None:
    photos = np.repeat(product(16)[None], 5, axis=0)
    samples = LabelledImages(
        photos,
        labels=np.array([0, 0, 0, 1, 1]),
        items=np.array([0, 0, 1, 2, 3]),
        sketch=np.array([False, True, False, False, False]),
        classes=("mug", "hat"),
    )
    both = with_pseudo_sketches(samples, PseudoSketches(without=without), seed=0)
    assert both.items[5:].tolist() == {"class": [2, 3], "item": [1, 2, 3]}[without]


def test_an_upside_down_range_of_widths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="smaller number first"):
        recipe.read(tiny_run.write(tmp_path), ["data.pseudo_sketches={thickness: [3, 1]}"])
