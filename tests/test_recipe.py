"""Recipes: what is read, what is refused; the optimisers and schedules that they ask for; augmentation."""

from pathlib import Path

import pytest
import torch
from torch import nn

import tiny_run
from lookalike.errors import NotFoundError, RecipeError
from lookalike.learn import augment, recipe, schedules, state

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_run.write(tmp_path, tiny_run.SKETCHES)


# ---- what is read


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(RECIPES.glob("*.yaml")) if "\nrecipe:" not in p.read_text(encoding="utf-8")],
    ids=lambda p: p.stem,
)
def test_every_recipe_holds_together_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    read = recipe.read(path)
    (tmp_path / "again.yaml").write_text(read.to_yaml())
    assert recipe.read(tmp_path / "again.yaml") == read


def test_an_unknown_key_is_refused_by_name(tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("flip:", "flipp:"))
    with pytest.raises(RecipeError, match=r"augment\.flipp"):
        recipe.read(tiny)


def test_overrides_reach_into_lists_and_mappings(tiny: Path) -> None:
    read = recipe.read(tiny, ["train.epochs=7", "losses.0.margin=0.9", "data.mean=[0.1, 0.2, 0.3]"])
    assert read.train.epochs == 7
    assert isinstance(read.losses[0], recipe.TripletTerm)
    assert read.losses[0].margin == 0.9
    assert read.data.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs",
        "losses.9.margin=1",
        "optimiser.momentum=0",
        "augment.shift=32",
        "data.size=8",
        "network.widths=[0, 8, 8]",
        "seed=-1",
        "data.std=[0, 1, 1]",
        "losses.0.margin=.inf",
        "train.epochs.x=1",
        "train.epochs=-1",
        "x=1",
        "seed=[",
        "losses.a=1",
        "optimiser.kind=adagrad",
        "optimiser={kind: adam, learning_rate: 0.1, momentum: 0.9}",
        "optimiser={kind: adam, learning_rate: 0.1, betas: [0.9, 1]}",
        "schedule.kind=cosin",
        "schedule={kind: constant, warmup: 0.1}",
        "train.early_stopping={figure: top_2, patience: 1}",
        "train.early_stopping={patience: 0}",
        "train.average=1",
        "augment.shear=90",
    ],
)
def test_an_override_that_leads_nowhere_is_refused(tiny: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        recipe.read(tiny, [override])


def test_an_unknown_optimiser_is_told_which_there_are(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="sgd, adam or adamw"):
        recipe.read(tiny, ["optimiser.kind=adagrad"])


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00", "name: Tiny", ""])
def test_what_is_no_recipe_is_refused(tiny: Path, text: str) -> None:
    tiny.write_text(text)
    with pytest.raises(RecipeError):
        recipe.read(tiny)


def test_a_loss_across_needs_sketches(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="no source has sketches"):
        recipe.read(tiny, ["data.sources.0.sketches=0"])


def test_a_missing_recipe_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        recipe.read(tmp_path / "none.yaml")


# ---- optimisers and schedules


@pytest.mark.parametrize(
    ("config", "kind", "options"),
    [
        (
            "{learning_rate: 0.1, momentum: 0.8, nesterov: false, weight_decay: 0.01}",
            torch.optim.SGD,
            {"lr": 0.1, "momentum": 0.8, "nesterov": False},
        ),
        ("{learning_rate: 0.1}", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (
            "{kind: adam, learning_rate: 0.002, betas: [0.8, 0.99], weight_decay: 0.01}",
            torch.optim.Adam,
            {"lr": 0.002, "betas": (0.8, 0.99), "decoupled_weight_decay": False},
        ),
        (
            "{kind: adamw, learning_rate: 0.002, weight_decay: 0.01}",
            torch.optim.AdamW,
            {"lr": 0.002, "betas": (0.9, 0.999), "decoupled_weight_decay": True},
        ),
    ],
)
def test_the_optimiser_is_what_the_recipe_says(tiny: Path, config: str, kind: type, options: dict[str, object]) -> None:
    asked = recipe.read(tiny, [f"optimiser={config}"]).optimiser
    frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    weight, bias, scale = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(()))
    made = state._optimiser(asked, iter([weight, bias, frozen, scale]))
    assert type(made) is kind
    decays, rests = made.param_groups
    assert [[id(p) for p in group["params"]] for group in (decays, rests)] == [[id(weight)], [id(bias), id(scale)]]
    assert decays["weight_decay"] == asked.weight_decay
    assert rests["weight_decay"] == 0
    for group in (decays, rests):
        for name, value in options.items():
            # Releases of torch before 2.7 say by the class alone that AdamW decouples.
            assert group.get(name, value) == value


def test_the_learning_rate_follows_its_schedule(tiny: Path) -> None:
    one = recipe.read(tiny, ["train.epochs=10", "schedule.warmup=0.2", "schedule.final=0.1"])
    rates = [schedules.factor(one, e) for e in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0, 0.5, 1, 0.55, 0.1])
    steps = recipe.read(tiny, ["schedule={kind: step, every: 10, gamma: 0.1}"])
    assert [schedules.factor(steps, e) for e in (0, 9.99, 10, 25)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = recipe.read(tiny, ["train.epochs=10", "schedule={kind: cosine, warmup: 0.2, final: 0.1}"])
    assert [schedules.factor(cosine, e) for e in (0, 1, 2, 4, 6, 10)] == pytest.approx([0, 0.5, 1, 0.868198, 0.55, 0.1])
    bare = recipe.read(tiny, ["train.epochs=10", "schedule={kind: cosine}"])
    assert [schedules.factor(bare, e) for e in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    assert schedules.factor(recipe.read(tiny, ["schedule={kind: constant}"]), 3) == 1


# ---- augmentation


def test_augmentation_keeps_shape_and_range_and_follows_the_seed() -> None:
    pipeline = augment.pipeline(recipe.Augment(shift=3, erase=0.5, colour=0.3, rotate=10, zoom=0.2, shear=5), 16)
    x = torch.rand(8, 3, 16, 16)
    torch.manual_seed(1)
    one = pipeline(x)
    torch.manual_seed(1)
    assert torch.equal(one, pipeline(x))
    assert one.shape == x.shape
    assert 0 <= one.min() <= one.max() <= 1
    assert not torch.equal(one, x)


def test_no_augmentation_changes_nothing() -> None:
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(augment.pipeline(recipe.Augment(flip=False), 16)(x), x)


def test_shear_alone_slants_some_pictures_and_leaves_the_middle_where_it_is() -> None:
    x = torch.zeros(64, 3, 17, 17)
    x[..., 8] = 1
    torch.manual_seed(0)
    out = augment.pipeline(recipe.Augment(flip=False, shear=30), 17)(x)
    changed = (out != x).flatten(1).any(dim=1)
    assert 16 < changed.sum() < 48
    assert (out[:, :, 8, 8] > 0.5).all()
