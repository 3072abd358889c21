"""Heads fitted in closed form: whitening within classes, and prototypes of a public classifier."""

import numpy as np

from lookalike.errors import DataError
from lookalike.learn.heads.head import Classes, Head, softmax, unit_vectors
from lookalike.learn.recipe.head import NetworkPrototypes
from lookalike.shapes import Float32, Float64, Int64

# The weight of the classifier's own prototypes among the axes of embeddings, so that rare classes have directions too.
_PROTOTYPES = 0.3


def fit_whitening(
    features: Float32[np.ndarray, "n f"],
    labels: Int64[np.ndarray, " n"],
    *,
    shrinkage: float,
    dimension: int | None = None,
    copies: Float64[np.ndarray, "f f"] | None = None,
) -> Head:
    """Fit a head that whitens within classes: directions in which images of a class differ count less.

    This is the sphering step of discriminant analysis (Hastie and Tibshirani 1996, “Discriminant adaptive nearest neighbor
    classification”), with a covariance that is shrunk towards its mean variance.

    Args:
        features: of labelled images.
        labels: the class of each.
        shrinkage: 0 whitens by the covariance alone, 1 only centres.
        dimension: the number of main axes of the whitened features to keep; by default all.
        copies: the covariance of copies around their image; it then makes half of the covariance.

    Raises:
        DataError: no class has two images, or there are fewer features than dimensions.
    """
    check_dimension(dimension, features.shape[1])
    centre = features.mean(axis=0, dtype=np.float64)
    matrix = _whitening(features, labels, shrinkage, copies)
    if dimension is not None:
        matrix = matrix @ main_axes(_second_moment((features - centre) @ matrix), dimension)
    return Head(centre.astype(np.float32), matrix.astype(np.float32))


def fit_prototypes(
    features: Float32[np.ndarray, "n f"],
    labels: Int64[np.ndarray, " n"],
    classifier: tuple[Float32[np.ndarray, "c f"], Float32[np.ndarray, " c"]],
    settings: NetworkPrototypes,
    dimension: int,
    copies: Float64[np.ndarray, "f f"] | None = None,
) -> Head:
    """Fit a head that whitens within classes and adds the mean prototype of an image's classes.

    A prototype is a class's row of the classifier, centred and of length 1. Embeddings are then near if images differ little,
    and if the classifier sees the same things in them.

    Args:
        features: of labelled images.
        labels: the class of each.
        classifier: weight and bias of a public classifier of these features.
        settings: the shrinkage, and the weight and temperature of the prototypes.
        dimension: of embeddings: the main axes of the sum.
        copies: as for `fit_whitening`.

    Raises:
        DataError: as for `fit_whitening`.
    """
    check_dimension(dimension, features.shape[1])
    scores, bias = (part / settings.temperature for part in classifier)
    centred = classifier[0] - classifier[0].mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    prototypes = settings.weight * centred
    centre = features.mean(axis=0, dtype=np.float64)
    matrix = _whitening(features, labels, settings.shrinkage, copies)
    whitened = unit_vectors((features - centre) @ matrix)
    both = whitened + softmax(features @ scores.T + bias) @ prototypes
    moment = _second_moment(both) + _PROTOTYPES * _second_moment(centred)
    axes = main_axes(moment, dimension)
    # The projection to the axes shortens the whitened part, and then unit length lengthens it.
    scale = float(np.linalg.norm(whitened @ axes, axis=1).mean())
    return Head(
        centre.astype(np.float32),
        (matrix @ axes).astype(np.float32),
        scale,
        Classes(scores.astype(np.float32), bias.astype(np.float32), (prototypes @ axes).astype(np.float32)),
    )


def within_class_covariance(
    features: Float32[np.ndarray, "n f"], labels: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "f f"]:
    """Compute the covariance of features around the mean of their class.

    Raises:
        DataError: no class has two images.
    """
    _, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    freedom = len(labels) - len(counts)
    if freedom <= 0:
        raise DataError("No class has two images, so no head can be fitted. Add images to the classes.")
    sums = np.zeros((len(counts), features.shape[1]))
    np.add.at(sums, members, features)
    around = features - (sums / counts[:, None])[members]
    covariance: np.ndarray = around.T @ around / freedom
    return covariance


def copy_covariance(
    clean: Float32[np.ndarray, "n f"], changed: Float32[np.ndarray, "n f"]
) -> Float64[np.ndarray, "f f"]:
    """Compute the covariance of changed copies and their images around the middle of both, row for row."""
    difference = changed.astype(np.float64) - clean
    covariance: np.ndarray = difference.T @ difference / (2 * len(difference))
    return covariance


def inverse_square_root(covariance: Float64[np.ndarray, "f f"], shrinkage: float) -> Float64[np.ndarray, "f f"]:
    """Compute the matrix that whitens features of a covariance, shrunk towards its mean variance.

    A shrinkage above 0 makes it finite, also if there are fewer images than features.
    """
    size = len(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(shrunk)
    root: np.ndarray = (vectors / np.sqrt(np.maximum(values, np.finfo(np.float64).tiny))) @ vectors.T
    return root


def main_axes(moment: Float64[np.ndarray, "f f"], count: int) -> Float64[np.ndarray, "f d"]:
    """Return the axes of the largest moments, the largest first."""
    _, vectors = np.linalg.eigh(moment)
    axes: np.ndarray = vectors[:, ::-1][:, :count]
    return axes


def check_dimension(dimension: int | None, features: int) -> None:
    """Check that features can be projected to a dimension.

    Raises:
        DataError: they are fewer.
    """
    if dimension is not None and dimension > features:
        raise DataError(f"{features} features cannot give embeddings of {dimension} numbers. Use at most {features}.")


def _whitening(
    features: np.ndarray, labels: np.ndarray, shrinkage: float, copies: np.ndarray | None
) -> Float64[np.ndarray, "f f"]:
    covariance = within_class_covariance(features, labels)
    return inverse_square_root(covariance if copies is None else (covariance + copies) / 2, shrinkage)


def _second_moment(x: np.ndarray) -> Float64[np.ndarray, "d d"]:
    moment: np.ndarray = x.T.astype(np.float64) @ x / len(x)
    return moment
