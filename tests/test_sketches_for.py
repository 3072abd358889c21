"""train --sketches-for: a sketch branch that is fitted to the images of a collection."""

import errno
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.linear_model import Ridge

import lookalike as la
import pocket_encoder
from lookalike import atomic, locks
from lookalike.cli import main
from lookalike.collection import Collection
from lookalike.encoders import Card, Encoder
from lookalike.encoders.card import Output
from lookalike.errors import (
    AlreadyExistsError,
    BusyError,
    DataError,
    MismatchError,
    NotFoundError,
    RecipeError,
    StorageError,
    UsageError,
)
from lookalike.learn import pseudo_sketches, sketch_run
from lookalike.learn import recipe as recipes
from lookalike.learn.heads import onnx_graph
from lookalike.learn.heads.correction import Correction, fit_correction
from lookalike.learn.heads.features import reduce_output, widen_output
from lookalike.learn.recipe import SketchRecipe
from lookalike.learn.recipe.sketch_recipe import MIN_IMAGES
from lookalike.learn.sketch_run import SketchRun, resume_sketches, train_sketches
from lookalike.metric import Metric

COUNT = 64


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(COUNT):  # bright boxes on dark ground, so that drawings are unlike them at first
        pixels = np.full((48, 64, 3), 20, np.uint8)
        (top, left), (height, width) = rng.integers(2, 20, 2), rng.integers(12, 26, 2)
        pixels[top : top + height, left : left + 2 * width] = rng.integers(150, 256, 3)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A collection of an encoder that knows only photos."""
    folder = tmp_path_factory.mktemp("shop")
    with la.open(
        folder / "shop", encoder=pocket_encoder.calibrated(pocket_encoder.make(folder / "one", ("photo",)))
    ) as collection:
        collection.add(photos)
        return collection.path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> SketchRun:
    return train_sketches(recipe(shop), tmp_path_factory.mktemp("runs") / "mine")


def recipe(collection: Path, **changes: object) -> SketchRecipe:
    tree = {"name": "mine", "sketches_for": str(collection), "drawings": 1, "held_out": 0.5}
    return SketchRecipe.model_validate(tree | changes)


# ---- the correction


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_correction_equals_ridge_regression(seed: int, centred: bool) -> None:
    rng = np.random.default_rng(seed)
    features, embeddings, photos = (rng.normal(size=(40, d)).astype(np.float32) for d in (6, 5, 5))
    shown = rng.integers(0, 40, 40)
    fitted = fit_correction(features, embeddings, shown, photos, centred=centred, ridge=0.5)
    unit = photos / np.linalg.norm(photos, axis=1, keepdims=True)
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    spread = features - features.mean(axis=0)
    plain = Ridge(alpha=0.5 * np.mean(np.sum(spread.astype(np.float64) ** 2, axis=0))).fit(
        features, (unit - unit.mean(axis=0) * centred)[shown] - directions
    )
    moved = directions + plain.predict(features)
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True) * np.linalg.norm(photos, axis=1).mean()
    assert fitted.apply(features, embeddings) == pytest.approx(expected, abs=1e-4)


def test_a_strong_penalty_keeps_the_embeddings_or_only_centres_them() -> None:
    rng = np.random.default_rng(0)
    features, embeddings = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(30, 3)).astype(np.float32)
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for centred, wanted in ((False, directions), (True, directions - directions.mean(axis=0))):
        fitted = fit_correction(features, embeddings, np.arange(30), embeddings, centred=centred, ridge=1e9)
        expected = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert fitted.apply(features, embeddings) / fitted.length == pytest.approx(expected, abs=1e-4)


def network(*, gemm: bool = True, name: str = "out") -> onnx.ModelProto:
    """A network of a convolution and its means; with ``gemm`` the first six numbers of seven become the embedding."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        "kernel": rng.normal(size=(7, 3, 4, 4)).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
        "weight": rng.normal(size=(7, 6)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["maps"], strides=[4, 4]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("ReduceMean", ["positive", "axes"], ["means" if gemm else name], keepdims=0),
    ]
    if gemm:
        nodes.append(helper.make_node("Gemm", ["means", "weight"], [name]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6 if gemm else 7])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def save(folder: Path, model: onnx.ModelProto, metric: Metric = Metric.EUCLIDEAN, output: Output | None = None) -> Path:
    folder.mkdir(parents=True)
    onnx.save(model, folder / "photo.onnx")
    card = Card(
        name="small",
        description="",
        licence="Apache-2.0",
        dimension=model.graph.output[-1].type.tensor_type.shape.dim[1].dim_value,
        output="float",
        metric=metric,
        input={"size": 16, "fit": "squash", "mean": (0, 0, 0), "std": (1, 1, 1)},
        network_output=output,
        branches=("photo",),
    )
    (folder / "encoder.json").write_text(card.model_dump_json(), encoding="utf-8")
    return folder


def test_features_are_what_enters_the_last_layer_or_the_output() -> None:
    assert onnx_graph.find_features(network()) == ("means", 7)
    assert onnx_graph.find_features(network(gemm=False)) == ("out", 7)


@pytest.mark.parametrize("gemm", [True, False])
@pytest.mark.parametrize("twice", [False, True])
def test_a_corrected_network_computes_the_correction(tmp_path: Path, gemm: bool, twice: bool) -> None:
    model, rng = network(gemm=gemm), np.random.default_rng(1)
    pixels = rng.normal(size=(3, 3, 16, 16)).astype(np.float32)
    card = Card.read(save(tmp_path / "card", model))
    for _ in range(1 + twice):
        both, count = widen_output(model, card)
        model = reduce_output(model, card)
        values = compute(both, pixels)
        embeddings = values[:, : card.dimension]
        features = values[:, card.dimension :] if count else embeddings
        correction = Correction(
            rng.normal(size=(features.shape[1], card.dimension)).astype(np.float32),
            rng.normal(size=card.dimension).astype(np.float32),
            2.5,
        )
        model = onnx_graph.append_correction(model, correction, inner=count > 0, output_name="out")
        assert model.graph.output[0].name == "out"
        expected = correction.apply(features, embeddings)
        assert compute(model, pixels) == pytest.approx(expected, abs=1e-5)


def compute(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"images": pixels})
    return np.asarray(found)


# ---- the run


def test_drawings_find_their_images_more_often(run: SketchRun) -> None:
    assert (run.images, run.held_out) == (COUNT, COUNT // 2)
    assert run.mrr.after > 1.5 * run.mrr.before
    assert run.top_10.after > run.top_10.before
    assert json.loads((run.encoder.parent / "result.json").read_text())["mrr"]["after"] == run.mrr.after
    assert sorted(path.name for path in run.encoder.parent.iterdir()) == ["encoder", "recipe.yaml", "result.json"]


def test_the_encoder_has_the_same_photos_and_another_sketch_branch(run: SketchRun, shop: Path) -> None:
    fitted, base = Encoder.open(run.encoder), la.load_encoder(shop)
    assert fitted.card.branches == ("photo", "sketch")
    assert fitted.photo_fingerprint == base.photo_fingerprint
    assert fitted.fingerprint != base.fingerprint
    assert fitted.card.calibrations == base.card.calibrations
    assert fitted.card.provenance
    assert fitted.card.provenance.recipe["sketches_for"] == "shop.lookalike"
    assert str(shop) not in (run.encoder / "encoder.json").read_text()


def test_the_collection_takes_the_encoder_and_keeps_its_vectors(run: SketchRun, shop: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(shop, tmp_path / "mine.lookalike"))
    with Collection.open(mine) as collection:
        ids = [item.id for item in collection]
        vectors = collection.store.vectors(ids)
        assert collection.reindex(run.encoder).embedded == 0
        assert (collection.store.vectors(ids) == vectors).all()
        drawing = Image.new("RGB", (50, 50), "white")
        assert len(collection.search(drawing, sketch=True, k=3)) == 3
        again = train_sketches(recipe(mine), tmp_path / "again")
    assert again.mrr.before == pytest.approx(run.mrr.after, abs=0.2)  # of images that it was fitted to
    assert la.load_encoder(again.encoder).card.branches == ("photo", "sketch")


def test_a_stopped_run_continues(shop: Path, run: SketchRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, draw = list[int](), pseudo_sketches.pseudo_sketch

    def stopping(at: int) -> Callable[..., np.ndarray]:
        def drawing(*given: object) -> np.ndarray:
            drawn.append(1)
            if len(drawn) > at:
                raise KeyboardInterrupt
            return draw(*given)  # type: ignore[arg-type]

        return drawing

    monkeypatch.setattr(sketch_run, "prefetch_map", lambda function, tasks: (function(task) for task in tasks))
    monkeypatch.setattr(sketch_run, "pseudo_sketch", stopping(40))
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_sketches(recipe(shop), folder)
    drawn.clear()
    first, second = sorted((folder / "drawings").iterdir())
    second.write_bytes(first.read_bytes()[:1_000])
    monkeypatch.setattr(sketch_run, "pseudo_sketch", stopping(1_000))
    read = recipes.read_any(folder / "recipe.yaml")
    assert isinstance(read, SketchRecipe)
    resumed = resume_sketches(read, folder)
    assert len(drawn) == COUNT - 16  # of two parts, one is damaged
    assert resumed.mrr == run.mrr


@pytest.mark.slow
def test_a_public_encoder_keeps_the_name_of_its_output(tmp_path: Path, photos: Path) -> None:
    model = network(name="pooled")
    model.graph.output.insert(0, helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", 7, 4, 4]))
    public = save(tmp_path / "public", model, Metric.COSINE, Output(name="pooled"))
    with la.open(tmp_path / "shop", encoder=public) as collection:
        collection.add(photos)
    fitted = train_sketches(recipe(tmp_path / "shop"), tmp_path / "run")
    with Collection.open(tmp_path / "shop") as collection:
        assert collection.reindex(fitted.encoder).embedded == 0
        assert len(collection.search(photos / "00.png", sketch=True, k=3)) == 3


# ---- bad input


def test_too_few_images_are_refused(tmp_path: Path, photos: Path, pocket: Path) -> None:
    with la.open(tmp_path / "few", encoder=pocket) as few:
        few.add(sorted(photos.iterdir())[:10])
    with pytest.raises(DataError, match=r"10 different images .* at least 50"):
        train_sketches(recipe(tmp_path / "few"), tmp_path / "run")
    with la.open(tmp_path / "empty", encoder=pocket):
        pass
    with pytest.raises(DataError, match="0 different images"):
        train_sketches(recipe(tmp_path / "empty"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_images_are_named(tmp_path: Path, photos: Path, pocket: Path) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    with la.open(tmp_path / "shop", encoder=pocket) as shop:
        shop.add(moved)
    for path in sorted(moved.iterdir())[:20]:
        path.unlink()
    with pytest.raises(DataError, match=r"44 different images .*20 others cannot be read, the first of them: .*\.png"):
        train_sketches(recipe(tmp_path / "shop"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_that_changed_are_left_out(tmp_path: Path, photos: Path, pocket: Path) -> None:
    changed = Path(shutil.copytree(photos, tmp_path / "changed"))
    with la.open(tmp_path / "shop", encoder=pocket) as shop:
        shop.add(changed)
    for path in sorted(changed.iterdir())[:20]:
        Image.new("RGB", (64, 48), "white").save(path)
    with pytest.raises(DataError, match=r"20 others cannot be read, .* has changed since it was indexed"):
        train_sketches(recipe(tmp_path / "shop"), tmp_path / "run")


def test_images_with_one_vector_are_refused_before_they_are_drawn(tmp_path: Path, pocket: Path) -> None:
    (tmp_path / "blank").mkdir()
    for side in range(MIN_IMAGES):
        Image.new("RGB", (32 + side, 32), "white").save(tmp_path / "blank" / f"{side}.png")
    with la.open(tmp_path / "shop", encoder=pocket) as shop:
        shop.add(tmp_path / "blank")
    with pytest.raises(DataError, match=r"All 50 images .* same vector"):
        train_sketches(recipe(tmp_path / "shop"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_bits_is_refused(tmp_path: Path, photos: Path, pocket: Path) -> None:
    bits = Path(shutil.copytree(pocket, tmp_path / "bits"))
    card = json.loads((bits / "encoder.json").read_text()) | {"output": "bits", "metric": "hamming"}
    (bits / "encoder.json").write_text(json.dumps(card))
    with la.open(tmp_path / "shop", encoder=bits):
        pass
    with pytest.raises(RecipeError, match="gives bits"):
        train_sketches(recipe(tmp_path / "shop"), tmp_path / "run")


def test_a_run_resumes_when_a_full_disk_has_space_again(
    shop: Path, run: SketchRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = tmp_path / "run", atomic.write_text

    def write_unless_full(path: Path, text: str) -> None:
        if path.name == "result.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_text", write_unless_full)
        with pytest.raises(StorageError, match=r"cannot be written: No space left .* resume the run: lookalike train"):
            train_sketches(recipe(shop), folder)
    assert len(list((folder / "drawings").iterdir())) == COUNT / 16
    monkeypatch.setattr(sketch_run, "pseudo_sketch", None)  # nothing is drawn again
    read = recipes.read_any(folder / "recipe.yaml")
    assert isinstance(read, SketchRecipe)
    assert resume_sketches(read, folder).mrr == run.mrr
    assert sorted(path.name for path in folder.iterdir()) == ["encoder", "recipe.yaml", "result.json"]


def test_two_processes_do_not_train_one_run(shop: Path, tmp_path: Path) -> None:
    with locks.exclusive(tmp_path / "lock"), pytest.raises(BusyError, match="Another process is training"):
        resume_sketches(recipe(shop), tmp_path)


def test_an_earlier_run_another_encoder_and_no_collection_are_refused(
    shop: Path, run: SketchRun, tmp_path: Path
) -> None:
    with pytest.raises(AlreadyExistsError, match="resume it"):
        train_sketches(recipe(shop), run.encoder.parent)
    with pytest.raises(MismatchError, match="another encoder"):
        train_sketches(recipe(shop, fingerprint="0" * 64), tmp_path / "run")
    with pytest.raises(MismatchError, match=r"is finished, .* begin another run"):
        resume_sketches(recipe(shop, fingerprint="0" * 64), run.encoder.parent)
    with pytest.raises(NotFoundError, match="no collection"):
        train_sketches(recipe(tmp_path / "none"), tmp_path / "run")
    with pytest.raises(RecipeError, match="not part of a study"):
        recipes.read(run.encoder.parent / "recipe.yaml")


# ---- the command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["lookalike", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
        out = capsys.readouterr()
        return " ".join((out.out if code == 0 else out.err).split())

    return call


@pytest.mark.slow
def test_the_command_prints_the_gain_and_what_to_do_next(
    command: Callable[..., str], shop: Path, tmp_path: Path
) -> None:
    out = command("--sketches-for", shop, "-o", "drawings=1", "-o", "held_out=0.5")
    assert "MRR" in out
    assert "32 images that were held out; then fitted to all 64" in out
    assert f"lookalike reindex {shop} --encoder runs/shop-sketches/encoder" in out
    tree = json.loads(command("runs/shop-sketches", "--json"))
    assert tree["encoder"] == "runs/shop-sketches/encoder"
    assert tree["mrr"]["after"] > tree["mrr"]["before"]


def test_options_that_do_not_fit_are_refused(command: Callable[..., str], shop: Path) -> None:
    assert "give only --to, -o and --json" in command("--sketches-for", shop, "--whole", code=2)
    assert "give only --to, -o and --json" in command("photos", "--sketches-for", shop, code=2)
    assert "--sketches-for NAME" in command(code=2)
    assert "no collection at nowhere.lookalike" in command("--sketches-for", "nowhere", code=1)
    assert "drawings" in command("--sketches-for", shop, "-o", "drawings=0", code=2)
    assert "one device" in command("--sketches-for", shop, "--devices", 2, code=2)


def test_a_run_resumes_as_it_began(command: Callable[..., str], run: SketchRun) -> None:
    assert "leave out" in command(run.encoder.parent, "-o", "drawings=2", code=2)
    assert "leave out" in command(run.encoder.parent, "--to", "other", code=2)


# ---- in Python


@pytest.mark.slow
def test_the_python_function_names_the_encoder_after_the_run(shop: Path, run: SketchRun, tmp_path: Path) -> None:
    with Collection.open(shop) as collection:
        mine = la.train_sketches(collection, to=tmp_path / "Mine", overrides=["drawings=1", "held_out=0.5"])
    assert mine.mrr == run.mrr
    assert la.load_encoder(mine.encoder).card.name == "mine"
    assert la.train(tmp_path / "Mine" / "recipe.yaml", to=tmp_path / "again").card.name == "mine"


def test_the_python_function_refuses_bad_input(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="list of changes"):
        la.train_sketches(shop, tmp_path / "run", "drawings=1")
    for change in ("drawings=0", "images=49", "held_out=0.95"):
        with pytest.raises(RecipeError, match=change.partition("=")[0]):
            la.train_sketches(shop, tmp_path / "run", [change])
    with pytest.raises(StorageError, match="too long"):
        la.train_sketches(shop, tmp_path / ("a" * 300))
    with pytest.raises(NotFoundError, match="no collection"):
        la.train_sketches(tmp_path / "none", tmp_path / "run")
    with pytest.raises(UsageError, match="path"):
        la.train_sketches(None, tmp_path / "run")  # type: ignore[arg-type]
