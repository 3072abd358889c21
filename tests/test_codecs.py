"""Codecs: each against a plain definition, and what all of them promise."""

import copy
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from lookalike import codecs
from lookalike.codecs import Binary, Chain, Codec, Learned, NoCodec, Pca, Product, RaBitQ, Scalar, Umap
from lookalike.codecs.linear import Affine
from lookalike.codecs.product import rescaled
from lookalike.codecs.protocol import directions, random_rotation
from lookalike.codecs.saved import Reader
from lookalike.errors import MismatchError, MissingExtraError, StorageError, UsageError
from lookalike.metric import Metric, VectorSpace, pairwise

DIMENSION = 12
EUCLIDEAN = VectorSpace(Metric.EUCLIDEAN, DIMENSION)
COSINE = VectorSpace(Metric.COSINE, DIMENSION)

ENCODER = "a" * 64

LAYERS = [
    (np.random.default_rng(5).standard_normal((DIMENSION, 20)), np.full(20, 0.1)),
    (np.random.default_rng(6).standard_normal((20, 9)), np.arange(9) / 9),
]


def clusters(count: int = 300, seed: int = 0) -> np.ndarray:
    """Embeddings in ten clusters, with duplicates and a zero vector."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((10, DIMENSION))
    rows = centres[random.integers(10, size=count)] + 0.3 * random.standard_normal((count, DIMENSION))
    rows[1:2] = rows[0]
    rows[2:3] = 0
    return rows.astype(np.float32)


def chain(first: Codec, then: Callable[[VectorSpace], Codec]) -> Chain:
    return Chain(first.embeddings, (first, then(first.space)))


def make_codecs(space: VectorSpace) -> list[Codec]:
    """One codec of each kind, not fitted."""
    return [
        NoCodec(space),
        Pca(space, 5),
        Pca(space, 5, whiten=True, rotate=True),
        Scalar(space, 16),
        Scalar(space, 8),
        Scalar(space, 4),
        Scalar(space, 2),
        Binary(space, 9, "itq"),
        Binary(space, 30, "sign"),
        Product(space, 3),
        Product(space, 4, rotate=False),
        RaBitQ(space, 1),
        RaBitQ(space, 3),
        chain(Pca(space, 7, rotate=True), lambda s: Scalar(s, 2)),
        chain(Pca(space, 8), lambda s: Binary(s, 8)),
        chain(Pca(space, 8, centre=False), lambda s: Product(s, 4)),
        chain(Pca(space, 8), lambda s: RaBitQ(s, 4)),
    ]


def laid_out(space: VectorSpace) -> Umap:
    """A codec with a layout that umap-learn did not make; importing that takes seconds."""
    rows = directions(clusters(60, seed=2), space)
    components = Pca(EUCLIDEAN, DIMENSION).fit(rows)
    projected = components.project(rows)
    step = float(np.abs(projected).max() / 127)
    anchors = np.rint(projected / step).astype(np.int8)
    return Umap(space, 2, 5, 0.1, components.map, step, anchors, projected[:, :2].astype(np.float16))


FITTED = [codec.fit(clusters()) for space in (EUCLIDEAN, COSINE) for codec in make_codecs(space)]
FITTED += [laid_out(EUCLIDEAN), laid_out(COSINE)]
FITTED += [Learned.of(EUCLIDEAN, output, LAYERS) for output in Metric] + [Learned.of(COSINE, Metric.COSINE, LAYERS[:1])]
IDS = [f"{codec.embeddings.metric} {codec}" for codec in FITTED]


# ---- what all codecs promise


@pytest.mark.parametrize("codec", FITTED, ids=IDS)
def test_a_code_has_its_dtype_and_stands_for_a_vector(codec: Codec) -> None:
    rows = clusters(20, seed=1)
    codes = codec.encode(rows)
    assert codes.dtype == codec.code_dtype
    assert codes.shape == (20, codec.code_columns)
    assert codec.code_bytes == codes.nbytes / 20
    vectors, queries = codec.decode(codes), codec.project(rows)
    assert vectors.dtype == queries.dtype == codec.space.dtype
    assert vectors.shape == queries.shape == (20, codec.space.columns)
    for none in (codec.encode(rows[:0]), codec.decode(codes[:0]), codec.project(rows[:0])):
        assert len(none) == 0


@pytest.mark.parametrize("codec", FITTED, ids=IDS)
def test_a_code_does_not_depend_on_the_batch(codec: Codec) -> None:
    rows = clusters(70, seed=1)
    for convert in (codec.encode, codec.project):
        assert np.concatenate([convert(row[None]) for row in rows]).tobytes() == convert(rows).tobytes()
        assert convert(np.asfortranarray(rows)).tobytes() == convert(rows).tobytes()


@pytest.mark.parametrize("codec", FITTED, ids=IDS)
def test_a_loaded_codec_makes_the_same_codes(codec: Codec, tmp_path: Path) -> None:
    rows = clusters(70, seed=1)
    codec.save(tmp_path, ENCODER)
    for encoder in (None, ENCODER):
        again = codecs.load(codec.name, tmp_path, codec.embeddings, encoder)
        assert str(again) == str(codec)
        assert again.space == codec.space
        codes = again.encode(rows)
        assert codes.tobytes() == codec.encode(rows).tobytes()
        assert again.decode(codes).tobytes() == codec.decode(codes).tobytes()
        assert again.project(rows).tobytes() == codec.project(rows).tobytes()
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert abs(codec.size - written) <= len(ENCODER)


@pytest.mark.parametrize("codec", FITTED, ids=IDS)
def test_the_distance_of_a_query_to_its_own_code_is_about_zero(codec: Codec) -> None:
    rows = clusters()[3:]
    distances = pairwise(codec.project(rows), codec.decode(codec.encode(rows)), codec.space.metric)
    assert np.median(np.diag(distances)) < 0.5 * np.median(distances)


@pytest.mark.parametrize("codec", FITTED, ids=IDS)
def test_embeddings_that_do_not_fit_are_refused(codec: Codec) -> None:
    rows = clusters(4)
    for wrong in (rows[:, 1:], rows.astype(np.float64)):
        for convert in (codec.encode, codec.project):
            with pytest.raises(UsageError, match=codec.name):
                convert(wrong)
    for value in (np.nan, np.inf, -1e30):
        bad = rows.copy()
        bad[2, 3] = value
        with pytest.raises(UsageError, match="Embedding 2"):
            codec.encode(bad)
    with pytest.raises(UsageError, match="codes"):
        codec.decode(np.zeros((1, codec.code_columns + 1), codec.code_dtype))


@pytest.mark.parametrize("space", [EUCLIDEAN, COSINE], ids=str)
@pytest.mark.parametrize(
    "rows",
    [clusters(1), np.zeros((3, DIMENSION), np.float32), np.ones((5, DIMENSION), np.float32)],
    ids=["one", "zeros", "equal"],
)
def test_a_codec_can_be_fitted_to_few_or_equal_embeddings(space: VectorSpace, rows: np.ndarray) -> None:
    for codec in make_codecs(space):
        fitted = codec.fit(rows)
        assert np.isfinite(fitted.decode(fitted.encode(clusters(9, seed=1)))).all()
        if space.metric is Metric.EUCLIDEAN or rows.any():
            assert np.allclose(fitted.decode(fitted.encode(rows)), fitted.project(rows), atol=1e-3), str(codec)


def test_a_codec_must_be_fitted() -> None:
    for codec in make_codecs(EUCLIDEAN)[1:]:
        if isinstance(codec, Scalar) and codec.bits == 16:  # has nothing to fit
            continue
        with pytest.raises(UsageError, match="fit"):
            codec.encode(clusters(4))
        with pytest.raises(UsageError, match="Add images"):
            codec.fit(clusters(4)[:0])


def test_settings_are_checked() -> None:
    bits = VectorSpace(Metric.HAMMING, 64)
    for make in (
        lambda: Pca(EUCLIDEAN, 0),
        lambda: Pca(EUCLIDEAN, DIMENSION + 1),
        lambda: Pca(EUCLIDEAN, True),
        lambda: Pca(EUCLIDEAN, 4, whiten=1),  # type: ignore[arg-type]  # from a caller without type checks
        lambda: Pca(bits, 8),
        lambda: Scalar(EUCLIDEAN, 3),
        lambda: Scalar(bits, 8),
        lambda: Binary(EUCLIDEAN, DIMENSION + 1, "itq"),
        lambda: Binary(EUCLIDEAN, 2**20, "sign"),
        lambda: Binary(EUCLIDEAN, 8, "other"),  # type: ignore[arg-type]  # as above
        lambda: Product(EUCLIDEAN, 5),
        lambda: Product(EUCLIDEAN, 0),
        lambda: Learned(EUCLIDEAN),
        lambda: Learned.of(EUCLIDEAN, Metric.EUCLIDEAN, LAYERS[1:]),
        lambda: Learned.of(EUCLIDEAN, Metric.EUCLIDEAN, [LAYERS[0]] * 2),
        lambda: Learned.of(bits, Metric.HAMMING, LAYERS),
        lambda: Umap(EUCLIDEAN, 0),
        lambda: Umap(EUCLIDEAN, 2, 1),
        lambda: Umap(EUCLIDEAN, 2, 5, -1),
        lambda: RaBitQ(EUCLIDEAN, 5),
        lambda: RaBitQ(bits, 1),
        lambda: Chain(EUCLIDEAN, ()),
        lambda: Chain(EUCLIDEAN, (NoCodec(EUCLIDEAN),)),
        lambda: Chain(COSINE, (Pca(EUCLIDEAN, 4),)),
        lambda: Chain(EUCLIDEAN, (Pca(EUCLIDEAN, 4), Scalar(EUCLIDEAN))),
        lambda: Chain(EUCLIDEAN, (Scalar(EUCLIDEAN), Scalar(EUCLIDEAN))),
    ):
        with pytest.raises(UsageError):
            make()


# ---- each against its definition


def test_pca_projects_to_the_directions_of_most_variance() -> None:
    rows, queries = clusters(), clusters(30, seed=1)
    _, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    plain = (queries - rows.mean(axis=0)) @ vectors[:, ::-1][:, :5]
    assert np.allclose(np.abs(Pca(EUCLIDEAN, 5).fit(rows).project(queries)), np.abs(plain), atol=3e-3)

    white = Pca(EUCLIDEAN, 5, whiten=True).fit(rows).project(rows)
    assert np.allclose(np.cov(white.T, bias=True), np.eye(5), atol=3e-3)
    turned = Pca(EUCLIDEAN, 5, rotate=True).fit(rows).project(queries)
    assert np.allclose(pairwise(turned, turned, Metric.EUCLIDEAN), pairwise(plain, plain, Metric.EUCLIDEAN), atol=5e-3)


@pytest.mark.parametrize("whiten", [False, True])
def test_the_first_components_are_those_of_a_smaller_pca(whiten: bool) -> None:
    rows = clusters()
    for space in (EUCLIDEAN, COSINE):
        first, small = Pca(space, 7, whiten).fit(rows).first(3), Pca(space, 3, whiten).fit(rows)
        assert str(first) == str(small)
        np.testing.assert_array_equal(first.encode(rows), small.encode(rows))
    for codec in (first, Pca(EUCLIDEAN, 7, rotate=True).fit(rows)):
        with pytest.raises(UsageError):
            codec.first(4)


def test_pca_in_all_dimensions_keeps_distances() -> None:
    rows = clusters()
    for space in (EUCLIDEAN, COSINE):
        queries = Pca(space, DIMENSION).fit(rows).project(rows)
        assert np.allclose(pairwise(queries, queries, space.metric), pairwise(rows, rows, space.metric), atol=5e-3)


def test_without_a_centre_equally_long_vectors_stay_equally_long() -> None:
    rows = rescaled(clusters() + 1, 2.0)
    codec = Pca(EUCLIDEAN, DIMENSION, centre=False).fit(rows)
    assert np.allclose(np.linalg.norm(codec.project(rows), axis=1), 2, atol=3e-3)
    assert str(codec) == f"pca to {DIMENSION} uncentred"
    assert np.linalg.norm(Pca(EUCLIDEAN, DIMENSION).fit(rows).project(rows), axis=1).std() > 0.1


def test_a_product_is_exact_to_28_bits() -> None:
    random = np.random.default_rng(0)
    rows = (random.standard_normal((50, 64)) * 10.0 ** random.integers(-40, 17, (50, 1))).astype(np.float32)
    rows[7] = 0
    matrix, offset = random.standard_normal((64, 16)), np.zeros(16)
    codec = Affine.of(matrix, offset)
    mapped = codec(rows)
    rounded = codec.matrix.astype(np.float64) * codec.scale
    assert np.abs(rounded - matrix).max() < 2e-3
    plain = rows.astype(np.float64) @ rounded
    scale = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True) * np.linalg.norm(matrix, axis=0)
    assert (np.abs(mapped - plain) <= scale * 1e-6 + 1e-44).all()


def test_scalar_codes_are_the_nearest_levels() -> None:
    rows, others = clusters(), clusters(50, seed=1)
    for bits in (4, 2):
        codec = Scalar(EUCLIDEAN, bits).fit(rows)
        assert codec.levels is not None
        nearest = codec.levels[np.abs(others[:, None] - codec.levels).argmin(axis=1), np.arange(DIMENSION)]
        assert np.array_equal(codec.decode(codec.encode(others)), nearest)
        # Lloyd's condition: each level is the mean of the numbers that it stands for.
        decoded = codec.decode(codec.encode(rows))
        for number, level in enumerate(codec.levels[:, 3]):
            own = rows[decoded[:, 3] == level, 3]
            assert np.allclose(own.mean(), level, atol=1e-5), number
    eight = Scalar(EUCLIDEAN, 8).fit(rows)
    step = (rows.max(axis=0) - rows.min(axis=0)) / 254
    assert (np.abs(eight.decode(eight.encode(rows)) - rows) <= step * 0.501).all()
    assert np.array_equal(Scalar(EUCLIDEAN, 16).encode(rows), rows.astype(np.float16))


def test_bits_are_signs_and_itq_loses_less_than_its_first_rotation() -> None:
    rows, others = clusters(), clusters(50, seed=1)
    for codec in (Binary(EUCLIDEAN, 9, "itq").fit(rows), Binary(EUCLIDEAN, 30, "sign").fit(rows)):
        assert codec.map is not None
        matrix = codec.map.matrix * codec.map.scale
        sides = (others - rows.mean(axis=0)) @ matrix
        bits = np.unpackbits(codec.encode(others), axis=1, count=codec.bits)
        clear = np.abs(sides) > 1e-5
        assert np.array_equal(bits[clear], (sides > 0)[clear])
        assert np.array_equal(codec.project(others), codec.encode(others))
    assert np.allclose(matrix[:, :12].T @ matrix[:, :12], np.eye(12), atol=1e-3)

    components = Pca(EUCLIDEAN, 9, rotate=True).fit(rows).project(rows)
    turned = (rows - rows.mean(axis=0)) @ _matrix(Binary(EUCLIDEAN, 9, "itq").fit(rows))
    loss = [((vectors - np.sign(vectors)) ** 2).sum() for vectors in (turned, components)]
    assert loss[0] < loss[1]


def _matrix(codec: Binary) -> np.ndarray:
    assert codec.map is not None
    return np.asarray(codec.map.matrix * codec.map.scale)


def test_product_codes_are_the_nearest_centroids() -> None:
    rows, others = clusters(), clusters(50, seed=1)
    plain, rotated = Product(EUCLIDEAN, 4, rotate=False).fit(rows), Product(EUCLIDEAN, 4).fit(rows)
    for codec in (plain, rotated):
        assert codec.centroids is not None
        cut = codec.project(others).reshape(50, 4, 1, 3)
        nearest = ((cut - codec.centroids) ** 2).sum(axis=3).argmin(axis=2)
        assert np.array_equal(codec.encode(others), nearest)
        decoded = codec.decode(codec.encode(others))
        assert np.array_equal(decoded.reshape(50, 4, 3), codec.centroids[np.arange(4), nearest])
    assert np.array_equal(plain.project(others), others)
    lengths = np.linalg.norm(rotated.project(others), axis=1)
    assert np.allclose(lengths, np.linalg.norm(others, axis=1), atol=3e-3)


def test_product_leaves_a_smaller_error_than_opq_of_faiss() -> None:
    import faiss  # noqa: PLC0415 -- few tests need it

    random = np.random.default_rng(0)
    rows = (random.standard_normal((1500, 16)) * np.linspace(3, 0.1, 16)).astype(np.float32)
    codec = Product(VectorSpace(Metric.EUCLIDEAN, 16), 4).fit(rows)
    index = faiss.index_factory(16, "OPQ4_16,PQ4np")
    index.train(rows)
    error = ((codec.decode(codec.encode(rows)) - codec.project(rows)) ** 2).mean()
    assert error < ((index.sa_decode(index.sa_encode(rows)) - rows) ** 2).mean()


@pytest.mark.parametrize("rows", [np.ones((300, 4)), np.zeros((300, 4)), np.eye(4)[np.arange(300) % 2]])
def test_product_is_fitted_to_numbers_without_variance(rows: np.ndarray) -> None:
    rows = rows.astype(np.float32)
    codec = Product(VectorSpace(Metric.EUCLIDEAN, 4), 2).fit(rows)
    assert np.allclose(codec.decode(codec.encode(rows)), codec.project(rows), atol=2e-3)


def test_product_restores_the_length_of_equally_long_vectors() -> None:
    rows = np.delete(clusters(), 2, axis=0)  # the zero vector
    plain = Product(EUCLIDEAN, 4).fit(rows)
    scaled = rescaled(rows, 3.0)
    codec = Product(EUCLIDEAN, 4).fit(scaled)
    assert plain.length == 0
    assert codec.length == pytest.approx(3)
    assert codec.centroids is not None
    codes = codec.encode(scaled)
    means = codec.centroids[np.arange(4), codes].reshape(len(rows), -1)
    decoded = codec.decode(codes)
    assert np.allclose(np.linalg.norm(decoded, axis=1), 3, atol=1e-5)
    assert np.allclose(decoded * np.linalg.norm(means, axis=1, keepdims=True), 3 * means, atol=1e-4)
    assert Product(COSINE, 4).fit(scaled).length == 0
    assert not rescaled(np.zeros((2, 3), np.float32), 3.0).any()


def test_rabitq_finds_the_grid_point_with_the_largest_cosine() -> None:
    small = VectorSpace(Metric.EUCLIDEAN, 4)
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    for bits in (1, 2, 3):
        codec = RaBitQ(small, bits).fit(rows)
        grid = np.stack(np.meshgrid(*[np.arange(2**bits) - (2**bits - 1) / 2] * 4), axis=-1).reshape(-1, 4)
        residuals = codec.project(rows) - codec.centre
        cosines = residuals @ grid.T / np.linalg.norm(grid, axis=1) / np.linalg.norm(residuals, axis=1)[:, None]
        decoded = codec.decode(codec.encode(rows)) - codec.centre
        found = (decoded * residuals).sum(axis=1) / np.linalg.norm(decoded, axis=1) / np.linalg.norm(residuals, axis=1)
        assert np.allclose(found, cosines.max(axis=1), atol=1e-5)
        # The factor makes the error orthogonal to the code, but for the rounding of the factor.
        assert np.allclose((decoded * residuals).sum(axis=1) / (decoded**2).sum(axis=1), 1, atol=0.02)


@pytest.mark.parametrize("bits", [1, 4])
def test_rabitq_finds_at_least_as_many_neighbours_as_that_of_faiss(bits: int) -> None:
    import faiss  # noqa: PLC0415 -- only this test needs it

    random = np.random.default_rng(0)
    rows = (random.standard_normal((600, 32)) * np.linspace(1, 0.2, 32)).astype(np.float32)
    codec = RaBitQ(VectorSpace(Metric.EUCLIDEAN, 32), bits).fit(rows)
    index = faiss.IndexPreTransform(faiss.RandomRotationMatrix(32, 32), faiss.IndexRaBitQ(32, faiss.METRIC_L2, bits))
    index.train(rows)
    index.add(rows)
    exact = pairwise(rows, rows, Metric.EUCLIDEAN).argsort(axis=1)[:, :10]
    own = pairwise(codec.project(rows), codec.decode(codec.encode(rows)), Metric.EUCLIDEAN).argsort(axis=1)[:, :10]

    def recall(found: np.ndarray) -> float:
        return float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, exact, strict=True)]))

    assert recall(own) >= recall(index.search(rows, 10)[1])
    assert codec.code_bytes < index.sa_code_size()


def test_umap_places_a_vector_at_the_weighted_mean_of_its_nearest_anchors() -> None:
    codec, rows = laid_out(EUCLIDEAN), clusters(20, seed=1)
    assert codec.map is not None
    assert codec.anchors is not None
    assert codec.places is not None
    for row, place in zip(codec.map(rows), codec.project(rows), strict=True):
        distances = np.linalg.norm(codec.anchors * codec.step - row, axis=1)
        nearest = np.argsort(distances)[:5]
        sigmas = np.geomspace(1e-3, 1e3, 200_001)
        sums = np.exp(-distances[nearest][:, None] / sigmas).sum(axis=0)
        weights = np.exp(-distances[nearest] / sigmas[np.abs(sums - np.log2(5)).argmin()])
        places = codec.places[nearest].astype(np.float64)
        point = weights @ places / weights.sum()
        for _ in range(20):
            attraction = weights / (1 + 10 * ((places - point) ** 2).sum(axis=1))
            point = attraction @ places / attraction.sum()
        assert np.allclose(place, point, atol=0.01)  # `_decay` is exp to 1 in 1,000


def test_learned_layers_are_applied_in_turn() -> None:
    rows = clusters(20, seed=1)
    plain = np.maximum(rows @ LAYERS[0][0] + LAYERS[0][1], 0) @ LAYERS[1][0] + LAYERS[1][1]
    codec = Learned.of(EUCLIDEAN, Metric.EUCLIDEAN, LAYERS)
    assert np.allclose(codec.encode(rows), plain, atol=0.02)
    assert codec.fit(rows) is codec
    signs = Learned.of(EUCLIDEAN, Metric.HAMMING, LAYERS)
    assert np.array_equal(np.unpackbits(signs.encode(rows), axis=1, count=9), plain > 0)


def test_umap_needs_more_embeddings_than_neighbours() -> None:
    with pytest.raises(UsageError, match="more than 15"):
        Umap(EUCLIDEAN, 2).fit(clusters(15))


def test_umap_lays_out_the_gallery_with_umap_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    class Layout:  # importing and compiling umap-learn takes 14 s
        def __init__(self, **settings: object) -> None:
            given.update(settings)

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Layout))
    rows = clusters(50)
    codec = Umap(EUCLIDEAN, 2, 8, 0.2).fit(rows)
    assert given == {"n_components": 2, "n_neighbors": 8, "min_dist": 0.2, "random_state": 20, "n_jobs": 1}
    assert np.array_equal(codec.fitted(codec.places), rows[:, :2].astype(np.float16))
    assert codec.map is not None
    assert codec.anchors is not None
    assert np.allclose(codec.anchors * codec.step, codec.map(rows), atol=codec.step * 0.501)

    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"lookalike\[umap\]"):
        codec.fit(rows)


def test_a_chain_applies_its_codecs_in_turn() -> None:
    rows = clusters()
    codec = chain(Pca(EUCLIDEAN, 6), lambda space: Scalar(space, 4)).fit(rows)
    first, last = codec.steps
    assert np.array_equal(codec.encode(rows), last.encode(first.encode(rows)))
    assert np.array_equal(codec.project(rows), first.project(rows))
    assert codec.code_bytes == 3
    assert str(codec) == "pca to 6, scalar of 4 bits"


# ---- files of strangers


def rewrite(folder: Path, changes: dict[str, object], arrays: dict[str, np.ndarray | None] | None = None) -> None:
    """Change settings and arrays of a saved codec as a stranger would, with a fresh hash."""
    parts = safetensors.numpy.load_file(folder / "codec.safetensors") | (arrays or {})
    safetensors.numpy.save_file(
        {name: array for name, array in parts.items() if array is not None}, folder / "codec.safetensors"
    )
    document = json.loads((folder / "codec.json").read_text())
    document["sha256"] = hashlib.sha256((folder / "codec.safetensors").read_bytes()).hexdigest()
    for key, value in changes.items():
        *path, last = key.split(".")
        part = document
        for name in path:
            part = part[int(name) if isinstance(part, list) else name]
        part[last] = value
    (folder / "codec.json").write_text(json.dumps(document))


def loads(codec: Codec, folder: Path) -> None:
    codecs.load(codec.name, folder, codec.embeddings).encode(clusters(4))


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (MismatchError, {"format": 2}),
        (MismatchError, {"codec": "scalar"}),
        (MismatchError, {"embeddings.dimension": 13}),
        (MismatchError, {"embeddings.metric": "cosine"}),
        (StorageError, {"format": True}),
        (StorageError, {"embeddings.metric": "manhattan"}),
        (StorageError, {"embeddings.dimension": 1e3}),
        (StorageError, {"embeddings": [1]}),
        (StorageError, {"embeddings.more": 1}),
        (StorageError, {"encoder": 5}),
        (StorageError, {"more\n": 1}),
        (StorageError, {"settings": []}),
        (StorageError, {"settings.more": 1}),
        (StorageError, {"settings.dimension": 4}),
        (StorageError, {"settings.dimension": 10**90}),
        (StorageError, {"settings.whiten": 0}),
        (StorageError, {"sha256": "0" * 64}),
    ],
)
def test_damaged_settings_are_refused(error: type[Exception], changes: dict[str, object], tmp_path: Path) -> None:
    codec = Pca(EUCLIDEAN, 5).fit(clusters())
    codec.save(tmp_path)
    loads(codec, tmp_path)
    rewrite(tmp_path, changes)
    with pytest.raises(error) as caught:
        loads(codec, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"matrix": None},
        {"more": np.zeros(3)},
        {"offset": np.full(5, np.nan, np.float32)},
        {"offset": np.zeros(5, np.float64)},
        {"offset": np.zeros((5, 1), np.float32)},
        {"matrix": np.zeros((12, 4), np.float16)},
        {"matrix": np.full((12, 5), 0.5, np.float16)},
    ],
    ids=str,
)
def test_damaged_arrays_are_refused(arrays: dict[str, np.ndarray | None], tmp_path: Path) -> None:
    codec = Pca(EUCLIDEAN, 5).fit(clusters())
    codec.save(tmp_path)
    rewrite(tmp_path, {}, arrays)
    with pytest.raises(StorageError, match="damaged"):
        loads(codec, tmp_path)


def test_damaged_levels_and_steps_are_refused(tmp_path: Path) -> None:
    codec = chain(Pca(EUCLIDEAN, 5), lambda space: Scalar(space, 2)).fit(clusters())
    cases: list[tuple[dict[str, object], dict[str, np.ndarray | None]]] = [
        ({}, {"1.levels": np.repeat(np.array([[1], [0], [2], [3]], np.float32), 5, axis=1)}),
        ({"settings.steps": []}, {}),
        ({"settings.steps": [1]}, {}),
        ({"settings.steps.0.codec": "chain"}, {}),
        ({"settings.steps.0.more": 1}, {}),
        ({"settings.steps.0.settings": 5}, {}),
        ({"settings.steps.1.settings.bits": 4}, {}),
        ({}, {"2.levels": np.zeros(3)}),
    ]
    for changes, arrays in cases:
        codec.save(tmp_path)
        loads(codec, tmp_path)
        rewrite(tmp_path, changes, arrays)
        with pytest.raises(StorageError, match="damaged"):
            loads(codec, tmp_path)


def test_damaged_parts_of_each_codec_are_refused(tmp_path: Path) -> None:
    cases: list[tuple[Codec, dict[str, object], dict[str, np.ndarray | None]]] = [
        (Binary(EUCLIDEAN, 9), {"settings.method": "other"}, {}),
        (Binary(EUCLIDEAN, 9), {"settings.bits": 8}, {}),
        (Product(EUCLIDEAN, 6), {"settings.parts": 5}, {}),
        (Product(EUCLIDEAN, 6), {"settings.parts": 4}, {}),
        (Product(EUCLIDEAN, 6), {"settings.rotate": False}, {}),
        (Product(EUCLIDEAN, 6), {}, {"centroids": np.full((6, 256, 2), 2, np.float16)}),
        (RaBitQ(EUCLIDEAN), {"settings.bits": 5}, {}),
        (RaBitQ(EUCLIDEAN), {}, {"factors": np.full(256, -1, np.float32)}),
        (RaBitQ(EUCLIDEAN), {}, {"centre": np.zeros(11, np.float32)}),
    ]
    for codec, changes, arrays in cases:
        fitted = codec.fit(clusters())
        fitted.save(tmp_path)
        loads(fitted, tmp_path)
        rewrite(tmp_path, changes, arrays)
        with pytest.raises(StorageError, match="damaged"):
            loads(fitted, tmp_path)


def test_any_bytes_are_codes_of_finite_vectors() -> None:
    for codec in FITTED:
        if codec.code_dtype == np.uint8:
            codes = np.random.default_rng(0).integers(256, size=(300, codec.code_columns), dtype=np.uint8)
            assert np.isfinite(codec.decode(codes)).all()


@pytest.mark.parametrize("codec", FITTED, ids=IDS)
def test_each_array_and_setting_is_checked(codec: Codec) -> None:
    def restore(settings: dict[str, object], arrays: dict[str, np.ndarray]) -> None:
        reader = Reader("folder", copy.deepcopy(settings), dict(arrays))
        type(codec).restore(reader, codec.embeddings)
        reader.finish()

    settings, arrays = codec.state()
    restore(settings, arrays)
    for name, array in arrays.items():
        wrong = [array.astype(np.float64), np.concatenate([array, array], axis=-1)]
        if array.dtype.kind == "f":
            wrong += [np.full_like(array, np.nan), np.full_like(array, np.inf)]
        for damaged in wrong:
            with pytest.raises(StorageError, match="damaged"):
                restore(settings, arrays | {name: damaged})
        with pytest.raises(StorageError, match="missing"):
            restore(settings, {other: arrays[other] for other in arrays if other != name})
    for name, own in settings.items():
        values: list[object] = [None, "x", -1, 10**30, [], {}, [10**9], *([] if isinstance(own, bool) else [True])]
        for value in values:
            with pytest.raises((StorageError, UsageError)) as caught:  # `load` makes one of the other
                restore(settings | {name: value}, arrays)
            assert "\n" not in str(caught.value)


def test_floats_of_a_stranger_cannot_be_codes_of_bits(tmp_path: Path) -> None:
    Pca(EUCLIDEAN, 5).fit(clusters()).save(tmp_path)
    rewrite(tmp_path, {"embeddings.metric": "hamming"})
    with pytest.raises(StorageError, match="do not fit"):
        codecs.load("pca", tmp_path, VectorSpace(Metric.HAMMING, DIMENSION))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    codec = Pca(EUCLIDEAN, 5).fit(clusters())
    with pytest.raises(StorageError, match="cannot be read"):
        loads(codec, tmp_path)
    with pytest.raises(StorageError, match="cannot be written"):
        codec.save(tmp_path / "missing")
    for name, content in (
        ("codec.json", b"{"),
        ("codec.json", b"[]"),
        ("codec.json", b" " * 2**17),
        ("codec.safetensors", b""),
    ):
        codec.save(tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StorageError):
            loads(codec, tmp_path)
    for content in (b"", b"\xff" * 40, b"\x08" + bytes(7) + b'{"a": 1}'):
        codec.save(tmp_path)
        document = json.loads((tmp_path / "codec.json").read_text())
        (tmp_path / "codec.safetensors").write_bytes(content)
        (tmp_path / "codec.json").write_text(json.dumps(document | {"sha256": hashlib.sha256(content).hexdigest()}))
        with pytest.raises(StorageError, match="not safetensors"):
            loads(codec, tmp_path)
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / "codec.json").unlink()
    (tmp_path / "codec.json").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match="links"):
        loads(codec, tmp_path)


def test_a_codec_of_another_encoder_is_refused(tmp_path: Path) -> None:
    codec = Pca(EUCLIDEAN, 5).fit(clusters())
    codec.save(tmp_path, ENCODER)
    with pytest.raises(MismatchError, match="another encoder"):
        codecs.load("pca", tmp_path, EUCLIDEAN, "b" * 64)


def test_a_random_rotation_keeps_lengths() -> None:
    rotation = random_rotation(9, np.random.default_rng(0))
    assert np.allclose(rotation @ rotation.T, np.eye(9))
