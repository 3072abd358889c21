"""Training: recipes, data, sampling, losses against their formulas, checkpoints, a whole run."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lookalike import datasets, encoders
from lookalike.errors import (
    AlreadyExistsError,
    DataError,
    EncoderError,
    MismatchError,
    NotFoundError,
    RecipeError,
    StorageError,
)
from lookalike.learn import augment, checkpoint, export, networks, recipe, schedules, train

RECIPES = Path(__file__).parent.parent / "recipes"

# What torch, kornia and its exporter warn of among themselves is not for users of lookalike to mend.
pytestmark = [pytest.mark.filterwarnings("default")]

TINY = """
name: tiny
data:
  sources: [{kind: toyshop, count: 96, seed: 5, sketches: 1}]
  validation: 0.34
  size: 32
network: {backbone: fast, widths: [8, 16, 16], dimension: 16}
losses:
  - {kind: triplet, margin: 0.2, target: item, across: true, miner: hard}
  - {kind: cross_entropy}
sampler: {classes: 8, items: 2}
augment: {flip: true, shift: 2, erase: 0.5, colour: 0.1, rotate: 5, zoom: 0.1}
optimiser: {learning_rate: 0.1}
schedule: {kind: one_cycle}
train: {epochs: 3, average: 0.5}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


# ---- recipes


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_holds_together_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    read = recipe.read(path)
    (tmp_path / "again.yaml").write_text(read.to_yaml())
    assert recipe.read(tmp_path / "again.yaml") == read


def test_an_unknown_key_is_refused_by_name(tiny: Path) -> None:
    tiny.write_text(TINY.replace("flip: true", "flipp: true"))
    with pytest.raises(RecipeError, match=r"augment\.flipp"):
        recipe.read(tiny)


def test_overrides_reach_into_lists_and_mappings(tiny: Path) -> None:
    read = recipe.read(tiny, ["train.epochs=7", "losses.0.margin=0.9", "data.mean=[0.1, 0.2, 0.3]"])
    assert read.train.epochs == 7
    assert read.losses[0].margin == 0.9  # type: ignore[union-attr]
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
    ],
)
def test_an_override_that_leads_nowhere_is_refused(tiny: Path, override: str) -> None:
    with pytest.raises(RecipeError):
        recipe.read(tiny, [override])


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


# ---- augmentation and schedule


def test_augmentation_keeps_shape_and_range_and_follows_the_seed() -> None:
    pipeline = augment.pipeline(recipe.Augment(shift=3, erase=0.5, colour=0.3, rotate=10, zoom=0.2), 16)
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


def test_the_learning_rate_follows_its_schedule(tiny: Path) -> None:
    one = recipe.read(tiny, ["train.epochs=10", "schedule.warmup=0.2", "schedule.final=0.1"])
    rates = [schedules.factor(one, e) for e in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0, 0.5, 1, 0.55, 0.1])
    steps = recipe.read(tiny, ["schedule={kind: step, every: 10, gamma: 0.1}"])
    assert [schedules.factor(steps, e) for e in (0, 9.99, 10, 25)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = recipe.read(tiny, ["train.epochs=10", "schedule={kind: cosine, warmup: 0.2, final: 0.1}"])
    assert [schedules.factor(cosine, e) for e in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.55, 0.1])
    assert schedules.factor(recipe.read(tiny, ["schedule={kind: constant}"]), 3) == 1


# ---- checkpoints


def test_a_checkpoint_comes_back_as_it_went(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    state = {"a": {0: {"m": shared}, 1: None}, "b": [shared, 2.5, "x", True], "c": {}}
    checkpoint.save(tmp_path / "c.safetensors", state)
    back = checkpoint.load(tmp_path / "c.safetensors")
    assert torch.equal(back["a"][0]["m"], shared)
    assert torch.equal(back["b"][0], shared)
    assert back["b"][1:] == [2.5, "x", True]
    assert back["a"][1] is None
    assert back["c"] == {}


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"x": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(MismatchError, match="no checkpoint"):
        checkpoint.load(path)


# ---- a whole run


def run(tiny: Path, folder: Path) -> Path:
    return train.start(recipe.read(tiny), folder, Console(quiet=True))


def lines(folder: Path) -> list[dict[str, float]]:
    """The log without what the clock says."""
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "minutes"} for line in read]


def test_a_run_makes_an_encoder_and_a_killed_and_resumed_one_makes_the_same(tiny: Path, tmp_path: Path) -> None:
    folder = run(tiny, tmp_path / "whole")
    encoder = encoders.load(folder)
    assert encoder.card.branches == ("photo", "sketch")
    assert encoder.card.provenance is not None
    assert encoder.card.provenance.recipe["name"] == "tiny"
    assert {"validation.top_1", "validation.sketch_item_at_10"} <= set(encoder.card.provenance.figures)
    assert [line["epoch"] for line in lines(tmp_path / "whole")] == [1, 2, 3]
    with pytest.raises(AlreadyExistsError):
        run(tiny, tmp_path / "whole")
    with pytest.raises(AlreadyExistsError):
        run(tiny, tiny)

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "lookalike", "train", str(tiny), "--to", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (killed / "metrics.jsonl").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "encoder").exists()
    again = encoders.load(train.resume(killed, Console(quiet=True)))
    assert lines(killed) == lines(tmp_path / "whole")
    assert again.fingerprint == encoder.fingerprint


def test_resuming_what_is_no_run_or_another_one_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no run"):
        train.resume(tmp_path, Console(quiet=True))
    run(tiny, tmp_path / "run")
    text = (tmp_path / "run" / train.RECIPE).read_text()
    (tmp_path / "run" / train.RECIPE).write_text(text.replace("dimension: 16", "dimension: 8"))
    with pytest.raises(MismatchError, match="does not fit"):
        train.resume(tmp_path / "run", Console(quiet=True))


def test_what_cannot_be_learned_from_leaves_no_folder_behind(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train.start(recipe.read(tiny, ["data.sources.0.count=40"]), tmp_path / "run", Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_says_so(tiny: Path, tmp_path: Path) -> None:
    wild = recipe.read(tiny, ["optimiser.learning_rate=1e30"])
    with pytest.raises(RecipeError, match=r"Lower optimiser\.learning_rate"):
        train.start(wild, tmp_path / "run", Console(quiet=True))


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(tmp_path / "none" / "c.safetensors", {"x": torch.zeros(3)})


def test_the_export_is_refused_where_onnx_and_torch_disagree(tiny: Path, tmp_path: Path) -> None:
    read = recipe.read(tiny)
    samples = datasets.load(read.data.sources, read.data.size, read.data.fit, print)
    net = networks.Siamese(read.network, read.branches).eval()

    def write(folder: Path) -> Path:
        return export.write(read, net, folder, samples=samples, pictures=1, minutes=1, figures={})

    made = write(tmp_path / "good")
    assert (made / "README.md").read_text().startswith("# tiny")
    # A network that does something else while it is exported than afterwards.
    net.branch("photo").head.register_forward_hook(
        lambda _m, _i, out: out if torch.compiler.is_compiling() else out + 1
    )
    with pytest.raises(EncoderError, match="disagree"):
        write(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
