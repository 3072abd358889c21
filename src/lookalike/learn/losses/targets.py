"""What is known of the pictures of a batch, and the pairs that follow from it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lookalike.learn import recipe


@dataclass(frozen=True)
class Targets:
    """What is known of the pictures of a batch.

    ``labels``, ``items`` and ``sketch`` are as in `lookalike.datasets.LabelledImages`; ``tuples`` as in `sampling.Batch`: the pairs
    or triplets that are compared, and none where all of the batch are.
    """

    labels: Int64[Tensor, " b"]
    items: Int64[Tensor, " b"]
    sketch: Bool[Tensor, " b"]
    tuples: Int64[Tensor, "t w"] | None = None

    def names(self, term: recipe.Comparison) -> Int64[Tensor, " b"]:
        """What two pictures have in common if they are a positive pair of a term."""
        return self.labels if term.target == "class" else self.items

    def chosen(self, term: recipe.Comparison) -> Int64[Tensor, "t w"] | None:
        """The tuples that a term compares: across, those of which the anchor alone is a sketch."""
        if self.tuples is None or not term.across:
            return self.tuples
        drawn = self.sketch[self.tuples]
        return self.tuples[drawn[:, 0] & ~drawn[:, 1:].any(dim=1)]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a batch: positions of the two, and whether they are positive."""

    left: Int64[Tensor, " p"]
    right: Int64[Tensor, " p"]
    same: Bool[Tensor, " p"]


def pairs(targets: Targets, term: recipe.Comparison) -> Pairs:
    """The pairs that a term compares.

    Those of the tuples, a triplet being two pairs; without tuples all of the batch, each once, and across those of a
    sketch and a photo.
    """
    names = targets.names(term)
    tuples = targets.chosen(term)
    if tuples is not None:
        left = tuples[:, :1].expand(-1, tuples.shape[1] - 1).reshape(-1)
        right = tuples[:, 1:].reshape(-1)
    elif term.across:
        left, right = torch.where(targets.sketch[:, None] & ~targets.sketch)
    else:
        left, right = torch.triu_indices(len(names), len(names), offset=1, device=names.device)
    return Pairs(left, right, names[left] == names[right])
