"""Learning-rate schedules."""

import math

from lookalike.learn import recipe


def factor(schedule: recipe.Schedule, epoch: float, epochs: int) -> float:
    """Compute the factor of the learning rate at a point of a stage.

    Args:
        schedule: the change of the rate.
        epoch: epochs since the stage began, with a fraction.
        epochs: the length of the stage.
    """
    match schedule:
        case recipe.ConstantSchedule():
            return 1.0
        case recipe.StepSchedule():
            return float(schedule.gamma ** int(epoch / schedule.every))
        case recipe.OneCycle() | recipe.CosineSchedule():
            done = epoch / epochs
            if done < schedule.warmup:
                return done / schedule.warmup
            left = 1 - (done - schedule.warmup) / (1 - schedule.warmup)
            if isinstance(schedule, recipe.CosineSchedule):
                left = (1 - math.cos(math.pi * left)) / 2
            return schedule.final + (1 - schedule.final) * left
