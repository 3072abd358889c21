"""What training makes small: the weighted sum of a recipe's terms."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lookalike.learn import recipe
from lookalike.learn.losses.classes import CosineClassifier, ProxyAnchor
from lookalike.learn.losses.pairs import BinaryCrossEntropy, Contrastive
from lookalike.learn.losses.similarity import MultiSimilarity, SupervisedContrastive
from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.triplet import Triplet

_Term = (
    Triplet
    | Contrastive
    | BinaryCrossEntropy
    | CosineClassifier
    | SupervisedContrastive
    | MultiSimilarity
    | ProxyAnchor
)


class Loss(nn.Module):
    """The weighted sum of a recipe's terms, with each term's own value for the log.

    What terms learn (directions of classes, weights of a distance) is among ``parameters()``, for the optimiser.
    ``closed`` says of each term whether it knows the training classes alone.
    """

    def __init__(self, terms: tuple[recipe.LossTerm, ...], dimension: int, classes: int) -> None:
        super().__init__()
        built = [_build(term, dimension, classes) for term in terms]
        self.closed = tuple(term.closed for term in built)
        self.terms = nn.ModuleList(built)
        self._weights = [term.weight for term in terms]

    def forward(
        self, embeddings: Float[Tensor, "b d"], targets: Targets, *, open_only: bool = False
    ) -> tuple[Float[Tensor, ""], list[float]]:
        """The loss of a batch.

        Args:
            embeddings: of any length; terms of cosines normalise for themselves.
            targets: what is known of the pictures.
            open_only: leave the closed terms out: the pictures are of other classes than those trained on.

        Returns:
            The sum, zero without terms, and the value of each term that is in it, in the recipe's order.
        """
        used = [i for i, closed in enumerate(self.closed) if not (closed and open_only)]
        if not torch.isfinite(embeddings).all():
            # Means over what is above 0 would leave NaN out, and a diverged run would look finished.
            return embeddings.sum() * torch.nan, [float("nan")] * len(used)
        values = [self.terms[i](embeddings, targets) for i in used]
        # A sum that begins with 0 times the embeddings can be learned from even without terms.
        total = (embeddings * 0).sum() + sum(self._weights[i] * v for i, v in zip(used, values, strict=True))
        return total, [float(v.detach()) for v in values]


def _build(term: recipe.LossTerm, dimension: int, classes: int) -> _Term:  # noqa: PLR0911 -- one line for each term
    match term:
        case recipe.TripletTerm():
            return Triplet(term)
        case recipe.ContrastiveTerm():
            return Contrastive(term)
        case recipe.BinaryCrossEntropyTerm():
            return BinaryCrossEntropy(term, dimension)
        case recipe.CrossEntropyTerm():
            return CosineClassifier(term, dimension, classes)
        case recipe.SupervisedContrastiveTerm():
            return SupervisedContrastive(term)
        case recipe.MultiSimilarityTerm():
            return MultiSimilarity(term)
        case recipe.ProxyAnchorTerm():
            return ProxyAnchor(term, dimension, classes)
