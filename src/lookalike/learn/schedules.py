"""How the learning rate goes."""

import math

from lookalike.learn import recipe as recipes


def factor(recipe: recipes.Recipe, epoch: float) -> float:
    """What the learning rate is multiplied by at a moment, in epochs since the start."""
    schedule = recipe.schedule
    done = epoch / recipe.train.epochs
    match schedule:
        case recipes.ConstantSchedule():
            return 1.0
        case recipes.StepSchedule():
            return float(schedule.gamma ** int(epoch / schedule.every))
        case recipes.OneCycle() | recipes.CosineSchedule():
            if done < schedule.warmup:
                return done / schedule.warmup
            left = 1 - (done - schedule.warmup) / (1 - schedule.warmup)
            if isinstance(schedule, recipes.CosineSchedule):
                left = (1 - math.cos(math.pi * left)) / 2
            return schedule.final + (1 - schedule.final) * left
