"""Encoder artefacts: reading, refusals and embeddings."""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lookalike import encoders
from lookalike.embedding import Embedder
from lookalike.encoders import Card, Encoder
from lookalike.encoders import card as cards
from lookalike.encoders.card import Calibration
from lookalike.errors import EncoderError, LookalikeError, MismatchError, MissingExtraError, NotFoundError, UsageError
from lookalike.metric import Metric

SIZE = 32
DIMENSION = 48
PLAIN = {"size": SIZE, "fit": "squash", "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.fixture
def folder(tmp_path: Path, pocket: Path) -> Path:
    return Path(shutil.copytree(pocket, tmp_path / "pocket"))


def random_images(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def write_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    (folder / "encoder.json").write_text(json.dumps(card | changes), encoding="utf-8")


def write_network(
    folder: Path, nodes: list[onnx.NodeProto], shape: list[str | int], *constants: onnx.TensorProto
) -> None:
    """A network of these nodes from "in" to "out"."""
    inputs = [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "photo.onnx")


def means(*, then: str) -> list[onnx.NodeProto]:
    """Means of a 4 by 4 grid, and one operation more."""
    return [
        helper.make_node("AveragePool", ["in"], ["means"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["means"], ["flat"], axis=1),
        helper.make_node(then, ["flat"], ["out"]),
    ]


# ---- embedding


def test_single_images_and_batches_have_equal_embeddings(pocket: Path) -> None:
    encoder, batch = Encoder.open(pocket), random_images(150)
    together = encoder.embed(batch)
    assert together.dtype == np.float32
    assert together.shape == (150, DIMENSION)
    apart = np.concatenate([encoder.embed(batch[i : i + 1]) for i in range(150)])
    assert np.allclose(together, apart, atol=1e-5)
    assert encoder.embed(batch[:0]).shape == (0, DIMENSION)


@pytest.mark.parametrize("name", ["cifar10-triplet", "toyshop"])
@pytest.mark.slow
def test_an_embedding_does_not_depend_on_its_batch(name: str) -> None:
    encoder = encoders.load(name)
    batch = random_images(40, encoder.card.input.size)
    together = encoder.embed(batch)
    for size in (1, 7, 16):
        parts = [batch[i : i + size] for i in range(0, 40, size)]
        for embed in (encoder.embed, Embedder.of(encoder).embed_array):
            # To the last bit on x86-64, but ONNX Runtime does not promise that.
            assert np.allclose(np.concatenate([embed(part) for part in parts]), together, rtol=0, atol=1e-6)
    order = np.random.default_rng(1).permutation(40)
    assert np.allclose(encoder.embed(batch[order]), together[order], rtol=0, atol=1e-6)


def test_images_are_scaled_as_the_card_says(folder: Path) -> None:
    about = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["input"]
    write_card(folder, input=about | {"mean": [0.1, 0.2, 0.3], "std": [0.5, 2.0, 4.0]})
    write_network(folder, means(then="Identity"), ["n", DIMENSION])
    batch = random_images(3)
    scaled = (batch / 255 - [0.1, 0.2, 0.3]) / [0.5, 2.0, 4.0]
    expected = scaled.reshape(3, 4, 8, 4, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(3, DIMENSION)
    assert np.allclose(Encoder.open(folder).embed(batch), expected, atol=1e-5)


def test_bits_are_packed(folder: Path) -> None:
    write_card(folder, output="bits", metric="hamming")
    threshold = helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5])
    nodes = [*means(then="Identity")[:2], helper.make_node("Sub", ["flat", "half"], ["out"])]
    write_network(folder, nodes, ["n", DIMENSION], threshold)
    batch = random_images(5)
    codes = Encoder.open(folder).embed(batch)
    grid = batch.reshape(5, 4, 8, 4, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(5, DIMENSION) / 255
    assert codes.dtype == np.uint8
    assert codes.shape == (5, DIMENSION // 8)
    assert np.array_equal(np.unpackbits(codes, axis=1), grid > 0.5)


def grid_of(batch: np.ndarray) -> np.ndarray:
    """Return the means of a 4 by 4 grid, shape (n, 3, 4, 4)."""
    n = len(batch)
    return np.asarray(batch.reshape(n, 4, 8, 4, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2) / 255)


def write_parts(folder: Path, *, images_in: str | int = "n", kind: int = TensorProto.FLOAT) -> None:
    """A network with two outputs: maps ``(n, 3, 4, 4)``, and its cells as vectors ``(n, 16, 3)``."""
    nodes = [
        helper.make_node("AveragePool", ["in"], ["maps"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["maps", "shape"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["parts"], perm=[0, 2, 1]),
    ]
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [0, 3, 16])
    inputs = [helper.make_tensor_value_info("in", kind, [images_in, 3, SIZE, SIZE])]
    outputs = [
        helper.make_tensor_value_info("maps", kind, [images_in, 3, 4, 4]),
        helper.make_tensor_value_info("parts", kind, [images_in, 16, 3]),
    ]
    graph = helper.make_graph(nodes, "test", inputs, outputs, [shape])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "photo.onnx"
    )


@pytest.mark.parametrize(
    ("output", "pool", "expected"),
    [
        ("maps", "mean", lambda grid: grid.mean((2, 3))),
        ("parts", "mean", lambda grid: grid.mean((2, 3))),
        ("parts", "first", lambda grid: grid[:, :, 0, 0]),
    ],
)
def test_a_card_says_which_output_to_read_and_how_its_parts_become_one(
    folder: Path, output: str, pool: str, expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    write_card(folder, dimension=3, branches=["photo"], network_output={"name": output, "pool": pool})
    batch = random_images(5)
    write_parts(folder)
    assert np.allclose(Encoder.open(folder).embed(batch), expected(grid_of(batch)), atol=1e-5)


@pytest.mark.parametrize("images_in", [1, 2])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_a_network_may_take_a_fixed_number_of_images_and_float16(folder: Path, images_in: int, kind: int) -> None:
    write_card(folder, dimension=3, branches=["photo"], network_output={"name": "parts", "pool": "mean"})
    write_parts(folder, images_in=images_in, kind=kind)
    batch = random_images(5)
    tolerance = 1e-5 if kind == TensorProto.FLOAT else 2e-3
    assert np.allclose(Encoder.open(folder).embed(batch), grid_of(batch).mean((2, 3)), atol=tolerance)


def test_a_network_that_takes_more_than_images_is_reported(folder: Path) -> None:
    model = onnx.load(folder / "photo.onnx")
    model.graph.input.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", 77]))
    onnx.save(model, folder / "photo.onnx")
    with pytest.raises(EncoderError, match=r"2 inputs.*input_ids"):
        Encoder.open(folder).embed(random_images(1))


def test_threads_share_an_encoder(pocket: Path) -> None:
    encoder, batch = Encoder.open(pocket), random_images(8)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: encoder.embed(batch), range(16)))
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("shape", [(1, 16, 16, 3), (1, 32, 16, 3), (1, 32, 32, 4)])
def test_images_of_another_size_are_refused(pocket: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises((UsageError, jaxtyping.TypeCheckError)):
        Encoder.open(pocket).embed(np.zeros(shape, np.uint8))


def test_shapes_and_types_are_checked_while_testing(pocket: Path) -> None:
    wrong: Any = np.zeros((1, SIZE, SIZE, 3), np.float32)
    with pytest.raises(jaxtyping.TypeCheckError):
        Encoder.open(pocket).embed(wrong)


def test_a_missing_branch_is_refused(folder: Path) -> None:
    write_card(folder, branches=["photo"])
    (folder / "sketch.onnx").unlink()
    with pytest.raises(UsageError, match="sketch"):
        Encoder.open(folder).embed(random_images(1), "sketch")


# ---- refusals


@pytest.mark.parametrize(
    ("card", "error"),
    [
        ("", EncoderError),
        ("{", EncoderError),
        ("[]", EncoderError),
        ("\udcff", EncoderError),
        ({"format": 2}, MismatchError),
        ({"format": 2, "colour": "red"}, MismatchError),
        ({"metric": "hamming"}, EncoderError),
        ({"output": "bits"}, EncoderError),
        ({"output": "bits", "metric": "hamming", "dimension": 12}, EncoderError),
        ({"input": {"size": 32, "fit": "squash", "mean": [0, 0, 0], "std": [1, 0, 1]}}, EncoderError),
        ({"input": {"size": 32, "fit": "squash", "mean": [0, 0, float("nan")], "std": [1, 1, 1]}}, EncoderError),
        ({"dimension": 0}, EncoderError),
        ({"dimension": "many"}, EncoderError),
        ({"output": "words"}, EncoderError),
        ({"metric": "manhattan"}, EncoderError),
        ({"branches": []}, EncoderError),
        ({"branches": ["sketch"]}, EncoderError),
        ({"branches": ["../photo"]}, EncoderError),
        ({"input": {}}, EncoderError),
        ({"input": PLAIN | {"resize": 30}}, EncoderError),
        ({"input": PLAIN | {"resize": 40, "fit": "pad"}}, EncoderError),
        ({"input": PLAIN | {"interpolation": "box"}}, EncoderError),
        ({"network_output": {"name": "a\nb"}}, EncoderError),
        ({"network_output": {"pool": "last"}}, EncoderError),
        ({"colour": "red"}, EncoderError),
        ({"scope": "Mugs.\nCups."}, EncoderError),
        ({"scope": "\x1b[2J"}, EncoderError),
        ({"scope": "mugs " * 100}, EncoderError),
    ],
    ids=repr,
)
def test_an_invalid_card_is_refused(folder: Path, card: str | dict[str, object], error: type[Exception]) -> None:
    if isinstance(card, str):
        (folder / "encoder.json").write_bytes(card.encode(errors="surrogateescape"))
    else:
        write_card(folder, **card)
    with pytest.raises(error, match=r"encoder\.json"):
        Encoder.open(folder)


@pytest.mark.parametrize(
    ("name", "error"), [("encoder.json", NotFoundError), ("photo.onnx", EncoderError), ("sketch.onnx", EncoderError)]
)
def test_a_missing_file_is_named(folder: Path, name: str, error: type[LookalikeError]) -> None:
    (folder / name).unlink()
    with pytest.raises(error, match=re.escape(name)):
        Encoder.open(folder)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_a_file_that_is_not_a_network_is_reported(folder: Path, content: bytes) -> None:
    (folder / "photo.onnx").write_bytes(content)
    with pytest.raises(EncoderError, match=r"photo\.onnx"):
        Encoder.open(folder).embed(random_images(1))


def another_dimension(folder: Path) -> None:
    write_card(folder, dimension=64)


def another_size(folder: Path) -> None:
    about = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["input"]
    write_card(folder, input=about | {"size": 48})


def not_a_number(folder: Path) -> None:
    write_network(folder, means(then="Log"), ["n", DIMENSION])


def two_outputs(folder: Path) -> None:
    model = onnx.load(folder / "photo.onnx")
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", DIMENSION]))
    onnx.save(model, folder / "photo.onnx")


def bits_of_not_a_number(folder: Path) -> None:
    write_card(folder, output="bits", metric="hamming")
    not_a_number(folder)


@pytest.mark.parametrize("damage", [another_dimension, another_size, not_a_number, bits_of_not_a_number, two_outputs])
def test_a_network_that_contradicts_the_card_is_reported(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    encoder = Encoder.open(folder)
    size = encoder.card.input.size
    with pytest.raises(EncoderError, match="pocket"):
        encoder.embed(np.zeros((1, size, size, 3), np.uint8))


# ---- names in files


def test_a_calibration_keeps_its_names_in_files_and_an_old_one_has_no_codec(folder: Path) -> None:
    write_card(folder, calibration={"distance_at_far": {"0.001": 0.4}})
    (calibration,) = Card.read(folder).calibrations
    assert calibration == Calibration(distance_at_false_accept_rate={"0.001": 0.4})
    assert calibration.codec == "none"
    cards.write_calibration(folder, calibration.model_copy(update={"codec": "pca", "metric": Metric.COSINE}))
    written = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["calibrations"][0]
    assert written["distance_at_far"] == {"0.001": 0.4}
    assert written["codec"] == "pca"


def test_a_calibration_of_codes_may_have_another_metric_than_the_encoder(folder: Path) -> None:
    of_bits = Calibration(distance_at_false_accept_rate={}, metric=Metric.HAMMING)
    with pytest.raises(MismatchError, match="hamming"):
        cards.write_calibration(folder, of_bits)
    codes = of_bits.model_copy(update={"codec": "binary"})
    assert cards.write_calibration(folder, codes).calibrations == (codes,)


def test_the_number_of_training_images_keeps_its_name_in_files() -> None:
    card = encoders.load("toyshop").card
    assert card.provenance is not None
    written = card.model_dump(mode="json")["provenance"]
    assert written["pictures"] == card.provenance.images > 0
    assert Card.model_validate_json(card.model_dump_json()) == card


# ---- the fingerprint


def test_the_fingerprint_changes_with_the_embeddings(folder: Path) -> None:
    before = Encoder.open(folder).fingerprint
    write_card(
        folder, calibration={"distance_at_far": {"0.001": 0.4}}, description="Another description.", scope="Cups."
    )
    (folder / "README.md").write_text("# better", encoding="utf-8")
    assert Encoder.open(folder).fingerprint == before
    moved = folder.rename(folder.with_name("moved"))
    assert Encoder.open(moved).fingerprint == before
    changes: list[Callable[[], object]] = [
        lambda: write_card(moved, branches=["photo"]),
        lambda: write_card(moved, dimension=24),
        lambda: write_card(moved, network_output={"pool": "mean"}),
        lambda: write_card(moved, input=PLAIN | {"resize": SIZE}),
        lambda: (moved / "photo.onnx").write_bytes((moved / "photo.onnx").read_bytes() + b"\x32\0"),
    ]
    seen = {before}
    for change in changes:
        change()
        seen.add(Encoder.open(moved).fingerprint)
    assert len(seen) == 6


def test_early_cards_keep_their_fingerprints(folder: Path) -> None:
    write_card(folder, input=PLAIN)
    fields = {"input": PLAIN, "dimension": DIMENSION, "output": "float", "branches": ["photo", "sketch"]}
    floats = {"input": PLAIN | {"mean": [0.0] * 3, "std": [1.0] * 3}}
    digest = hashlib.sha256(json.dumps(fields | floats, sort_keys=True).encode())
    for branch in ("photo", "sketch"):
        digest.update(hashlib.sha256((folder / f"{branch}.onnx").read_bytes()).digest())
    assert Encoder.open(folder).fingerprint == digest.hexdigest()


# ---- the registry


def test_encoders_are_found_by_path(pocket: Path) -> None:
    for name in (pocket, str(pocket)):
        assert encoders.load(name).card.name == "pocket"


def test_bundled_encoders_are_found_by_name() -> None:
    for name, folder in encoders.bundled().items():
        assert encoders.load(name).folder == folder
        assert encoders.load(name).card.name == name


@pytest.mark.parametrize("name", ["nonsense", "/nowhere/at/all", "~/nowhere at all"])
def test_a_missing_encoder_is_reported(name: str) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere|nonsense"):
        encoders.load(name)


def test_a_folder_without_an_encoder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"encoder\.json"):
        encoders.load(tmp_path)


@pytest.mark.parametrize("address", ["hf://", "hf://org", "hf://org/repo/file", "hf://org@rev"])
def test_an_invalid_address_on_the_hub_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="org/repo"):
        encoders.load(address)


@pytest.mark.parametrize("address", ["hf://org/repo", "hf://org/repo@v1.0"])
def test_the_hub_is_an_extra(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"lookalike\[hub\]"):
        encoders.load(address)
