"""The supervised contrastive loss."""

from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Learned, Tensor, Term
from lookalike.shapes import Float


class SupervisedContrastiveTerm(Term):
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2, "out").

    It compares the whole batch, even if the sampler draws tuples.
    """

    kind: Literal["supervised_contrastive"]
    temperature: float = Field(0.1, gt=0, description="divisor of the cosines before the softmax")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over the images that have a positive in the batch; 0 if none has, or if the batch has one class."""
        from pytorch_metric_learning import losses

        total: Tensor = losses.SupConLoss(temperature=self.temperature)(embeddings, targets.labels)
        return total
