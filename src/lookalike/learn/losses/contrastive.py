"""The contrastive loss."""

from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets, pair_distances, pair_mean, pairs
from lookalike.learn.losses.term import Comparison, Learned, Tensor
from lookalike.shapes import Float


class ContrastiveTerm(Comparison):
    """Contrastive loss: ½ d² for a positive pair and ½ max(0, margin - d)² for a negative one, d being Euclidean distance.

    Hadsell, Chopra and LeCun 2006, eq. 4; the loss of R2. The form ``linear`` uses d and max(0, margin - d), as R4 does.
    """

    kind: Literal["contrastive"]
    margin: float = Field(gt=0)
    form: Literal["squared", "linear"] = "squared"

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over pairs, as `pair_mean` weighs them."""
        import torch

        chosen = pairs(targets, self)
        distances = pair_distances(embeddings, chosen, power=2)
        each = torch.where(chosen.same, distances, (self.margin - distances).relu())
        return pair_mean(each if self.form == "linear" else each.square() / 2, chosen.same, targets)
