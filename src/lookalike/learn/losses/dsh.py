"""The loss of deep supervised hashing, on triplets."""

from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets, triplets
from lookalike.learn.losses.term import Comparison, Learned, Tensor
from lookalike.shapes import Float


class DSHTerm(Comparison):
    """Loss of bits: ½ max(0, m - ‖a - n‖² + ‖a - p‖²) + λ Σ ‖|b| - 1‖₁ over b = a, p, n, divided by the dimension D.

    R4's form of deep supervised hashing (Liu et al. 2016, eq. 2) for triplets. A bit that differs adds 4 to a squared distance.
    The loss is the mean over the drawn triplets, or over all triplets of the batch.
    """

    kind: Literal["dsh"]
    margin: float = Field(2.0, gt=0, description="m / D; 2 is half of the bits")
    binary: float = Field(0.01, ge=0, description="λ, the weight of numbers that are near -1 or 1")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over triplets; 0 without one."""
        a, p, n = triplets(targets, self)
        if not len(a):
            return (embeddings * 0).sum()
        dimension, lengths = embeddings.shape[1], embeddings.square().sum(dim=1)
        squares = lengths[:, None] + lengths - 2 * embeddings @ embeddings.T
        apart = (self.margin * dimension - squares[a, n] + squares[a, p]).relu() / 2
        off = (embeddings.abs() - 1).abs().sum(dim=1)
        total: Tensor = (apart + self.binary * (off[a] + off[p] + off[n])).mean() / dimension
        return total
