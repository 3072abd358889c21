"""Binary cross-entropy of pairs: the loss of Koch et al. 2015."""

import math
from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets, pair_distances, pair_mean, pairs
from lookalike.learn.losses.term import Comparison, Learned, Tensor
from lookalike.shapes import Float


class BinaryCrossEntropyTerm(Comparison):
    """Cross-entropy of "the same?", where P(same) = sigmoid(b - Σ w_j |x_j - y_j|^power) (Koch et al. 2015, section 3.1).

    Training learns the weights w ≥ 0 (a softplus) and b with the network. They are dropped after training: search uses the
    plain distance.
    """

    kind: Literal["binary_cross_entropy"]
    power: Literal[1, 2] = Field(1, description="of the differences; Koch's is 1")

    def initial_parameters(self, dimension: int, classes: int) -> dict[str, Tensor]:
        """Weight all dimensions equally: the softplus of ``raw_weights`` is 1."""
        import torch

        return {"raw_weights": torch.full((dimension,), math.log(math.e - 1)), "bias": torch.ones(())}

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over pairs, as `pair_mean` weighs them."""
        import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

        chosen = pairs(targets, self)
        weights = F.softplus(learned["raw_weights"])
        if self.power == 1:
            distances = pair_distances(embeddings * weights, chosen, power=1)
        else:
            distances = pair_distances(embeddings * weights.sqrt(), chosen, power=2).square()
        logits = learned["bias"] - distances
        each = F.binary_cross_entropy_with_logits(logits, chosen.same.to(logits.dtype), reduction="none")
        return pair_mean(each, chosen.same, targets)
