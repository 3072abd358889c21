"""An encoder that tests can make in milliseconds: mean colours of a 4 by 4 grid, scaled to length 1."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from lookalike.encoders.card import Calibration, Card, Input
from lookalike.metric import Metric
from lookalike.query import Branch

CELLS = 4

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
        branches=tuple(branches),
    )
    (folder / "encoder.json").write_text(card.model_dump_json(indent=2), encoding="utf-8")
    (folder / "README.md").write_text("# pocket\n\nAn encoder for tests.\n", encoding="utf-8")
    for branch in branches:
        onnx.save(_network(size), folder / f"{branch}.onnx")
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
    # Opsets and IR versions that every ONNX Runtime of recent years reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
