"""A stage: one training phase of a recipe."""

from typing import Self

from pydantic import Field, model_validator

from lookalike.learn.losses import Comparison, LossTerm, SelfDistillationTerm
from lookalike.learn.part import Part
from lookalike.learn.recipe.augment import Augment
from lookalike.learn.recipe.data import Data
from lookalike.learn.recipe.sampling import Sampler, check_suits
from lookalike.learn.recipe.training import SGD, Optimiser, Schedule, Train
from lookalike.query import Branch


class Stage(Part):
    """One training phase of a recipe.

    Stages train the same network one after the other; each starts from the weights of the previous one.
    """

    name: str = Field("", pattern=r"^([a-z0-9][a-z0-9-]*)?$", description="needed if there are several stages")
    data: Data
    losses: tuple[LossTerm, ...] = Field(min_length=1)
    sampler: Sampler
    augment: Augment = Augment()
    optimiser: Optimiser
    schedule: Schedule
    train: Train
    frozen: tuple[str, ...] = Field(
        (), description="branches and layers that are not trained: photo, body.layer1, sketch.body.conv1, head"
    )
    shared: str | None = Field(
        None, description="the first layer that the branches share; head: only the head; none: nothing"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        has_sketches = self.data.has_sketches
        if any(isinstance(t, Comparison) and t.across for t in self.losses) and not has_sketches:
            msg = "a loss compares sketches with photos, but no source has sketches"
            raise ValueError(msg)
        if has_sketches and self.data.class_per_image:
            msg = "data.classes: image makes a sketch and its photo two classes; leave the sketches out"
            raise ValueError(msg)
        if self.data.class_per_image and self.augment == Augment(flip=False):
            msg = "data.classes: image needs an augmentation: without one, the views of an image are equal"
            raise ValueError(msg)
        check_suits(
            self.sampler, self.losses, class_per_image=self.data.class_per_image, has_sketches=self.data.has_sketches
        )
        if isinstance(self.optimiser, SGD) and self.optimiser.nesterov and not self.optimiser.momentum:
            msg = "optimiser.nesterov needs a momentum above 0"
            raise ValueError(msg)
        if any(isinstance(t, SelfDistillationTerm) for t in self.losses) and self.data.validation_by != "class":
            msg = "the loss self_distillation has no value for validation images; set data.validation_by: class"
            raise ValueError(msg)
        if any(isinstance(t, SelfDistillationTerm) for t in self.losses) and (self.data.quarter_turns or has_sketches):
            msg = "the loss self_distillation needs the images as they are; leave out sketches and data.quarter_turns"
            raise ValueError(msg)
        if self.augment.shift >= self.data.size:
            msg = "augment.shift must be smaller than data.size"
            raise ValueError(msg)
        return self

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches that the stage has images for."""
        return ("photo", "sketch") if self.data.has_sketches else ("photo",)
