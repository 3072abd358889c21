"""Training: checkpoints, whole runs, what stops them, what they measure on the way, and what they export."""

import io
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
from rich.console import Console

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
from lookalike.learn import augment, checkpoint, export, networks, recipe, schedules, train, validating
from lookalike.learn.losses import Loss, Targets
from lookalike.learn.networks import Siamese

# What torch, kornia and its exporter warn of among themselves is not for users of lookalike to mend.
pytestmark = [pytest.mark.filterwarnings("default")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end after their last epoch, without an export."""
    tiny_run.unexported(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, exported, that stopped early: learning so fast, no epoch was better than the first."""
    folder = tmp_path_factory.mktemp("whole")
    stopping = {"epochs": 9, "precision": "32-true", "early_stopping": {"figure": "top_1", "patience": 2}}
    tiny_run.start(tiny_run.write(folder, train=stopping), folder / "run")
    return folder / "run"


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


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(tmp_path / "none" / "c.safetensors", {"x": torch.zeros(3)})


# ---- a finished run


def test_a_run_leaves_recipe_log_checkpoint_encoder_and_report(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names == {"recipe.yaml", "metrics.jsonl", train.CHECKPOINT, "encoder", "report.html", "report.json"}
    report = json.loads((whole / "report.json").read_text(encoding="utf-8"))
    assert [line["epoch"] for line in report["history"]] == [1, 2, 3]
    encoder = encoders.load(whole / "encoder")
    assert encoder.card.provenance is not None
    assert encoder.card.provenance.recipe["name"] == "tiny"
    assert encoder.card.provenance.images == 36


def test_every_epoch_has_its_loss_and_what_the_validation_split_says(whole: Path) -> None:
    keys = ["epoch", "loss", "loss.triplet.0", "loss.cross_entropy.1", "validation.loss", "validation.top_1"]
    for line in tiny_run.lines(whole):
        assert list(line) == [*keys, "validation.auc"]
        assert line["loss"] == pytest.approx(line["loss.triplet.0"] + line["loss.cross_entropy.1"])
        assert np.isfinite(list(line.values())).all()


def test_the_encoder_is_calibrated_on_held_out_pairs(whole: Path) -> None:
    calibration = encoders.load(whole / "encoder").card.calibration
    assert calibration is not None
    assert calibration.data == "the validation split of tiny"
    # Four classes with three pictures each have 12 pairs, and as many of different ones are drawn.
    assert calibration.genuine == calibration.impostors == 12


def test_without_pairs_in_the_validation_split_there_is_an_encoder_but_no_calibration_and_no_report(
    tmp_path: Path,
) -> None:
    path = tiny_run.write(tmp_path)
    encoder = Encoder.open(tiny_run.start(path, tmp_path / "run", "data.validation=0.05", "train.epochs=1"))
    assert encoder.card.calibration is None
    assert not (tmp_path / "run" / "report.html").exists()
    assert "validation.auc" not in tiny_run.lines(tmp_path / "run")[0]


def test_a_finished_run_is_not_overwritten(whole: Path) -> None:
    read = recipe.read(whole / "recipe.yaml")
    for there in (whole, whole / "recipe.yaml"):
        with pytest.raises(AlreadyExistsError):
            train.start(read, there, tiny_run.QUIET)


# ---- early stopping


def test_early_stopping_exports_the_best_epoch(whole: Path, tmp_path: Path, quick: None) -> None:
    lines = tiny_run.lines(whole)
    assert [line["validation.top_1"] for line in lines] == [lines[0]["validation.top_1"]] * 3
    provenance = encoders.load(whole / "encoder").card.provenance
    assert provenance is not None
    assert provenance.figures == {k: round(v, 5) for k, v in lines[0].items() if k.startswith("validation")}

    read = recipe.read(tiny_run.write(tmp_path), ["train.epochs=1"])
    train.start(read, tmp_path / "one", tiny_run.QUIET)
    kept, one = tiny_run.tensors(whole), tiny_run.tensors(tmp_path / "one")
    weights = [name.removeprefix("/best/") for name in kept if name.startswith("/best/")]
    assert len(weights) == 8
    assert all(torch.equal(kept[f"/best/{name}"], one[f"/network/{name}"]) for name in weights)

    pictures = datasets.load(read.data.sources, 12, "squash")
    network = Siamese(read.network, read.branches)
    embeddings = []
    for which in ("best", "network"):
        network.load_state_dict({name: kept[f"/{which}/{name}"] for name in weights})
        embeddings.append(validating.embed(network, pictures, read))
    best, last = embeddings
    exported = encoders.load(whole / "encoder").embed(pictures.images)
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
    stopping = recipe.EarlyStopping.model_validate({"figure": figure, "patience": 1})
    assert train._best(history, stopping) == best


def test_a_figure_that_the_run_does_not_have_is_told_which_there_are(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path)
    with pytest.raises(RecipeError, match=r"sketch_item_at_1.*it has validation\.loss, validation\.top_1"):
        tiny_run.start(path, tmp_path / "run", "train.early_stopping={figure: sketch_item_at_1, patience: 1}")


# ---- the same run, whatever happens to it

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
    """To the last digit."""
    assert tiny_run.lines(one) == tiny_run.lines(other)
    left, right = tiny_run.tensors(one), tiny_run.tensors(other)
    assert left.keys() == right.keys()
    assert len(left) > 10
    assert all(torch.equal(value, right[name]) for name, value in left.items())


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_an_interrupted_and_resumed_run_equals_one_in_one_go(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, features: list[str]
) -> None:
    path = tiny_run.write(tmp_path)
    overrides = ["train.epochs=4", *features]
    tiny_run.start(path, tmp_path / "whole", *overrides)
    factor, calls = schedules.factor, iter(range(1_000_000))

    def interrupted(read: recipe.Recipe, epoch: float) -> float:
        if epoch > 2 and next(calls) == 0:  # in the middle of the third epoch
            raise KeyboardInterrupt
        return factor(read, epoch)

    monkeypatch.setattr(schedules, "factor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny_run.start(path, tmp_path / "broken", *overrides)
    assert len(tiny_run.lines(tmp_path / "broken")) == 2
    train.resume(tmp_path / "broken", tiny_run.QUIET)
    assert_same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_equals_one_in_one_go(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(
        tmp_path,
        optimiser={"kind": "adam", "learning_rate": 0.003},
        train={"epochs": 25, "average": 0.9, "early_stopping": {"figure": "loss", "patience": 20}},
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
    train.resume(killed, tiny_run.QUIET)
    tiny_run.start(path, tmp_path / "whole")
    assert_same(tmp_path / "whole", killed)


@pytest.mark.slow
def test_a_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path, tiny_run.SKETCHES)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        tiny_run.start(path, tmp_path / name, f"seed={seed}")
    assert_same(tmp_path / "one", tmp_path / "two")
    assert tiny_run.lines(tmp_path / "one") != tiny_run.lines(tmp_path / "other")
    one, other = tiny_run.tensors(tmp_path / "one"), tiny_run.tensors(tmp_path / "other")
    assert not torch.equal(one["/network/branches.photo.head.0.weight"], other["/network/branches.photo.head.0.weight"])


def test_resuming_what_is_no_run_or_another_one_is_refused(tmp_path: Path, quick: None) -> None:
    with pytest.raises(NotFoundError, match="no run"):
        train.resume(tmp_path, tiny_run.QUIET)
    tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run")
    text = (tmp_path / "run" / train.RECIPE).read_text()
    (tmp_path / "run" / train.RECIPE).write_text(text.replace("margin: 0.2", "margin: 0.3"))
    with pytest.raises(MismatchError, match="the recipe changed"):
        train.resume(tmp_path / "run", tiny_run.QUIET)
    (tmp_path / "run" / train.RECIPE).write_text(text)
    with np.load(tmp_path / "pictures.npz") as arrays:
        np.savez(tmp_path / "pictures.npz", images=arrays["images"] // 2, labels=arrays["labels"])
    with pytest.raises(MismatchError, match="the pictures changed"):
        train.resume(tmp_path / "run", tiny_run.QUIET)


# ---- what goes wrong


@pytest.mark.parametrize(
    ("override", "error"),
    [("data.sources.0.path=none.npz", DataError), ("sampler.classes=5", RecipeError)],
)
def test_what_cannot_be_learned_from_leaves_no_folder_behind(
    tmp_path: Path, override: str, error: type[LookalikeError]
) -> None:
    with pytest.raises(error):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_too_few_pictures_of_a_class_leave_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        tiny_run.start(tiny_run.write(tmp_path, tiny_run.SKETCHES), tmp_path / "run", "data.sources.0.count=40")
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_says_so(tmp_path: Path, quick: None) -> None:
    with pytest.raises(RecipeError, match=r"in epoch 1\. Lower optimiser\.learning_rate"):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run", "optimiser.learning_rate=1e30")


def test_a_run_whose_weights_explode_behind_a_finite_loss_says_so(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validating, "embed", lambda *_: np.full((12, 8), np.nan, np.float32))
    with pytest.raises(RecipeError, match=r"gives nan .* after epoch 1\. Lower optimiser\.learning_rate"):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run" / train.CHECKPOINT).exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        tiny_run.start(tiny_run.write(tmp_path), tmp_path / "file" / "run")


# ---- validation


def validated(tmp_path: Path, *overrides: str) -> tuple[recipe.Recipe, LabelledImages, np.ndarray]:
    read = recipe.read(tiny_run.write(tmp_path), overrides)
    samples = datasets.load(read.data.sources, 12, "squash")
    embeddings = np.random.default_rng(1).normal(size=(len(samples), 8)).astype(np.float32)
    return read, samples, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


@pytest.mark.parametrize(("by", "terms"), [("item", [0, 1]), ("class", [0])])
def test_the_validation_loss_is_that_of_the_terms_that_know_the_classes(
    tmp_path: Path, by: str, terms: list[int]
) -> None:
    # One batch has all pictures, so that their order, and with it the batch's, does not matter.
    read, samples, embeddings = validated(tmp_path, f"data.validation_by={by}", "sampler.items=12")
    loss = Loss(read.losses, 8, 4)
    figures = validating.figures(read, loss, samples, embeddings)
    none = torch.zeros(len(samples), dtype=torch.bool)
    known = Targets(torch.from_numpy(samples.labels), torch.from_numpy(samples.items), none)
    with torch.no_grad():
        expected = sum(float(loss.terms[i](torch.from_numpy(embeddings), known)) for i in terms)
    assert figures["validation.loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_of_the_training_classes_alone_says_nothing_of_others(tmp_path: Path) -> None:
    read, samples, embeddings = validated(tmp_path, "data.validation_by=class", "losses=[{kind: cross_entropy}]")
    figures = validating.figures(read, Loss(read.losses, 8, 2), samples, embeddings)
    assert list(figures) == ["validation.top_1", "validation.auc"]


def test_the_auc_is_the_share_of_pairs_in_the_right_order(tmp_path: Path) -> None:
    read, samples, embeddings = validated(tmp_path)
    few = samples.take(np.arange(0, 48, 4))  # three of each class: all 12 genuine pairs and 12 of the others are drawn
    figures = validating.figures(read, Loss(read.losses, 8, 4), few, embeddings[::4])
    assert 0 < figures["validation.auc"] < 1
    apart = np.eye(8, dtype=np.float32)[few.labels]
    assert validating.figures(read, Loss(read.losses, 8, 4), few, apart)["validation.auc"] == 1


# ---- without labels


UNLABELLED = """
name: unlabelled
data: {sources: [{kind: npz, path: PICTURES}], classes: picture, validation: 0.25, size: 12}
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
    """A finished run that saw no labels."""
    folder = tmp_path_factory.mktemp("unlabelled")
    tiny_run.start(tiny_run.write(folder, UNLABELLED), folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_without_labels_two_views_of_each_held_out_picture_are_compared(unlabelled: Path) -> None:
    lines = tiny_run.lines(unlabelled)
    for line in lines:
        assert {"validation.loss", "validation.top_1", "validation.auc"} < set(line)
    assert lines[-1]["validation.auc"] > 0.7
    report = json.loads((unlabelled / "report.json").read_text(encoding="utf-8"))
    assert report["about"]["data"] == "24 views of 12 pictures held out of training"
    assert report["about"]["facts"] == {"trained on": "36 pictures each a class of its own"}


def test_without_labels_calibration_tells_views_from_all_other_pictures(unlabelled: Path) -> None:
    calibration = encoders.load(unlabelled / "encoder").card.calibration
    assert calibration is not None
    assert calibration.genuine == 12
    # Of 24 views are 276 pairs, 12 of them of the same picture; drawn a million times, each comes, and counts once.
    assert calibration.impostors == 264


def test_views_are_changed_pictures_of_the_same_class_and_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    some = LabelledImages(
        images=rng.integers(0, 256, (5, 20, 20, 3), dtype=np.uint8),
        labels=np.arange(5),
        items=np.arange(5),
        sketch=np.zeros(5, dtype=bool),
        classes=tuple("abcde"),
    )
    config = recipe.Augment(flip=False, crop=0.3, rotate=5, colour=0.3, erase=0.5, blur=1, jpeg=1)
    before = torch.random.get_rng_state()
    one, again, other = (augment.views(some, config, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.labels.tolist() == np.repeat(np.arange(5), 3).tolist()
    assert one.items.tolist() == list(range(15))
    assert np.array_equal(one.images, again.images)
    assert not np.array_equal(one.images, other.images)
    assert len(np.unique(one.images.reshape(15, -1), axis=0)) == 15
    unchanged = augment.views(some, recipe.Augment(flip=False), 2, 1)
    assert np.array_equal(unchanged.images, some.images.repeat(2, axis=0))


@pytest.mark.parametrize("setting", [{"crop": 0.5}, {"blur": 1.0}, {"jpeg": 1.0}], ids=lambda s: next(iter(s)))
@pytest.mark.parametrize("size", [8, 20, 33])
def test_a_change_keeps_size_and_range_and_changes_few_or_all(setting: dict[str, float], size: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(40, 3, size, size)
    whole = x.clone()
    out = augment.pipeline(recipe.Augment.model_validate({"flip": False, **setting}), size)(x)
    assert torch.equal(x, whole)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()
    assert -0.01 < out.min() <= out.max() < 1.01
    changed = (out != x).flatten(1).any(1).float().mean()
    assert 0.2 < changed < 0.8 if "blur" in setting else changed > 0.9


def test_a_share_of_pictures_is_recompressed_and_the_others_stay() -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 3, 16, 16)
    for share in (0.0, 0.3):
        out = augment.pipeline(recipe.Augment(flip=False, jpeg=share), 16)(x)
        changed = (out != x).flatten(1).any(1).float().mean()
        assert float(changed) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("section", "setting", "message"),
    [
        ("sampler", {"kind": "pairs", "pairs": 8}, "sampler pairs takes two pictures of a class"),
        ("sampler", {"kind": "triplets", "triplets": 8}, "sampler triplets takes two pictures of a class"),
        (
            "data",
            {"sources": [{"kind": "toyshop", "count": 8, "seed": 1, "sketches": 1}], "classes": "picture", "size": 12},
            "a sketch and its photo are one thing",
        ),
        ("data", {"sources": [{"path": "x"}], "classes": "pictures", "size": 12}, "data.classes"),
    ],
)
def test_what_cannot_be_learned_without_labels_is_refused(
    tmp_path: Path, section: str, setting: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe.read(tiny_run.write(tmp_path, UNLABELLED, **{section: setting}))


def test_a_classifier_of_pictures_is_not_asked_about_others(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path, UNLABELLED, losses=[{"kind": "cross_entropy"}], train={"epochs": 1})
    tiny_run.start(path, tmp_path / "run")
    (line,) = tiny_run.lines(tmp_path / "run")
    assert "validation.top_1" in line
    assert "validation.loss" not in line


def test_a_run_without_labels_goes_on_as_if_it_had_never_stopped(tmp_path: Path, quick: None) -> None:
    path = tiny_run.write(tmp_path, UNLABELLED)
    tiny_run.start(path, tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_is_over", lambda _, now: now.epoch == 1)
        tiny_run.start(path, tmp_path / "two")
    train.resume(tmp_path / "two", tiny_run.QUIET)
    assert tiny_run.lines(tmp_path / "one") == tiny_run.lines(tmp_path / "two")


# ---- quarter turns


def test_quarter_turns_make_each_class_four(tmp_path: Path) -> None:
    _, samples, _ = validated(tmp_path)
    turned = train._turned(samples)
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


def test_quarter_turns_leave_the_validation_split_as_it_is(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path)
    plain, turned = (
        train._prepare(recipe.read(path, [f"data.quarter_turns={turns}"]), tiny_run.QUIET, 1, 1)
        for turns in ("false", "true")
    )
    assert (len(plain.training), len(turned.training)) == (36, 144)
    assert (plain.validation.images == turned.validation.images).all()
    assert turned.validation.classes == plain.validation.classes


# ---- export


def blurred(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model as if float16 had lost much of what its weights say."""
    copy = deepcopy(model)
    for tensor in copy.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(array + np.float32(0.1), tensor.name))
    return copy


@pytest.mark.slow
def test_two_branches_are_exported_in_halves_or_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = recipe.read(tiny_run.write(tmp_path, tiny_run.SKETCHES))
    samples = datasets.load(read.data.sources, read.data.size, read.data.fit)
    net = networks.Siamese(read.network, read.branches).eval()

    def write(folder: Path) -> Path:
        return export.write(read, net, folder, samples=samples, pictures=1, minutes=1, figures={})

    made = write(tmp_path / "good")
    assert (made / "README.md").read_text().startswith("# sketches")
    assert Encoder.open(made).card.branches == ("photo", "sketch")
    with monkeypatch.context() as patch:
        patch.setattr(export, "_halved", blurred)
        whole = write(tmp_path / "whole")
    pictures = samples.images[~samples.sketch][:8]
    assert np.allclose(Encoder.open(whole).embed(pictures), Encoder.open(made).embed(pictures), atol=1e-2)
    # A network that does something else while it is exported than afterwards.
    net.branch("photo").head.register_forward_hook(
        lambda _m, _i, out: out if torch.compiler.is_compiling() else out + 1
    )
    with pytest.raises(EncoderError, match="disagree"):
        write(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_weights_are_halved_but_small_ones_and_those_beyond_float16() -> None:
    arrays: dict[str, np.ndarray] = {
        "large": np.linspace(-1, 1, 400, dtype=np.float32),
        "huge": np.linspace(-1, 1e6, 400, dtype=np.float32),
        "small": np.ones(256, np.float32),
        "whole": np.arange(400),
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
    halved = export._halved(model)
    assert model.SerializeToString() == before
    stored = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    kinds["large.half"] = TensorProto.FLOAT16
    del kinds["large"]
    assert stored == kinds
    onnx.checker.check_model(halved)
    runs = onnx.reference.ReferenceEvaluator(halved).run(None, {})
    for array, out in zip(arrays.values(), runs, strict=True):
        assert np.allclose(out, array, rtol=1e-3, atol=1e-4)


def test_what_is_said_on_the_way_is_a_line_an_epoch(tmp_path: Path, quick: None) -> None:
    heard = io.StringIO()
    train.start(recipe.read(tiny_run.write(tmp_path)), tmp_path / "run", Console(file=heard, width=200))
    said = heard.getvalue()
    assert "36 pictures to train on, 12 to validate, 4 classes" in said
    assert said.count("epoch 1 ") == said.count("epoch 2 ") == 1
