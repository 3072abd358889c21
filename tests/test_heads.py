"""Heads in closed form: against plain formulas, and the same in NumPy and in ONNX."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from lookalike.errors import DataError
from lookalike.learn.heads import Head, onnx_graph, whitening
from lookalike.learn.recipe.head import NetworkPrototypes


def _features(seed: int, classes: int = 5, items: int = 8, features: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Features whose classes differ little in a few directions, and whose images differ much in the others."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), items)
    spread = np.array([0.1] * 4 + [3.0] * (features - 4))
    x = rng.normal(size=(classes, features))[labels] + rng.normal(size=(len(labels), features)) * spread
    return x.astype(np.float32), labels


def _classifier(seed: int, classes: int = 30, features: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(classes, features)).astype(np.float32), rng.normal(size=classes).astype(np.float32)


def _prototypes(seed: int, dimension: int = 6) -> tuple[Head, np.ndarray]:
    x, labels = _features(seed)
    head = whitening.fit_prototypes(x, labels, _classifier(seed), NetworkPrototypes(kind="prototypes"), dimension)
    return head, x


@given(st.integers(0, 2**32 - 1))
def test_the_covariance_within_classes_is_that_of_its_definition(seed: int) -> None:
    x, labels = _features(seed)
    plain = sum(np.cov(x[labels == c].T.astype(np.float64)) * 7 for c in range(5)) / (40 - 5)
    np.testing.assert_allclose(whitening.within_class_covariance(x, labels), plain, atol=1e-5)


def test_whitened_features_have_the_unit_covariance_within_classes() -> None:
    x, labels = _features(0, items=50)
    head = whitening.fit_whitening(x, labels, shrinkage=0.0)
    y = ((x - head.centre) @ head.projection).astype(np.float32)
    np.testing.assert_allclose(whitening.within_class_covariance(y, labels), np.eye(12), atol=1e-3)


def test_whitening_finds_classes_that_plain_features_hide() -> None:
    def top_1(y: np.ndarray) -> float:
        distances = ((y[:, None] - y) ** 2).sum(axis=2)
        np.fill_diagonal(distances, np.inf)
        return float((labels[distances.argmin(axis=1)] == labels).mean())

    x, labels = _features(0, classes=20, items=10)
    fitted, measured = labels < 10, labels >= 10
    head = whitening.fit_whitening(x[fitted], labels[fitted], shrinkage=0.1)
    labels = labels[measured]
    assert top_1(x[measured]) < 0.3
    assert top_1(head.apply(x[measured])) > 0.8


def test_a_shrinkage_of_one_only_centres() -> None:
    x, labels = _features(0)
    y = whitening.fit_whitening(x, labels, shrinkage=1.0).apply(x)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(y, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-5)


def test_copies_are_half_of_the_covariance() -> None:
    x, labels = _features(0)
    rng = np.random.default_rng(1)
    changed = x + rng.normal(size=x.shape).astype(np.float32) * np.array([9.0] + [0.1] * 11, np.float32)
    copies = whitening.copy_covariance(x, changed)
    np.testing.assert_allclose(copies[0, 0], 81 / 2, rtol=0.5)
    head = whitening.fit_whitening(x, labels, shrinkage=0.1, copies=copies)
    both = (whitening.within_class_covariance(x, labels) + copies) / 2
    np.testing.assert_allclose(head.projection, whitening.inverse_square_root(both, 0.1), rtol=1e-4, atol=1e-5)


def test_the_head_of_prototypes_is_that_of_its_formula() -> None:
    head, x = _prototypes(0)
    w, b = _classifier(0)
    shares = np.exp((x @ w.T + b) / 2)
    shares /= shares.sum(axis=1, keepdims=True)
    assert head.classes is not None
    projected = (x - head.centre) @ head.projection
    expected = head.scale * projected / np.linalg.norm(projected, axis=1, keepdims=True)
    expected += shares @ head.classes.prototypes
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(head.apply(x), expected, atol=1e-5)


def test_prototypes_of_all_axes_are_centred_rows_of_the_classifier() -> None:
    head, _ = _prototypes(0, dimension=12)
    w, _ = _classifier(0)
    centred = w - w.mean(axis=0)
    centred *= 0.7 / np.linalg.norm(centred, axis=1, keepdims=True)
    assert head.classes is not None
    np.testing.assert_allclose(head.classes.prototypes @ head.classes.prototypes.T, centred @ centred.T, atol=1e-5)


@pytest.mark.parametrize("kind", ["whitening", "prototypes", "beside"])
@pytest.mark.parametrize("opset", [13, 20])
def test_onnx_computes_the_same_as_numpy(kind: str, opset: int) -> None:
    head, x = _prototypes(3)
    if kind == "whitening":
        head = whitening.fit_whitening(*_features(3), shrinkage=0.3, dimension=5)
    if kind == "beside":
        features, labels = _features(3)
        head = whitening.fit_whitening(features[:, 4:], labels, shrinkage=0.3, dimension=5)
        head = replace(head, axes=np.eye(9, 6, dtype=np.float32))
        assert (head.kept, head.dimension) == (4, 6)
    x = np.concatenate([x, np.zeros((1, 12), np.float32)])
    embeddings = _run(onnx_graph.append(_identity(opset), head), x)
    np.testing.assert_allclose(embeddings, head.apply(x), atol=1e-5)


def test_a_head_is_appended_to_a_network_whose_nodes_use_its_output() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 12]) for name in ("x", "out")]
    nodes = [helper.make_node("Relu", ["x"], ["out"]), helper.make_node("Abs", ["out"], ["unused"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    head, x = _prototypes(3)
    np.testing.assert_allclose(_run(onnx_graph.append(model, head), x), head.apply(np.maximum(x, 0)), atol=1e-5)


def test_classes_of_one_image_cannot_be_whitened() -> None:
    x, _ = _features(0)
    with pytest.raises(DataError, match="No class has two images"):
        whitening.fit_whitening(x, np.arange(len(x)), shrinkage=0.3)


def test_a_head_cannot_have_more_dimensions_than_features() -> None:
    with pytest.raises(DataError, match="12 features cannot give embeddings of 13 numbers"):
        whitening.fit_whitening(*_features(0), shrinkage=0.3, dimension=13)


def _identity(opset: int) -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 12]) for name in ("x", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["out"])], "g", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": x})
    return np.asarray(result)
