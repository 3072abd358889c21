"""The weighted sum of a recipe's loss terms."""

import torch
from torch import Tensor, nn

from lookalike.learn.losses import LossTerm
from lookalike.learn.losses.targets import Targets
from lookalike.shapes import Float


class Loss(nn.Module):
    """The weighted sum of a recipe's terms, with the value of each term for the log.

    Learned parameters of the terms (directions of classes, weights of a distance) are among ``parameters()``, for the
    optimiser.
    """

    def __init__(self, terms: tuple[LossTerm, ...], dimension: int, classes: int) -> None:
        super().__init__()
        self.settings = terms
        self.terms = nn.ModuleList(nn.ParameterDict(term.initial_parameters(dimension, classes)) for term in terms)

    def forward(
        self, embeddings: Float[Tensor, "b d"], targets: Targets, *, new_classes: bool = False
    ) -> tuple[Float[Tensor, ""], list[float]]:
        """Compute the loss of a batch.

        Args:
            embeddings: of any length; terms that use cosines normalise them.
            targets: labels, items and branches of the images.
            new_classes: true for images of classes outside the training data; leaves out terms with parameters per class.

        Returns:
            The weighted sum, 0 without terms, and the value of each term in it, in the recipe's order.
        """
        used = [
            (term, learned)
            for term, learned in zip(self.settings, self.terms, strict=True)
            if not (new_classes and term.per_class)
        ]
        if not torch.isfinite(embeddings).all():
            # Terms that average only values above 0 would drop NaN, and a diverged run would look converged.
            return embeddings.sum() * torch.nan, [float("nan")] * len(used)
        values = [term.compute(embeddings, targets, _by_name(learned)) for term, learned in used]
        # 0 times the embeddings gives the sum a gradient even without terms.
        total = (embeddings * 0).sum() + sum(term.weight * v for (term, _), v in zip(used, values, strict=True))
        return total, [float(v.detach()) for v in values]


def _by_name(learned: nn.Module) -> dict[str, Tensor]:
    return dict(learned.named_parameters())
