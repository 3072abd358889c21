"""Networks that a recipe can ask for."""

from typing import Annotated, Literal

from pydantic import Field

from lookalike.learn.recipe.part import Count, Part


class _Network(Part):
    dimension: int = Field(128, gt=0)
    mirror: bool = Field(
        False, description="embed a picture as the mean of itself and its mirror image: better, at twice the work"
    )


class FastNetwork(_Network):
    """The small network for two CPU cores; see ``networks.FastNet``."""

    backbone: Literal["fast"]
    widths: tuple[Count, Count, Count] = (64, 256, 256)
    patch: int = Field(2, gt=0, description="pixels a side that the first, whitening layer sees")
    stride: int = Field(1, gt=0)


class ResNetwork(_Network):
    """ResNet with torchvision's parameter names (He et al. 2016)."""

    backbone: Literal["resnet18", "resnet34", "resnet50"]
    stem: Literal["imagenet", "small"] = "imagenet"


Network = Annotated[FastNetwork | ResNetwork, Field(discriminator="backbone")]
