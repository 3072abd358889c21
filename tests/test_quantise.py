"""Int8: smaller and near the float network; in static int8 the head stays float, in dynamic int8 depthwise convolutions do."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from lookalike.encoders import graph
from lookalike.learn import quantise
from lookalike.learn.networks.efficientnet_lite import InvertedBottleneck
from lookalike.learn.onnx_export import to_onnx


class _Net(nn.Module):
    """Two convolutions, a block of EfficientNet-Lite, a pooling and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU6())
        self.block = InvertedBottleneck(32, 32, kernel=3, stride=1, expansion=6)
        self.last = nn.Sequential(nn.Conv2d(32, 256, 1), nn.ReLU6())
        self.head = nn.Linear(256, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.last(self.block(self.stem(x))).mean(dim=(2, 3))
        out: torch.Tensor = self.head(features)
        return out


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    torch.manual_seed(0)
    return to_onnx(_Net().eval(), 32)


def test_static_int8_is_smaller_near_the_float_network_and_leaves_the_head(model: onnx.ModelProto) -> None:
    images = np.random.default_rng(0).normal(size=(20, 3, 32, 32)).astype(np.float32)
    quantised = quantise.static(model, images[:12])
    assert len(quantised.SerializeToString()) < len(model.SerializeToString()) / 2
    assert [i.name for i in quantised.graph.input] == [i.name for i in model.graph.input]
    types = {t.name: t.data_type for t in quantised.graph.initializer}
    assert onnx.TensorProto.INT8 in types.values()
    assert types["head.weight"] == onnx.TensorProto.FLOAT
    before, after = (_run(m, images[12:]) for m in (model, quantised))
    before, after = before - before.mean(axis=0), after - before.mean(axis=0)
    cosine = (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
    assert 0.95 < cosine < 0.999999


def test_dynamic_int8_is_smaller_and_near_the_float_network_and_leaves_depthwise_convolutions(
    model: onnx.ModelProto,
) -> None:
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)
    quantised = quantise.dynamic(model)
    assert len(quantised.SerializeToString()) < len(model.SerializeToString()) / 2
    kinds = [node.op_type for node in quantised.graph.node]
    assert kinds.count("Conv") == 1  # the depthwise one
    assert kinds.count("ConvInteger") == 4
    assert kinds.count("MatMulInteger") == 1
    graph.check(quantised.SerializeToString())
    before, after = (_run(m, images) for m in (model, quantised))
    before, after = before - before.mean(axis=0), after - before.mean(axis=0)
    cosine = (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
    assert 0.95 < cosine < 0.999999


def _run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(result)
