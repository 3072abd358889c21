"""Networks that a recipe can ask for."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lookalike.learn.recipe.part import Count, Part

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")


def _safe(where: str) -> str:
    if where.lower().endswith(_PICKLES):
        msg = (
            f"{where} is a pickle, which can run any code when it is read; convert it where you trust it: "
            "safetensors.torch.save_file(torch.load(PICKLE, weights_only=True), 'weights.safetensors')"
        )
        raise ValueError(msg)
    if not where.startswith("hf://") and not where.endswith(".safetensors"):
        msg = f"{where} should be a .safetensors file, or hf://org/repo[@revision][/file]"
        raise ValueError(msg)
    return where


Weights = Annotated[str, AfterValidator(_safe)]


class _Network(Part):
    dimension: Count = 128
    unit: bool = Field(True, description="embeddings of length 1")
    neck: bool = Field(
        True, description="batch normalisation behind the projection, which then has no bias: BNNeck, Luo et al. 2019"
    )
    mirror: bool = Field(
        False, description="embed a picture as the mean of itself and its mirror image: better, at twice the work"
    )

    @property
    def smallest(self) -> int:
        """Pixels a side of the smallest picture that it takes."""
        return 1

    @property
    def largest(self) -> int | None:
        """Pixels a side of the largest picture that it takes; None where there is no limit."""
        return None


class FastNetwork(_Network):
    """The small network for two CPU cores; see ``networks.FastNet``."""

    backbone: Literal["fast"]
    widths: tuple[Count, Count, Count] = (64, 256, 256)
    patch: int = Field(2, gt=0, description="pixels a side that the first, whitening layer sees")
    stride: int = Field(1, gt=0)
    grid: int = Field(
        1, gt=0, description="cells a side that the last map is pooled to; above 1, an embedding knows where things are"
    )

    @property
    def smallest(self) -> int:
        """What leaves a map of 8×8 for each cell behind the first layer, to be halved three times."""
        return self.patch + (8 * self.grid - 1) * self.stride


class ResNetwork(_Network):
    """ResNet with torchvision's parameter names (He et al. 2016), SE-ResNet with timm's (Hu et al. 2018)."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "seresnet50"]
    stem: Literal["imagenet", "small"] = "imagenet"
    weights: Weights | None = None


class VGGNetwork(_Network):
    """VGG-16 with torchvision's parameter names (Simonyan and Zisserman 2015)."""

    backbone: Literal["vgg16"]
    weights: Weights | None = None

    @property
    def smallest(self) -> int:
        """Its map is halved five times."""
        return 32


class CNNetwork(_Network):
    """The CNN of reference R2, whose embedding is a plain linear layer; see ``networks.plain.SmallCNN``."""

    backbone: Literal["cnn"]
    dimension: Count = 64
    unit: bool = False
    neck: bool = False
    channels: Literal[1, 3] = 1

    @property
    def smallest(self) -> int:
        """Its map is halved twice."""
        return 4


class KochNetwork(_Network):
    """The network of Koch et al. 2015, a sigmoid behind its linear layer; see ``networks.plain.KochNet``."""

    backbone: Literal["koch"]
    dimension: Count = 4096
    unit: bool = False
    neck: bool = False
    channels: Literal[1, 3] = 1

    @property
    def smallest(self) -> int:
        """The paper's."""
        return 105

    @property
    def largest(self) -> int:
        """The last whose maps are, rounded down as pooling does, the paper's."""
        return 112


Network = Annotated[
    FastNetwork | ResNetwork | VGGNetwork | CNNetwork | KochNetwork,
    Field(discriminator="backbone"),
]
