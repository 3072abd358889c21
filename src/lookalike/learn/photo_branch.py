"""A fixed photo branch: the vectors of an existing encoder, which a sketch branch learns to meet.

The photos are embedded once, before training, so a step costs what its sketches cost, and collections of that encoder's photos stay
valid (relational distillation from a stronger photo branch, with the photo branch itself as the relation).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lookalike import encoders
from lookalike.datasets import LabelledImages
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import MismatchError
from lookalike.learn import data, validating
from lookalike.learn.data import StageData
from lookalike.learn.networks import Siamese
from lookalike.learn.recipe import Recipe
from lookalike.progress import Progress
from lookalike.shapes import Float32

# The share of its class's mean in the vector that a sketch is fitted to; the rest is the vector of its own photo.
_CLASS_SHARE = 0.7

# Ridge penalty, as a share of the features' mean variance.
_PENALTY = 0.5

_CHUNK = 256


@dataclass(frozen=True)
class PhotoBranch:
    """The fixed photo branch of a run.

    Attributes:
        encoder: embeds the photos.
        training: the vector of each training photo, float32 (n, d); rows of sketches are 0.
        validation: the same for the held-out images.
        held_out: the held-out images, fitted to the encoder's input.
    """

    encoder: Encoder
    training: Tensor
    validation: Float32[np.ndarray, "m d"]
    held_out: LabelledImages


def load(recipe: Recipe) -> Encoder | None:
    """Load the encoder that a recipe names as its photo branch; None if it names none.

    Raises:
        NotFoundError, EncoderError: the encoder does not exist or cannot be read.
        MismatchError: the recipe's network does not give vectors of its kind, or takes another normalisation.
    """
    if recipe.photos is None:
        return None
    encoder = encoders.load(recipe.photos)
    card, network = encoder.card, recipe.network
    if card.output != "float" or card.network_output is not None or card.input.crops > 1:
        raise MismatchError(
            f"photos: “{card.name}” gives bits, several outputs or the mean of crops; name an encoder of one vector of floats."
        )
    if network.dimension != card.dimension:
        raise MismatchError(
            f"photos: “{card.name}” gives {card.dimension} numbers, not {network.dimension}; "
            f"set network.dimension: {card.dimension}."
        )
    for stage in recipe.stages:
        if not np.allclose((stage.data.mean, stage.data.std), (card.input.mean, card.input.std), atol=1e-6):
            raise MismatchError(
                f"photos: “{card.name}” normalises with data.mean: {list(card.input.mean)} and data.std: "
                f"{list(card.input.std)}; set these."
            )
        if not network.crop_ink and stage.data.size != card.input.size:
            raise MismatchError(
                f"photos: “{card.name}” takes images of {card.input.size} pixels, not of {stage.data.size}; set data.size: "
                f"{card.input.size}, or network.crop_ink."
            )
    return encoder


def make(recipe: Recipe, index: int, encoder: Encoder, images: StageData, progress: Progress) -> PhotoBranch:
    """Embed the photos of a stage.

    Raises:
        DataError: the images cannot be read.
    """
    training, held_out = data.read(recipe, index, encoder.card.input.side, progress)
    held_out = data.trace_held_out(held_out, recipe, index)
    vectors = np.zeros((len(images.training), encoder.card.dimension), np.float32)
    vectors[: len(training)] = _embed(encoder, training, progress)  # pseudo-sketches follow
    return PhotoBranch(encoder, torch.from_numpy(vectors), _embed(encoder, held_out, progress), held_out)


def _embed(encoder: Encoder, samples: LabelledImages, progress: Progress) -> Float32[np.ndarray, "n d"]:
    """Embed the photos among images."""
    out = np.zeros((len(samples), encoder.card.dimension), np.float32)
    photos = np.flatnonzero(~samples.sketch)
    embedder = Embedder.of(encoder)
    for start in range(0, len(photos), _CHUNK):
        rows = photos[start : start + _CHUNK]
        out[rows] = embedder.embed_array(samples.images[rows], "photo")
        progress.advance("photos", min(start + _CHUNK, len(photos)), len(photos))
    return out


@torch.inference_mode()
def fit_projection(network: Siamese, recipe: Recipe, index: int, images: StageData, photos: PhotoBranch) -> None:
    """Fit the last layer in closed form, so that training starts near the photos (Kumar et al. 2022, LP-FT).

    A ridge regression maps a sketch's features to a mix of its photo's vector and the mean of its class. The mean of all
    photos is left out: it is the same for all sketches, and would draw them to the same photos.
    """
    training, stage = images.training, recipe.stages[index]
    sketches = np.flatnonzero(training.sketch)
    head = network.branch("sketch").head
    projection = head[0]
    assert isinstance(projection, nn.Linear)  # noqa: S101 -- the head of a network begins with it
    network.branch("sketch").head = nn.Sequential()
    features = validating.embed(network, training.take(sketches), stage).astype(np.float64)
    network.branch("sketch").head = head
    vectors = photos.training.numpy().astype(np.float64)
    centred = vectors - vectors[~training.sketch].mean(axis=0)
    targets = _targets(training, centred)[sketches]
    mean = features.mean(axis=0)
    x = features - mean
    gram = x.T @ x
    penalty = _PENALTY * np.trace(gram) / len(gram) * np.eye(len(gram))
    weight = np.linalg.solve(gram + penalty, x.T @ targets)
    projection.weight.copy_(torch.from_numpy(weight.T))
    projection.bias.copy_(torch.from_numpy(-mean @ weight))


def _targets(training: LabelledImages, vectors: np.ndarray) -> np.ndarray:
    """Return for each image the mix of its item's photo and the mean photo of its class; a sketch without photo has the mean."""
    out = np.zeros_like(vectors)
    photo = ~training.sketch
    items, first = np.unique(training.items[photo], return_index=True)
    own = dict(zip(items.tolist(), np.flatnonzero(photo)[first].tolist(), strict=True))
    for label in np.unique(training.labels):
        rows = np.flatnonzero(training.labels == label)
        mean = vectors[rows[photo[rows]]].mean(axis=0)
        for row in rows.tolist():
            place = own.get(int(training.items[row]))
            out[row] = mean if place is None else _CLASS_SHARE * mean + (1 - _CLASS_SHARE) * vectors[place]
    return out
