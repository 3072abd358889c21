"""Soft labels: ImageNet's classes of the photos that were drawn, and a classifier of embeddings that gives such scores."""

import numpy as np
import torch

from lookalike.learn import data, pixels
from lookalike.learn.embedded import embed_once
from lookalike.learn.losses import SoftLabelsTerm
from lookalike.learn.losses.targets import SoftLabels
from lookalike.learn.networks import Siamese, weights
from lookalike.learn.recipe import IMAGENET, EfficientNetLiteNetwork, imagenet_input
from lookalike.learn.stage_run import StageRun
from lookalike.shapes import Bool, Float32, Int64, UInt8

# Ridge penalty, as a share of the vectors' mean variance.
_PENALTY = 0.1


def make(run: StageRun) -> SoftLabels | None:
    """Make the soft labels of a stage; None if no term of its loss needs them.

    Raises:
        LookalikeError: the images cannot be read, or the weights cannot be used.
    """
    term = next((term for term in run.stage.losses if isinstance(term, SoftLabelsTerm)), None)
    if term is None or run.photos is None:
        return None
    training = run.data.training
    photos = np.flatnonzero(~training.sketch)
    of_photos = _classify(run, term)
    scores, known = of_items(of_photos, training.items[photos], training.items)
    weight, bias = fit_classifier(run.photos.training.numpy()[photos], of_photos)
    tensors = (torch.from_numpy(array).to(run.fabric.device) for array in (scores, known, weight, bias))
    return SoftLabels(*tensors)


def _classify(run: StageRun, term: SoftLabelsTerm) -> Float32[np.ndarray, "p 1000"]:
    """Return the teacher's scores of the training photos, before the softmax."""
    network, device = EfficientNetLiteNetwork(backbone=term.teacher, weights=IMAGENET), run.fabric.device
    expected = imagenet_input(network.model_dump())
    images, _ = data.read(run.recipe, run.index, expected["size"], run.progress)
    config = run.stage.data.model_copy(update=expected)
    teacher = Siamese(network, ("photo",), features=True).eval().to(device)

    @torch.inference_mode()
    def embed(chunk: UInt8[np.ndarray, "b s s 3"]) -> Float32[np.ndarray, "b f"]:
        features: np.ndarray = teacher(pixels.normalise(pixels.to_tensor(chunk, device), config)).cpu().numpy()
        return features

    features = embed_once(images.images[~images.sketch], embed, f"{term.teacher} {IMAGENET}", run.progress)
    weight, bias = weights.classifier(network)
    scores: Float32[np.ndarray, "p 1000"] = features @ weight.T + bias
    return scores


def of_items(
    of_photos: Float32[np.ndarray, "p c"], photos: Int64[np.ndarray, " p"], items: Int64[np.ndarray, " n"]
) -> tuple[Float32[np.ndarray, "n c"], Bool[np.ndarray, " n"]]:
    """Give each image the scores of its item's photo.

    Args:
        of_photos: the scores of photos.
        photos: the item of each photo.
        items: the item of each image.

    Returns:
        The scores of each image, and whether its item has a photo; the scores are 0 otherwise.
    """
    numbers, first = np.unique(photos, return_index=True)
    place = np.searchsorted(numbers, items).clip(max=len(numbers) - 1)
    known = numbers[place] == items
    return np.where(known[:, None], of_photos[first[place]], np.float32(0)), known


def fit_classifier(
    vectors: Float32[np.ndarray, "p d"], scores: Float32[np.ndarray, "p c"]
) -> tuple[Float32[np.ndarray, "c d"], Float32[np.ndarray, " c"]]:
    """Fit a ridge regression of photo vectors to scores.

    The vectors are centred and of length 1, as the sketches' are from the start (see `photo_branch.fit_projection`).

    Returns:
        The weight and the bias: the scores of a vector are ``weight @ vector + bias``.
    """
    x = vectors.astype(np.float64) - vectors.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
    centre, mean = x.mean(axis=0), scores.mean(axis=0, dtype=np.float64)
    gram = (x - centre).T @ (x - centre)
    penalty = _PENALTY * np.trace(gram) / len(gram) + 1e-12
    weight = np.linalg.solve(gram + penalty * np.eye(len(gram)), (x - centre).T @ (scores - mean)).T
    return weight.astype(np.float32), (mean - weight @ centre).astype(np.float32)
