"""Early stopping: the end of a stage, and its best epoch."""

from collections.abc import Mapping, Sequence

from lookalike.errors import RecipeError
from lookalike.learn import recipe

# Figures of `recipe.EarlyStopping` for which lower is better.
_LOWER_IS_BETTER = {"loss"}


def is_over(config: recipe.Train, history: Sequence[Mapping[str, float]]) -> bool:
    """Check whether a stage has ended, given the figures of its epochs so far."""
    stopping = config.early_stopping
    waited = len(history) - best_epoch(history, stopping) if stopping else 0
    return len(history) >= config.epochs or (stopping is not None and waited >= stopping.patience)


def best_epoch(history: Sequence[Mapping[str, float]], stopping: recipe.EarlyStopping) -> int:
    """Return the epoch, from 1, with the best figure, the first one in a tie; 0 before the first epoch.

    Raises:
        RecipeError: the run does not measure the figure.
    """
    key = f"validation.{stopping.figure}"
    best = 0
    for epoch, line in enumerate(history, start=1):
        if key not in line:
            raise RecipeError(
                f"train.early_stopping uses {key}, which this run does not measure; "
                f"it has {', '.join(k for k in line if k.startswith('validation'))}."
            )
        if not best or _is_better(stopping.figure, line[key], history[best - 1][key]):
            best = epoch
    return best


def _is_better(figure: str, new: float, old: float) -> bool:
    return new < old if figure in _LOWER_IS_BETTER else new > old
