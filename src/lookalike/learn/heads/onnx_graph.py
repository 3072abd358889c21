"""Append a head to an ONNX network."""

from collections.abc import MutableSequence
from copy import deepcopy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lookalike.learn.heads.head import Head

_FEATURES = "head.features"

# Opset 18 gives ReduceL2 and ReduceMean their axes as an input.
_MIN_OPSET = 18


def append(model: onnx.ModelProto, head: Head) -> onnx.ModelProto:
    """Return a network whose embeddings are those of a head, applied to the output of a network.

    Args:
        model: a network with one output, features ``(n, f)``.
        head: of f features.
    """
    model = with_opset(model)
    graph = model.graph
    (output,) = graph.output
    for node in graph.node:
        _replace(node.input, output.name)
        _replace(node.output, output.name)
    graph.node.extend(_nodes(head, output.name))
    graph.initializer.extend(numpy_helper.from_array(array, f"head.{name}") for name, array in _arrays(head).items())
    count = output.type.tensor_type.shape.dim[0]
    new = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [None, head.projection.shape[1]])
    new.type.tensor_type.shape.dim[0].CopyFrom(count)
    output.CopyFrom(new)
    onnx.checker.check_model(model)
    return model


def with_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a network in the opset that the nodes of heads need, or in its own newer one."""
    version = next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    return deepcopy(model) if version >= _MIN_OPSET else onnx.version_converter.convert_version(model, _MIN_OPSET)


def _replace(names: MutableSequence[str], old: str) -> None:
    for i, name in enumerate(names):
        if name == old:
            names[i] = _FEATURES


def _arrays(head: Head) -> dict[str, np.ndarray]:
    arrays = {
        "projection": head.projection,
        "bias": -(head.centre @ head.projection),
        "axis": np.array([1], np.int64),
        "least": np.array(1e-12, np.float32),
    }
    if head.classes is not None:
        arrays |= {
            "scale": np.array(head.scale, np.float32),
            "classes": np.ascontiguousarray(head.classes.weight.T),
            "class_bias": head.classes.bias,
            "prototypes": head.classes.prototypes,
        }
    return arrays


def _nodes(head: Head, output: str) -> list[onnx.NodeProto]:
    nodes = [_node("Gemm", _FEATURES, "projection", "bias", to="projected")]
    if head.classes is None:
        return [*nodes, *_unit("projected", output)]
    return [
        *nodes,
        *_unit("projected", "head.directions"),
        _node("Mul", "head.directions", "scale", to="scaled"),
        _node("Gemm", _FEATURES, "classes", "class_bias", to="logits"),
        _node("Softmax", "head.logits", to="shares"),
        _node("MatMul", "head.shares", "prototypes", to="prototype"),
        _node("Add", "head.scaled", "head.prototype", to="sum"),
        *_unit("sum", output),
    ]


def _unit(name: str, output: str) -> list[onnx.NodeProto]:
    """Return the nodes that divide rows by their length."""
    return [
        _node("ReduceL2", f"head.{name}", "axis", to=f"{name}_length"),
        _node("Max", f"head.{name}_length", "least", to=f"{name}_divisor"),
        helper.make_node("Div", [f"head.{name}", f"head.{name}_divisor"], [output], name=f"head.{name}_unit"),
    ]


def _node(kind: str, *inputs: str, to: str) -> onnx.NodeProto:
    names = [name if name.startswith("head.") else f"head.{name}" for name in inputs]
    return helper.make_node(kind, names, [f"head.{to}"], name=f"head.{to}")
