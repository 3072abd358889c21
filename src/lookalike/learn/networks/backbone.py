"""The backbone that a recipe chooses."""

import torch

from lookalike.learn import recipe
from lookalike.learn.networks import weights
from lookalike.learn.networks.convnext import ConvNeXt
from lookalike.learn.networks.efficientnet_lite import EfficientNetLite
from lookalike.learn.networks.fast import FastNet
from lookalike.learn.networks.plain import KochNet, SmallCNN
from lookalike.learn.networks.resnet import ResNet
from lookalike.learn.networks.vgg import VGG16

# Each maps images (n, 3, s, s) to features (n, outputs).
Backbone = ConvNeXt | EfficientNetLite | FastNet | KochNet | ResNet | SmallCNN | VGG16


def backbone(config: recipe.Network) -> Backbone:
    """Build the backbone that a recipe chooses, with random weights or with the public weights that it names.

    Raises:
        NotFoundError: the weights do not exist.
        MissingExtraError: they are on a hub, whose client is not installed, or in a package that is not installed.
        RecipeError: they are not a safetensors file.
        MismatchError: they belong to another network, or are not the ImageNet weights that this version knows.
    """
    body = _build(config)
    if isinstance(config, recipe.PublicNetwork) and config.weights is not None:
        weights.load(body, config)
    return body


def check_weights(config: recipe.Network) -> None:
    """Check that the public weights that a recipe names exist and fit.

    Raises:
        LookalikeError: as for `backbone`.
    """
    if isinstance(config, recipe.PublicNetwork) and config.weights is not None:
        with torch.device("meta"):  # without memory, since only names and shapes are needed
            body = _build(config)
        weights.read(body, config)


def _build(config: recipe.Network) -> Backbone:
    body: Backbone
    match config:
        case recipe.FastNetwork():
            body = FastNet(config.widths, config.patch, config.stride, config.grid)
        case recipe.ResNetwork():
            body = ResNet(config.backbone, small=config.stem == "small")
        case recipe.VGGNetwork():
            body = VGG16()
        case recipe.ConvNeXtNetwork():
            body = ConvNeXt(config.backbone)
        case recipe.EfficientNetLiteNetwork():
            body = EfficientNetLite(config.backbone, config.blocks, config.grid)
        case recipe.CNNetwork():
            body = SmallCNN(config.channels)
        case recipe.KochNetwork():
            body = KochNet(config.channels)
    return body
