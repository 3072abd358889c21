"""Training runs: their files, early stopping, resuming, errors, validation figures, and the exported encoder."""

import functools
import json
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import tiny_run
from lookalike import datasets, encoders
from lookalike.datasets import LabelledImages
from lookalike.encoders import Encoder
from lookalike.errors import (
    AlreadyExistsError,
    DataError,
    EncoderError,
    LookalikeError,
    MismatchError,
    NotFoundError,
    RecipeError,
    StorageError,
)
from lookalike.learn import (
    augment,
    checkpoint,
    data,
    distributed,
    export,
    pace,
    recipe,
    result,
    sampling,
    schedules,
    stage_run,
    stopping,
    validating,
)
from lookalike.learn.data import StageData
from lookalike.learn.export import Training
from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.total import Loss
from lookalike.learn.networks import Siamese
from lookalike.learn.onnx_export import to_onnx
from lookalike.learn.run_folder import CHECKPOINT, RECIPE
from lookalike.learn.train import resume, train
from lookalike.progress import SILENT
from lookalike.tables import plural
from recorder import Recorder

# torch, kornia and the exporter warn about their own internals.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end after their last epoch, without an export."""
    tiny_run.skip_export(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported run that stopped early, because no epoch was better than the first."""
    folder = tmp_path_factory.mktemp("finished")
    stopping = {"epochs": 9, "precision": "32-true", "early_stopping": {"figure": "top_1", "patience": 2}}
    path = tiny_run.write(
        folder, train=stopping, description="Tells four colours apart.", scope="Trained on four colours."
    )
    tiny_run.start(path, folder / "run")
    return folder / "run"


# ---- checkpoints


def test_a_checkpoint_round_trips(tmp_path: Path) -> None:
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
    with pytest.raises(MismatchError, match="not a checkpoint"):
        checkpoint.load(path)


def test_an_unwritable_disk_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(tmp_path / "none" / "c.safetensors", {"x": torch.zeros(3)})


# ---- a finished run


def test_a_run_writes_recipe_log_checkpoint_encoder_and_report(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {RECIPE, "metrics.jsonl", CHECKPOINT, "encoder", "report.html", "report.json"}
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert [line["epoch"] for line in report["history"]] == [1, 2, 3]
    encoder = encoders.load(finished / "encoder")
    assert encoder.card.provenance is not None
    assert encoder.card.provenance.recipe["name"] == "tiny"
    assert encoder.card.provenance.images == 36
    assert encoder.card.scope == "Trained on four colours."
    network = (encoder.folder / "photo.onnx").read_bytes()
    assert b"stack_trace" not in network
    assert b"pkg.torch" not in network
    model_card = (encoder.folder / "README.md").read_text(encoding="utf-8")
    assert "Tells four colours apart.\n\nTrained on four colours.\n" in model_card


def test_each_line_of_the_log_has_the_loss_and_the_validation_figures(finished: Path) -> None:
    keys = ["epoch", "loss", "loss.triplet.0", "loss.cross_entropy.1", "validation.loss", "validation.top_1"]
    for line in tiny_run.lines(finished):
        assert list(line) == [*keys, "validation.auc"]
        assert line["loss"] == pytest.approx(line["loss.triplet.0"] + line["loss.cross_entropy.1"])
        assert np.isfinite(list(line.values())).all()


def test_the_encoder_is_calibrated_on_held_out_pairs(finished: Path) -> None:
    (calibration,) = encoders.load(finished / "encoder").card.calibrations
    assert calibration.data == "the validation split of tiny"
    # Four classes with three images each have 12 genuine pairs and 54 impostor pairs.
    assert (calibration.genuine, calibration.impostors) == (12, 54)


def test_without_validation_pairs_the_encoder_has_no_calibration_and_no_report(
    tmp_path: Path,
) -> None:
    path = tiny_run.write(tmp_path)
    encoder = Encoder.open(tiny_run.start(path, tmp_path / "run", "data.validation=0.05", "train.epochs=1"))
    assert encoder.card.calibrations == ()
    assert not (tmp_path / "run" / "report.html").exists()
    assert "validation.auc" not in tiny_run.lines(tmp_path / "run")[0]


def test_a_finished_run_is_not_overwritten(finished: Path) -> None:
    for existing in (finished, finished / RECIPE):
        with pytest.raises(AlreadyExistsError):
            train(finished / RECIPE, existing)


# ---- early stopping


def test_early_stopping_exports_the_best_epoch(finished: Path, tmp_path: Path, quick: None) -> None:
    lines = tiny_run.lines(finished)
    assert [line["validation.top_1"] for line in lines] == [lines[0]["validation.top_1"]] * 3
    provenance = encoders.load(finished / "encoder").card.provenance
    assert provenance is not None
    assert provenance.figures == {k: round(v, 5) for k, v in lines[0].items() if k.startswith("validation")}

    read = recipe.read(tiny_run.write(tmp_path), ["train.epochs=1"])
    train(read, tmp_path / "one")
    kept, one = tiny_run.tensors(finished), tiny_run.tensors(tmp_path / "one")
    weights = [name.removeprefix("/best/") for name in kept if name.startswith("/best/")]
    assert len(weights) == 8
    assert all(torch.equal(kept[f"/best/{name}"], one[f"/network/{name}"]) for name in weights)

    stage = read.stages[0]
    images = datasets.load(stage.data.sources, 12, "squash")
    network = Siamese(read.network, ("photo",))
    embeddings = []
    for which in ("best", "network"):
        network.load_state_dict({name: kept[f"/{which}/{name}"] for name in weights})
        embeddings.append(validating.embed(network, images, stage))
    best, last = embeddings
    exported = encoders.load(finished / "encoder").embed(images.images)
    assert np.abs(exported - best).max() < 0.2 * np.abs(last - best).max()


@pytest.mark.parametrize(
    ("figure", "values", "best"),
    [
        ("loss", [3.0, 2.0, 2.0, 4.0], 2),
        ("loss", [1.0], 1),
        ("top_1", [0.5, 0.9, 0.9, 0.4], 2),
        ("auc", [0.5, 0.6, 0.55, 0.7], 4),
    ],
)
def test_the_best_epoch_is_the_first_of_equals(figure: str, values: list[float], best: int) -> None:
    history = [{f"validation.{figure}": value} for value in values]
    config = recipe.EarlyStopping.model_validate({"figure": figure, "patience": 1})
    assert stopping.best_epoch(history, config) == best


def test_early_stopping_by_a_figure_that_is_not_measured_lists_the_figures(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path)
    with pytest.raises(RecipeError, match=r"sketch_item_at_1.*it has validation\.loss, validation\.top_1"):
        tiny_run.start(path, tmp_path / "run", "train.early_stopping={figure: sketch_item_at_1, patience: 1}")


# ---- resuming gives the same run

FEATURES = {
    "SGD, average": ["train.average=0.5"],
    "Adam": ["optimiser={kind: adam, learning_rate: 0.01}", "schedule={kind: cosine}"],
    "AdamW, quarter turns": [
        "optimiser={kind: adamw, learning_rate: 0.01, weight_decay: 0.1}",
        "data.quarter_turns=true",
        "augment={flip: true, shift: 2, rotate: 5, shear: 5}",
    ],
    "early stopping": ["train.early_stopping={figure: loss, patience: 3}", "train.average=0.5"],
}


def assert_same(one: Path, other: Path) -> None:
    """Compare logs and checkpoints to the last digit."""
    assert tiny_run.lines(one) == tiny_run.lines(other)
    left, right = tiny_run.tensors(one), tiny_run.tensors(other)
    assert left.keys() == right.keys()
    assert len(left) > 10
    assert all(torch.equal(value, right[name]) for name, value in left.items())


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, features: list[str]
) -> None:
    path = tiny_run.write(tmp_path)
    overrides = ["train.epochs=4", *features]
    tiny_run.start(path, tmp_path / "whole", *overrides)
    factor, calls = schedules.factor, iter(range(1_000_000))

    def interrupted(schedule: recipe.Schedule, epoch: float, epochs: int) -> float:
        if epoch > 2 and next(calls) == 0:  # in the middle of the third epoch
            raise KeyboardInterrupt
        return factor(schedule, epoch, epochs)

    monkeypatch.setattr(schedules, "factor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny_run.start(path, tmp_path / "broken", *overrides)
    assert len(tiny_run.lines(tmp_path / "broken")) == 2
    resume(tmp_path / "broken")
    assert_same(tmp_path / "whole", tmp_path / "broken")


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(
        tmp_path,
        optimiser={"kind": "adam", "learning_rate": 0.003},
        train={
            "epochs": 25,
            "precision": "32-true",
            "average": 0.9,
            "early_stopping": {"figure": "loss", "patience": 20},
        },
    )
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "lookalike", "train", str(path), "--to", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (killed / "metrics.jsonl").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "encoder").exists()
    resume(killed)
    tiny_run.start(path, tmp_path / "whole")
    assert_same(tmp_path / "whole", killed)


def test_the_same_seed_repeats_a_run_and_another_seed_changes_it(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path, tiny_run.SKETCHES)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        tiny_run.start(path, tmp_path / name, f"seed={seed}")
    assert_same(tmp_path / "one", tmp_path / "two")
    assert tiny_run.lines(tmp_path / "one") != tiny_run.lines(tmp_path / "other")
    one, other = tiny_run.tensors(tmp_path / "one"), tiny_run.tensors(tmp_path / "other")
    assert not torch.equal(one["/network/branches.photo.head.0.weight"], other["/network/branches.photo.head.0.weight"])


def test_resuming_without_a_run_or_after_a_change_is_refused(tmp_path: Path, quick: None) -> None:
    with pytest.raises(NotFoundError, match="no run"):
        resume(tmp_path)
    tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run")
    text = (tmp_path / "run" / RECIPE).read_text()
    (tmp_path / "run" / RECIPE).write_text(text.replace("margin: 0.2", "margin: 0.3"))
    with pytest.raises(MismatchError, match="the recipe changed"):
        resume(tmp_path / "run")
    (tmp_path / "run" / RECIPE).write_text(text)
    with np.load(tmp_path / "images.npz") as arrays:
        np.savez(tmp_path / "images.npz", images=arrays["images"] // 2, labels=arrays["labels"])
    with pytest.raises(MismatchError, match="the images changed"):
        resume(tmp_path / "run")


# ---- errors


@pytest.mark.parametrize(
    ("override", "error"),
    [("data.sources.0.path=none.npz", DataError), ("sampler.classes=5", RecipeError)],
)
def test_data_that_cannot_be_trained_on_leaves_no_folder_behind(
    tmp_path: Path, override: str, error: type[LookalikeError]
) -> None:
    with pytest.raises(error):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_a_class_with_too_few_images_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        tiny_run.start(tiny_run.write(tmp_path, tiny_run.SKETCHES), tmp_path / "run", "data.sources.0.count=40")
    assert not (tmp_path / "run").exists()


def test_a_diverging_loss_is_reported(tmp_path: Path, quick: None) -> None:
    with pytest.raises(RecipeError, match=r"in epoch 1\. Lower optimiser\.learning_rate"):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run", "optimiser.learning_rate=1e30")


def test_diverging_weights_behind_a_finite_loss_are_reported(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validating, "embed", lambda *_: np.full((12, 8), np.nan, np.float32))
    with pytest.raises(RecipeError, match=r"gives nan .* after epoch 1\. Lower optimiser\.learning_rate"):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run" / CHECKPOINT).exists()


@pytest.mark.parametrize("epochs", [1, 9])
def test_a_miner_that_never_chooses_anything_ends_the_run(tmp_path: Path, epochs: int) -> None:
    losses = [{"kind": "triplet", "margin": 0.2, "miner": "semihard"}]
    path = tiny_run.write(tmp_path, losses=losses, train={"epochs": epochs, "precision": "32-true"})
    labels = np.repeat(np.arange(4), 12)
    np.savez(tmp_path / "images.npz", images=np.full((48, 12, 12, 3), 90, np.uint8), labels=labels)
    with pytest.raises(RecipeError, match=f"0 in all batches of {plural(min(epochs, 3), 'epoch')},"):
        tiny_run.start(path, tmp_path / "run")


def test_a_term_that_is_zero_is_noted_once(tmp_path: Path, quick: None) -> None:
    progress = Recorder()
    losses = [{"kind": "triplet", "margin": 1e-30, "miner": "semihard"}, {"kind": "cross_entropy"}]
    path = tiny_run.write(tmp_path, losses=losses, train={"epochs": 3, "precision": "32-true"})
    images = np.full((48, 12, 12, 3), 90, np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.repeat(np.arange(4), 12))
    train(path, tmp_path / "run", progress)
    assert len([note for note in progress.notes if note.startswith("loss.triplet.0 is 0 in all batches")]) == 1


def test_photos_to_validate_with_need_two_classes(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path)
    images = np.zeros((30, 12, 12, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=[0] * 24 + [1, 1, 2, 2, 3, 3])
    with pytest.raises(DataError, match="all of the class “0”"):
        tiny_run.start(path, tmp_path / "run")


@pytest.mark.parametrize("stops", [False, True])
def test_single_photos_to_validate_with_are_noted_or_refused(tmp_path: Path, quick: None, stops: bool) -> None:
    progress = Recorder()
    stopping = {"figure": "top_1", "patience": 2} if stops else None
    path = tiny_run.write(tmp_path, train={"epochs": 1, "precision": "32-true", "early_stopping": stopping})
    if stops:
        with pytest.raises(DataError, match=r"No class has two photos .*early_stopping needs top_1"):
            train(path, tmp_path / "run", progress, ["data.validation=0.08"])
    else:
        train(path, tmp_path / "run", progress, ["data.validation=0.08"])
        assert any(note.startswith("No class has two photos") for note in progress.notes)


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "file" / "run")


def test_a_strangers_checkpoint_is_refused_in_one_line(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path, train={"epochs": 3, "precision": "32-true", "average": 0.5})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "is_over", lambda _, history: len(history) == 1)
        tiny_run.start(path, tmp_path / "run")
    file = tmp_path / "run" / CHECKPOINT
    good = checkpoint.load(file)
    state = good["state"]
    moments = state["optimiser"]["state"]
    first = next(iter(moments))
    hostile: list[dict[str, object]] = [
        {"stage": 99},
        {"stage": "x"},
        {"network": 3},
        {"network": {"x": torch.zeros(3)}},
        {"loss": {"x": torch.zeros(3)}},
        {"optimiser": {}},
        {"optimiser": {"state": {**moments, first: {"momentum_buffer": torch.zeros(2, 2)}}}},
        {"average": {}},
        {"average": None},
        {"best": {"x": torch.zeros(3)}},
        {"history": [3]},
        {"history": [{"loss": "x"}]},
        {"seconds": "x"},
        {"earlier": [[1]]},
    ]
    for changes in hostile:
        checkpoint.save(file, {**good, "state": {**state, **changes}})
        with pytest.raises(MismatchError) as caught:
            resume(tmp_path / "run")
        assert len(str(caught.value).splitlines()) == 1, changes
    checkpoint.save(file, good)
    resume(tmp_path / "run")
    assert len(tiny_run.lines(tmp_path / "run")) == 3


# ---- validation


def validated(tmp_path: Path, *overrides: str) -> tuple[recipe.Stage, LabelledImages, np.ndarray]:
    stage = recipe.read(tiny_run.write(tmp_path), overrides).stages[0]
    samples = datasets.load(stage.data.sources, 12, "squash")
    embeddings = np.random.default_rng(1).normal(size=(len(samples), 8)).astype(np.float32)
    return stage, samples, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


@pytest.mark.parametrize(("by", "terms"), [("item", [0, 1]), ("class", [0])])
def test_the_validation_loss_is_that_of_the_terms_with_a_value_for_the_classes(
    tmp_path: Path, by: str, terms: list[int]
) -> None:
    # One batch has all images, so that their order does not matter.
    stage, samples, embeddings = validated(tmp_path, f"data.validation_by={by}", "sampler.items=12")
    loss = Loss(stage.losses, 8, 4)
    figures = validating.measure(stage, 0, loss, samples, embeddings)
    none = torch.zeros(len(samples), dtype=torch.bool)
    known = Targets(torch.from_numpy(samples.labels), torch.from_numpy(samples.items), none)
    with torch.no_grad():
        _, values = loss(torch.from_numpy(embeddings), known)
    expected = sum(values[i] for i in terms)
    assert figures["validation.loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_of_the_training_classes_has_no_value_for_new_classes(tmp_path: Path) -> None:
    stage, samples, embeddings = validated(tmp_path, "data.validation_by=class", "losses=[{kind: cross_entropy}]")
    figures = validating.measure(stage, 0, Loss(stage.losses, 8, 2), samples, embeddings)
    assert list(figures) == ["validation.top_1", "validation.auc"]


def test_the_auc_is_the_share_of_correctly_ordered_pairs(tmp_path: Path) -> None:
    stage, samples, embeddings = validated(tmp_path)
    few = samples.take(np.arange(0, 48, 4))  # three per class: all 12 genuine pairs and 12 impostor pairs
    figures = validating.measure(stage, 0, Loss(stage.losses, 8, 4), few, embeddings[::4])
    assert 0 < figures["validation.auc"] < 1
    apart = np.eye(8, dtype=np.float32)[few.labels]
    assert validating.measure(stage, 0, Loss(stage.losses, 8, 4), few, apart)["validation.auc"] == 1


# ---- without labels


UNLABELLED = """
name: unlabelled
data: {sources: [{kind: npz, path: IMAGES}], classes: image, validation: 0.25, size: 12}
network: {backbone: cnn, dimension: 8, unit: true, neck: false, channels: 3}
losses: [{kind: supervised_contrastive}]
sampler: {classes: 12, items: 2}
augment: {flip: false, crop: 0.3, rotate: 5, colour: 0.2, erase: 0.2, blur: 0.7, jpeg: 0.5}
optimiser: {learning_rate: 0.1}
schedule: {kind: constant}
train: {epochs: 3, precision: 32-true}
"""


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without labels."""
    folder = tmp_path_factory.mktemp("unlabelled")
    tiny_run.start(tiny_run.write(folder, UNLABELLED), folder / "run")
    return folder / "run"


def test_without_labels_validation_compares_two_views_of_each_image(unlabelled: Path) -> None:
    lines = tiny_run.lines(unlabelled)
    for line in lines:
        assert {"validation.loss", "validation.top_1", "validation.auc"} < set(line)
    assert lines[-1]["validation.auc"] > 0.7
    report = json.loads((unlabelled / "report.json").read_text(encoding="utf-8"))
    assert report["about"]["data"] == "24 views of 12 images held out of training"
    assert report["about"]["facts"] == {"trained on": "36 images each a class of its own"}


def test_without_labels_calibration_separates_views_from_other_images(unlabelled: Path) -> None:
    (calibration,) = encoders.load(unlabelled / "encoder").card.calibrations
    assert calibration.genuine == 12
    # 24 views have 276 pairs, 12 of them of the same image. A million draws give each, and it counts once.
    assert calibration.impostors == 264


def test_views_are_reproducible_changes_of_the_same_class() -> None:
    rng = np.random.default_rng(0)
    images = LabelledImages(
        images=rng.integers(0, 256, (5, 20, 20, 3), dtype=np.uint8),
        labels=np.arange(5),
        items=np.arange(5),
        sketch=np.zeros(5, dtype=bool),
        classes=tuple("abcde"),
    )
    config = recipe.Augment(flip=False, crop=0.3, rotate=5, colour=0.3, erase=0.5, blur=1, jpeg=1)
    before = torch.random.get_rng_state()
    one, again, other = (augment.views(images, config, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.labels.tolist() == np.repeat(np.arange(5), 3).tolist()
    assert one.items.tolist() == list(range(15))
    assert np.array_equal(one.images, again.images)
    assert not np.array_equal(one.images, other.images)
    assert len(np.unique(one.images.reshape(15, -1), axis=0)) == 15
    unchanged = augment.views(images, recipe.Augment(flip=False), 2, 1)
    assert np.array_equal(unchanged.images, images.images.repeat(2, axis=0))


@pytest.mark.parametrize("setting", [{"crop": 0.5}, {"blur": 1.0}, {"jpeg": 1.0}], ids=lambda s: next(iter(s)))
@pytest.mark.parametrize("size", [8, 20, 33])
def test_a_change_keeps_size_and_range(setting: dict[str, float], size: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(40, 3, size, size)
    original = x.clone()
    out = augment.pipeline(recipe.Augment.model_validate({"flip": False, **setting}), size)(x)
    assert torch.equal(x, original)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()
    assert -0.01 < out.min() <= out.max() < 1.01
    changed = (out != x).flatten(1).any(1).float().mean()
    assert 0.2 < changed < 0.8 if "blur" in setting else changed > 0.9


def test_only_a_share_of_images_is_recompressed() -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 3, 16, 16)
    for share in (0.0, 0.3):
        out = augment.pipeline(recipe.Augment(flip=False, jpeg=share), 16)(x)
        changed = (out != x).flatten(1).any(1).float().mean()
        assert float(changed) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("section", "setting", "message"),
    [
        ("sampler", {"kind": "pairs", "pairs": 8}, "sampler pairs needs two images of a class"),
        ("sampler", {"kind": "triplets", "triplets": 8}, "sampler triplets needs two images of a class"),
        (
            "data",
            {"sources": [{"kind": "toyshop", "count": 8, "seed": 1, "sketches": 1}], "classes": "image", "size": 12},
            "a sketch and its photo two classes",
        ),
        ("data", {"sources": [{"path": "x"}], "classes": "images", "size": 12}, "data.classes"),
        ("augment", {"flip": False}, "needs an augmentation"),
    ],
)
def test_recipes_that_need_labels_are_refused_without_them(
    tmp_path: Path, section: str, setting: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe.read(tiny_run.write(tmp_path, UNLABELLED, **{section: setting}))


def test_a_classifier_of_images_has_no_validation_loss(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path, UNLABELLED, losses=[{"kind": "cross_entropy"}], train={"epochs": 1})
    tiny_run.start(path, tmp_path / "run")
    (line,) = tiny_run.lines(tmp_path / "run")
    assert "validation.top_1" in line
    assert "validation.loss" not in line


def test_a_resumed_run_without_labels_equals_an_uninterrupted_one(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path, UNLABELLED)
    tiny_run.start(path, tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "is_over", lambda _, history: len(history) == 1)
        tiny_run.start(path, tmp_path / "two")
    resume(tmp_path / "two")
    assert tiny_run.lines(tmp_path / "one") == tiny_run.lines(tmp_path / "two")


# ---- quarter turns


def test_quarter_turns_make_each_class_four(tmp_path: Path) -> None:
    _, samples, _ = validated(tmp_path)
    turned = data.quarter_turns(samples)
    n = len(samples)
    assert len(turned.classes) == 16
    assert turned.classes[:5] == (*samples.classes, f"{samples.classes[0]} turned by 90°")
    for turn in range(4):
        part = slice(turn * n, (turn + 1) * n)
        assert (turned.labels[part] == samples.labels + 4 * turn).all()
        for row in (0, 17, 47):
            assert (turned.images[part][row] == np.rot90(samples.images[row], turn)).all()
    assert len(np.unique(turned.items)) == 4 * len(np.unique(samples.items))
    assert turned.sketch.shape == (4 * n,)


def test_quarter_turns_do_not_change_the_validation_split(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path)
    plain, turned = (
        data.load(recipe.read(path, [f"data.quarter_turns={turns}"]), 0, SILENT) for turns in ("false", "true")
    )
    assert (len(plain.training), len(turned.training)) == (36, 144)
    assert (plain.validation.images == turned.validation.images).all()
    assert turned.validation.classes == plain.validation.classes


# ---- export


def blurred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Change the weights of a model, as if float16 had lost much of them."""
    copy = deepcopy(model)
    for tensor in copy.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(array + np.float32(0.1), tensor.name))
    return copy


def test_two_branches_are_exported_as_float16_or_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = recipe.read(tiny_run.write(tmp_path, tiny_run.SKETCHES))
    images = read.stages[0].data
    samples = datasets.load(images.sources, images.size, images.fit)
    net = Siamese(read.network, ("photo", "sketch")).eval()

    def write(folder: Path) -> Path:
        drawn = sampling.batches(samples, read.stages[0].sampler, 0)
        images = StageData(samples, samples, drawn, np.zeros(len(samples), bool))
        return export.write(read, net, folder, images, Training(1, 1, {}))

    cached = functools.cache(to_onnx)
    monkeypatch.setattr(export, "to_onnx", cached)
    made = write(tmp_path / "good")
    assert (made / "README.md").read_text().startswith("# sketches")
    assert Encoder.open(made).card.branches == ("photo", "sketch")
    with monkeypatch.context() as patch:
        patch.setattr(export, "with_float16_weights", blurred)
        exact = write(tmp_path / "exact")
    photos = samples.images[~samples.sketch][:8]
    assert np.allclose(Encoder.open(exact).embed(photos), Encoder.open(made).embed(photos), atol=1e-2)
    # A network whose output is different while it is exported.
    net.branch("photo").head.register_forward_hook(
        lambda _m, _i, out: out if torch.compiler.is_compiling() else out + 1
    )
    cached.cache_clear()
    with pytest.raises(EncoderError, match="disagree"):
        write(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_weights_become_float16_except_small_ones_and_those_out_of_range() -> None:
    arrays: dict[str, np.ndarray] = {
        "large": np.linspace(-1, 1, 4_097, dtype=np.float32),
        "huge": np.linspace(-1, 1e6, 4_097, dtype=np.float32),
        "small": np.ones(4_096, np.float32),
        "whole": np.arange(4_097),
    }
    nodes = [helper.make_node("Identity", [name], [f"{name}.out"]) for name in arrays]
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    graph = helper.make_graph(
        nodes,
        "weights",
        [],
        [helper.make_tensor_value_info(f"{name}.out", kind, arrays[name].shape) for name, kind in kinds.items()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    before = model.SerializeToString()
    halved = export.with_float16_weights(model)
    assert model.SerializeToString() == before
    stored = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    kinds["large.half"] = TensorProto.FLOAT16
    del kinds["large"]
    assert stored == kinds
    onnx.checker.check_model(halved)
    runs = onnx.reference.ReferenceEvaluator(halved).run(None, {})
    for array, out in zip(arrays.values(), runs, strict=True):
        assert np.allclose(out, array, rtol=1e-3, atol=1e-4)


# ---- progress


def test_progress_reports_each_batch_and_notes_each_epoch(tmp_path: Path, quick: None) -> None:
    recorder = Recorder()
    train(tiny_run.write(tmp_path), tmp_path / "run", recorder)
    assert "36 images to train on, 12 to validate, 4 classes" in recorder.notes
    assert "about a minute for 2 epochs of 36 images" in recorder.notes
    assert [note.split("  ")[0] for note in recorder.notes[-2:]] == ["epoch 1", "epoch 2"]
    assert [report[:3] for report in recorder.reports if "epoch" in report.stage] == [
        (f"epoch {epoch}/2", done, 3) for epoch in (1, 2) for done in (1, 2, 3)
    ]


# ---- pace


@pytest.mark.parametrize(
    ("seconds", "chosen"), [((1.0, 2.0), "bf16-mixed"), ((1.0, 1.05), "32-true"), ((4.0, 1.0), "32-true")]
)
def test_the_faster_precision_is_chosen_once_and_named_in_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], chosen: str
) -> None:
    timed = dict(zip(("bf16-mixed", "32-true"), seconds, strict=True))
    monkeypatch.setattr(pace, "time_step", lambda _, precision: timed[precision])
    written: list[str | None] = []

    def pretend(run: stage_run.StageRun, _: object) -> None:
        written.append(run.state.precision)

    if chosen == "32-true":  # an export takes longer than all of this, and that of bf16-mixed shows what the card names
        monkeypatch.setattr(result, "write", pretend)
    progress = Recorder()
    train(tiny_run.write(tmp_path, train={"epochs": 2, "precision": "auto"}), tmp_path / "run", progress)
    assert any(line.startswith(f"precision {chosen}: ") for line in progress.notes)
    assert any("for 2 epochs of 36 images" in line for line in progress.notes)
    if chosen == "bf16-mixed":
        card = encoders.load(tmp_path / "run" / "encoder").card
        assert card.provenance is not None
        assert card.provenance.recipe["train"]["precision"] == chosen
        monkeypatch.setattr(result, "write", pretend)
    monkeypatch.setattr(pace, "time_step", lambda _, precision: timed[precision] * (9 if precision == chosen else 1))
    monkeypatch.setattr(stopping, "is_over", lambda _, history: len(history) == 3)  # one epoch more
    resume(tmp_path / "run", again := Recorder())
    assert not any(line.startswith("precision") for line in again.notes)
    assert set(written) == {chosen}


def test_timing_a_step_changes_nothing_in_the_run(tmp_path: Path) -> None:
    read = recipe.read(tiny_run.write(tmp_path, tiny_run.SKETCHES))
    run = stage_run.prepare(read, 0, distributed.connect(distributed.ONE_DEVICE), SILENT)
    before = {name: value.clone() for name, value in run.state.network.state_dict().items()}
    state = torch.random.get_rng_state()
    assert 0 < pace.time_step(run, "32-true") < 60
    assert pace.time_step(run, "bf16-mixed") > 0
    assert torch.equal(state, torch.random.get_rng_state())
    after = run.state.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(weight.grad is None for weight in run.state.network.parameters())


@pytest.mark.parametrize(
    ("minutes", "text"), [(0.2, "a minute"), (1.4, "a minute"), (12.4, "12 minutes"), (150, "2.5 hours")]
)
def test_times_are_said_in_minutes_or_hours(minutes: float, text: str) -> None:
    assert pace.describe(minutes) == text
