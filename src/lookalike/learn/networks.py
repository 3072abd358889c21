"""Backbones and the siamese network made of them.

ResNets carry torchvision's parameter names, so that public weights load. A backbone maps images
``(n, 3, s, s)`` to features ``(n, features)``, and names in ``late`` the modules that branches share.
"""

from copy import deepcopy
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

from lookalike.encoders import card
from lookalike.learn import recipe


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, fig. 5 left)."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, s, s) → (n, width, s / stride, s / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut (He et al. 2016, fig. 5 right; the stride on the 3×3, as torchvision)."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, s, s) → (n, 4 · width, s / stride, s / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """ResNet without its classifier (He et al. 2016).

    ``small`` is the stem for 32×32 pictures: one 3×3 convolution, no pooling.
    """

    late: ClassVar[tuple[str, ...]] = ("layer3", "layer4")

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: tuple[int, int, int, int], *, small: bool) -> None:
        super().__init__()
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        self.conv1 = nn.Conv2d(3, 64, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        inputs = 64
        for i, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=1):
            layer = nn.Sequential()
            for j in range(depth):
                layer.append(block(inputs, width, stride=2 if i > 1 and j == 0 else 1))
                inputs = width * block.expansion
            self.add_module(f"layer{i}", layer)
        self.features = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Images → pooled features."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


class _FastStage(nn.Module):
    """A convolution that halves the map, then two with a shortcut."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        # As identity filters the fresh convolutions pass on what they get, and the first epochs learn faster.
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.dirac_(conv.weight.data[:inputs] if conv is self.conv1 else conv.weight.data)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn1(F.max_pool2d(self.conv1(x), 2)))
        out = F.silu(self.bn2(self.conv2(x)))
        return F.silu(x + self.bn3(self.conv3(out)))


class FastNet(nn.Module):
    """A small network that two CPU cores train in minutes.

    A frozen first layer whitens patches of the training pictures; three stages follow, each halving the map; the
    pooled maximum is the feature. The recipe of K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"
    (arXiv:2404.00498), inspired whitening, identity filters and pooling inside the stage.
    """

    late: ClassVar[tuple[str, ...]] = ("stage2", "stage3")

    def __init__(self, widths: tuple[int, int, int], patch: int, stride: int) -> None:
        super().__init__()
        # An eigenvector and its opposite for each leading direction, so that the activation loses no sign.
        self.whiten = nn.Conv2d(3, 2 * min(3 * patch * patch, 16), patch, stride)
        self.whiten.requires_grad_(requires_grad=False)
        self.stage1 = _FastStage(self.whiten.out_channels, widths[0])
        self.stage2 = _FastStage(widths[0], widths[1])
        self.stage3 = _FastStage(widths[1], widths[2])
        self.features = widths[2]

    def fit_whitening(self, x: Float[Tensor, "n 3 s s"]) -> None:
        """Set the first layer from the patches of some training pictures, already normalised.

        Each filter is an eigenvector of the patches' covariance over the root of its eigenvalue (PCA whitening).
        """
        patch = self.whiten.kernel_size[0]
        step = max(1, x.shape[-1] // 16)
        patches = F.unfold(x, patch, stride=step).transpose(1, 2).reshape(-1, 3 * patch * patch)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        filters = (vectors / torch.sqrt(values + 1e-2)).T.flip(0)[: self.whiten.out_channels // 2]
        filters = filters.reshape(-1, 3, patch, patch)
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([filters, -filters]))
            self.whiten.bias.zero_()  # type: ignore[union-attr]  # this layer was made with a bias

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n f"]:
        """Images → pooled features."""
        x = F.silu(self.whiten(x))
        x = self.stage3(self.stage2(self.stage1(x)))
        return x.amax(dim=(2, 3))


Backbone = FastNet | ResNet

_RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


def backbone(config: recipe.Network) -> Backbone:
    """The backbone that a recipe names, freshly initialised."""
    if isinstance(config, recipe.FastNetwork):
        return FastNet(config.widths, config.patch, config.stride)
    return ResNet(*_RESNETS[config.backbone], small=config.stem == "small")


class Branch(nn.Module):
    """One way in: a backbone, and a head that projects to the unit sphere.

    With ``mirror`` an embedding is, outside training, the direction of the sum over a picture and its mirror image.
    """

    def __init__(self, body: Backbone, head: nn.Sequential, *, mirror: bool) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self._mirror = mirror

    def forward(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        """Normalised images → embeddings of length 1, float32."""
        out = self.head(self.body(x)).float()
        if self._mirror and not self.training:
            out = F.normalize(out) + F.normalize(self.head(self.body(x.flip(3))).float())
        return F.normalize(out)


class Siamese(nn.Module):
    """Branches whose early layers are their own and whose late layers and head are one (R4, after Bui et al. 2018)."""

    def __init__(self, config: recipe.Network, branches: tuple[card.Branch, ...]) -> None:
        super().__init__()
        first = backbone(config)
        # Features are all positive, so they point much the same way; centred ones fill the sphere from the start
        # (as the BNNeck of Luo et al. 2019).
        head = nn.Sequential(nn.Linear(first.features, config.dimension, bias=False), nn.BatchNorm1d(config.dimension))
        self.branches = nn.ModuleDict({branches[0]: Branch(first, head, mirror=config.mirror)})
        for name in branches[1:]:
            body = deepcopy(first)
            for late in body.late:
                body.add_module(late, first.get_submodule(late))
            self.branches[name] = Branch(body, head, mirror=config.mirror)

    def branch(self, name: card.Branch) -> Branch:
        """One of its branches."""
        found = self.branches[name]
        assert isinstance(found, Branch)  # noqa: S101 -- nothing else is put there
        return found

    def forward(self, x: Float[Tensor, "n 3 s s"], sketch: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Embed images, each through the branch that ``sketch`` (bool, (n,)) says; all are photos without it."""
        if sketch is None or "sketch" not in self.branches:
            whole: Tensor = self.branches["photo"](x)
            return whole
        photos: Tensor = self.branches["photo"](x[~sketch])
        drawn: Tensor = self.branches["sketch"](x[sketch])
        out = photos.new_empty(len(x), photos.shape[1])
        out[~sketch], out[sketch] = photos, drawn
        return out
