"""Training from an encoder and labelled images: heads, their choice, their gain and the encoder that has one."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

import lookalike as la
import pocket_encoder
from lookalike.cli import main
from lookalike.encoders import Card, Encoder
from lookalike.encoders.card import Output
from lookalike.errors import AlreadyExistsError, DataError, LookalikeError, MismatchError, RecipeError, UsageError
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.learn import head_run
from lookalike.learn import recipe as recipes
from lookalike.learn.export import shorten_paths
from lookalike.learn.head_run import HeadRun, hold_out, train_head
from lookalike.learn.heads import Features, choice, fitting
from lookalike.learn.heads.features import reduce_output
from lookalike.learn.heads.head import unit_vectors
from lookalike.learn.heads.lda import fit_lda
from lookalike.learn.heads.scores import measure_gain, score_queries
from lookalike.learn.losses import ProxyAnchorTerm, SupervisedContrastiveTerm
from lookalike.learn.own_labels import whole_recipe
from lookalike.learn.recipe import Discriminant, EncoderWhitening, HeadRecipe, LinearMetric, Unchanged
from lookalike.learn.recipe.head_recipe import BESIDE, CANDIDATES
from lookalike.metric import Metric

CLASSES, EACH = 8, 8


def noisy(seed: int, classes: int = CLASSES, each: int = EACH, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return features in which classes differ a little in each direction, and images of a class much in two of them."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 0.3, (classes, size))
    labels = np.repeat(np.arange(classes), each)
    spread = np.full(size, 0.1)
    spread[:2] = 3
    return (means[labels] + rng.normal(0, 1, (len(labels), size)) * spread).astype(np.float32), labels


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of classes: each has four cells of its colours; the colours of the others vary."""
    folder, rng = tmp_path_factory.mktemp("own") / "Our Photos", np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
        own = rng.integers(60, 200, (1, 4, 3))
        for i in range(EACH):
            cells = rng.integers(0, 256, (4, 4, 3))
            cells[:1] = own + rng.integers(-6, 7, (1, 4, 3))
            image = cells.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
            Image.fromarray(image).save(folder / f"class{label}" / f"{i}.png")
    return folder


def recipe(photos: Path, encoder: Path | str, **changes: object) -> HeadRecipe:
    tree = {"name": "mine", "from": str(encoder), "data": {"sources": [{"path": str(photos)}]}, **changes}
    return recipes.parse_head(tree)


@pytest.fixture(scope="module")
def fitted(photos: Path, pocket: Path, tmp_path_factory: pytest.TempPathFactory) -> HeadRun:
    return train_head(recipe(photos, pocket), tmp_path_factory.mktemp("runs") / "mine")


# ---- heads and scores


@pytest.mark.parametrize("seed", range(3))
def test_the_scores_of_queries_are_those_of_retrieval(seed: int) -> None:
    features, labels = noisy(seed)
    labels[:3] = 99, 98, 97  # without another image
    scores = score_queries(features, labels, np.arange(len(labels)))
    expected = retrieval.leave_one_out(LabelledVectors(features, labels), Metric.EUCLIDEAN)
    assert len(scores.queries) == expected.queries == len(labels) - 3
    assert scores.top_1.mean() == pytest.approx(expected.top_1)
    assert scores.average_precision.mean() == pytest.approx(expected.map)


def test_a_gain_has_an_interval_of_classes_or_queries() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(400)
    after = before + 0.1 + rng.normal(0, 0.05, 400)
    few, many = np.repeat(np.arange(4), 100), np.repeat(np.arange(40), 10)
    for units in (few, many):
        gain = measure_gain(before, after, units, seed=0)
        assert gain.interval is not None
        assert gain.interval[0] < gain.after - gain.before < gain.interval[1]
        assert gain.interval[0] > 0.05
    assert measure_gain(before[:5], after[:5], few[:5], seed=0).interval is None
    same = measure_gain(before, before, many, seed=0)
    assert str(same).startswith(f"{before.mean():.3f} → {before.mean():.3f} (+0.000")


def test_lda_of_two_classes_is_the_whitened_difference_of_their_means() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 4000)
    features = (rng.normal(0, 1, (8000, 2)) * (3, 0.5) + np.stack([labels, labels], axis=1)).astype(np.float32)
    head = fit_lda(features, labels, shrinkage=0)
    direction = head.projection[:, 0] / np.linalg.norm(head.projection[:, 0])
    expected = np.array([1 / 9, 1 / 0.25]) / np.linalg.norm([1 / 9, 1 / 0.25])
    assert abs(direction @ expected) == pytest.approx(1, abs=1e-3)
    with pytest.raises(DataError, match="2 classes give 1 axes"):
        fit_lda(features, labels, shrinkage=0, dimension=2)


LINEAR = (
    LinearMetric(kind="linear", loss=ProxyAnchorTerm(kind="proxy_anchor")),
    LinearMetric(kind="linear", loss=SupervisedContrastiveTerm(kind="supervised_contrastive")),
)


@pytest.mark.parametrize("settings", [EncoderWhitening(kind="whitening"), Discriminant(kind="lda"), *LINEAR])
def test_a_head_finds_the_directions_that_matter(
    settings: EncoderWhitening | Discriminant | LinearMetric,
) -> None:
    features, labels = noisy(0, each=40)
    head = fitting.fit(Features(features[::2]), labels[::2], settings, 0)
    assert head is not None
    rows = np.arange(len(labels) // 2)
    before = score_queries(features[1::2], labels[1::2], rows).average_precision.mean()
    after = score_queries(head.apply(features[1::2]), labels[1::2], rows).average_precision.mean()
    assert after > before + 0.05
    again = fitting.fit(Features(features[::2]), labels[::2], settings, 0)
    assert again is not None
    np.testing.assert_array_equal(head.projection, again.projection)
    np.testing.assert_allclose(np.linalg.norm(head.apply(features), axis=1), 1, rtol=1e-5)


def test_the_best_head_comes_first_and_none_if_no_head_helps() -> None:
    features, labels = noisy(1, each=12)
    trials = choice.choose(Features(features), labels, CANDIDATES[:6], 0)
    assert not isinstance(trials[0].settings, Unchanged)
    assert {trial.classes is None or trial.images is None for trial in trials} == {False}
    unit = np.random.default_rng(0).normal(0, 1, features.shape).astype(np.float32)
    for by in ("both", "classes", "images"):
        trials = choice.choose(
            Features(np.eye(CLASSES, dtype=np.float32)[labels] + 0.01 * unit[:, :CLASSES]),
            labels,
            CANDIDATES[:6],
            0,
            by=by,
        )
        assert trials[0].settings == Unchanged()


def test_few_classes_are_compared_by_images_alone() -> None:
    features, labels = noisy(0, classes=3, each=12)
    trials = choice.choose(Features(features), labels, CANDIDATES[:6], 0)
    assert {trial.classes for trial in trials} == {None}
    assert not isinstance(trials[0].settings, Unchanged)


@pytest.mark.parametrize(
    ("counts", "held_out"), [([8, 8, 8], 6), ([3] * 8, 6), ([3, 3, 3], 0), ([2, 40], 0), ([5, 40], 12)]
)
def test_images_or_classes_are_held_out(counts: list[int], held_out: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    mask = hold_out(labels, 0.25, 0)
    assert mask.sum() == held_out
    for part in (labels[mask], labels[~mask]):
        assert (np.unique(part, return_counts=True)[1] > 1).all()


# ---- the run


def test_a_run_says_what_it_gains_and_writes_an_encoder(fitted: HeadRun, photos: Path, pocket: Path) -> None:
    assert (fitted.images, fitted.classes) == (CLASSES * EACH, CLASSES)
    assert fitted.held_out == "16 held-out images of 8 classes"
    assert fitted.improved
    assert fitted.map is not None
    assert fitted.map.after > fitted.map.before
    encoder = Encoder.open(fitted.encoder)
    card = encoder.card
    assert card.name == "mine"
    assert card.branches == ("photo", "sketch")
    assert card.provenance is not None
    assert card.provenance.weights is not None
    assert Encoder.open(pocket).fingerprint in card.provenance.weights
    assert str(photos.parent) not in card.model_dump_json()
    assert card.provenance.figures["validation.map"] == round(fitted.map.after, 5)
    files = sorted(photos.rglob("*.png"))
    labels = np.array([int(file.parent.name[-1]) for file in files])
    before, after = (la.embed(files, encoder=source) for source in (pocket, encoder))
    rows = np.arange(len(files))
    assert score_queries(after, labels, rows).top_1.mean() > score_queries(before, labels, rows).top_1.mean()
    np.testing.assert_allclose(la.embed(files[:2], encoder=encoder, sketch=True), after[:2], atol=1e-5)
    written = json.loads((fitted.encoder.parent / "result.json").read_text())
    assert written["map"]["after"] == fitted.map.after
    assert len(written["trials"]) == len(CANDIDATES)


def test_the_recipe_that_is_written_gives_the_same_encoder(fitted: HeadRun, tmp_path: Path) -> None:
    path = fitted.encoder.parent / "recipe.yaml"
    read = recipes.read_any(path)
    assert isinstance(read, HeadRecipe)
    assert read == fitted.recipe
    assert read.head != "auto"
    encoder = la.train(path, to=tmp_path / "again")
    assert encoder.fingerprint == Encoder.open(fitted.encoder).fingerprint
    with pytest.raises(MismatchError, match="for another encoder"):
        la.train(path, to=tmp_path / "other", overrides=["from=toyshop"])
    with pytest.raises(AlreadyExistsError):
        la.train(path, to=tmp_path / "again")


def test_a_head_follows_another_head(fitted: HeadRun, photos: Path, tmp_path: Path) -> None:
    encoder: Path = fitted.encoder
    for number in range(2):
        encoder = train_head(recipe(photos, encoder, head={"kind": "whitening"}), tmp_path / str(number)).encoder
    names = [tensor.name for tensor in onnx.load(encoder / "photo.onnx").graph.initializer]
    assert len(names) == len(set(names))
    assert la.embed(sorted(photos.rglob("*.png"))[:2], encoder=encoder).shape == (
        2,
        Encoder.open(encoder).card.dimension,
    )


@pytest.mark.parametrize(
    "settings", [{"kind": "whitening"}, {"kind": "linear", "loss": {"kind": "supervised_contrastive"}, "epochs": 1}]
)
def test_a_head_is_beside_the_embedding_of_another_head(
    settings: dict[str, object], fitted: HeadRun, photos: Path, tmp_path: Path
) -> None:
    base = Encoder.open(fitted.encoder)
    # train_head compares the encoder with NumPy.
    result = train_head(recipe(photos, fitted.encoder, head=settings | {"beside": True}), tmp_path / "beside")
    encoder = Encoder.open(result.encoder)
    assert encoder.card.dimension == base.card.dimension
    assert result.head_name.endswith(", beside")
    smaller = recipe(photos, result.encoder, head=settings | {"beside": True, "dimension": 5})
    again = Encoder.open(train_head(smaller, tmp_path / "again").encoder)
    assert again.embed(np.zeros((1, *[again.card.input.size] * 2, 3), np.uint8)).shape == (1, 5)


def test_auto_compares_heads_beside_the_embedding(
    fitted: HeadRun, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_run, "CANDIDATES", CANDIDATES[:1])
    monkeypatch.setattr(head_run, "BESIDE", BESIDE[:1])
    result = train_head(recipe(photos, fitted.encoder), tmp_path / "auto")
    assert {trial.name for trial in result.trials} == {"none", "whitening, shrinkage 0.3, beside"}


def test_a_projection_beside_the_embedding_adds_what_its_head_left_out() -> None:
    features, labels = noisy(0, each=40)
    earlier = unit_vectors(features[:, :4])
    both = Features(earlier, features)
    head = fitting.fit(
        both.take(np.arange(len(labels))[::2]), labels[::2], EncoderWhitening(kind="whitening", beside=True), 0
    )
    after = both.take(np.arange(len(labels))[1::2]).apply(head)
    assert after.shape == earlier[1::2].shape
    rows = np.arange(len(after))
    gain = [score_queries(x, labels[1::2], rows).average_precision.mean() for x in (earlier[1::2], after)]
    assert gain[1] > gain[0] + 0.05
    with pytest.raises(DataError, match=r"Leave out head\.beside"):
        fitting.fit(Features(features), labels, EncoderWhitening(kind="whitening", beside=True), 0)
    with pytest.raises(DataError, match="of 9 numbers"):
        fitting.fit(both, labels, EncoderWhitening(kind="whitening", beside=True, dimension=9), 0)


def test_the_run_of_a_head_is_not_resumed(fitted: HeadRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", fitted.encoder.parent) == 2
    assert "fits a head" in capsys.readouterr().err


def test_an_encoder_is_kept_if_no_head_is_better(photos: Path, pocket: Path, tmp_path: Path) -> None:
    result = train_head(recipe(photos, pocket, head={"kind": "none"}), tmp_path / "run")
    assert not result.improved
    assert result.map is not None
    assert result.map.after == result.map.before
    assert Encoder.open(result.encoder).fingerprint == Encoder.open(pocket).fingerprint


def write(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.effect_noise((32, 32), 80 + i).convert("RGB").save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 24}, "only one class"),
        ({"a": 23, "b": 1}, "only one class"),
        ({"a": 1, "b": 1}, "No class .* has two images"),
        ({"a": 9, "b": 9}, "18 images .* too few .* 20"),
    ],
)
def test_too_few_images_or_classes_are_refused(
    counts: dict[str, int], message: str, pocket: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        train_head(recipe(write(tmp_path / "few", counts), pocket), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("head.shrinkage=7", "head.whitening.shrinkage: must be at most 1"),
        ("head.kind=x", "head: 'kind' must be one of"),
    ],
)
def test_an_invalid_head_is_explained_by_its_key_alone(photos: Path, override: str, error: str) -> None:
    tree = recipe(photos, "pocket", head=EncoderWhitening(kind="whitening")).to_tree()
    with pytest.raises(RecipeError) as e:
        recipes.parse_head(tree, [override])
    (line,) = str(e.value).splitlines()[1:]
    assert line.strip().startswith(error)


def test_bits_are_refused(photos: Path, pocket: Path, tmp_path: Path) -> None:
    folder = pocket_encoder.make(tmp_path / "bits")
    tree = json.loads((folder / "encoder.json").read_text()) | {"output": "bits", "metric": "hamming"}
    (folder / "encoder.json").write_text(json.dumps(tree))
    with pytest.raises(RecipeError, match="bits"):
        train_head(recipe(photos, folder), tmp_path / "run")


def network(shape: list[int | str], dimension: int) -> onnx.ModelProto:
    """Return a network whose output has a shape: its input, reshaped."""
    nodes = [helper.make_node("Identity", ["images"], ["out"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "n", [value("images", TensorProto.FLOAT, shape)], [value("out", TensorProto.FLOAT, shape)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("shape", "pool", "metric"),
    [((2, 5), None, "euclidean"), ((2, 5), None, "cosine"), ((2, 3, 5), "first", "cosine"), ((2, 3, 5), "mean", "euclidean"),
     ((2, 5, 1, 1), None, "euclidean"), ((2, 5, 2, 3), "mean", "cosine")],
)  # fmt: skip
def test_the_output_of_any_network_becomes_one_vector(
    shape: tuple[int, ...], pool: str | None, metric: str, pocket: Path
) -> None:
    x = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    output = None if pool is None else Output(pool=pool)
    card = Card.read(pocket).model_copy(update={"dimension": 5, "metric": Metric(metric), "network_output": output})
    model = reduce_output(network(["n", *shape[1:]], 5), card)
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": x})
    expected = (
        x.reshape(2, 5) if pool is None else x[:, 0] if pool == "first" else x.mean(axis=1 if x.ndim == 3 else (2, 3))
    )
    if metric == "cosine":
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---- the command line


def run(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lookalike", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_reads_labels_of_a_table(
    photos: Path, pocket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flat = tmp_path / "Flat Photos"
    flat.mkdir()
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "colour"])
        for path in sorted(photos.rglob("*.png")):
            name = f"{path.parent.name}-{path.name}"
            (flat / name).write_bytes(path.read_bytes())
            writer.writerow([name, path.parent.name, "red"])
    arguments = (
        "train",
        "--from",
        pocket,
        flat,
        "--labels",
        "labels.csv",
        "-o",
        "head={kind: whitening, dimension: 8}",
    )
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert "16 held-out images of 8 classes: top-1 " in shown
    assert "whitening, shrinkage 0.3" in shown
    assert Encoder.open(tmp_path / "runs" / "flat-photos" / "encoder").card.dimension == 8
    assert run(*arguments, "--json", "--to", "other") == 0
    assert json.loads(capsys.readouterr().out)["head"] == {
        "kind": "whitening",
        "shrinkage": 0.3,
        "dimension": 8,
        "beside": False,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "no folder and no file"),
        (("PHOTOS", "--labels", "none.csv"), "none.csv"),
        (("PHOTOS", "--stage", "one"), "leave out --stage"),
        (("PHOTOS", "-o", "head=many"), "head"),
        (("PHOTOS", "-o", "size=3"), "unknown"),
        (("PHOTOS", "--whole"), "no weights that can be trained.*Leave out --whole"),
        (("recipe.yaml",), "is a recipe"),
    ],
)
def test_wrong_options_are_explained(
    arguments: tuple[str, ...], message: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("name: x")
    assert run("train", "--from", "toyshop", *(str(photos) if a == "PHOTOS" else a for a in arguments)) in (1, 2)
    error = capsys.readouterr().err
    assert "Error: " in error
    assert re.search(message, error, re.DOTALL), error
    assert not (tmp_path / "runs").exists()


def test_labels_and_whole_need_from(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", photos, "--whole") == 2
    assert "go with --from" in capsys.readouterr().err


@pytest.mark.parametrize("images", ["folder", "source"])
def test_the_python_function_fits_a_head_to_labelled_images(
    images: str, photos: Path, pocket: Path, tmp_path: Path
) -> None:
    data = photos if images == "folder" else la.datasets.infer_source(photos)
    encoder = la.train(data, to=tmp_path / "Our run", overrides=["head.kind=whitening"], start=pocket)
    assert encoder.card.name == "our-run"
    assert encoder.card.provenance is not None
    assert {"validation.map", "validation.map.before"} <= set(encoder.card.provenance.figures)
    assert "from: " in (tmp_path / "Our run" / "recipe.yaml").read_text()


def test_labelled_images_need_an_encoder_to_begin_from(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="start="):
        la.train(la.datasets.infer_source(photos), to=tmp_path / "a")
    with pytest.raises(UsageError, match="start="):
        la.train(photos, to=tmp_path / "a", whole=True)
    with pytest.raises(UsageError, match="weights of ImageNet"):
        la.train(photos, to=tmp_path / "a", start="toyshop", whole=True)
    with pytest.raises(LookalikeError, match="There is no folder"):
        la.train(tmp_path / "nowhere", to=tmp_path / "a", start="toyshop")


# ---- the whole network


def test_the_recipe_of_a_whole_network_begins_from_imagenet_or_a_run(photos: Path, tmp_path: Path) -> None:
    source = la.datasets.infer_source(photos)
    made = recipes.parse(whole_recipe("efficientnet_lite0", "mine", source))
    assert made.network.backbone == "efficientnet_lite0"
    assert made.stages[0].data.size == 160
    assert made.head is not None
    assert made.stages[0].sampler.model_dump()["classes"] == CLASSES
    folder = tmp_path / "before"
    folder.mkdir()
    small = {"backbone": "fast", "dimension": 16, "stride": 2, "widths": [4, 4, 4]}
    tree = whole_recipe("efficientnet_lite0", "before", source) | {"network": small, "head": None}
    tree["data"] |= {"size": 32}
    (folder / "recipe.yaml").write_text(recipes.parse(tree).to_yaml())
    (folder / "checkpoint.safetensors").write_bytes(b"")
    for start in (folder, folder / "encoder"):
        made = recipes.parse(whole_recipe(str(start), "mine", source))
        assert made.start == folder
        assert made.network.backbone == "fast"
        assert made.head is None
        assert made.stages[0].data.size == 32
    with pytest.raises(UsageError, match="--from efficientnet_lite0"):
        whole_recipe("toyshop", "mine", source)
    with pytest.raises(LookalikeError, match="two classes or more"):
        whole_recipe("efficientnet_lite0", "mine", la.datasets.infer_source(write(tmp_path / "few", {"a": 2, "b": 1})))


def test_a_card_has_no_whole_path_of_this_machine() -> None:
    sources = [{"kind": "csv", "path": "/home/ann/shop/shop.csv", "folder": "/home/ann/shop/photos", "sketches": None}]
    shorten_paths(sources)
    assert sources == [{"kind": "csv", "path": "shop/shop.csv", "folder": "shop/photos", "sketches": None}]
