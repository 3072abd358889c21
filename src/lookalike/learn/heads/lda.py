"""A head by linear discriminant analysis."""

import numpy as np

from lookalike.errors import DataError
from lookalike.learn.heads.head import Head
from lookalike.learn.heads.whitening import fit_whitening, main_axes
from lookalike.shapes import Float32, Int64


def fit_lda(
    features: Float32[np.ndarray, "n f"],
    labels: Int64[np.ndarray, " n"],
    *,
    shrinkage: float,
    dimension: int | None = None,
) -> Head:
    """Fit a head that whitens within classes and keeps the main axes between the means of classes (Fisher 1936, Rao 1948).

    Args:
        features: of labelled images.
        labels: the class of each.
        shrinkage: of the covariance within classes towards its mean variance.
        dimension: the number of axes; by default all, one less than there are classes.

    Raises:
        DataError: no class has two images, there is only one class, or there are fewer axes.
    """
    whitened = fit_whitening(features, labels, shrinkage=shrinkage)
    _, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    axes = min(len(counts) - 1, features.shape[1])
    if axes < 1 or (dimension or axes) > axes:
        raise DataError(f"{len(counts)} classes give {axes} axes to tell them apart, not {dimension or 1}.")
    projected = (features - whitened.centre) @ whitened.projection.astype(np.float64)
    means = np.zeros((len(counts), features.shape[1]))
    np.add.at(means, members, projected)
    means /= counts[:, None]
    between = (means * counts[:, None]).T @ means / len(labels)
    projection = whitened.projection @ main_axes(between, dimension or axes)
    return Head(whitened.centre, projection.astype(np.float32))
