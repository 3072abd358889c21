"""Codecs as transformers of scikit-learn, which the extra ``report`` installs."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from lookalike.codecs import CODECS
from lookalike.codecs.protocol import Codes
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.query import Vectors


class CodecTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A codec as a transformer of scikit-learn: embeddings in, codes out.

    A chain of codecs is a pipeline: ``make_pipeline(CodecTransformer("pca", {"dimension": 64}), CodecTransformer("rabitq"))``.

    Attributes:
        codec: the codec's name, such as ``pca``.
        settings: of the codec, by name; none for its defaults.
        metric: of the embeddings, ``euclidean`` or ``cosine``.
        codec_: the fitted `lookalike.codecs.Codec`.
    """

    def __init__(
        self, codec: str = "scalar", settings: Mapping[str, Any] | None = None, metric: str = "euclidean"
    ) -> None:
        self.codec = codec
        self.settings = settings
        self.metric = metric

    def fit(self, X: object, y: object = None) -> Self:  # noqa: N803 -- scikit-learn's names
        """Fit the codec to embeddings ``X``, an array or what NumPy makes one of; labels ``y`` serve codecs that learn from them.

        Raises:
            UsageError: the codec, one of its settings or the metric is unknown, or does not fit the embeddings.
        """
        rows = validate_data(self, X, dtype=np.float32, order="C")
        if self.codec not in CODECS:
            raise UsageError(f"The codec {self.codec!r} is unknown. Choose one of {', '.join(CODECS)}.")
        space = VectorSpace(Metric.parse(self.metric), rows.shape[1])
        try:
            codec = CODECS[self.codec](space, **(self.settings or {}))
        except TypeError as e:
            raise UsageError(f"The codec “{self.codec}” does not take the settings {self.settings}: {e}.") from e
        self.codec_ = codec.fit(rows, None if y is None else [str(label) for label in np.asarray(y).ravel()])
        return self

    def transform(self, X: object) -> Codes:  # noqa: N803 -- as in `fit`
        """Encode embeddings."""
        return self.codec_.encode(self._checked(X))

    def project(self, X: object) -> Vectors:  # noqa: N803 -- as in `fit`
        """Convert embeddings to queries, which are compared with `inverse_transform` of codes; see `Codec.project`."""
        return self.codec_.project(self._checked(X))

    def inverse_transform(self, X: object) -> Vectors:  # noqa: N803 -- as in `fit`
        """Return the vectors that codes stand for, in the space of the codec: fewer numbers than embeddings have, for ``pca``."""
        check_is_fitted(self)
        return self.codec_.decode(np.asarray(X, self.codec_.code_dtype))

    def _checked(self, rows: object) -> Vectors:
        check_is_fitted(self)
        return np.asarray(validate_data(self, rows, dtype=np.float32, order="C", reset=False))

    @property
    def _n_features_out(self) -> int:
        return self.codec_.code_columns

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 -- as above
        """Say that codes have another dtype than embeddings."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
