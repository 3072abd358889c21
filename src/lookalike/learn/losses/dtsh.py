"""The loss of deep triplet supervised hashing."""

from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets, triplets
from lookalike.learn.losses.term import Comparison, Learned, Tensor
from lookalike.shapes import Float


class DTSHTerm(Comparison):
    """Loss of bits: log(1 + exp x) - x + λ Σ ‖sgn u - u‖² over u = a, p, n, divided by the dimension D.

    x = Θ(a, p) - Θ(a, n) - α with Θ(u, v) = ½ u · v (Wang et al. 2016, "Deep Supervised Hashing with Triplet Labels", eq. 7). A bit
    that differs takes 1 from Θ of two codes. The loss is the mean over the drawn triplets, or over all triplets of the batch.
    """

    kind: Literal["dtsh"]
    margin: float = Field(0.5, gt=0, description="α / D; 0.5 is half of the bits")
    binary: float = Field(0.01, ge=0, description="λ, the weight of numbers that are near -1 or 1")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over triplets; 0 without one."""
        import torch
        from torch.nn.functional import softplus

        a, p, n = triplets(targets, self)
        if not len(a):
            return (embeddings * 0).sum()
        dimension = embeddings.shape[1]
        similar = embeddings @ embeddings.T / 2
        # log(1 + exp x) - x = log(1 + exp -x)
        apart = softplus(self.margin * dimension - similar[a, p] + similar[a, n])
        off = (embeddings - torch.where(embeddings > 0, 1.0, -1.0)).square().sum(dim=1)
        total: Tensor = (apart + self.binary * (off[a] + off[p] + off[n])).mean() / dimension
        return total
