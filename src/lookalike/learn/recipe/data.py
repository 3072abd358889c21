"""What is learned from, and how a picture becomes the network's input."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lookalike.images import Fit
from lookalike.learn.recipe.part import Part, Positive


class FolderSource(Part):
    """A folder per class. With ``sketches``, a second such folder whose files are sketches of the first one's.

    A sketch belongs to the photo whose stem its own stem equals, or begins with when a ``-`` follows (``cup-7.jpg`` is
    drawn by ``cup-7.png`` and ``cup-7-2.png``). Sketches of photos that are not there count for their class alone.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    sketches: Path | None = None


class ToyShopSource(Part):
    """Items of the generated toy shop; ``sketches`` drawn variants of each."""

    kind: Literal["toyshop"]
    count: int = Field(gt=0)
    seed: int = Field(ge=0)
    sketches: int = Field(0, ge=0)


Source = Annotated[FolderSource | ToyShopSource, Field(discriminator="kind")]


class Data(Part):
    """What is learned from, and how a picture becomes the network's input."""

    sources: tuple[Source, ...] = Field(min_length=1)
    validation: float = Field(0.1, gt=0, lt=1, description="share of each class's items held out of training")
    size: int = Field(ge=8, le=4096, description="pixels a side")
    fit: Fit = "squash"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)
