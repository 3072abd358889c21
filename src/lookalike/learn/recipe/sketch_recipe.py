"""A recipe of a sketch branch that is fitted to the images of a collection, without a sketch by a person."""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field

from lookalike.learn.part import Count, Part

MIN_IMAGES = 50
"""Fewest images that a sketch branch is fitted to."""


class SketchRecipe(Part):
    """The settings of a sketch branch for a collection."""

    name: str = Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9-]*$", description="the new encoder's name")
    sketches_for: str = Field(max_length=4_000, description="the collection's folder")
    fingerprint: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of the collection's encoder; a run with another one is refused"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    images: int = Field(2_000, ge=MIN_IMAGES, description="most images to learn from, drawn at random")
    drawings: Count = Field(3, le=100, description="pseudo-sketches of each image")
    held_out: float = Field(0.2, gt=0, le=0.9, description="share of the images that measures the gain")

    def absolute(self) -> Self:
        """Return a copy with the absolute path of the collection."""
        return self.model_copy(update={"sketches_for": str(Path(self.sketches_for).absolute())})

    def to_tree(self) -> dict[str, Any]:
        """Return the recipe as plain values with every default."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the recipe as YAML with every default."""
        return yaml.safe_dump(self.to_tree(), sort_keys=False, allow_unicode=True)
