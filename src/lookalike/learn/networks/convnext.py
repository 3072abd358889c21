"""ConvNeXts with torchvision's parameter names, and the translation of timm's, so that public weights load."""

import re
from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from lookalike.shapes import Float

# Depths and widths of the four stages (Liu et al. 2022, section 3).
KINDS = {
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}

_EPSILON = 1e-6

# A factor for each channel of a block begins so near to 0 that the block begins as its shortcut.
_LAYER_SCALE = 1e-6


class _LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of maps."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class _Permute(nn.Module):
    """Put the axes into another order."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self._axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self._axes)


class ConvNeXtBlock(nn.Module):
    """A 7×7 depthwise convolution, two linear layers over the channels and a shortcut (Liu et al. 2022, fig. 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            _Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=_EPSILON),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            _Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), _LAYER_SCALE))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Compute maps of the same shape."""
        out: Tensor = self.block(x)
        return x + self.layer_scale * out


class ConvNeXt(nn.Module):
    """ConvNeXt without its classifier, and without stochastic depth in training (Liu et al. 2022).

    ``kind`` is ``convnext_tiny``, ``convnext_small`` or ``convnext_base``. The feature is the mean over the last maps, with
    the layer normalisation that stands before the classifier.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        depths, widths = KINDS[kind]
        norm = partial(_LayerNorm2d, eps=_EPSILON)
        self.features = nn.Sequential(nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), norm(widths[0])))
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if i:
                inputs = widths[i - 1]
                self.features.append(nn.Sequential(norm(inputs), nn.Conv2d(inputs, width, 2, 2)))
            self.features.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(depth))))
        self.outputs = widths[-1]
        self.classifier = nn.Sequential(nn.LayerNorm(self.outputs, eps=_EPSILON))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Compute pooled features of images of 32 pixels or more."""
        out: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return out


# timm's names of the parts of a block, and torchvision's.
_PARTS = {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}


def rename_timms(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of timm's ConvNeXt with torchvision's names and shapes; other weights stay as they are."""
    if "stem.0.weight" not in weights:
        return dict(weights)
    renamed = {_rename(name): value for name, value in weights.items()}
    return {k: v.reshape(-1, 1, 1) if k.endswith(".layer_scale") else v for k, v in renamed.items()}


def _rename(name: str) -> str:
    if name.startswith("stem."):
        return f"features.0.{name.removeprefix('stem.')}"
    if name.startswith("head.norm."):
        return f"classifier.0.{name.removeprefix('head.norm.')}"
    if found := re.fullmatch(r"stages\.(\d+)\.downsample\.(.+)", name):
        return f"features.{2 * int(found[1])}.{found[2]}"
    if found := re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(?:(.+)\.(weight|bias)|gamma)", name):
        stage, block, part, kind = found.groups()
        place = f"features.{2 * int(stage) + 1}.{block}"
        return f"{place}.{_PARTS.get(part, part)}.{kind}" if part else f"{place}.layer_scale"
    return name
