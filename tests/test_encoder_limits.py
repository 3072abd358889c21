"""Encoders of strangers: what is refused, and the limits of memory and time."""

import io
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from lookalike import encoders
from lookalike.encoders import Encoder, graph, network, process
from lookalike.encoders.network import ANSWER, REQUEST, Contract, ImageInput, Network
from lookalike.errors import EncoderError, LookalikeError, NotFoundError

SIZE = 32
DIMENSION = 48
IMAGE = np.zeros((1, SIZE, SIZE, 3), np.uint8)

MEANS = [
    helper.make_node("AveragePool", ["in"], ["means"], kernel_shape=[8, 8], strides=[8, 8]),
    helper.make_node("Flatten", ["means"], ["flat"], axis=1),
]


@pytest.fixture
def folder(tmp_path: Path, pocket: Path) -> Path:
    return Path(shutil.copytree(pocket, tmp_path / "pocket"))


def model(
    nodes: list[NodeProto], *tensors: TensorProto, functions: Sequence[onnx.FunctionProto] = ()
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", DIMENSION])]
    made = helper.make_graph(nodes, "test", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8, functions=functions)


def added(*nodes: NodeProto, amount: str = "amount") -> list[NodeProto]:
    """A network that adds a number, which some nodes compute, to the means."""
    return [*MEANS, *nodes, helper.make_node("Add", ["flat", amount], ["out"])]


def integers(name: str, *values: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def floats(name: str, *values: float) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)


def one_line(error: LookalikeError) -> bool:
    return "\n" not in str(error) and len(str(error)) < 700 and "Traceback" not in str(error)


# ---- what a graph may hold


def body(*nodes: NodeProto) -> onnx.GraphProto:
    outputs = [helper.make_tensor_value_info("result", TensorProto.FLOAT, [1])]
    return helper.make_graph(list(nodes) or [helper.make_node("Identity", ["one"], ["result"])], "body", [], outputs)


def endless_loop() -> onnx.ModelProto:
    values = [("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("x", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(name, kind, [1] if name == "x" else []) for name, kind in values]
    outputs = [helper.make_tensor_value_info(f"{name}2", kind, [1] if name == "x" else []) for name, kind in values[1:]]
    nodes = [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Add", ["x", "x"], ["x2"])]
    inner = helper.make_graph(nodes, "body", inputs, outputs)
    go = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    loop = helper.make_node("Loop", ["", "true", "one"], ["amount"], body=inner)
    return model(added(loop), floats("one", 1.0), go)


def branches() -> onnx.ModelProto:
    inner = body()
    for _ in range(20):
        inner = body(helper.make_node("If", ["true"], ["result"], then_branch=inner, else_branch=body()))
    go = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    outer = helper.make_node("If", ["true"], ["amount"], then_branch=inner, else_branch=body())
    return model(added(outer), floats("one", 1.0), go)


def scan() -> onnx.ModelProto:
    return model(added(helper.make_node("Scan", ["in"], ["amount"], body=body(), num_scan_inputs=1)))


def many_graphs() -> onnx.ModelProto:
    node = helper.make_node("SequenceMap", ["in"], ["amount"])
    node.attribute.append(helper.make_attribute("bodies", [body(), body()]))
    return model(added(node))


def custom() -> onnx.ModelProto:
    return model(added(helper.make_node("Run", ["in"], ["amount"], domain="com.example")))


def function() -> onnx.ModelProto:
    call = helper.make_node("Bomb", ["flat"], ["out"])
    inner = [helper.make_node("Identity", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 17)]
    return model([*MEANS, call], functions=[helper.make_function("", "Bomb", ["x"], ["y"], inner, opsets)])


def outside(tensor: TensorProto, location: str = "../../../../../../etc/passwd") -> TensorProto:
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def external() -> onnx.ModelProto:
    return model(added(), outside(floats("amount", 1.0)))


def external_beside() -> onnx.ModelProto:
    return model(added(), outside(floats("amount", 1.0), "weights.bin"))


def external_constant() -> onnx.ModelProto:
    return model(added(helper.make_node("Constant", [], ["amount"], value=outside(floats("value", 1.0)))))


def external_sparse() -> onnx.ModelProto:
    sparse = helper.make_sparse_tensor(outside(floats("amount", 1.0)), integers("at", 0), [1])
    made = model(added())
    made.graph.sparse_initializer.append(sparse)
    return made


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (endless_loop, "Loop"),
        (branches, "If"),
        (scan, "Scan"),
        (many_graphs, "SequenceMap"),
        (custom, "com.example"),
        (function, "functions"),
        (external, "another file"),
        (external_beside, "another file"),
        (external_constant, "another file"),
        (external_sparse, "another file"),
    ],
)
def test_graphs_that_no_encoder_needs_are_refused_when_it_is_opened(
    folder: Path, make: Callable[[], onnx.ModelProto], words: str
) -> None:
    (folder / "photo.onnx").write_bytes(make().SerializeToString())
    with pytest.raises(EncoderError, match=rf"photo\.onnx .*{words}") as caught:
        Encoder.open(folder)
    assert one_line(caught.value)


HONEST = model([*MEANS, helper.make_node("Identity", ["flat"], ["out"])]).SerializeToString()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no graph"),
        (b"\x08\x08", "no graph"),
        (HONEST[:-3], "damaged"),
        (HONEST + b"\0", "damaged"),
        (HONEST + b"\x32" + b"\xff" * 9 + b"\x7f", "damaged"),
        (HONEST + b"\x80" * 30, "damaged"),
        (HONEST + b"\x33", "damaged"),
        (HONEST[:4] + b"ORTM" + HONEST[8:], "format"),
    ],
)
def test_content_that_is_not_onnx_is_refused(folder: Path, content: bytes, words: str) -> None:
    (folder / "photo.onnx").write_bytes(content)
    with pytest.raises(EncoderError, match=words):
        Encoder.open(folder)


def test_a_second_graph_or_location_hides_nothing() -> None:
    # A reader of protocol buffers joins the messages of one field, and takes the last of several numbers.
    with pytest.raises(graph.GraphError, match="Loop"):
        graph.check(HONEST + endless_loop().SerializeToString())
    tensor = outside(floats("amount", 1.0)).SerializeToString() + b"\x70\x00"
    assert TensorProto.FromString(tensor).data_location == TensorProto.DEFAULT
    inner = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(graph.GraphError, match="another file"):
        graph.check(HONEST + b"\x3a" + bytes([len(inner)]) + inner)


def varint(value: int, bytes_more: int = 0) -> bytes:
    """Write a number of variable length, with bytes that change nothing at its end."""
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)] + [0] * bytes_more
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


@pytest.mark.parametrize("high", [1 << 32, 1 << 33, 1 << 34, 1 << 35, 1 << 63])
@pytest.mark.parametrize("field", [7, 20, 25])
def test_a_tag_that_the_runtime_cuts_off_hides_nothing(field: int, high: int) -> None:
    # ONNX Runtime reads such a tag as that of the field; a reader of whole numbers would read another one.
    content = endless_loop().SerializeToString()
    tag = field << 3 | 2
    with pytest.raises(graph.GraphError, match="damaged"):
        graph.check(HONEST + varint(tag | high) + varint(len(content)) + content)


@pytest.mark.parametrize("bytes_more", [1, 3])
def test_a_number_in_more_bytes_than_it_needs_is_refused(bytes_more: int) -> None:
    graph.check(HONEST + varint(5 << 3) + varint(1))
    with pytest.raises(graph.GraphError, match="damaged"):
        graph.check(HONEST + varint(5 << 3, bytes_more) + varint(1))
    with pytest.raises(graph.GraphError, match="damaged"):
        graph.check(HONEST + varint(5 << 3) + varint(1, bytes_more))


def test_a_file_of_countless_fields_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_FIELDS", 1_000)
    graph.check(HONEST + b"\x28\x01" * 500)
    with pytest.raises(graph.GraphError, match="fields"):
        graph.check(HONEST + b"\x28\x01" * 1_000)


@pytest.mark.parametrize("name", sorted(encoders.bundled()))
def test_what_learn_exports_is_accepted(name: str) -> None:
    for path in encoders.bundled()[name].glob("*.onnx"):
        graph.check(path.read_bytes())


# ---- memory and time


def terabytes() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["amount"], keepdims=0),
    ]
    return model(added(*nodes), integers("shape", 10**6, 10**6))


def gigabytes() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Expand", ["one", "shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["amount"], keepdims=0),
    ]
    return model(added(*nodes), integers("shape", 50_000, 50_000), floats("one", 1.0))


def table() -> onnx.ModelProto:
    """Every pixel times every pixel."""
    nodes = [
        helper.make_node("Reshape", ["in", "column"], ["a"]),
        helper.make_node("Tile", ["a", "times"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"]),
        helper.make_node("Mul", ["b", "c"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["amount"], keepdims=0),
    ]
    return model(added(*nodes), integers("column", -1, 1), integers("times", 30, 1))


def enlarged() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Resize", ["in", "", "scales"], ["huge"], mode="nearest"),
        helper.make_node("ReduceMax", ["huge"], ["amount"], keepdims=0),
    ]
    return model(added(*nodes), floats("scales", 1, 1, 5_000, 5_000))


def claimed() -> onnx.ModelProto:
    tensor = floats("amount", 1.0)
    tensor.dims[:] = [1 << 29]
    return model(added(), tensor)


@pytest.mark.parametrize("make", [terabytes, gigabytes, table, enlarged])
def test_a_network_that_needs_too_much_memory_fails_in_its_own_process(
    folder: Path, make: Callable[[], onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "memory_limit", lambda _: 1 << 30)
    (folder / "photo.onnx").write_bytes(make().SerializeToString())
    start = time.monotonic()
    with pytest.raises(EncoderError, match="1 GiB") as caught:
        Encoder.open(folder).embed(IMAGE)
    assert one_line(caught.value)
    assert time.monotonic() - start < 30


def test_a_claimed_weight_is_refused(folder: Path) -> None:
    (folder / "photo.onnx").write_bytes(claimed().SerializeToString())
    with pytest.raises(EncoderError, match=r"photo\.onnx") as caught:
        Encoder.open(folder).embed(IMAGE)
    assert one_line(caught.value)


def slow() -> onnx.ModelProto:
    """A loop that is written out: hours of multiplications."""
    nodes = [helper.make_node("Expand", ["one", "shape"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(500)]
    nodes += [helper.make_node("ReduceMax", ["m500"], ["amount"], keepdims=0)]
    return model(added(*nodes), integers("shape", 4_000, 4_000), floats("one", 0.0))


def test_a_slow_network_is_stopped_and_not_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "FIRST_SECONDS", 2.0)
    (folder / "photo.onnx").write_bytes(slow().SerializeToString())
    encoder = Encoder.open(folder)
    with pytest.raises(EncoderError, match="longer than 2 s") as caught:
        encoder.embed(np.repeat(IMAGE, 16, 0))
    assert one_line(caught.value)
    start = time.monotonic()
    with pytest.raises(EncoderError, match="longer than 2 s"):
        encoder.embed(IMAGE)
    assert time.monotonic() - start < 1


def test_a_batch_that_takes_too_long_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network may be slow only with more than one image."""
    monkeypatch.setattr(process, "BATCH_SECONDS", 1.0)
    monkeypatch.setattr(process, "IMAGE_SECONDS", 0.1)
    nodes = [
        helper.make_node("Shape", ["in"], ["n"], end=1),
        helper.make_node("Mul", ["n", "size"], ["side"]),
        helper.make_node("Concat", ["side", "side"], ["shape"], axis=0),
        helper.make_node("Expand", ["one", "shape"], ["m0"]),
        *[helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(500)],
        helper.make_node("ReduceMax", ["m500"], ["amount"], keepdims=0),
    ]
    made = model(added(*nodes), integers("size", 256), floats("one", 0.0))
    (folder / "photo.onnx").write_bytes(made.SerializeToString())
    encoder = Encoder.open(folder)
    encoder.embed(IMAGE)
    with pytest.raises(EncoderError, match="longer than 3 s"):
        encoder.embed(np.repeat(IMAGE, 16, 0))
    assert encoder.embed(IMAGE).shape == (1, DIMENSION)


def test_a_process_that_was_killed_starts_again(folder: Path) -> None:
    (folder / "photo.onnx").write_bytes(HONEST + b"\x32\x01k")
    encoder = Encoder.open(folder)
    before = encoder.embed(IMAGE)
    running = encoder._network("photo")._running  # type: ignore[union-attr]
    assert running is not None
    os.kill(running._process.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(encoder.embed, IMAGE)
        time.sleep(0.2)
        running._process.kill()
        with pytest.raises(EncoderError, match="ended its process"):
            waiting.result()
    assert np.array_equal(encoder.embed(IMAGE), before)


def test_many_threads_get_their_own_answers(folder: Path) -> None:
    encoder = Encoder.open(folder)
    batches = np.random.default_rng(0).integers(0, 256, (40, 3, SIZE, SIZE, 3), np.uint8)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(encoder.embed, batches))
    direct = Network((folder / "photo.onnx").read_bytes(), contract_of(encoder))
    assert all(np.array_equal(result, direct.run(batch, 1)) for result, batch in zip(results, batches, strict=True))


def contract_of(encoder: Encoder) -> Contract:
    about = encoder.card.input
    return Contract(ImageInput(about.size, about.mean, about.std), encoder.card.dimension, bits=False)


def test_the_process_answers_requests_and_reports_errors(folder: Path) -> None:
    encoder = Encoder.open(folder)
    content = (folder / "photo.onnx").read_bytes()
    requests = REQUEST.pack(7, 1, 1, IMAGE.nbytes) + IMAGE.tobytes()
    for text, succeeded in ((content, True), (b"garbage", False)):
        source = io.BytesIO(network.settings_line(contract_of(encoder), -1, len(text), gpu=False) + text + requests)
        sink = io.BytesIO()
        network.serve(source, sink, limit=lambda _: None)
        number, done, length = ANSWER.unpack(sink.getvalue()[: ANSWER.size])
        assert (number, done, length) == (7, succeeded, len(sink.getvalue()) - ANSWER.size)
    assert b"cannot be loaded" in sink.getvalue()


def test_a_bundled_encoder_runs_in_this_process_and_a_copy_of_it_too(tmp_path: Path) -> None:
    bundled = encoders.load("toyshop")
    copy = Encoder.open(bundled.copy(tmp_path / "copy"))
    assert isinstance(bundled._network("photo"), Network)
    assert isinstance(copy._network("sketch"), Network)


def test_a_network_that_changes_on_disk_is_not_run(folder: Path) -> None:
    encoder = Encoder.open(folder)
    (folder / "photo.onnx").write_bytes(HONEST)
    with pytest.raises(EncoderError, match="changed"):
        encoder.embed(IMAGE)


def test_a_network_file_that_is_too_large_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_BYTES", 100)
    with pytest.raises(EncoderError, match="more than 100 bytes"):
        Encoder.open(folder)


# ---- cards


def write_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    (folder / "encoder.json").write_text(json.dumps(card | changes), encoding="utf-8")


def of_input(**changes: object) -> dict[str, object]:
    return {"input": {"size": 32, "fit": "squash", "mean": [0, 0, 0], "std": [1, 1, 1]} | changes}


@pytest.mark.parametrize(
    "changes",
    [
        of_input(size=4096),
        of_input(mean=[0, 0, 1e30]),
        of_input(std=[1, 1, 1e-300]),
        of_input(std=[1, 1, 1e300]),
        of_input(std=[1, 1]),
        of_input(std=[1, 1, -1]),
        {"dimension": 10**9},
        {"dimension": 10**90},
        {"name": ""},
        {"name": "a\x1b[2J"},
        {"name": "a\nb"},
        {"name": "a" * 1_000},
        {"licence": "a\nb"},
        {"description": "a" * 100_000},
        {"branches": ["photo", "photo"]},
        {"branches": ["photo"] * 1_000},
        {"calibration": {"distance_at_far": {"often": 0.3}}},
        {"calibration": {"distance_at_far": {"0.1": -3}}},
        {"calibration": {"distance_at_far": {f"0.{i}": 1 for i in range(1, 1_000)}}},
        {"calibration": {"distance_at_far": {}, "knots": [[i, 0.5] for i in range(20_000)]}},
        {"calibration": {"distance_at_far": {}, "codec": "../../x\n"}},
        {"provenance": {"recipe": {}}},
        {"a\x1b[2J": 1},
    ],
    ids=lambda changes: repr(changes)[:60],
)
def test_values_of_a_card_have_limits(folder: Path, changes: dict[str, object]) -> None:
    write_card(folder, **changes)
    with pytest.raises(EncoderError, match=r"encoder\.json") as caught:
        Encoder.open(folder)
    assert one_line(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format": 1, "name": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"format": ' + "1" * 6_000 + "}",
        '{"dimension": ' + "1" * 6_000 + "}",
        '{"format": 1e999}',
        '{"format": NaN}',
        "{" + " " * 3_000_000 + "}",
        "\0" * 100,
    ],
    ids=lambda text: repr(text)[:30],
)
def test_json_bombs_are_one_line(folder: Path, text: str) -> None:
    (folder / "encoder.json").write_text(text, encoding="utf-8")
    with pytest.raises(EncoderError, match=r"encoder\.json") as caught:
        Encoder.open(folder)
    assert one_line(caught.value)


# ---- links


@pytest.mark.parametrize("name", ["encoder.json", "photo.onnx", "sketch.onnx"])
def test_a_link_out_of_the_artefact_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to("../elsewhere")
    with pytest.raises(EncoderError, match="link"):
        Encoder.open(folder)


def test_a_link_in_a_circle_is_refused(folder: Path) -> None:
    (folder / "photo.onnx").unlink()
    (folder / "photo.onnx").symlink_to("photo.onnx")
    with pytest.raises(EncoderError, match=r"photo\.onnx"):
        Encoder.open(folder)


def test_a_link_to_a_secret_is_not_copied(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(EncoderError, match="link"):
        Encoder.open(folder).copy(tmp_path / "copy")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("name", ["encoder.json", "photo.onnx", "README.md"])
def test_a_pipe_does_not_hang(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    if name == "README.md":
        Encoder.open(folder).copy(tmp_path / "copy")
        assert not (tmp_path / "copy" / name).exists()
        return
    with pytest.raises((EncoderError, NotFoundError)):
        Encoder.open(folder)


def test_the_links_of_the_hubs_cache_are_followed_within_the_repository(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--repo"
    revision = repository / "snapshots" / "abc"
    revision.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for path in folder.iterdir():
        path.rename(repository / "blobs" / path.name)
        (revision / path.name).symlink_to(f"../../blobs/{path.name}")
    assert Encoder.open(revision).embed(IMAGE).shape == (1, DIMENSION)
    (revision / "photo.onnx").unlink()
    (tmp_path / "photo.onnx").write_bytes(HONEST)
    (revision / "photo.onnx").symlink_to("../../../photo.onnx")
    with pytest.raises(EncoderError, match="link"):
        Encoder.open(revision)
