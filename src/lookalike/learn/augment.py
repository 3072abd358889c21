"""Augmentation: random changes to training images, on tensors, by kornia."""

import math

import kornia.augmentation as kornia
import numpy as np
import torch
from torch import Tensor, nn

from lookalike.datasets import LabelledImages
from lookalike.learn import pixels
from lookalike.learn.recipe import Augment
from lookalike.shapes import Float

# Images that `views` changes at once; it keeps all results in memory.
_CHUNK = 500


def pipeline(config: Augment, size: int) -> nn.Sequential:
    """Build the augmentation of a recipe, the cheapest changes first: from and to images ``(n, 3, size, size)`` in 0…1."""
    steps = nn.Sequential()
    if config.flip:
        steps.append(kornia.RandomHorizontalFlip())
    if config.crop:
        steps.append(kornia.RandomResizedCrop((size, size), scale=(1 - config.crop, 1.0), ratio=(4 / 5, 5 / 4)))
    if config.rotate or config.zoom or config.shear:
        zoom = (1 - config.zoom, 1 + config.zoom)
        shear = (-config.shear, config.shear) * 2 if config.shear else None
        steps.append(kornia.RandomAffine(config.rotate, scale=zoom, shear=shear, padding_mode="border", p=0.5))
    if config.shift:
        # Crop by slicing: kornia's default resamples each image, which takes ten times as long.
        steps.append(kornia.RandomCrop((size, size), config.shift, padding_mode="reflect", cropping_mode="slice"))
    if config.colour:
        jitter = config.colour
        steps.append(kornia.ColorJiggle(jitter, jitter, jitter, jitter / 10))
    if config.erase:
        steps.append(kornia.RandomErasing(scale=(0.02, 0.2), value=0.5, p=config.erase))
    if config.blur:
        steps.append(kornia.RandomGaussianBlur(_kernel(config.blur), (0.1, config.blur), p=0.5))
    if config.jpeg:
        # Kornia compresses all images and then selects a share of them, which costs as much as a small network.
        steps.append(_Sometimes(kornia.RandomJPEG((30.0, 95.0), p=1.0), config.jpeg))
    return steps


def views(samples: LabelledImages, config: Augment, count: int, seed: int) -> LabelledImages:
    """Make randomly changed copies of each image: of the same class, each an item of its own.

    Args:
        samples: the images.
        config: the changes.
        count: copies of each image.
        seed: of all changes; torch's own generator does not advance.
    """
    change = pipeline(config, samples.images.shape[1])
    rows = np.repeat(np.arange(len(samples)), count)
    images = np.empty((len(rows), *samples.images.shape[1:]), np.uint8)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            x = change(pixels.to_tensor(samples.images[rows[part]])).clamp(0, 1)
            images[part] = pixels.to_images(x)
    return LabelledImages(images, samples.labels[rows], np.arange(len(rows)), samples.sketch[rows], samples.classes)


class _Sometimes(nn.Module):
    """Applies a change to a random share of the images."""

    def __init__(self, change: nn.Module, share: float) -> None:
        super().__init__()
        self._change, self._share = change, share

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
        rows = torch.nonzero(torch.rand(len(x)) < self._share).flatten().to(x.device)
        return x.index_copy(0, rows, self._change(x[rows])) if len(rows) else x


def _kernel(sigma: float) -> tuple[int, int]:
    """Return the kernel's sides: odd, and three times the largest sigma in each direction."""
    side = 2 * math.ceil(3 * sigma) + 1
    return side, side
