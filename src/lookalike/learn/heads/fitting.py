"""Fit heads: by settings to embeddings, and the head of a recipe to its training images."""

from dataclasses import replace
from typing import TypeGuard

import numpy as np

from lookalike.datasets import LabelledImages
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import DataError
from lookalike.evaluation.embedded import embed_images
from lookalike.learn import augment
from lookalike.learn.heads import whitening
from lookalike.learn.heads.head import Features, Head, unit_vectors
from lookalike.learn.heads.lda import fit_lda
from lookalike.learn.heads.linear import fit_linear
from lookalike.learn.heads.whitening import check_dimension, fit_whitening, main_axes
from lookalike.learn.networks import weights
from lookalike.learn.recipe import NetworkPrototypes, PublicNetwork, Recipe
from lookalike.learn.recipe.head_recipe import Discriminant, EncoderWhitening, HeadSettings, LinearMetric, Unchanged
from lookalike.shapes import Float32, Float64, Int64

# Images whose copies are embedded, twice each.
_COPIED = 1000


def fit(features: Features, labels: Int64[np.ndarray, " n"], settings: HeadSettings, seed: int) -> Head | None:
    """Fit a head; none if embeddings stay as they are.

    Raises:
        DataError: no class has two images, they do not suffice for the dimension of the settings, or the settings need features
            that the network does not have.
    """
    x = features.embeddings
    if is_beside(settings):
        return _fit_beside(features, labels, settings, seed)
    match settings:
        case Unchanged():
            return None
        case EncoderWhitening(shrinkage=shrinkage, dimension=dimension):
            return fit_whitening(x, labels, shrinkage=shrinkage, dimension=dimension)
        case Discriminant(shrinkage=shrinkage, dimension=dimension):
            return fit_lda(x, labels, shrinkage=shrinkage, dimension=dimension)
        case LinearMetric():
            return fit_linear(x, labels, settings, seed)


def _fit_beside(
    features: Features, labels: Int64[np.ndarray, " n"], settings: EncoderWhitening | LinearMetric, seed: int
) -> Head:
    """Fit a projection of the inner features, and the main axes of the embeddings with it.

    Raises:
        DataError: as `fit`.
    """
    if features.inner is None:
        raise DataError(
            "The network has no last layers after features, so no head can be beside them. Leave out head.beside."
        )
    before = features.embeddings.shape[1]
    alone = settings.model_copy(update={"beside": False, "dimension": min(before, features.inner.shape[1])})
    head = fit(Features(features.inner), labels, alone, seed)
    assert head is not None  # noqa: S101 -- only `Unchanged` gives none
    both = np.concatenate([unit_vectors(features.embeddings), head.apply(features.inner)], axis=1).astype(np.float64)
    dimension = settings.dimension or before
    check_dimension(dimension, both.shape[1])
    return replace(head, axes=main_axes(both.T @ both / len(both), dimension).astype(np.float32))


def is_beside(settings: HeadSettings) -> TypeGuard[EncoderWhitening | LinearMetric]:
    """Return whether a head keeps the embedding beside a projection of the features before the last layers."""
    return isinstance(settings, EncoderWhitening | LinearMetric) and settings.beside


def fit_of_run(recipe: Recipe, encoder: Encoder, training: LabelledImages) -> Head:
    """Fit the head of a recipe that trains a network.

    Args:
        recipe: has a head.
        encoder: gives the features, as they will be exported.
        training: the images of the last stage; sketches are left out.

    Raises:
        DataError: no class has two images, or the features are fewer than the dimensions.
        LookalikeError: the classifier of the public weights cannot be read.
    """
    settings, dimension = recipe.head, recipe.network.dimension
    assert settings is not None  # noqa: S101 -- see the argument
    photos = training.take(~training.sketch)
    features = _embed(encoder, photos)
    copies = _copies(recipe, encoder, photos, features) if settings.copies else None
    if isinstance(settings, NetworkPrototypes):
        assert isinstance(recipe.network, PublicNetwork)  # noqa: S101 -- the recipe is checked
        classifier = weights.classifier(recipe.network)
        return whitening.fit_prototypes(features, photos.labels, classifier, settings, dimension, copies)
    return fit_whitening(features, photos.labels, shrinkage=settings.shrinkage, dimension=dimension, copies=copies)


def _copies(
    recipe: Recipe, encoder: Encoder, photos: LabelledImages, features: Float32[np.ndarray, "n f"]
) -> Float64[np.ndarray, "f f"]:
    """Compute the covariance of copies that are changed as in the last stage."""
    rows = np.unique(np.linspace(0, len(photos) - 1, min(len(photos), _COPIED)).astype(int))
    changed = augment.views(photos.take(rows), recipe.stages[-1].augment, 2, recipe.seed)
    return whitening.copy_covariance(features[np.repeat(rows, 2)], _embed(encoder, changed))


def _embed(encoder: Encoder, samples: LabelledImages) -> Float32[np.ndarray, "n f"]:
    return embed_images(Embedder.of(encoder), samples).embeddings
