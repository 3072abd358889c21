"""The embedder: images to vectors, in batches, with bad files reported."""

from pathlib import Path

import numpy as np
import pytest

from image_files import write
from lookalike import codecs, images
from lookalike.codecs import NoCodec
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import MismatchError, NotFoundError, UsageError
from lookalike.metric import Metric, VectorSpace
from recorder import Recorder


@pytest.fixture
def embedder(pocket: Path) -> Embedder:
    return Embedder.of(Encoder.open(pocket))


def test_bad_files_are_reported_and_the_others_embedded_in_order(embedder: Embedder, tmp_path: Path) -> None:
    write(tmp_path, {f"{i:03}.png": i for i in range(70)})
    (tmp_path / "035.png").write_bytes(b"broken")
    paths, progress = [*sorted(tmp_path.iterdir()), tmp_path / "missing.png"], Recorder()
    embedded = embedder.embed_files(paths, progress=progress)
    assert list(embedded.paths) == [p for p in paths if p.stem not in ("035", "missing")]
    assert [path.stem for path, _ in embedded.failures] == ["035", "missing"]
    fitted = np.stack([images.load(p, 32) for p in embedded.paths])
    assert np.allclose(embedded.vectors, embedder.encoder.embed(fitted), atol=1e-6)
    assert [report[:3] for report in progress.reports] == [("embedding", n, 71) for n in (16, 32, 48, 64, 71)]
    assert embedder.embed_files([]).vectors.shape == (0, 48)


def test_one_image_and_many_give_the_same_vectors(embedder: Embedder, tmp_path: Path) -> None:
    write(tmp_path, {f"{i:03}.png": i for i in range(70)})
    paths = sorted(tmp_path.iterdir())
    together = embedder.embed(paths)
    assert together.shape == (70, 48)
    apart = np.concatenate([embedder.embed([path.read_bytes()]) for path in paths])
    assert np.allclose(together, apart, atol=1e-6)
    assert embedder.embed([]).shape == (0, 48)
    with pytest.raises(NotFoundError):
        embedder.embed([paths[0], tmp_path / "missing.png"])


def test_the_metric_must_compare_the_vectors(embedder: Embedder) -> None:
    assert embedder.space == VectorSpace(Metric.EUCLIDEAN, 48)
    cosine = embedder.with_metric(Metric.COSINE)
    assert cosine.space == VectorSpace(Metric.COSINE, 48)
    assert cosine.fingerprint == embedder.fingerprint
    with pytest.raises(UsageError, match="hamming"):
        Embedder.of(embedder.encoder, Metric.HAMMING)


def test_the_codec_none_leaves_embeddings_unchanged(embedder: Embedder, tmp_path: Path) -> None:
    vectors = np.eye(48, dtype=np.float32)
    embedder.codec.fit(vectors).save(tmp_path)
    codec = codecs.load("none", tmp_path, embedder.space)
    assert codec == NoCodec(embedder.space)
    assert codec.encode(vectors) is vectors
    with pytest.raises(MismatchError, match="pca9000"):
        codecs.load("pca9000", tmp_path, embedder.space)


def test_the_scope_is_the_cards_or_else_its_description(embedder: Embedder) -> None:
    assert embedder.scope == "Mean colours of a 4 by 4 grid, for tests."
    for scope, description, expected in [
        ("Trained on mugs.", "Mugs", "Trained on mugs."),
        (None, "Mugs\n  and cups", "Mugs and cups"),
        (None, "", "Its card does not say what it was trained on."),
    ]:
        card = embedder.encoder.card.model_copy(update={"scope": scope, "description": description})
        assert Embedder.of(Encoder(embedder.encoder.folder, card)).scope == expected
