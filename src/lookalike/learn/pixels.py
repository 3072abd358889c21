"""From pictures to what a network takes."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lookalike.learn import recipe


def tensor(pictures: UInt8[np.ndarray, "n s s 3"], device: torch.device | None = None) -> Float[Tensor, "n 3 s s"]:
    """Values in 0…1."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float().div_(255)


def normalise(x: Float[Tensor, "n 3 s s"], config: recipe.Data) -> Float[Tensor, "n 3 s s"]:
    """By the recipe's mean and standard deviation."""
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (config.mean, config.std))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)
