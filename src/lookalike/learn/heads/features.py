"""ONNX networks of encoders, with the output that a head can follow."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lookalike.encoders import Card
from lookalike.errors import EncoderError
from lookalike.learn.heads.onnx_graph import find_features, replace_output, with_opset
from lookalike.metric import Metric

# Axes of an output: of maps (n, d, height, width), and of tokens (n, tokens, d).
_MAPS, _TOKENS = 4, 3

_EARLIER = "earlier."

# More features before the last layers would make their covariance slow.
_MOST = 2_048


def reduce_output(model: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    """Return a network whose one output is the embedding ``(n, dimension)`` of a card, as float32.

    Embeddings that are compared by cosine get length 1, as a head is fitted to directions.

    Raises:
        EncoderError: the network does not have the output that the card names.
    """
    model = with_opset(model)
    graph = model.graph
    _rename(graph)
    wanted = _renamed(card.network_output.name or "") if card.network_output else ""
    found = [output for output in graph.output if wanted in ("", output.name)]
    if len(found) != 1:
        raise EncoderError(
            f"The network of “{card.name}” has {len(found)} outputs that could be its embedding, not one."
            " Begin from another encoder."
        )
    (output,) = found
    nodes = [helper.make_node("Cast", [output.name], ["features.float"], to=TensorProto.FLOAT)]
    rank = len(output.type.tensor_type.shape.dim)
    name, pool = "features.float", card.network_output.pool if card.network_output else None
    if pool and rank in (_TOKENS, _MAPS):
        axes = [1] if rank == _TOKENS else [2, 3]
        if rank == _TOKENS and pool == "first":
            graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "features.first"))
            nodes.append(helper.make_node("Gather", [name, "features.first"], ["features.pooled"], axis=1))
        else:
            graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), "features.axes"))
            nodes.append(helper.make_node("ReduceMean", [name, "features.axes"], ["features.pooled"], keepdims=0))
        name = "features.pooled"
    nodes.append(helper.make_node("Flatten", [name], ["features.flat"], axis=1))
    name = "features.flat"
    if card.metric is Metric.COSINE:
        nodes.append(helper.make_node("LpNormalization", [name], ["features.unit"], axis=1, p=2))
        name = "features.unit"
    graph.node.extend(nodes)
    count = output.type.tensor_type.shape.dim[0] if rank else None
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, card.dimension]))
    if count is not None:
        graph.output[0].type.tensor_type.shape.dim[0].CopyFrom(count)
    onnx.checker.check_model(model)
    return model


def widen_output(model: onnx.ModelProto, card: Card) -> tuple[onnx.ModelProto, int]:
    """Return a network whose output is the embedding of a card, and beside it the features before its last layers.

    Returns:
        The network, and the number of features; 0 if it has no last layers, or too many features, and gives the embedding alone.

    Raises:
        EncoderError: the network does not have the output that the card names.
    """
    model = reduce_output(model, card)
    (output,) = model.graph.output
    features, count = find_features(model)
    if features == output.name or count > _MOST:
        return model, 0
    model.graph.node.append(helper.make_node("Cast", [features], ["features.inner"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Concat", [output.name, "features.inner"], ["features.wide"], axis=1))
    replace_output(model.graph, "features.wide", card.dimension + count)
    onnx.checker.check_model(model)
    return model, count


def _renamed(name: str) -> str:
    return f"{_EARLIER}{name}" if name.startswith((_EARLIER, "head.", "features.")) else name


def _rename(graph: onnx.GraphProto) -> None:
    """Rename the parts of an earlier head, since a network has each name once."""
    for named in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        named.name = _renamed(named.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = _renamed(name)
