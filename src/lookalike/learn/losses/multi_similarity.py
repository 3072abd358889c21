"""The multi-similarity loss and its miner."""

from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Learned, Tensor, Term
from lookalike.shapes import Float


class MultiSimilarityTerm(Term):
    """Multi-similarity loss (Wang et al. 2019, eq. 15) on the pairs that its miner selects (eq. 11 and 12).

    It compares the whole batch, even if the sampler draws tuples.
    """

    kind: Literal["multi_similarity"]
    alpha: float = Field(2.0, gt=0, description="sharpness for positives")
    beta: float = Field(50.0, gt=0, description="sharpness for negatives")
    base: float = Field(
        0.5, ge=-1, le=1, description="the cosine that positives should exceed and negatives fall below"
    )
    epsilon: float = Field(0.1, ge=0, description="the miner's margin, in cosines")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over the images of the batch; an image without a selected pair counts as 0."""
        from pytorch_metric_learning import losses, miners

        mined = miners.MultiSimilarityMiner(epsilon=self.epsilon)(embeddings, targets.labels)
        loss = losses.MultiSimilarityLoss(alpha=self.alpha, beta=self.beta, base=self.base)
        total: Tensor = loss(embeddings, targets.labels, mined)
        return total
