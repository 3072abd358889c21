"""Losses that weigh each picture's cosines to all others of the batch, also where tuples were drawn."""

from typing import ClassVar

from jaxtyping import Float
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from lookalike.learn import recipe
from lookalike.learn.losses.targets import Targets


class SupervisedContrastive(nn.Module):
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2, "out")."""

    closed: ClassVar[bool] = False

    def __init__(self, term: recipe.SupervisedContrastiveTerm) -> None:
        super().__init__()
        self._loss = losses.SupConLoss(temperature=term.temperature)

    def forward(self, embeddings: Float[Tensor, "b d"], targets: Targets) -> Float[Tensor, ""]:
        """The mean over the pictures that have a positive in the batch; zero where none has, or there is one class."""
        return self._loss(embeddings, targets.labels)  # type: ignore[no-any-return]  # the library is untyped


class MultiSimilarity(nn.Module):
    """Multi-similarity loss (Wang et al. 2019, eq. 15) on the pairs that its miner keeps (eq. 11 and 12)."""

    closed: ClassVar[bool] = False

    def __init__(self, term: recipe.MultiSimilarityTerm) -> None:
        super().__init__()
        self._loss = losses.MultiSimilarityLoss(alpha=term.alpha, beta=term.beta, base=term.base)
        self._miner = miners.MultiSimilarityMiner(epsilon=term.epsilon)

    def forward(self, embeddings: Float[Tensor, "b d"], targets: Targets) -> Float[Tensor, ""]:
        """The mean over the pictures of a batch; one without a kept pair counts as 0."""
        kept = self._miner(embeddings, targets.labels)
        return self._loss(embeddings, targets.labels, kept)  # type: ignore[no-any-return]  # the library is untyped
