"""Augmentation: random changes to training images."""

from pydantic import Field

from lookalike.learn.part import Part


class Augment(Part):
    """Random changes to training images, photos and sketches alike; 0 turns a change off."""

    flip: bool = True
    shift: int = Field(0, ge=0, description="pixels in each direction, the border mirrored")
    crop: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest share of the area cut away; the rest, with sides up to 5:4, is enlarged again",
    )
    erase: float = Field(0.0, ge=0, le=1, description="probability that a rectangle is blanked")
    colour: float = Field(
        0.0, ge=0, le=1, description="jitter of brightness, contrast and saturation; a tenth of it of hue"
    )
    rotate: float = Field(0.0, ge=0, le=180, description="degrees in each direction")
    zoom: float = Field(0.0, ge=0, lt=1, description="scale is drawn from 1 - zoom to 1 + zoom")
    shear: float = Field(0.0, ge=0, lt=90, description="degrees in each direction, along both axes")
    blur: float = Field(0.0, ge=0, le=8, description="largest sigma of a Gaussian, in pixels; for half of the images")
    jpeg: float = Field(0.0, ge=0, le=1, description="share of images recompressed, at a quality of 30 to 95")
