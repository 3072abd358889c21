"""ResNets, with and without squeeze and excitation.

Parameters have torchvision's names, and timm's for squeeze and excitation, so that public weights load.
"""

from typing import ClassVar

import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from lookalike.shapes import Float

# Channels per channel of the squeezed layer, as in timm's seresnet50 and Hu et al. 2018.
_REDUCTION = 16


class SqueezeExcite(nn.Module):
    """Channel attention: a factor for each channel, computed from the means of all channels (Hu et al. 2018, eq. 2-4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // _REDUCTION, channels, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Multiply each map by a factor in 0…1."""
        squeezed = x.mean(dim=(2, 3), keepdim=True)
        excited: Tensor = self.fc2(F.relu(self.fc1(squeezed)))
        return x * excited.sigmoid()


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, fig. 5 left)."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, stride: int, *, squeeze: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.se = SqueezeExcite(width) if squeeze else nn.Identity()
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute maps: (n, inputs, s, s) → (n, width, s / stride, s / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.se(self.bn2(self.conv2(out)))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut (He et al. 2016, fig. 5 right; the stride on the 3×3, as torchvision)."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int, *, squeeze: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.se = SqueezeExcite(width * self.expansion) if squeeze else nn.Identity()
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute maps: (n, inputs, s, s) → (n, 4 · width, s / stride, s / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


# The block, its depths, and whether it has squeeze and excitation.
KINDS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int], bool]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), False),
    "resnet34": (BasicBlock, (3, 4, 6, 3), False),
    "resnet50": (Bottleneck, (3, 4, 6, 3), False),
    "seresnet50": (Bottleneck, (3, 4, 6, 3), True),
}


class ResNet(nn.Module):
    """ResNet without its classifier (He et al. 2016; with squeeze and excitation, Hu et al. 2018).

    ``kind`` is ``resnet18``, ``resnet34``, ``resnet50`` or ``seresnet50``. ``small`` is the stem for 32×32 images: one 3×3
    convolution, no pooling.
    """

    def __init__(self, kind: str, *, small: bool) -> None:
        super().__init__()
        block, depths, squeeze = KINDS[kind]
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        self.conv1 = nn.Conv2d(3, 64, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        inputs = 64
        for i, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=1):
            layer = nn.Sequential()
            for j in range(depth):
                layer.append(block(inputs, width, stride=2 if i > 1 and j == 0 else 1, squeeze=squeeze))
                inputs = width * block.expansion
            self.add_module(f"layer{i}", layer)
        self.outputs = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Compute pooled features of images."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))
