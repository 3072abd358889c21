"""Random changes to training pictures, on tensors, by kornia."""

import kornia.augmentation as kornia
from torch import nn

from lookalike.learn.recipe import Augment


def pipeline(config: Augment, size: int) -> nn.Sequential:
    """What a recipe asks for, in the order of cost: pictures ``(n, 3, size, size)`` in 0…1 in and out."""
    steps = nn.Sequential()
    if config.flip:
        steps.append(kornia.RandomHorizontalFlip())
    if config.rotate or config.zoom or config.shear:
        zoom = (1 - config.zoom, 1 + config.zoom)
        shear = (-config.shear, config.shear) * 2 if config.shear else None
        steps.append(kornia.RandomAffine(config.rotate, scale=zoom, shear=shear, padding_mode="border", p=0.5))
    if config.shift:
        # Cut out by slicing: kornia's default resamples each picture, which costs ten times as much.
        steps.append(kornia.RandomCrop((size, size), config.shift, padding_mode="reflect", cropping_mode="slice"))
    if config.colour:
        jitter = config.colour
        steps.append(kornia.ColorJiggle(jitter, jitter, jitter, jitter / 10))
    if config.erase:
        steps.append(kornia.RandomErasing(scale=(0.02, 0.2), value=0.5, p=config.erase))
    return steps
