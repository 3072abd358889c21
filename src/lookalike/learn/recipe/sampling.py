"""What stands in a batch together, and how pictures are changed at random."""

from pydantic import Field

from lookalike.learn.recipe.part import Part


class PKSampler(Part):
    """Batches of P classes with K items each (Hermans et al. 2017)."""

    classes: int = Field(gt=0, description="P")
    items: int = Field(gt=1, description="K")


class Augment(Part):
    """Random changes to training pictures, photos and sketches alike; each is off at 0."""

    flip: bool = True
    shift: int = Field(0, ge=0, description="pixels, each way, the border mirrored")
    erase: float = Field(0.0, ge=0, le=1, description="probability that a rectangle is blanked")
    colour: float = Field(
        0.0, ge=0, le=1, description="jitter of brightness, contrast, saturation; a tenth of it of hue"
    )
    rotate: float = Field(0.0, ge=0, le=180, description="degrees, each way")
    zoom: float = Field(0.0, ge=0, lt=1, description="scale is drawn from 1 - zoom to 1 + zoom")
