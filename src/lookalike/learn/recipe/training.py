"""Optimisers, learning-rate schedules, and the length of a stage."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from lookalike.learn.part import Count, Part


class SGD(Part):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)


class Adam(Part):
    """Adam (Kingma & Ba 2015); ``adamw`` decouples weight decay from the moments (Loshchilov & Hutter 2019)."""

    kind: Literal["adam", "adamw"]
    learning_rate: float = Field(gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)


def _optimiser_kind(value: Any) -> str:  # noqa: ANN401 -- a mapping read from YAML, or a model
    kind = value.get("kind", "sgd") if isinstance(value, dict) else getattr(value, "kind", "sgd")
    return "adam" if kind == "adamw" else str(kind)


Optimiser = Annotated[
    Annotated[SGD, Tag("sgd")] | Annotated[Adam, Tag("adam")],
    Discriminator(
        _optimiser_kind,
        custom_error_type="optimiser_kind",
        custom_error_message="the kind should be sgd, adam or adamw",
    ),
]


class OneCycle(Part):
    """Linear warm-up over a share of the stage, then linear decay to ``final`` of the peak (Smith 2018)."""

    kind: Literal["one_cycle"]
    warmup: float = Field(0.2, ge=0, lt=1)
    final: float = Field(0.01, ge=0, le=1)


class CosineSchedule(Part):
    """Linear warm-up over a share of the stage, then half a cosine down to ``final`` of the peak (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"]
    warmup: float = Field(0.0, ge=0, lt=1)
    final: float = Field(0.0, ge=0, le=1)


class StepSchedule(Part):
    """A learning rate that is multiplied by ``gamma`` every ``every`` epochs, as in R1."""

    kind: Literal["step"]
    every: int = Field(10, gt=0)
    gamma: float = Field(0.1, gt=0, le=1)


class ConstantSchedule(Part):
    """A constant learning rate."""

    kind: Literal["constant"]


Schedule = Annotated[OneCycle | CosineSchedule | StepSchedule | ConstantSchedule, Field(discriminator="kind")]


class EarlyStopping(Part):
    """A stop after ``patience`` epochs without a better validation figure, with the weights of the best epoch."""

    figure: Literal["top_1", "auc", "loss", "sketch_class_at_1", "sketch_item_at_1", "sketch_item_at_10"] = "top_1"
    patience: Count


Precision = Literal["bf16-mixed", "32-true"]
"""The numbers that a network computes in: bfloat16 where that is safe, or float32."""


class Train(Part):
    """The length and precision of a stage, and the choice of its resulting weights."""

    epochs: int = Field(gt=0)
    precision: Precision | Literal["auto"] = Field(
        "auto", description="auto: the faster one, by timing a step before the first epoch"
    )
    average: float = Field(0.0, ge=0, lt=1, description="decay of the exponential average of weights; 0 for none")
    early_stopping: EarlyStopping | None = None
    statistics: Literal["batch", "kept"] = Field(
        "batch", description="of batch normalisation; kept: those that the stage starts with, also in training"
    )
