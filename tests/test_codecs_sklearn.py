"""Tests of lookalike.codecs.sklearn."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from lookalike.codecs import Chain, Pca, Scalar
from lookalike.codecs.sklearn import CodecTransformer
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace

ROWS = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)


@parametrize_with_checks(  # type: ignore[untyped-decorator]  # scikit-learn has no types
    [CodecTransformer("scalar"), CodecTransformer("pca", {"dimension": 1}, "cosine")]
)
def test_it_follows_the_conventions_of_scikit_learn(estimator: object, check: Callable[[object], None]) -> None:
    check(estimator)


def test_a_pipeline_makes_the_codes_of_a_chain() -> None:
    pipeline = make_pipeline(CodecTransformer("pca", {"dimension": 4}), CodecTransformer("scalar", {"bits": 4}))
    codes = clone(pipeline).fit_transform(ROWS)
    pca = Pca(VectorSpace(Metric.EUCLIDEAN, 8), 4)
    chain = Chain(pca.embeddings, (pca, Scalar(pca.space, 4))).fit(ROWS)
    assert np.array_equal(codes, chain.encode(ROWS))
    last = pipeline.fit(ROWS)[-1]
    assert np.array_equal(last.inverse_transform(codes), chain.decode(codes))
    assert np.array_equal(last.project(pipeline[0].project(ROWS)), chain.project(ROWS))
    assert list(last.get_feature_names_out()) == ["codectransformer0", "codectransformer1"]


@pytest.mark.parametrize(
    "wrong",
    [
        CodecTransformer("zip"),
        CodecTransformer("scalar", {"bits": 3}),
        CodecTransformer("scalar", {"more": 1}),
        CodecTransformer("scalar", metric="manhattan"),
        CodecTransformer("scalar", metric="hamming"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong: CodecTransformer) -> None:
    with pytest.raises(UsageError):
        wrong.fit(ROWS)
