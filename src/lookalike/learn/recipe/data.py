"""What is learned from, and how a picture becomes the network's input."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from lookalike.datasets import FolderSource, Source, SplitBy, ToyShopSource
from lookalike.images import Fit
from lookalike.learn.recipe.part import Part, Positive


class Data(Part):
    """What is learned from, and how a picture becomes the network's input."""

    sources: tuple[Source, ...] = Field(min_length=1)
    classes: Literal["label", "picture"] = Field(
        "label",
        description="what things are told apart by; picture: each is a class of its own, and labels do not count",
    )
    validation: float = Field(
        0.1, gt=0, lt=1, description="share held out of training, of sources without a split for it"
    )
    validation_by: SplitBy = Field("item", description="hold out a share of each class's items, or whole classes")
    quarter_turns: bool = Field(
        False, description="a class turned by 90°, 180° and 270° is another class to train on (Santoro et al. 2016)"
    )
    size: int = Field(ge=8, le=4096, description="pixels a side")
    fit: Fit = "squash"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)

    @property
    def has_sketches(self) -> bool:
        """Whether a source has sketches beside its photos."""
        return any(isinstance(s, FolderSource | ToyShopSource) and s.sketches for s in self.sources)

    @property
    def each_picture(self) -> bool:
        """Whether each picture is a class of its own."""
        return self.classes == "picture"

    @property
    def held_out(self) -> SplitBy:
        """What validates: where each picture is a class, one that is held out is a class held out, whatever is asked."""
        return "class" if self.each_picture else self.validation_by

    def absolute(self) -> Self:
        """The same with paths from the root, so that a run can be continued from another working directory."""
        sources = []
        for source in self.sources:
            paths = {name: path.absolute() for name, path in source if isinstance(path, Path)}
            sources.append(source.model_copy(update=paths))
        return self.model_copy(update={"sources": tuple(sources)})
