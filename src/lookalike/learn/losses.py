"""Loss terms of a recipe, built from pytorch-metric-learning."""

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from jaxtyping import Bool, Float, Int64
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn

from lookalike.learn import recipe


class CosineClassifier(nn.Module):
    """Cross-entropy of scaled cosines between embeddings and one learned direction a class (Wang et al. 2017, NormFace)."""

    def __init__(self, term: recipe.CrossEntropyTerm, dimension: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, dimension) / dimension**0.5)
        self._scale, self._smoothing = term.scale, term.smoothing

    def forward(self, embeddings: Float[Tensor, "b d"], labels: Int64[Tensor, " b"]) -> Tensor:
        """Mean loss of a batch."""
        logits = self._scale * embeddings @ F.normalize(self.directions).T
        return F.cross_entropy(logits, labels, label_smoothing=self._smoothing)


class Triplet(nn.Module):
    """Triplet loss on mined triplets (Schroff et al. 2015, eq. 2-3; the margin on squared or true distances)."""

    def __init__(self, term: recipe.TripletTerm) -> None:
        super().__init__()
        # The embeddings have length 1 already.
        distance = distances.LpDistance(normalize_embeddings=False, p=2, power=2 if term.squared else 1)
        self._loss = losses.TripletMarginLoss(margin=term.margin, distance=distance)
        self._miner = {
            "all": None,
            "semihard": miners.BatchEasyHardMiner("easy", "semihard", distance=distance),
            "hard": miners.BatchHardMiner(distance=distance),
        }[term.miner]
        self._term = term

    def forward(
        self,
        embeddings: Float[Tensor, "b d"],
        labels: Int64[Tensor, " b"],
        items: Int64[Tensor, " b"],
        sketch: Bool[Tensor, " b"],
    ) -> Tensor:
        """Mean loss over the triplets that violate the margin; zero where none does."""
        same = labels if self._term.target == "class" else items
        if not self._term.across:
            mined = self._miner(embeddings, same) if self._miner else None
            return self._loss(embeddings, same, mined)  # type: ignore[no-any-return]  # the library is untyped
        anchors, gallery = embeddings[sketch], embeddings[~sketch]
        mined = self._miner(anchors, same[sketch], gallery, same[~sketch]) if self._miner else None
        return self._loss(anchors, same[sketch], mined, gallery, same[~sketch])  # type: ignore[no-any-return]


class Loss(nn.Module):
    """The weighted sum of a recipe's terms, with each term's own value for the log."""

    def __init__(self, terms: tuple[recipe.LossTerm, ...], dimension: int, classes: int) -> None:
        super().__init__()
        self._weights = [term.weight for term in terms]
        self.terms = nn.ModuleList(
            Triplet(term) if isinstance(term, recipe.TripletTerm) else CosineClassifier(term, dimension, classes)
            for term in terms
        )

    def forward(self, embeddings: Tensor, labels: Tensor, items: Tensor, sketch: Tensor) -> tuple[Tensor, list[float]]:
        """(loss, the value of each term)."""
        values: list[Tensor] = []
        for term in self.terms:
            args = (embeddings, labels, items, sketch) if isinstance(term, Triplet) else (embeddings, labels)
            values.append(term(*args))
        total = torch.stack([w * v for w, v in zip(self._weights, values, strict=True)]).sum()
        return total, [float(v.detach()) for v in values]
