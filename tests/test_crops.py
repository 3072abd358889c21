"""Embeddings of several crops and mirror images, averaged."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import image_files
from lookalike import datasets, images
from lookalike.collection import Collection, open_collection
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder, crops
from lookalike.encoders.card import Card, Input
from lookalike.encoders.crops import Crops
from lookalike.errors import EncoderError, MismatchError, UsageError
from lookalike.evaluation import calibration
from lookalike.images import Resizing

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # after the tests, whose modules share a name

import several_crops

COUNTS: tuple[Crops, ...] = (1, 2, 5, 10)


@pytest.fixture
def encoder(pocket: Path) -> Encoder:
    return Encoder.open(pocket)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    image_files.write(tmp_path / "images", {f"{i:03}.png": i for i in range(20)})
    return sorted((tmp_path / "images").iterdir())


# ---- the crops


@pytest.mark.parametrize("count", COUNTS)
@given(size=st.integers(1, 30), seed=st.integers(0, 99))
def test_crops_are_the_corners_the_middle_and_their_mirror_images(count: Crops, size: int, seed: int) -> None:
    side = crops.source_side(size, count)
    batch = np.random.default_rng(seed).integers(0, 256, (3, side, side, 3), np.uint8)
    found = list(crops.cut(batch, size, count))
    assert len(found) == count
    assert all(crop.shape == (3, size, size, 3) for crop in found)
    plain = found if count in (1, 5) else found[::2]
    if count in (2, 10):
        assert all(np.array_equal(mirror, crop[:, :, ::-1]) for crop, mirror in zip(plain, found[1::2], strict=True))
    if count in (5, 10):
        rest = side - size
        assert rest >= 1
        corners = [(0, 0), (0, rest), (rest, 0), (rest, rest), (rest // 2, rest // 2)]
        for crop, (top, left) in zip(plain, corners, strict=True):
            assert np.array_equal(crop, batch[:, top : top + size, left : left + size])
    else:
        assert np.array_equal(plain[0], batch)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 999))
def test_the_mean_of_directions_follows_its_formula(count: int, rows: int, seed: int) -> None:
    parts = np.random.default_rng(seed).standard_normal((count, rows, 7)).astype(np.float32) * 5
    found = crops.mean_direction(parts)
    for row in range(rows):
        mean = sum(part[row] / np.linalg.norm(part[row]) for part in parts)
        assert np.allclose(found[row], mean / np.linalg.norm(mean), atol=1e-5)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_zero_vector_has_no_direction() -> None:
    parts = np.zeros((2, 1, 3), np.float32)
    assert np.array_equal(crops.mean_direction(parts), parts[0])
    parts[0, 0, 0] = 2
    assert np.array_equal(crops.mean_direction(parts), [[1, 0, 0]])


# ---- the encoder


@pytest.mark.parametrize("count", COUNTS)
def test_all_ways_of_embedding_average_the_same_crops(encoder: Encoder, files: list[Path], count: Crops) -> None:
    embedder = Embedder.of(encoder.with_crops(count))
    side = crops.source_side(32, count)
    fitted = np.stack([images.load(path, side) for path in files])
    expected = crops.mean_direction([encoder.embed(np.ascontiguousarray(c)) for c in crops.cut(fitted, 32, count)])
    assert np.allclose(embedder.embed(files), expected, atol=1e-6)
    assert np.allclose(embedder.embed_files(files).vectors, expected, atol=1e-6)
    assert np.allclose(embedder.embed_array(fitted), expected, atol=1e-6)
    assert np.allclose(embedder.embed_batch(fitted[:3]), expected[:3], atol=1e-6)
    assert np.allclose(embedder.embed([files[7].read_bytes()]), expected[7:8], atol=1e-6)
    assert embedder.embed([]).shape == (0, 48)


def test_one_crop_is_the_encoder_itself(encoder: Encoder) -> None:
    assert encoder.with_crops(1) is encoder
    assert len({encoder.with_crops(count).fingerprint for count in COUNTS}) == 4
    assert encoder.with_crops(5).with_crops(1).fingerprint == encoder.fingerprint


def test_a_mirror_image_is_the_same_by_its_mean(encoder: Encoder, files: list[Path]) -> None:
    mirrored = Image.open(files[3]).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for count, same in ((1, False), (2, True)):
        embedder = Embedder.of(encoder.with_crops(count))
        a, b = embedder.embed([files[3]]), embedder.embed([mirrored])
        assert np.allclose(a, b, atol=1e-4) == same


@pytest.mark.parametrize("count", [0, 3, 20])
def test_another_number_of_crops_is_refused(encoder: Encoder, count: int) -> None:
    with pytest.raises(UsageError, match="1, 2, 5, 10"):
        encoder.with_crops(count)


def test_bits_have_no_mean(encoder: Encoder, pocket: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pocket, tmp_path / "bits"))
    card = json.loads((folder / "encoder.json").read_text()) | {"output": "bits", "metric": "hamming"}
    (folder / "encoder.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match="bits"):
        Encoder.open(folder).with_crops(2)
    (folder / "encoder.json").write_text(json.dumps(card | {"input": card["input"] | {"crops": 2}}))
    with pytest.raises(EncoderError, match="mean"):
        Encoder.open(folder)


def test_crops_are_cut_from_a_larger_image_of_a_public_encoder() -> None:
    plain = Input(size=224, fit="crop", mean=(0, 0, 0), std=(1, 1, 1), resize=256)
    assert plain.model_copy(update={"crops": 10}).fitting == Resizing("crop", 256)
    tight = plain.model_copy(update={"crops": 10, "resize": 224})
    assert (tight.side, tight.decoded_side, tight.fitting) == (256, 256, Resizing("crop", 256))


# ---- collections


@pytest.mark.parametrize("count", [2, 5])
def test_a_collection_keeps_its_crops(encoder: Encoder, files: list[Path], tmp_path: Path, count: Crops) -> None:
    with Collection.create(tmp_path / "c", encoder.with_crops(count)) as collection:
        assert collection.add(files).embedded == 20
    with Collection.open(tmp_path / "c") as collection:
        assert collection.embedder.encoder.card.input.crops == count
        vectors = collection.store.vectors([item.id for item in collection])
        own = collection.embedder.embed([Path(item.uri) for item in collection])
        assert np.allclose(vectors, own, atol=1e-6)
        hit = collection.search(files[4], k=1).hits[0]
        assert Path(hit.item.uri) == files[4]
        assert hit.distance < 1e-3
    with pytest.raises(MismatchError):
        open_collection(tmp_path / "c", encoder)


def test_a_changed_encoder_is_calibrated_in_a_copy(encoder: Encoder, tmp_path: Path) -> None:
    changed = encoder.with_crops(2)
    with pytest.raises(UsageError, match="--to"):
        calibration.check_destination(changed, None)
    copy = changed.copy(tmp_path / "copy")
    assert Card.read(copy).input.crops == 2
    assert Encoder.open(copy).fingerprint == changed.fingerprint
    calibration.check_destination(Encoder.open(copy), None)


def test_the_benchmark_measures_each_number_of_crops(encoder: Encoder, tmp_path: Path) -> None:
    image_files.write(tmp_path, {f"{name}/{i}.png": i for i in range(6) for name in ("a", "b")})
    found = several_crops.measure(encoder, datasets.open_dataset(datasets.infer_source(tmp_path)))
    assert list(found) == [1, 2, 5, 10]
    assert all(0 <= it["top_1"] <= 1 and 0 < it["map"] <= 1 and it["milliseconds"] > 0 for it in found.values())
