"""An encoder that tests can make in milliseconds: mean colours of a 4 by 4 grid, scaled to length 1.

Its text branch knows six colours, and finds images of the mean of those that a text names.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lookalike.encoders.card import Calibration, Card, Input, TextInput
from lookalike.metric import Metric
from lookalike.query import Branch

CELLS = 4

COLOURS = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "cyan": (0, 1, 1),
    "white": (1, 1, 1),
}

TOKENS = 8

KNOWN = Calibration(
    metric=Metric.EUCLIDEAN,
    distance_at_false_accept_rate={"0.1": 0.5, "0.01": 0.25},
    threshold=0.4,
    knots=((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)),
    genuine=100,
    impostors=100,
    data="made up",
)
"""The calibration that `calibrated` writes: at distance 0.5, same and different are equally likely."""


def make(folder: Path, branches: Sequence[Branch] = ("photo", "sketch"), size: int = 32) -> Path:
    """Create a folder, write the artefact into it, and return the folder for `Encoder.open`."""
    folder.mkdir(parents=True, exist_ok=True)
    card = Card(
        name="pocket",
        description="Mean colours of a 4 by 4 grid, for tests.",
        licence="Apache-2.0",
        dimension=3 * CELLS * CELLS,
        output="float",
        metric=Metric.EUCLIDEAN,
        input=Input(size=size, fit="squash", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        text=TextInput(tokens=TOKENS, mask="attention_mask") if "text" in branches else None,
        branches=tuple(branches),
    )
    (folder / "encoder.json").write_text(card.model_dump_json(indent=2), encoding="utf-8")
    (folder / "README.md").write_text("# pocket\n\nAn encoder for tests.\n", encoding="utf-8")
    for branch in branches:
        onnx.save(_text_network() if branch == "text" else _network(size), folder / f"{branch}.onnx")
    if "text" in branches:
        _tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def calibrated(folder: Path, calibration: Calibration | None = KNOWN) -> Path:
    """Write a calibration into an artefact, and return its folder."""
    known = () if calibration is None else (calibration,)
    card = Card.read(folder).model_copy(update={"calibrations": known})
    (folder / "encoder.json").write_text(card.model_dump_json(), encoding="utf-8")
    return folder


def _network(size: int) -> onnx.ModelProto:
    side = size // CELLS
    nodes = [
        helper.make_node("AveragePool", ["images"], ["means"], kernel_shape=[side, side], strides=[side, side]),
        helper.make_node("Flatten", ["means"], ["flat"], axis=1),
        helper.make_node("LpNormalization", ["flat"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "pocket",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 3 * CELLS * CELLS])],
    )
    return _checked(graph)


def _tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *COLOURS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _text_network() -> onnx.ModelProto:
    """Take the mean of the colours of all tokens; that of other words is grey."""
    colours = np.array([(0.5, 0.5, 0.5), (0.5, 0.5, 0.5), *COLOURS.values()], np.float32)
    table = np.repeat(colours + 0.01, CELLS * CELLS, axis=1)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["known"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["known", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "tokens"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["embeddings"], axis=1, p=2),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", TOKENS])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 3 * CELLS * CELLS])]
    constants = {"table": table, "last": np.array([-1]), "tokens": np.array([1])}
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    return _checked(helper.make_graph(nodes, "texts", inputs, outputs, tensors))


def _checked(graph: onnx.GraphProto) -> onnx.ModelProto:
    # Opsets and IR versions that every ONNX Runtime of recent years reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
