"""Losses of pairs, written here: contrastive and binary cross-entropy."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lookalike.learn import recipe
from lookalike.learn.losses.targets import Pairs, Targets, pairs


class Contrastive(nn.Module):
    """Contrastive loss: ½ d² of a positive pair and ½ max(0, m - d)² of a negative one, d being Euclidean distance.

    Hadsell, Chopra and LeCun 2006, eq. 4; R2's. In the linear form, R4's, it is d and max(0, m - d).
    """

    closed: ClassVar[bool] = False

    def __init__(self, term: recipe.ContrastiveTerm) -> None:
        super().__init__()
        self._term = term

    def forward(self, embeddings: Float[Tensor, "b d"], targets: Targets) -> Float[Tensor, ""]:
        """The mean over pairs, as `_mean` weighs them."""
        chosen = pairs(targets, self._term)
        lengths = _distances(embeddings, chosen, power=2)
        each = torch.where(chosen.same, lengths, F.relu(self._term.margin - lengths))
        return _mean(each if self._term.form == "linear" else each.square() / 2, chosen.same, targets)


class BinaryCrossEntropy(nn.Module):
    """Cross-entropy of "the same?", where P(same) = sigmoid(b - Σ w_j |x_j - y_j|^power) (Koch et al. 2015, section 3.1).

    The weights w ≥ 0 (a softplus) and b are learned along with the network and thrown away after training: search goes by
    the plain distance.
    """

    closed: ClassVar[bool] = False

    def __init__(self, term: recipe.BinaryCrossEntropyTerm, dimension: int) -> None:
        super().__init__()
        self._term = term
        # The softplus of this is 1: at first all dimensions count alike.
        self.raw_weights = nn.Parameter(torch.full((dimension,), math.log(math.e - 1)))
        self.bias = nn.Parameter(torch.ones(()))

    def forward(self, embeddings: Float[Tensor, "b d"], targets: Targets) -> Float[Tensor, ""]:
        """The mean over pairs, as `_mean` weighs them."""
        chosen = pairs(targets, self._term)
        weights = F.softplus(self.raw_weights)
        if self._term.power == 1:
            apart = _distances(embeddings * weights, chosen, power=1)
        else:
            apart = _distances(embeddings * weights.sqrt(), chosen, power=2).square()
        logits = self.bias - apart
        each = F.binary_cross_entropy_with_logits(logits, chosen.same.to(logits.dtype), reduction="none")
        return _mean(each, chosen.same, targets)


def _distances(x: Float[Tensor, "b d"], chosen: Pairs, power: int) -> Float[Tensor, " p"]:
    """(Σ |x_j - y_j|^power)^(1/power) of each pair; where it is 0, so is its gradient."""
    if len(chosen.left) <= len(x):
        lengths: Tensor = torch.linalg.vector_norm(x[chosen.left] - x[chosen.right], ord=power, dim=1)
        return lengths
    # With more pairs than rows the differences (p, d) take more memory than the matrix of distances (b, b). Not by a
    # product of matrices, which loses small distances to rounding.
    matrix = torch.cdist(x, x, p=power, compute_mode="donot_use_mm_for_euclid_dist")
    return matrix[chosen.left, chosen.right]


def _mean(each: Float[Tensor, " p"], same: Bool[Tensor, " p"], targets: Targets) -> Float[Tensor, ""]:
    """The mean of drawn pairs; of all pairs of a batch, half the positives' mean and half the negatives'.

    In a batch of many classes few pairs are positive, and a plain mean would be about the negatives alone. A side
    without pairs counts as 0.
    """
    if targets.tuples is not None:
        return each.sum() / max(len(each), 1)
    positive, negative = ((each * side).sum() / side.sum().clamp(min=1) for side in (same, ~same))
    return (positive + negative) / 2
