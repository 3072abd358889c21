"""Pseudo-sketches: how many drawings to make of a photo, and their style."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lookalike.learn.part import Count, Part

PseudoSketchKind = Literal["edges", "regions", "lines", "photo"]
"""A pseudo-sketch traces strong edges, the borders of regions of similar colour, or dark lines; or it is the photo itself."""


class PseudoSketchStyle(Part):
    """The style of pseudo-sketches: what they trace, and how far strokes differ from what they trace."""

    kinds: tuple[PseudoSketchKind, ...] = Field(
        ("edges", "regions", "lines"),
        min_length=1,
        description="each drawing traces one of them: edges, regions or lines; photo is the photo itself, with which a sketch branch keeps"
        " what it knows of photos; one that is named twice is drawn twice as often",
    )
    thickness: tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]] = Field(
        (0.5, 1.8), description="least and largest width of a stroke, in percent of the image's side"
    )
    drop: float = Field(0.3, ge=0, lt=1, description="largest share of the strokes that are left out")
    deform: float = Field(
        3.0, ge=0, le=20, description="how far a stroke is bent and shifted, in percent of the image's side"
    )

    @model_validator(mode="after")
    def _check_thickness(self) -> Self:
        least, largest = self.thickness
        if least > largest:
            msg = f"the least width, {least}, is above the largest, {largest}; write the smaller number first"
            raise ValueError(msg)
        return self


class PseudoSketches(PseudoSketchStyle):
    """Pseudo-sketches of each training photo."""

    count: Count = Field(1, le=100, description="drawings of each photo")
    without: Literal["class", "item"] | None = Field(
        None, description="only of photos whose class, or whose item, has no sketch; by default of all photos"
    )
