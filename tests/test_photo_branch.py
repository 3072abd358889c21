"""Sketch branches that are trained towards the photos of an existing encoder, and the crop of drawings to their ink."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pocket_encoder
import tiny_run
from lookalike.encoders import Encoder
from lookalike.errors import MismatchError, NotFoundError, RecipeError
from lookalike.learn import data, loop, networks, recipe, soft_labels, stage_run, teaching
from lookalike.learn.distributed import ONE_DEVICE, connect
from lookalike.learn.embedded import embed_once
from lookalike.learn.networks import weights
from lookalike.learn.networks.ink_crop import InkCrop
from lookalike.learn.teaching import Lessons
from lookalike.progress import SILENT

# torch and its exporter warn about their own internals, which lookalike cannot change.
pytestmark = [pytest.mark.filterwarnings("default")]

NETWORK = {"backbone": "cnn", "channels": 3, "dimension": 48, "unit": True, "neck": False, "crop_ink": 12}
LOSSES = [{"kind": "triplet", "margin": 0.2, "miner": "all", "across": True, "target": "item"}]


def write(folder: Path, **parts: object) -> Path:
    """Write a recipe of pseudo-sketches beside the pocket encoder; returns its path."""
    path = tiny_run.write(folder)
    data = {
        "sources": [{"kind": "npz", "path": str(folder / "images.npz")}],
        "validation": 0.25,
        "size": 12,
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "pseudo_sketches": {"count": 1},
    }
    encoder = pocket_encoder.calibrated(pocket_encoder.make(folder / "pocket", branches=("photo",)))
    given_parts = {"photos": str(encoder), "network": NETWORK, "data": data, "losses": LOSSES} | parts
    return tiny_run.write(path.parent, tiny_run.PLAIN, **given_parts)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, `run/`, and of the encoder of its photos, `pocket/`."""
    folder = tmp_path_factory.mktemp("plain")
    tiny_run.start(write(folder), folder / "run")
    return folder


@pytest.mark.slow
@pytest.mark.no_cover  # the other tests cover its lines; tracing the export takes as long as the test
def test_the_result_has_the_photo_branch_unchanged_and_a_sketch_branch_of_its_input(plain: Path) -> None:
    trained = Encoder.open(plain / "run" / "encoder")
    given_encoder = Encoder.open(plain / "pocket")
    assert trained.card.branches == ("photo", "sketch")
    assert trained.card.input == given_encoder.card.input
    assert trained.card.calibrations == given_encoder.card.calibrations != ()
    assert (trained.folder / "photo.onnx").read_bytes() == (given_encoder.folder / "photo.onnx").read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert np.allclose(np.linalg.norm(trained.embed(images, "sketch"), axis=1), 1, atol=1e-3)


def test_training_begins_nearer_to_the_photos_than_random_weights(tmp_path: Path) -> None:
    run = stage_run.prepare(recipe.read(write(tmp_path)), 0, connect(ONE_DEVICE), SILENT)
    samples, photos = run.data.training, run.photos
    assert photos is not None
    x = torch.from_numpy(samples.images[samples.sketch]).permute(0, 3, 1, 2) / 255
    vectors = photos.training[torch.from_numpy(~samples.sketch)]
    with torch.inference_mode():
        fitted = run.state.network.eval()(x)
        network = stage_run.build(run.recipe, 0).eval()
        random = network(x)
    centred = vectors - vectors.mean(dim=0)

    def nearness(y: Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(y, centred).mean())

    assert nearness(fitted) > nearness(random) + 0.03


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("network.neck=true", "set network.neck: false"),
        ("network.dimension=32", "set network.dimension: 48"),
        ("data.mean=[0.5, 0.5, 0.5]", "data.mean"),
        ("network.crop_ink=null", "set data.size: 32, or network.crop_ink"),
        ("shaded=20", "takes no images of 20 pixels; set shaded: 32"),
    ],
)
def test_a_network_that_does_not_fit_the_photos_is_refused(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        stage_run.check(recipe.read(write(tmp_path), [change]))


def test_an_encoder_of_photos_that_does_not_exist_is_reported_first(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="genral"):
        stage_run.check(recipe.read(write(tmp_path), ["photos=genral", "network.neck=true"]))


def test_a_recipe_without_a_sketch_branch_to_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="add sketches"):
        recipe.read(write(tmp_path, losses=[{"kind": "cross_entropy"}]), ["data.pseudo_sketches=null"])


@pytest.mark.parametrize("kind", ["relational_distillation", "soft_labels"])
def test_a_loss_that_follows_photos_needs_an_encoder_of_photos(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, losses=[*LOSSES, {"kind": kind}])
    assert [t.kind for t in recipe.read(path).stages[0].losses] == ["triplet", kind]
    with pytest.raises(RecipeError, match=f"the loss {kind} follows the photos of an encoder; name it by photos"):
        recipe.read(path, ["photos=null"])


def test_relations_of_photos_train_the_sketch_branch(tmp_path: Path) -> None:
    path = write(tmp_path, losses=[{"kind": "relational_distillation"}])
    run = stage_run.prepare(recipe.read(path), 0, connect(ONE_DEVICE), SILENT)
    before = {name: weight.clone() for name, weight in run.state.network.state_dict().items()}
    assert loop.train_epoch(run, Lessons())["loss"] > 0
    assert any(not torch.equal(weight, before[name]) for name, weight in run.state.network.state_dict().items())
    assert loop.validate(run)["validation.loss"] > 0


@pytest.mark.slow
def test_the_classes_of_photos_are_those_of_the_public_classifier(tmp_path: Path) -> None:
    path = write(tmp_path, losses=[{"kind": "soft_labels", "teacher": "efficientnet_lite0"}])
    run = stage_run.prepare(recipe.read(path), 0, connect(ONE_DEVICE), SILENT)
    lessons, samples = teaching.make(run), run.data.training
    labels = lessons.classes
    assert labels is not None
    assert labels.known.all()
    photo = int(np.flatnonzero(~samples.sketch)[3])
    sketch = int(np.flatnonzero(samples.sketch & (samples.items == samples.items[photo]))[0])
    network = recipe.EfficientNetLiteNetwork(backbone="efficientnet_lite0", weights="imagenet")
    weight, bias = (torch.from_numpy(array) for array in weights.classifier(network))
    image = data.read(run.recipe, 0, 224, SILENT)[0].images[photo]
    x = (torch.from_numpy(image)[None].permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        expected = networks.Siamese(network, ("photo",), features=True).eval()(x) @ weight.T + bias
    for row in (photo, sketch):
        assert torch.allclose(labels.scores[row], expected[0], atol=1e-3)
    assert loop.train_epoch(run, lessons)["loss"] > 0


# ---- vectors and labels of photos


def test_images_are_embedded_once_by_each_encoder() -> None:
    images, calls = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 3), np.uint8), []

    def embed(chunk: np.ndarray) -> np.ndarray:
        calls.append(len(chunk))
        return chunk[:, 0, 0].astype(np.float32)

    for by, made in (("one of these tests", 150), ("one of these tests", 150), ("another", 300)):
        vectors = embed_once(images, embed, by, SILENT)
        assert sum(calls) == made
        assert np.array_equal(vectors, images[:, 0, 0])
    changed = images.copy()
    changed[149, 0, 0, 0] += 1
    assert np.array_equal(embed_once(changed, embed, "another", SILENT), changed[:, 0, 0])


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1), st.lists(st.integers(0, 8)))
def test_a_sketch_has_the_scores_of_its_photo(photos: list[int], items: list[int]) -> None:
    of_photos = np.arange(1, 2 * len(photos) + 1, dtype=np.float32).reshape(-1, 2)
    scores, known = soft_labels.of_items(of_photos, np.array(photos), np.array(items, int))
    for item, row, has_photo in zip(items, scores, known, strict=True):
        assert has_photo == (item in photos)
        assert row.tolist() == (of_photos[photos.index(item)].tolist() if has_photo else [0, 0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_the_classifier_gives_photos_about_the_scores_of_the_teacher(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(60, 6)) + 3).astype(np.float32)
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    scores = (centred @ rng.normal(size=(6, 9)) + rng.normal(size=9)).astype(np.float32)
    weight, bias = soft_labels.fit_classifier(vectors, scores)
    left = scores - (centred @ weight.T + bias)
    assert left.mean(axis=0) == pytest.approx(np.zeros(9), abs=1e-5)
    assert (left**2).sum() < 0.05 * ((scores - scores.mean(axis=0)) ** 2).sum()


# ---- ink


def drawing(side: int, left: float, above: float, size: float) -> Tensor:
    """Draw a black L on white; place and size are shares of the side."""
    sheet = torch.ones(1, 3, side, side)
    x, y, s = (round(v * side) for v in (left, above, size))
    pen = max(2, s // 8)
    sheet[:, :, y : y + s, x : x + pen] = -1
    sheet[:, :, y + s - pen : y + s, x : x + s] = -1
    return sheet


@settings(max_examples=12, deadline=None)
@given(left=st.floats(0, 0.5), above=st.floats(0, 0.5), size=st.floats(0.25, 0.5), side=st.sampled_from([64, 128]))
def test_place_and_size_of_a_drawing_do_not_matter(left: float, above: float, size: float, side: int) -> None:
    crop = InkCrop(32)
    expected = crop(drawing(128, 0.2, 0.3, 0.5))
    found = crop(drawing(side, left, above, size))
    assert found.shape == (1, 1, 32, 32)
    assert float((found - expected).abs().mean()) < 0.25  # of 2 between ink and paper; widths of the pen are rounded
    assert float(found.max()) == pytest.approx(1, abs=1e-4)


def test_drawings_of_a_batch_are_cropped_alone_and_a_blank_sheet_stays_blank() -> None:
    crop = InkCrop(16)
    one, two, blank = drawing(64, 0.1, 0.1, 0.3), drawing(64, 0.5, 0.4, 0.5), torch.ones(1, 3, 64, 64)
    together = crop(torch.cat([one, two, blank]))
    for i, alone in enumerate((one, two, blank)):
        assert torch.allclose(together[i], crop(alone)[0], atol=1e-5)
    assert torch.allclose(together[2], torch.ones(1, 16, 16))


def test_colours_of_a_drawing_become_the_grey_of_their_mean() -> None:
    red = drawing(64, 0.1, 0.1, 0.3)
    red[:, 0] = 1
    grey = red.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.allclose(InkCrop(16)(red), InkCrop(16)(grey), atol=1e-5)


@pytest.mark.slow
def test_shaded_drawings_join_the_sketch_branch(plain: Path, tmp_path: Path) -> None:
    trained = Encoder.open(tiny_run.start(write(tmp_path, shaded=32), tmp_path / "run"))  # which compares it with NumPy
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    joined, lines = (e.embed(images, "sketch") for e in (trained, Encoder.open(plain / "run" / "encoder")))
    assert np.allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-3)
    assert 0.1 < float((joined * lines).sum(axis=1).mean()) < 0.999
    blank = np.full((1, 32, 32, 3), 255, np.uint8)
    assert np.isfinite(trained.embed(blank, "sketch")).all()
