"""Fit the head of a recipe to the features of its training images."""

import numpy as np

from lookalike.datasets import LabelledImages
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.evaluation.embedded import embed_images
from lookalike.learn import augment
from lookalike.learn.heads import whitening
from lookalike.learn.heads.head import Head
from lookalike.learn.networks import weights
from lookalike.learn.recipe import PrototypesHead, PublicNetwork, Recipe
from lookalike.shapes import Float32, Float64

# Images whose copies are embedded, twice each.
_COPIED = 1000


def fit(recipe: Recipe, encoder: Encoder, training: LabelledImages) -> Head:
    """Fit the head of a recipe.

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
    if isinstance(settings, PrototypesHead):
        assert isinstance(recipe.network, PublicNetwork)  # noqa: S101 -- the recipe is checked
        classifier = weights.classifier(recipe.network)
        return whitening.fit_prototypes(features, photos.labels, classifier, settings, dimension, copies)
    return whitening.fit_whitening(
        features, photos.labels, shrinkage=settings.shrinkage, dimension=dimension, copies=copies
    )


def _copies(
    recipe: Recipe, encoder: Encoder, photos: LabelledImages, features: Float32[np.ndarray, "n f"]
) -> Float64[np.ndarray, "f f"]:
    """Compute the covariance of copies that are changed as in the last stage."""
    rows = np.unique(np.linspace(0, len(photos) - 1, min(len(photos), _COPIED)).astype(int))
    changed = augment.views(photos.take(rows), recipe.stages[-1].augment, 2, recipe.seed)
    return whitening.copy_covariance(features[np.repeat(rows, 2)], _embed(encoder, changed))


def _embed(encoder: Encoder, samples: LabelledImages) -> Float32[np.ndarray, "n f"]:
    return embed_images(Embedder.of(encoder), samples).embeddings
