"""Convert images to the input of a network, and choose the precision that it computes in."""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from lookalike.encoders.card import Input
from lookalike.learn import recipe
from lookalike.shapes import Float, UInt8


def to_tensor(images: UInt8[np.ndarray, "n s s 3"], device: torch.device | None = None) -> Float[Tensor, "n 3 s s"]:
    """Convert images to a tensor with values in 0…1."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)


def to_images(x: Float[Tensor, "n 3 s s"]) -> UInt8[np.ndarray, "n s s 3"]:
    """Convert a tensor with values in 0…1 to images."""
    return (x * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def normalise(x: Float[Tensor, "n 3 s s"], config: recipe.Data | Input) -> Float[Tensor, "n 3 s s"]:
    """Normalise by the mean and standard deviation of a recipe or of an encoder's card."""
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (config.mean, config.std))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def autocast(precision: recipe.Precision | None, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which a network computes in a precision; None is float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")
