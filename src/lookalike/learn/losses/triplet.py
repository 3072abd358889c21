"""The triplet loss and its miners."""

from typing import ClassVar

from jaxtyping import Float, Int64
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn

from lookalike.learn import recipe
from lookalike.learn.losses.targets import Targets


class Triplet(nn.Module):
    """Triplet loss (Schroff et al. 2015, eq. 2-3; the margin on squared or true distances).

    On the triplets that are given; otherwise on those of the batch, all or mined. The distance-weighted miner (Wu et al.
    2017, section 4) goes by the embeddings' directions: it evens out distances on the unit sphere.
    """

    closed: ClassVar[bool] = False

    def __init__(self, term: recipe.TripletTerm) -> None:
        super().__init__()
        distance = distances.LpDistance(normalize_embeddings=False, p=2, power=2 if term.squared else 1)
        self._loss = losses.TripletMarginLoss(margin=term.margin, distance=distance)
        self._miner = {
            "all": None,
            "semihard": miners.BatchEasyHardMiner("easy", "semihard", distance=distance),
            "hard": miners.BatchHardMiner(distance=distance),
            "distance": miners.DistanceWeightedMiner(),
        }[term.miner]
        self._term = term

    def forward(self, embeddings: Float[Tensor, "b d"], targets: Targets) -> Float[Tensor, ""]:
        """Mean loss over the triplets that violate the margin; zero where none does."""
        names, triplets = targets.names(self._term), targets.chosen(self._term)
        if triplets is not None:
            return self._loss(embeddings, names, triplets.unbind(1))  # type: ignore[no-any-return]  # the library is untyped
        if not self._term.across:
            return self._batch(embeddings, names, None, None)
        sketch = targets.sketch
        if sketch.all() or not sketch.any():
            return (embeddings * 0).sum()
        return self._batch(embeddings[sketch], names[sketch], embeddings[~sketch], names[~sketch])

    def _batch(
        self,
        anchors: Float[Tensor, "a d"],
        names: Int64[Tensor, " a"],
        gallery: Float[Tensor, "g d"] | None,
        gallery_names: Int64[Tensor, " g"] | None,
    ) -> Float[Tensor, ""]:
        mined = self._miner(anchors, names, gallery, gallery_names) if self._miner else None
        return self._loss(anchors, names, mined, gallery, gallery_names)  # type: ignore[no-any-return]  # as above
