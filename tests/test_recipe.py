"""Recipes: reading, overrides, refusals, stages; optimisers, schedules and augmentation."""

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


# ---- reading


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(RECIPES.glob("*.yaml")) if "\nrecipe:" not in p.read_text(encoding="utf-8")],
    ids=lambda p: p.stem,
)
def test_every_recipe_is_valid_and_can_be_written_and_read_again(path: Path, tmp_path: Path) -> None:
    read = recipe.read(path)
    (tmp_path / "again.yaml").write_text(read.to_yaml())
    assert recipe.read(tmp_path / "again.yaml") == read


def test_each_error_of_a_flat_recipe_is_reported_once_without_follow_on_errors(tiny: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.read(tiny, ["losses=[]", "train.epochs=0", "optimizer={}", "network.widths=[a, 8, 8]"])
    lines = str(caught.value).splitlines()[1:]
    assert [line.partition(":")[0].strip() for line in lines] == [
        "network.fast.widths.0",
        "losses",
        "train.epochs",
        "optimizer",
    ]


def test_a_recipe_without_stages_in_its_list_is_refused(tiny: Path) -> None:
    with pytest.raises(RecipeError, match=r"stages: must not be empty$"):
        recipe.read(tiny, ["stages=[]"])


def test_an_unknown_key_is_named(tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("flip:", "flipp:"))
    with pytest.raises(RecipeError, match=r"augment\.flipp: unknown") as caught:
        recipe.read(tiny)
    assert len(str(caught.value).splitlines()) == 2  # only the key is wrong, not also the number of stages


def test_overrides_reach_into_lists_and_mappings(tiny: Path) -> None:
    read = recipe.read(tiny, ["train.epochs=7", "losses.0.margin=0.9", "data.mean=[0.1, 0.2, 0.3]"])
    (stage,) = read.stages
    assert stage.train.epochs == 7
    assert isinstance(stage.losses[0], recipe.TripletTerm)
    assert stage.losses[0].margin == 0.9
    assert stage.data.mean == (0.1, 0.2, 0.3)


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
def test_an_invalid_override_is_refused(tiny: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        recipe.read(tiny, [override])


def test_an_unknown_optimiser_lists_the_known_ones(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="sgd, adam or adamw"):
        recipe.read(tiny, ["optimiser.kind=adagrad"])


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00", "name: Tiny", ""])
def test_a_file_that_is_not_a_recipe_is_refused(tiny: Path, text: str) -> None:
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
def test_the_optimiser_has_the_settings_of_the_recipe(
    tiny: Path, config: str, kind: type, options: dict[str, object]
) -> None:
    settings = recipe.read(tiny, [f"optimiser={config}"]).stages[0].optimiser
    frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    weight, bias, scale = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(()))
    made = state.make_optimiser(settings, iter([weight, bias, frozen, scale]))
    assert type(made) is kind
    decays, others = made.param_groups
    assert [[id(p) for p in group["params"]] for group in (decays, others)] == [[id(weight)], [id(bias), id(scale)]]
    assert decays["weight_decay"] == settings.weight_decay
    assert others["weight_decay"] == 0
    for group in (decays, others):
        for name, value in options.items():
            # Before torch 2.7 AdamW has no option for decoupling.
            assert group.get(name, value) == value


def test_the_learning_rate_follows_its_schedule(tiny: Path) -> None:
    def factors(schedule: str, *epochs: float) -> list[float]:
        settings = recipe.read(tiny, [f"schedule={schedule}"]).stages[0].schedule
        return [schedules.factor(settings, epoch, 10) for epoch in epochs]

    one_cycle = factors("{kind: one_cycle, warmup: 0.2, final: 0.1}", 0, 1, 2, 6, 10)
    assert one_cycle == pytest.approx([0, 0.5, 1, 0.55, 0.1])
    assert factors("{kind: step, every: 10, gamma: 0.1}", 0, 9.99, 10, 25) == pytest.approx([1, 1, 0.1, 0.01])
    cosine = factors("{kind: cosine, warmup: 0.2, final: 0.1}", 0, 1, 2, 4, 6, 10)
    assert cosine == pytest.approx([0, 0.5, 1, 0.868198, 0.55, 0.1])
    assert factors("{kind: cosine}", 0, 5, 10) == pytest.approx([1, 0.5, 0])
    assert factors("{kind: constant}", 3) == [1]


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


def test_shear_alone_slants_half_of_the_images_around_the_middle() -> None:
    x = torch.zeros(64, 3, 17, 17)
    x[..., 8] = 1
    torch.manual_seed(0)
    out = augment.pipeline(recipe.Augment(flip=False, shear=30), 17)(x)
    changed = (out != x).flatten(1).any(dim=1)
    assert 16 < changed.sum() < 48
    assert (out[:, :, 8, 8] > 0.5).all()
