"""Training data, and how an image becomes the network's input."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from lookalike.datasets import FolderSource, Source, SplitBy, ToyShopSource
from lookalike.encoders.card import MAX_SIZE, Mean, Std
from lookalike.images import Fit
from lookalike.learn.part import Part
from lookalike.learn.recipe.pseudo_sketches import PseudoSketches


def _as_image(value: object) -> object:
    """Accept ``picture``, which earlier releases wrote."""
    return "image" if value == "picture" else value


class Data(Part):
    """Training data, and how an image becomes the network's input."""

    sources: tuple[Source, ...] = Field(min_length=1)
    classes: Annotated[Literal["label", "image"], BeforeValidator(_as_image)] = Field(
        "label", description="image: each image is a class of its own, and labels are ignored"
    )
    validation: float = Field(
        0.1, gt=0, lt=1, description="share of the images to hold out, in sources without a validation split"
    )
    validation_by: SplitBy = Field("item", description="hold out a share of each class's items, or whole classes")
    quarter_turns: bool = Field(
        False, description="train on each class turned by 90°, 180° and 270° as another class (Santoro et al. 2016)"
    )
    pseudo_sketches: PseudoSketches | None = Field(
        None, description="line drawings traced from the photos; none by default"
    )
    size: int = Field(ge=8, le=MAX_SIZE, description="pixels per side")
    fit: Fit = "squash"
    mean: tuple[Mean, Mean, Mean] = (0.5, 0.5, 0.5)
    std: tuple[Std, Std, Std] = (0.5, 0.5, 0.5)

    @property
    def has_sketches(self) -> bool:
        """Whether a source has sketches beside its photos, or they are traced from photos."""
        return self.pseudo_sketches is not None or any(
            isinstance(s, FolderSource | ToyShopSource) and s.sketches for s in self.sources
        )

    @property
    def class_per_image(self) -> bool:
        """Whether each image is a class of its own."""
        return self.classes == "image"

    @property
    def held_out(self) -> SplitBy:
        """What is held out for validation: always whole classes if each image is a class."""
        return "class" if self.class_per_image else self.validation_by

    def absolute(self) -> Self:
        """Return a copy with absolute paths, so that a run can be resumed from another working directory."""
        sources = []
        for source in self.sources:
            paths = {name: path.absolute() for name, path in source if isinstance(path, Path)}
            sources.append(source.model_copy(update=paths))
        return self.model_copy(update={"sources": tuple(sources)})
