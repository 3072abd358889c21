"""Samplers: the composition of batches."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from lookalike.learn.losses import Comparison, DSHTerm, DTSHTerm, LossTerm, TripletTerm
from lookalike.learn.part import Part


class PKSampler(Part):
    """Batches of P classes with K items each (Hermans et al. 2017)."""

    kind: Literal["pk"] = "pk"
    classes: int = Field(gt=0, description="P")
    items: int = Field(gt=1, le=10_000, description="K")
    draw: Literal["items", "sketches"] = Field(
        "items", description="sketches: K sketches of each class, each with its photo, instead of K items"
    )


class PairSampler(Part):
    """Batches of randomly drawn pairs, of the same class and of different classes."""

    kind: Literal["pairs"]
    pairs: int = Field(gt=1, le=1_000_000, description="per batch")
    same: float = Field(
        0.5, gt=0, lt=1, description="share of pairs of the same class; a batch has at least one pair of each kind"
    )


class TripletSampler(Part):
    """Batches of randomly drawn triplets: anchor, positive, negative."""

    kind: Literal["triplets"]
    triplets: int = Field(gt=0, le=1_000_000, description="per batch")
    positive: Literal["class", "item"] = Field(
        "class", description="item: the anchor is a sketch, and the positive the photo that it was drawn from"
    )
    same_class: float = Field(
        0.0,
        ge=0,
        le=1,
        description="with positive item, the share of negatives that are another photo of the anchor's class",
    )

    @model_validator(mode="after")
    def _check_same_class(self) -> Self:
        if self.same_class and self.positive == "class":
            msg = (
                "sampler.same_class needs sampler.positive: item; a photo of the anchor's class is a positive otherwise"
            )
            raise ValueError(msg)
        return self


def _kind(sampler: Any) -> str:  # noqa: ANN401 -- a mapping read from YAML, or a model
    # The kind pk can be left out.
    kind = sampler.get("kind", "pk") if isinstance(sampler, dict) else getattr(sampler, "kind", "pk")
    return str(kind)


Sampler = Annotated[
    Annotated[PKSampler, Tag("pk")] | Annotated[PairSampler, Tag("pairs")] | Annotated[TripletSampler, Tag("triplets")],
    Discriminator(
        _kind, custom_error_type="sampler_kind", custom_error_message="the kind should be pk, pairs or triplets"
    ),
]


def check_suits(
    sampler: PKSampler | PairSampler | TripletSampler,
    terms: Sequence[LossTerm],
    *,
    class_per_image: bool,
    has_sketches: bool,
) -> None:
    """Check that a sampler suits the losses and the data.

    Raises:
        ValueError: a loss cannot use the sampler's batches, or the sampler cannot draw two images of a class.
    """
    for term in terms:
        by_item = isinstance(term, Comparison) and term.target == "item"
        if isinstance(sampler, PKSampler) and sampler.classes == 1 and not term.per_class and not by_item:
            msg = f"sampler.classes must be at least 2: a batch of one class has no negatives for the loss {term.kind}"
            raise ValueError(msg)
        if by_item and not has_sketches and not class_per_image:
            msg = (
                f"the loss {term.kind} has the target item, but without sketches each item is one image and has no positives;"
                " use the target class, or add sketches"
            )
            raise ValueError(msg)
    if class_per_image and not isinstance(sampler, PKSampler):
        msg = f"the sampler {sampler.kind} needs two images of a class, but each image is a class; use the sampler pk"
        raise ValueError(msg)
    if isinstance(sampler, PairSampler) and any(isinstance(t, TripletTerm | DSHTerm | DTSHTerm) for t in terms):
        msg = "a loss of triplets cannot be computed from pairs; use the sampler pk or triplets"
        raise ValueError(msg)
    draws_items = isinstance(sampler, PKSampler) or (isinstance(sampler, TripletSampler) and sampler.positive == "item")
    if not draws_items and any(isinstance(t, Comparison) and t.target == "item" for t in terms):
        msg = (
            f"the sampler {sampler.kind} draws by class; a loss whose target is the item needs the sampler pk, or triplets with"
            " positive: item"
        )
        raise ValueError(msg)
    if isinstance(sampler, TripletSampler) and sampler.positive == "item" and not has_sketches:
        msg = "sampler.positive: item needs sketches; add them, or data.pseudo_sketches"
        raise ValueError(msg)
