"""Recipes with several stages: reading, weights carried over, frozen and shared layers, resuming, single stages."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

import tiny_run
from lookalike.encoders import Encoder
from lookalike.errors import DataError, MismatchError, NotFoundError, RecipeError
from lookalike.learn import checkpoint, loop, recipe, stage_run, stopping
from lookalike.learn.networks import Siamese
from lookalike.learn.run_folder import CHECKPOINT, RECIPE, read_weights
from lookalike.learn.train import resume, train
from recorder import Recorder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    return tiny_run.write(tmp_path, tiny_run.STAGES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages."""
    folder = tmp_path_factory.mktemp("staged")
    train(tiny_run.write(folder, tiny_run.STAGES), folder / "run")
    return folder / "run"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run.skip_export(monkeypatch)


def assert_same(one: Path, other: Path) -> None:
    assert tiny_run.lines(one) == tiny_run.lines(other)
    left, right = tiny_run.tensors(one), tiny_run.tensors(other)
    assert left.keys() == right.keys()
    assert len(left) > 10
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def weights(run: Path, stage: str) -> dict[str, Tensor]:
    return read_weights(run / "stages" / f"{stage}.safetensors")


# ---- reading


def test_a_flat_recipe_is_one_stage_and_is_written_flat(tmp_path: Path) -> None:
    read = recipe.read(tiny_run.write(tmp_path))
    assert [stage.name for stage in read.stages] == [""]
    tree = read.to_tree()
    assert "stages" not in tree
    assert recipe.parse({"name": tree["name"], "network": tree["network"], "stages": [stage_of(tree)]}) == read


def stage_of(tree: dict[str, object]) -> dict[str, object]:
    return {key: tree[key] for key in recipe.Stage.model_fields if key in tree and key != "name"}


def test_keys_beside_stages_are_defaults_for_all_stages(staged: Path) -> None:
    first, second = recipe.read(staged).stages
    assert first.sampler == second.sampler == recipe.PKSampler(classes=8, items=2)
    assert (first.train.epochs, second.train.epochs) == (2, 3)
    assert second.frozen == ("photo.body.stage1",)
    (staged.parent / "again.yaml").write_text(recipe.read(staged).to_yaml())
    assert recipe.read(staged.parent / "again.yaml") == recipe.read(staged)


def test_overrides_change_one_stage_or_the_defaults_of_all(staged: Path) -> None:
    read = recipe.read(staged, ["stages.1.train.epochs=9", "augment.shift=1", "stages.0.losses.0.scale=4"])
    first, second = read.stages
    assert (first.train.epochs, second.train.epochs) == (2, 9)
    assert first.augment.shift == second.augment.shift == 1
    assert isinstance(first.losses[0], recipe.CrossEntropyTerm)
    assert first.losses[0].scale == 4


def test_an_override_of_one_stage_keeps_the_other_values_of_a_default(staged: Path) -> None:
    default = "augment={shift: 3, flip: false}"
    first, second = recipe.read(staged, ["stages.1.augment.shift=1", default]).stages
    assert (first.augment.shift, first.augment.flip) == (3, False)
    assert (second.augment.shift, second.augment.flip) == (1, False)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.1.name=classify", "unique name"),
        ("stages.1.name=''", "unique name"),
        ("stages.0.name=../up", r"stages\.0\.name"),
        ("stages=[]", "stages"),
        ("stages=5", "stages"),
        ("stages.0.augment={flipp: true}", r"stages\.0\.augment\.flipp"),
        ("stages.1.shared=layer3", r"layer3 is not a layer of fast.*stage2"),
        ("stages.0.losses.0={kind: contrastive, margin: 1, across: true}", "no source has sketches"),
    ],
)
def test_invalid_stages_are_refused(staged: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe.read(staged, [override])


def test_reading_recipes_leaves_torch_out() -> None:
    code = (
        "import sys, pathlib; from lookalike.learn import recipe\n"
        "[recipe.read(p) for p in pathlib.Path('recipes').glob('*.yaml') if 'grid:' not in p.read_text()"
        " and 'variants:' not in p.read_text()]\n"
        "assert not {'torch', 'pytorch_metric_learning', 'kornia'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


# ---- weights


def test_a_run_writes_the_weights_of_each_stage_and_names_stages_in_the_log(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        *(RECIPE, "metrics.jsonl", CHECKPOINT, "stages"),
        *("encoder", "report.html", "report.json"),
    }
    lines = tiny_run.lines(finished)
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        *(("classify", epoch) for epoch in (1, 2)),
        *(("triplets", epoch) for epoch in (3, 4, 5)),
    ]
    assert "loss.cross_entropy.0" in lines[0]
    assert "validation.sketch_item_at_1" in lines[-1]
    assert {name.split(".")[1] for name in weights(finished, "classify")} == {"photo"}
    assert {name.split(".")[1] for name in weights(finished, "triplets")} == {"photo", "sketch"}


def test_frozen_layers_keep_the_weights_of_the_stage_before(finished: Path) -> None:
    before, after = weights(finished, "classify"), weights(finished, "triplets")
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    frozen = {
        name for name in before if name.startswith(("branches.photo.body.stage1.", "branches.photo.body.whiten."))
    }
    assert same == frozen
    # The statistics of batch normalisation do not move either.
    assert "branches.photo.body.stage1.bn1.running_mean" in frozen


def test_a_new_branch_starts_as_a_copy_of_the_photo_branch(staged: Path, finished: Path) -> None:
    before = weights(finished, "classify")
    network = stage_run.build(recipe.read(staged), 1, before)
    for name, value in network.branch("sketch").state_dict().items():
        assert torch.equal(value, before[f"branches.photo.{name}"])


@pytest.mark.parametrize(
    ("shared", "same"),
    [
        (None, {"stage2", "stage3", "head"}),
        ("stage3", {"stage3", "head"}),
        ("head", {"head"}),
        ("none", set()),
        ("whiten", {"whiten", "stage1", "stage2", "stage3", "head"}),
    ],
)
def test_branches_share_the_layers_that_the_stage_names(staged: Path, shared: str | None, same: set[str]) -> None:
    network = Siamese(recipe.read(staged).network, ("photo", "sketch"), shared)
    photo, sketch = network.branch("photo"), network.branch("sketch")
    layers = dict(photo.body.named_children()) | {"head": photo.head}
    others = dict(sketch.body.named_children()) | {"head": sketch.head}
    assert {name for name in layers if layers[name] is others[name]} == same


def test_layers_that_a_stage_begins_to_share_get_the_weights_of_the_photo_branch(staged: Path) -> None:
    config = recipe.read(staged).network
    torch.manual_seed(0)
    apart, together = Siamese(config, ("photo", "sketch"), "none"), Siamese(config, ("photo", "sketch"))
    for parameter in apart.branch("sketch").parameters():
        parameter.data.add_(1)
    together.load_weights(apart.state_dict(), "a test")
    for name, value in together.branch("sketch").state_dict().items():
        origin = "photo" if name.startswith(("body.stage2", "body.stage3", "head")) else "sketch"
        assert torch.equal(value, apart.branch(origin).state_dict()[name])  # type: ignore[arg-type]  # a branch


def test_a_shared_layer_is_frozen_with_either_branch(staged: Path) -> None:
    network = Siamese(recipe.read(staged).network, ("photo", "sketch"))
    network.freeze(["sketch"], ("photo", "sketch"))
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert names
    assert all(name.startswith("branches.photo.body.stage1.") for name in names)
    network.train()
    assert not network.branch("sketch").training
    assert not network.branch("photo").head.training
    assert network.branch("photo").body.get_submodule("stage1").training


def test_a_layer_without_a_branch_is_frozen_in_all(staged: Path) -> None:
    network = Siamese(recipe.read(staged).network, ("photo", "sketch"), "none")
    network.freeze(["head", "body.stage1.conv1"], ("photo", "sketch"))
    frozen = {name.split(".", 2)[2] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {
        *(f"head.{name}" for name in ("0.weight", "1.weight", "1.bias")),
        *(f"body.{name}" for name in ("whiten.weight", "whiten.bias", "stage1.conv1.weight")),
    }
    trained = {name.split(".")[1] for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {"photo", "sketch"}


def test_a_stage_without_sketches_does_not_train_the_sketch_branch(staged: Path, finished: Path, quick: None) -> None:
    read = recipe.read(staged, ["stages.0.train.epochs=1", f"start={finished}"]).select(("classify",))
    train(read, staged.parent / "run")
    before, after = weights(finished, "triplets"), read_weights(staged.parent / "run")
    own = [name for name in before if name.startswith(("branches.sketch.body.stage1", "branches.sketch.body.whiten"))]
    assert len(own) > 10
    assert all(torch.equal(before[name], after[name]) for name in own)
    moved = "branches.photo.body.stage1.conv1.weight"
    assert not torch.equal(before[moved], after[moved])


# ---- single stages


def test_a_stage_alone_gives_the_same_result_as_in_the_whole_run(staged: Path, finished: Path, quick: None) -> None:
    start = finished / "stages" / "classify.safetensors"
    recorder = Recorder()
    train(staged, staged.parent / "alone", recorder, overrides=[f"start={start}"], stages=["triplets"])
    before = [note for note in recorder.notes if note.startswith("before training")]
    assert len(before) == 1
    last = [line for line in tiny_run.lines(finished) if line["stage"] == "classify"][-1]
    assert f"validation.top_1 {last['validation.top_1']:.4g}" in before[0]
    alone = tiny_run.lines(staged.parent / "alone")
    whole = [line for line in tiny_run.lines(finished) if line["stage"] == "triplets"]
    assert [{**line, "epoch": line["epoch"] + 2, "stage": "triplets"} for line in alone] == whole
    after = read_weights(staged.parent / "alone")
    assert all(torch.equal(value, after[name]) for name, value in weights(finished, "triplets").items())
    assert recipe.read(staged.parent / "alone" / RECIPE).start == start


def test_a_run_starts_from_another_runs_folder(finished: Path) -> None:
    from_folder, from_file = read_weights(finished), weights(finished, "triplets")
    assert from_folder.keys() == from_file.keys()
    assert all(torch.equal(value, from_file[name]) for name, value in from_folder.items())


def test_weights_that_cannot_be_started_from_are_refused(staged: Path, finished: Path) -> None:
    run = staged.parent / "run"
    with pytest.raises(NotFoundError, match="none"):
        train(staged, run, overrides=["start=none"])
    with pytest.raises(NotFoundError, match="do not exist"):
        train(staged, run, overrides=[f"start={staged.parent}"])
    with pytest.raises(MismatchError, match="not a checkpoint"):
        train(staged, run, overrides=[f"start={staged}"])
    with pytest.raises(MismatchError, match="do not fit the network"):
        train(staged, run, overrides=[f"start={finished}", "network.dimension=16"])
    with pytest.raises(RecipeError, match=r"no stage “pairs”.*classify, triplets"):
        train(staged, run, stages=["pairs"])
    assert not run.exists()


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("stages.1.frozen=[body.layer1]", RecipeError, "body.layer1.*sketch.*body.stage1"),
        ("stages.1.frozen=[photo, sketch]", RecipeError, "nothing to train"),
        ("stages.1.data.sources.0={path: none.npz, kind: npz}", DataError, "none.npz"),
    ],
)
def test_errors_of_later_stages_are_found_before_the_first(
    staged: Path, override: str, error: type[Exception], words: str
) -> None:
    path = [override, "stages.1.losses=[{kind: cross_entropy}]"]
    with pytest.raises(error, match=words):
        train(staged, staged.parent / "run", overrides=path)
    assert not (staged.parent / "run").exists()


# ---- resuming


@pytest.mark.no_cover  # runs of one stage are resumed under coverage
@pytest.mark.parametrize("epoch", [2, 4], ids=["between the stages", "in the second stage"])
def test_a_run_stopped_between_or_in_stages_resumes_with_the_same_result(
    staged: Path, finished: Path, quick: None, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    folder = staged.parent / "broken"
    with monkeypatch.context() as patch:
        validate = loop.validate

        def interrupted(run: stage_run.StageRun) -> dict[str, float]:
            if len(run.log()) == epoch:
                raise KeyboardInterrupt
            return validate(run)

        patch.setattr(loop, "validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(staged, folder)
    assert len(tiny_run.lines(folder)) == epoch
    resume(folder)
    assert_same(finished, folder)


@pytest.mark.parametrize("lines", [2, 3], ids=["at the boundary", "in the second stage"])
def test_a_killed_run_of_stages_resumes_with_the_same_result(
    staged: Path, finished: Path, quick: None, lines: int
) -> None:
    killed = staged.parent / "killed"
    command = [sys.executable, "-m", "lookalike", "train", str(staged), "--to", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log = killed / "metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < lines:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(killed / "encoder", ignore_errors=True)
    resume(killed)
    assert_same(finished, killed)


def test_a_run_of_a_release_without_stages_resumes(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_run.write(tmp_path)
    train(path, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "is_over", lambda _, history: len(history) == 1)
        train(path, tmp_path / "old")
    # Such a release wrote no stages into the state, and none of their keys into the recipe.
    file = tmp_path / "old" / CHECKPOINT
    tree = checkpoint.load(file)
    del tree["state"]["stage"], tree["state"]["earlier"]
    old = json.loads(tree["identity"]["recipe"])
    for key in ("start", "frozen", "shared"):
        del old[key]
    tree["identity"]["recipe"] = json.dumps(old)
    checkpoint.save(file, tree)
    (tmp_path / "old" / RECIPE).write_text(yaml.safe_dump(old))
    resume(tmp_path / "old")
    assert tiny_run.lines(tmp_path / "whole") == tiny_run.lines(tmp_path / "old")


# ---- the encoder


def test_the_encoder_is_that_of_the_last_stage(finished: Path) -> None:
    encoder = Encoder.open(finished / "encoder")
    assert encoder.card.branches == ("photo", "sketch")
    provenance = encoder.card.provenance
    assert provenance is not None
    assert [stage["name"] for stage in provenance.recipe["stages"]] == ["classify", "triplets"]
    assert "validation.sketch_item_at_1" in provenance.figures
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert [line["epoch"] for line in report["history"]] == [1, 2, 3, 4, 5]
