"""Quantisation of ONNX networks to int8."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from lookalike.shapes import Float32

_BATCH = 8

# Convolutions at the start of a large network that stay float.
_FLOAT = 6

# Layers after the last of these are the head: a few matrix products, which cost nothing, and in which int8 loses most.
_POOLING = ("GlobalAveragePool", "ReduceMean")


def static(model: onnx.ModelProto, images: Float32[np.ndarray, "n 3 s s"]) -> onnx.ModelProto:
    """Quantise a network's weights and activations to int8, but for its head (Jacob et al. 2018).

    Weights have 7 bits and a scale for each output channel: with 8 bits, sums overflow on processors without VNNI.
    Activations have one scale, from the least to the largest value that the network computes for the images.

    Args:
        model: float32, with one input.
        images: normalised images, about 100, of the kind that the network will see.

    Returns:
        A model with the same input and output, which ONNX Runtime runs in int8.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("whole", "prepared", "quantised"))
        onnx.save(model, whole)  # of a model in memory, the library would move the weights to another file
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Batches(model.graph.input[0].name, images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_exclude=_float_nodes(onnx.load(prepared)),
        )
        return onnx.load(quantised)


def dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantise a network's weights to int8, and its activations as they are computed; it needs no images.

    Weights of linear layers are as for `static`. Weights of convolutions have one scale for each layer, as ONNX Runtime
    requires, and 8 bits. Depthwise convolutions stay float: they have few weights, and are slower in int8. A linear layer is
    faster in int8, another convolution slower.

    Args:
        model: float32.

    Returns:
        A model with the same input and output.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, prepared, linear, quantised = (
            Path(folder) / f"{n}.onnx" for n in ("whole", "prepared", "linear", "int8")
        )
        onnx.save(model, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        quantize_dynamic(
            prepared,
            linear,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        quantize_dynamic(
            linear,
            quantised,
            op_types_to_quantize=["Conv"],
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=_depthwise(onnx.load(linear)),
        )
        return onnx.load(quantised)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime leaves out its types
    """The images in batches, by the name of the network's input."""

    def __init__(self, name: str, images: Float32[np.ndarray, "n 3 s s"]) -> None:
        self._name = name
        self._images = images
        self._starts = iter(range(0, len(images), _BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; None after the last one."""
        start = next(self._starts, None)
        return None if start is None else {self._name: self._images[start : start + _BATCH]}


def _float_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes before and among the first convolutions, and of those after the last pooling, if there is one.

    Before the first convolution are coordinates of a crop, which 8 bits would shift by pixels. The first convolutions see line
    drawings as almost only two values: in int8 they cost a tenth of the cosine, and save no time.
    """
    nodes = model.graph.node
    convolutions = [i for i, node in enumerate(nodes) if node.op_type == "Conv"]
    first = convolutions[_FLOAT] if len(convolutions) > 2 * _FLOAT else min(convolutions, default=0)
    last = max((i for i, node in enumerate(nodes) if node.op_type in _POOLING), default=len(nodes))
    return [node.name for node in (*nodes[:first], *nodes[last + 1 :])]


def _depthwise(model: onnx.ModelProto) -> list[str]:
    """Return the names of convolutions of groups of channels."""
    return [node.name for node in model.graph.node if any(a.name == "group" and a.i > 1 for a in node.attribute)]
