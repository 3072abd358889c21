"""What stands in a batch together, and how pictures are changed at random."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from lookalike.learn.recipe.loss import Comparison, LossTerm, TripletTerm
from lookalike.learn.recipe.part import Part


class PKSampler(Part):
    """Batches of P classes with K items each (Hermans et al. 2017)."""

    kind: Literal["pk"] = "pk"
    classes: int = Field(gt=0, description="P")
    items: int = Field(gt=1, description="K")


class PairSampler(Part):
    """Batches of pairs, drawn at random: of one class, and of two."""

    kind: Literal["pairs"]
    pairs: int = Field(gt=1, description="a batch")
    same: float = Field(
        0.5, gt=0, lt=1, description="share of pairs of one class; a batch has one of each sort at least"
    )


class TripletSampler(Part):
    """Batches of triplets, drawn at random: anchor, positive, negative."""

    kind: Literal["triplets"]
    triplets: int = Field(gt=0, description="a batch")


def _kind(sampler: Any) -> str:  # noqa: ANN401 -- a mapping read from YAML, or a model
    """Recipes may leave out the kind of the first sampler there was."""
    kind = sampler.get("kind", "pk") if isinstance(sampler, dict) else getattr(sampler, "kind", "pk")
    return str(kind)


Sampler = Annotated[
    Annotated[PKSampler, Tag("pk")] | Annotated[PairSampler, Tag("pairs")] | Annotated[TripletSampler, Tag("triplets")],
    Discriminator(
        _kind, custom_error_type="sampler_kind", custom_error_message="the kind should be pk, pairs or triplets"
    ),
]


def check_suits(
    sampler: PKSampler | PairSampler | TripletSampler, terms: Sequence[LossTerm], *, each_picture: bool
) -> None:
    """Raises ValueError where a sampler cannot give a loss what it needs, or cannot show a picture several times."""
    if each_picture and not isinstance(sampler, PKSampler):
        msg = f"the sampler {sampler.kind} takes two pictures of a class; where each picture is one, use the sampler pk"
        raise ValueError(msg)
    if isinstance(sampler, PairSampler) and any(isinstance(t, TripletTerm) for t in terms):
        msg = "a triplet loss cannot be made of pairs; use the sampler pk or triplets"
        raise ValueError(msg)
    if not isinstance(sampler, PKSampler) and any(isinstance(t, Comparison) and t.target == "item" for t in terms):
        msg = f"the sampler {sampler.kind} draws by class; a loss whose target is the item needs the sampler pk"
        raise ValueError(msg)


class Augment(Part):
    """Random changes to training pictures, photos and sketches alike; each is off at 0."""

    flip: bool = True
    shift: int = Field(0, ge=0, description="pixels, each way, the border mirrored")
    crop: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest share of the area cut away; the rest, of sides up to 5:4, is enlarged again",
    )
    erase: float = Field(0.0, ge=0, le=1, description="probability that a rectangle is blanked")
    colour: float = Field(
        0.0, ge=0, le=1, description="jitter of brightness, contrast, saturation; a tenth of it of hue"
    )
    rotate: float = Field(0.0, ge=0, le=180, description="degrees, each way")
    zoom: float = Field(0.0, ge=0, lt=1, description="scale is drawn from 1 - zoom to 1 + zoom")
    shear: float = Field(0.0, ge=0, lt=90, description="degrees, each way, along both axes")
    blur: float = Field(0.0, ge=0, le=8, description="largest sigma of a Gaussian, in pixels; of every second picture")
    jpeg: float = Field(0.0, ge=0, le=1, description="share of pictures recompressed, at a quality of 30 to 95")
