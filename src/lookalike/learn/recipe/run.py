"""How the weights are changed, and for how long."""

from typing import Annotated, Literal

from pydantic import Field

from lookalike.learn.recipe.part import Part


class Optimiser(Part):
    """Stochastic gradient descent with momentum."""

    learning_rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)


class OneCycle(Part):
    """Linear warm-up over a share of the run, then linear decay to ``final`` of the peak (Smith 2018)."""

    kind: Literal["one_cycle"]
    warmup: float = Field(0.2, ge=0, lt=1)
    final: float = Field(0.01, ge=0, le=1)


class StepSchedule(Part):
    """Times ``gamma`` every ``every`` epochs, as R1 does."""

    kind: Literal["step"]
    every: int = Field(10, gt=0)
    gamma: float = Field(0.1, gt=0, le=1)


Schedule = Annotated[OneCycle | StepSchedule, Field(discriminator="kind")]


class Train(Part):
    """How long, and in what precision."""

    epochs: int = Field(gt=0)
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    average: float = Field(0.0, ge=0, lt=1, description="decay of the exponential average of weights; 0 is none")
