"""Codecs that torch trains: they encode as the trained layer does, separate classes, and come from the same seed."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike import codecs
from lookalike.codecs import Chain, Learned, Pca, Scalar, Umap
from lookalike.compress import LABELLED, TRAINABLE, parse_codec
from lookalike.errors import MissingExtraError, StorageError, UsageError
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.learn import codecs as trained
from lookalike.learn.codecs import CBS, CRS, DSH, DTSH, Layer, ParametricUMAP
from lookalike.learn.codecs.layer import _batches
from lookalike.learn.codecs.parametric_umap import _Network
from lookalike.metric import Metric, VectorSpace
from recorder import Recorder

DIMENSION = 12
EUCLIDEAN = VectorSpace(Metric.EUCLIDEAN, DIMENSION)
COSINE = VectorSpace(Metric.COSINE, DIMENSION)
KINDS: list[type[Layer]] = [CRS, CBS, DSH, DTSH]


def labelled(count: int = 120, seed: int = 1) -> tuple[np.ndarray, list[str]]:
    """Embeddings of six classes, whose differences are small beside those of numbers that say nothing."""
    random = np.random.default_rng(seed)
    numbers = np.arange(count) % 6
    means = 2 * np.random.default_rng(0).standard_normal((6, 3))
    rows = np.concatenate([means[numbers], 1.5 * random.standard_normal((count, DIMENSION - 3))], axis=1)
    rows[:, :3] += 0.2 * random.standard_normal((count, 3))
    return (rows + 5).astype(np.float32), [f"class {number}" for number in numbers]


def quality(codec: codecs.Codec) -> float:
    (queries, labels), (gallery, others) = labelled(60, 3), labelled(120, 2)
    found = (
        LabelledVectors(codec.project(queries), labels),
        LabelledVectors(codec.decode(codec.encode(gallery)), others),
    )
    return retrieval.evaluate(*found, codec.space.metric).map


@pytest.mark.parametrize(("kind", "space"), [*((kind, EUCLIDEAN) for kind in KINDS), (CRS, COSINE)])
def test_training_separates_the_classes_of_new_images_better_than_its_start(
    kind: type[Layer], space: VectorSpace
) -> None:
    rows, labels = labelled()
    start = "binary:9:itq" if kind.output is Metric.HAMMING else "pca:9"
    before = quality(parse_codec(start, space).fit(rows))
    codec = kind(space, 9, epochs=20).fit(rows, labels)
    assert quality(codec) > before + 0.1
    assert str(codec) == str(kind(space, 9))
    assert (codec.space, codec.code_bytes) == (kind(space, 9).space, kind(space, 9).code_bytes)


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_one_codec(kind: type[Layer], tmp_path: Path) -> None:
    rows, labels = labelled()
    first, again, other = (
        kind(EUCLIDEAN, 20 if kind.output is Metric.HAMMING else 4, 1, s).fit(rows, labels) for s in (7, 7, 8)
    )
    assert first.encode(rows).tobytes() == again.encode(rows).tobytes() != other.encode(rows).tobytes()
    first.save(tmp_path)
    loaded = codecs.load("learned", tmp_path, EUCLIDEAN)
    assert str(loaded) == str(first)
    assert loaded.encode(rows).tobytes() == first.encode(rows).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_codec_encodes_as_the_layer_that_torch_has_trained(
    kind: type[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    train = Layer._train

    def keep(self: Layer, x: Any, *rest: Any) -> Any:  # noqa: ANN401
        weights, bias = train(self, x, *rest)
        made.append(self.activate(x @ weights + bias).numpy())
        return weights, bias

    monkeypatch.setattr(Layer, "_train", keep)
    rows, labels = labelled()
    codec = kind(EUCLIDEAN, 9, 2).fit(rows, labels)
    (outputs,) = made
    if codec.space.metric is Metric.HAMMING:
        bits = np.unpackbits(codec.encode(rows), axis=1)[:, :9]
        differ = bits != (outputs > 0)
        assert np.abs(outputs[differ]).max(initial=0) < 0.01
    else:
        np.testing.assert_allclose(codec.encode(rows) / 3, outputs, atol=0.01)


def test_the_losses_are_those_of_r4_with_its_weights() -> None:
    losses = [(kind.method, kind.weight, kind(EUCLIDEAN).metric_loss(kind.weight)) for kind in KINDS]
    assert [(method, weight, loss.kind, loss.weight) for method, weight, loss in losses] == [
        ("crs", 0.5, "triplet", 0.5),
        ("cbs", 0.5, "triplet", 0.5),
        ("dsh", 0.4, "dsh", 0.4),
        ("dtsh", 0.02, "dtsh", 0.02),
    ]


@pytest.mark.parametrize("balance", [0, 1])
def test_a_balance_may_leave_one_loss_out(balance: float) -> None:
    rows, labels = labelled()
    assert quality(DTSH(EUCLIDEAN, 9, 20, balance=balance).fit(rows, labels)) > 0.4
    with pytest.raises(UsageError, match="between 0 and 1"):
        DTSH(EUCLIDEAN, 9, balance=1.5)


def test_a_batch_has_triplets_of_one_class_and_another() -> None:
    classes = [np.array([0, 3]), np.array([1, 4, 5, 6, 7]), np.arange(8, 20)]
    of = np.empty(20, np.int64)
    for number, members in enumerate(classes):
        of[members] = number
    of[2] = -1
    for rows, triplets in _batches(classes, 5, np.random.default_rng(0)):
        anchor, positive, negative = of[rows.numpy()][triplets.numpy()].T
        assert len(rows) == 12
        assert (triplets[:, 0] != triplets[:, 1]).all()
        np.testing.assert_array_equal(anchor, positive)
        assert (anchor != negative).all()
        assert 2 not in rows


def test_labels_are_needed_and_two_images_of_two_labels() -> None:
    rows, labels = labelled()
    codec = DSH(EUCLIDEAN, 9, 1)
    with pytest.raises(UsageError, match="learns from labels"):
        codec.fit(rows)
    with pytest.raises(UsageError, match="2 labels for 120"):
        codec.fit(rows, ["a", "b"])
    with pytest.raises(UsageError, match="finds 1"):
        codec.fit(rows[:4], ["a", "a", "b", "c"])
    with pytest.raises(UsageError, match="at most as many floats"):
        CRS(EUCLIDEAN, 13).fit(rows, labels)
    with pytest.raises(UsageError, match="are bits"):
        CRS(VectorSpace(Metric.HAMMING, 16))


def test_an_untrained_codec_neither_encodes_nor_is_saved(tmp_path: Path) -> None:
    rows, labels = labelled()
    with pytest.raises(UsageError, match="not trained"):
        CRS(EUCLIDEAN, 4).encode(rows)
    with pytest.raises(UsageError, match="not trained"):
        CRS(EUCLIDEAN, 4).save(tmp_path)
    CRS(EUCLIDEAN, 4, 1).fit(rows, labels).save(tmp_path)
    with pytest.raises(StorageError, match="not trained"):
        CRS.load(tmp_path, EUCLIDEAN)


def test_training_reports_its_progress() -> None:
    progress = Recorder()
    CRS(EUCLIDEAN, 4, 1, progress=progress).fit(*labelled())
    assert {report.stage for report in progress.reports} == {"training"}


# ---- parametric UMAP


def laid_out(rows: np.ndarray) -> Umap:
    """A codec whose layout is the first three numbers; umap-learn takes seconds to import."""
    components = Pca(EUCLIDEAN, DIMENSION).fit(rows)
    projected = components.project(rows)
    step = float(np.abs(projected).max() / 127)
    anchors = np.rint(projected / step).astype(np.int8)
    return Umap(EUCLIDEAN, 3, 5, 0.1, components.map, step, anchors, rows[:, :3].astype(np.float16))


def test_parametric_umap_places_new_images_nearly_as_umap_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows, _ = labelled(300)
    umap = laid_out(rows)
    monkeypatch.setattr(Umap, "fit", lambda *_: umap)
    codec = ParametricUMAP(EUCLIDEAN, 3, 4).fit(rows)
    assert (str(codec), codec.space) == ("parametric-umap to 3 floats", VectorSpace(Metric.COSINE, 3))
    assert codec.encode(rows).tobytes() == ParametricUMAP(EUCLIDEAN, 3, 4).fit(rows).encode(rows).tobytes()
    assert quality(codec) > 0.9 * quality(umap)
    codec.save(tmp_path)
    loaded = codecs.load("learned", tmp_path, EUCLIDEAN)
    assert loaded.encode(rows).tobytes() == codec.encode(rows).tobytes()


def test_parametric_umap_encodes_as_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = labelled(300)
    made: list[np.ndarray] = []
    layers = _Network.layers

    def keep(self: _Network) -> list[tuple[np.ndarray, np.ndarray]]:
        made.append(self(torch.from_numpy(rows)).detach().numpy())
        return layers(self)

    monkeypatch.setattr(_Network, "layers", keep)
    codec = ParametricUMAP(EUCLIDEAN, 3, 1).imitate(laid_out(rows), rows)
    np.testing.assert_allclose(codec.encode(rows), made[0], atol=0.01 * float(np.abs(made[0]).max()))


# ---- as a user names them


def test_the_command_line_knows_the_codecs() -> None:
    assert tuple(trained.TRAINABLE) == TRAINABLE
    assert {name for name, kind in trained.TRAINABLE.items() if issubclass(kind, Layer)} == set(LABELLED)
    rows, labels = labelled()
    codec = parse_codec("crs:6+scalar:8", EUCLIDEAN)
    assert (str(codec), codec.code_bytes) == ("crs to 6 floats, scalar of 8 bits", 6)
    fitted = codec.fit(rows, labels)
    assert isinstance(fitted, Chain)
    assert [type(step) for step in fitted.steps] == [Learned, Scalar]


def test_a_codec_that_needs_torch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lookalike.learn.codecs", None)
    with pytest.raises(MissingExtraError, match=r"lookalike\[learn\]"):
        parse_codec("dsh:64", EUCLIDEAN)
    with pytest.raises(UsageError, match="crs"):
        parse_codec("learned", EUCLIDEAN)
