"""Conversion of vectors to float64 and, for the cosine distance, to unit length."""

import numpy as np

from lookalike.metric import Metric, squared_norms
from lookalike.shapes import Float, Float32, Float64


def unit_vectors(vectors: Float32[np.ndarray, "n d"], metric: Metric) -> Float64[np.ndarray, "n d"]:
    """Convert vectors to float64 and, for cosine, to length 1.

    Half the squared Euclidean distance of unit vectors is their cosine distance. Zero vectors stay zero.
    """
    if metric == Metric.EUCLIDEAN:
        return vectors.astype(np.float64)
    norms: Float[np.ndarray, "n 1"] = np.sqrt(squared_norms(vectors))[:, None]
    return np.asarray(np.divide(vectors, norms, out=np.zeros(vectors.shape), where=norms > 0))
