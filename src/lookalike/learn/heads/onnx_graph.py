"""Append a head or a correction to an ONNX network."""

from collections.abc import MutableSequence
from copy import deepcopy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lookalike.learn.heads.correction import Correction
from lookalike.learn.heads.head import Head

_FEATURES = "head.features"

# Constants of `_unit`.
_OF_UNIT: dict[str, np.ndarray] = {"axis": np.array([1], np.int64), "least": np.array(1e-12, np.float32)}

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
    replace_output(graph, output.name, head.dimension)
    onnx.checker.check_model(model)
    return model


def find_features(model: onnx.ModelProto) -> tuple[str, int]:
    """Find the features before the last layers: what enters the first matrix product after all convolutions.

    A network without one, such as a transformer, has its output as features.

    Args:
        model: a network with one output ``(n, d)``.

    Returns:
        The name of the value, and its numbers an image.
    """
    (output,) = model.graph.output
    known = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*known.value_info, *known.output)}
    last = max((i for i, node in enumerate(model.graph.node) if node.op_type == "Conv"), default=0)
    for node in model.graph.node[last:]:
        if node.op_type == "Gemm" and len(dims := shapes.get(node.input[0], ())) == 2 and dims[1].dim_value:  # noqa: PLR2004 -- n, f
            return node.input[0], dims[1].dim_value
    return output.name, shapes[output.name][1].dim_value


def append_correction(
    model: onnx.ModelProto, correction: Correction, *, inner: bool, output_name: str | None = None
) -> onnx.ModelProto:
    """Return a network whose embeddings are corrected.

    Args:
        model: a network with one output, embeddings ``(n, d)``.
        correction: of its embeddings.
        inner: whether the correction is of the features before the last layers, see `find_features`, or of the embeddings.
        output_name: of the new output; by default any.
    """
    model = with_opset(model)
    new = output_name or "head.embeddings"
    for node in model.graph.node:  # the name may be one inside of the network
        for names in (node.input, node.output):
            _replace(names, new, f"earlier.{new}")
    if model.graph.output[0].name == new:
        model.graph.output[0].name = f"earlier.{new}"
    (output,) = model.graph.output
    name = find_features(model)[0] if inner else output.name
    model.graph.node.extend(
        [
            helper.make_node("Identity", [output.name], ["head.embedding"]),
            *_unit("embedding", "head.direction"),
            helper.make_node("Cast", [name], [_FEATURES], to=TensorProto.FLOAT),
            _node("Gemm", _FEATURES, "projection", "bias", to="correction"),
            _node("Add", "head.direction", "head.correction", to="sum"),
            *_unit("sum", "head.corrected"),
            helper.make_node("Mul", ["head.corrected", "head.length"], [new], name="head.embeddings"),
        ]
    )
    arrays: dict[str, np.ndarray] = {
        "projection": np.ascontiguousarray(correction.projection),
        "bias": correction.bias,
        "length": np.array(correction.length, np.float32),
        **_OF_UNIT,
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, f"head.{key}") for key, array in arrays.items())
    replace_output(model.graph, new, correction.projection.shape[1])
    onnx.checker.check_model(model)
    return model


def replace_output(graph: onnx.GraphProto, name: str, dimension: int) -> None:
    """Make a value of a graph its one output; the number of images stays fixed or free."""
    count = graph.output[0].type.tensor_type.shape.dim[0]
    new = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, dimension])
    new.type.tensor_type.shape.dim[0].CopyFrom(count)
    graph.output[0].CopyFrom(new)


def with_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a network in the opset that the nodes of heads need, or in its own newer one."""
    version = next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    return deepcopy(model) if version >= _MIN_OPSET else onnx.version_converter.convert_version(model, _MIN_OPSET)


def _replace(names: MutableSequence[str], old: str, new: str = _FEATURES) -> None:
    for i, name in enumerate(names):
        if name == old:
            names[i] = new


def _arrays(head: Head) -> dict[str, np.ndarray]:
    arrays = {
        "projection": head.projection,
        "bias": -(head.centre @ head.projection),
        **_OF_UNIT,
    }
    if head.axes is not None:
        arrays |= {"lengths": np.array([head.kept, len(head.centre)], np.int64), "axes": head.axes}
    if head.classes is not None:
        arrays |= {
            "scale": np.array(head.scale, np.float32),
            "classes": np.ascontiguousarray(head.classes.weight.T),
            "class_bias": head.classes.bias,
            "prototypes": head.classes.prototypes,
        }
    return arrays


def _nodes(head: Head, output: str) -> list[onnx.NodeProto]:
    if head.axes is not None:
        return [
            helper.make_node("Split", [_FEATURES, "head.lengths"], ["head.earlier", "head.inner"], axis=1),
            _node("Gemm", "head.inner", "projection", "bias", to="projected"),
            *_unit("projected", "head.directions"),
            *_unit("earlier", "head.earlier_direction"),
            helper.make_node("Concat", ["head.earlier_direction", "head.directions"], ["head.both"], axis=1),
            _node("MatMul", "head.both", "axes", to="main"),
            *_unit("main", output),
        ]
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
