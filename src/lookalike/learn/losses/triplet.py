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
    """

    kind: Literal["triplet"]
    margin: float = Field(gt=0)
    squared: bool = True
    miner: Literal["all", "semihard", "hard", "distance"] = "semihard"

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

        loss = losses.TripletMarginLoss(margin=self.margin, distance=self._distance())
        total: Tensor = loss(anchors, groups, triplets, *gallery)
        return total

    def _distance(self) -> Any:  # noqa: ANN401 -- the library has no types
        from pytorch_metric_learning import distances

        return distances.LpDistance(normalize_embeddings=False, p=2, power=2 if self.squared else 1)
