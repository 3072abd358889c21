"""The triplet loss and its miners."""

from typing import Any, Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Comparison, Learned, Tensor
from lookalike.shapes import Float, Int64


class TripletTerm(Comparison):
    """Triplet loss: max(0, d(a,p) - d(a,n) + margin) (Schroff et al. 2015, eq. 2-3).

    Distances are squared, as in R1, or true. The loss is the mean over the triplets that violate the margin, among the
    drawn triplets, all triplets of the batch, or the mined ones. The ``distance`` miner (Wu et al. 2017, section 4) uses only the
    directions of embeddings, because it balances distances on the unit sphere.

    With ``relative``, the margin is that share of d(p,n): an anchor that is where its positive is satisfies it for every negative. It
    violates a fixed margin if the negative is nearer to the positive than the margin, and is then pushed away from a similar image.
    The relative triplet loss of Seddati et al. 2023 gives less weight to such triplets, for the same reason.
    """

    kind: Literal["triplet"]
    margin: float = Field(gt=0)
    squared: bool = True
    miner: Literal["all", "semihard", "hard", "distance"] = "semihard"
    relative: bool = Field(False, description="the margin is a share of the distance between positive and negative")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over the triplets that violate the margin; 0 if none does."""
        groups, triplets = targets.groups(self), targets.tuples_of(self)
        if triplets is not None:
            return self._loss(embeddings, groups, triplets.unbind(1))
        if not self.across:
            return self._loss(embeddings, groups, self.mine(embeddings, groups))
        sketch = targets.sketch
        if sketch.all() or not sketch.any():
            return (embeddings * 0).sum()
        gallery = embeddings[~sketch], groups[~sketch]
        mined = self.mine(embeddings[sketch], groups[sketch], *gallery)
        return self._loss(embeddings[sketch], groups[sketch], mined, *gallery)

    def mine(
        self, anchors: Float[Tensor, "a d"], groups: Int64[Tensor, " a"], *gallery: Tensor
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Choose triplets of a batch.

        Args:
            anchors: embeddings.
            groups: the class or item of each anchor.
            gallery: embeddings of positives and negatives, and the class or item of each; by default the anchors'.

        Returns:
            Positions of anchors, positives and negatives; None for all triplets.
        """
        from pytorch_metric_learning import miners

        if self.miner == "all":
            return None
        miner = {
            "semihard": lambda: miners.BatchEasyHardMiner("easy", "semihard", distance=self._distance()),
            "hard": lambda: miners.BatchHardMiner(distance=self._distance()),
            "distance": miners.DistanceWeightedMiner,
        }[self.miner]()
        triplets: tuple[Tensor, Tensor, Tensor] = miner(anchors, groups, *gallery)
        return triplets

    def _loss(self, anchors: Tensor, groups: Tensor, triplets: tuple[Tensor, ...] | None, *gallery: Tensor) -> Tensor:
        from pytorch_metric_learning import losses

        if self.relative:
            return self._relative_loss(anchors, groups, triplets, *gallery)
        loss = losses.TripletMarginLoss(margin=self.margin, distance=self._distance())
        total: Tensor = loss(anchors, groups, triplets, *gallery)
        return total

    def _relative_loss(
        self, anchors: Tensor, groups: Tensor, triplets: tuple[Tensor, ...] | None, *gallery: Tensor
    ) -> Tensor:
        from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets

        others, other_groups = gallery or (anchors, groups)
        a, p, n = convert_to_triplets(triplets, groups, other_groups if gallery else None, "all")
        anchor, positive, negative = anchors[a], others[p], others[n]
        margin = self.margin * self._lengths((positive - negative).detach())
        each = (self._lengths(anchor - positive) - self._lengths(anchor - negative) + margin).relu()
        total: Tensor = each.sum() / (each > 0).sum().clamp(min=1)
        return total

    def _lengths(self, differences: Tensor) -> Tensor:
        import torch

        lengths: Tensor = torch.linalg.vector_norm(differences, dim=1)
        return lengths.square() if self.squared else lengths

    def _distance(self) -> Any:  # noqa: ANN401 -- the library has no types
        from pytorch_metric_learning import distances

        return distances.LpDistance(normalize_embeddings=False, p=2, power=2 if self.squared else 1)
