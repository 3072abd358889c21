"""A fixed photo branch: the vectors of an existing encoder, towards which a sketch branch is trained.

The photos are embedded once, before training, so a step costs what its sketches cost, and collections of that encoder's photos stay
valid (relational distillation from a stronger photo branch, with the photo branch itself as the relation).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lookalike.datasets import LabelledImages
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import MismatchError
from lookalike.folder import load_encoder
from lookalike.learn import data, shaded_branch, validating
from lookalike.learn.data import StageData
from lookalike.learn.embedded import embed_once
from lookalike.learn.networks import Siamese
from lookalike.learn.recipe import Recipe
from lookalike.progress import Progress
from lookalike.shapes import Float32

# The share of its class's mean in the vector that a sketch is fitted to; the rest is the vector of its own photo.
_CLASS_SHARE = 0.7

# Ridge penalty, as a share of the features' mean variance.
_PENALTY = 1.0


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
        MismatchError: the recipe's network does not give vectors of its kind, or takes another normalisation; or the encoder's
            network takes no shaded drawings.
    """
    if recipe.photos is None:
        return None
    encoder = load_encoder(recipe.photos)
    card, network = encoder.card, recipe.network
    if card.output != "float" or card.network_output is not None or card.input.crops > 1:
        raise MismatchError(
            f"photos: “{card.name}” gives bits, several outputs or the mean of crops; name an encoder of one vector of floats."
        )
    if recipe.head or network.neck or not network.unit:
        raise MismatchError(
            "photos: the network's last layer is fitted to vectors of length 1; set network.neck: false, and leave out network.unit and"
            " head."
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
    if recipe.shaded:
        shaded_branch.check(encoder, recipe.shaded)
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
    photos = ~samples.sketch
    if photos.any():
        embedder = Embedder.of(encoder)
        out[photos] = embed_once(
            samples.images[photos],
            lambda chunk: embedder.embed_array(chunk, "photo"),
            encoder.photo_fingerprint,
            progress,
        )
    return out


@torch.inference_mode()
def fit_projection(network: Siamese, recipe: Recipe, index: int, images: StageData, photos: PhotoBranch) -> None:
    """Fit the last layer in closed form, so that training starts near the photos (Kumar et al. 2022, LP-FT).

    A ridge regression maps the features of a sketch to a mix of its photo's vector and the mean of its class, and those of a
    photo, seen by the sketch branch, to its own vector: this keeps what the public weights know of things that nobody drew. The
    mean of all photos is left out of the vectors: it is the same for all sketches, and would draw them to the same photos.
    """
    training, branch = images.training, network.branch("sketch")
    head, branch.head = branch.head, nn.Sequential()
    features = validating.embed(network, training, recipe.stages[index]).astype(np.float64)
    branch.head = head
    vectors = photos.training.numpy().astype(np.float64)
    targets = _targets(training, vectors - vectors[~training.sketch].mean(axis=0))
    centre = features[training.sketch].mean(axis=0)
    features[training.sketch] -= centre
    features[~training.sketch] -= features[~training.sketch].mean(axis=0)
    gram = features.T @ features
    penalty = _PENALTY * np.trace(gram) / len(gram)
    weight = np.linalg.solve(gram + penalty * np.eye(len(gram)), features.T @ targets)
    projection = head[0]
    assert isinstance(projection, nn.Linear)  # noqa: S101 -- the head of a network begins with it
    projection.weight.copy_(torch.from_numpy(weight.T))
    projection.bias.copy_(torch.from_numpy(-centre @ weight))


def _targets(training: LabelledImages, vectors: np.ndarray) -> np.ndarray:
    """Return a photo's own vector; for a sketch a mix of its photo's and the mean of its class, or that mean alone."""
    out = vectors.copy()
    photos = np.flatnonzero(~training.sketch)
    own = dict(zip(training.items[photos].tolist(), photos.tolist(), strict=True))
    means = {
        label: vectors[photos[training.labels[photos] == label]].mean(axis=0)
        for label in np.unique(training.labels).tolist()
    }
    for row in np.flatnonzero(training.sketch).tolist():
        mean, photo = means[int(training.labels[row])], own.get(int(training.items[row]))
        out[row] = mean if photo is None else _CLASS_SHARE * mean + (1 - _CLASS_SHARE) * vectors[photo]
    return out
