"""Losses that learn something of each training class, and say nothing of others."""

from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from jaxtyping import Float
from pytorch_metric_learning import losses
from torch import Tensor, nn

from lookalike.learn import recipe
from lookalike.learn.losses.targets import Targets


class CosineClassifier(nn.Module):
    """Cross-entropy of scaled cosines between embeddings and one learned direction a class (Wang et al. 2017, NormFace)."""

    closed: ClassVar[bool] = True

    def __init__(self, term: recipe.CrossEntropyTerm, dimension: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, dimension) / dimension**0.5)
        self._scale, self._smoothing = term.scale, term.smoothing

    def forward(self, embeddings: Float[Tensor, "b d"], targets: Targets) -> Float[Tensor, ""]:
        """The mean over the pictures of a batch."""
        logits = self._scale * F.normalize(embeddings) @ F.normalize(self.directions).T
        return F.cross_entropy(logits, targets.labels, label_smoothing=self._smoothing)


class ProxyAnchor(nn.Module):
    """Proxy-anchor loss: cosines between embeddings and one learned proxy a class (Kim et al. 2020, eq. 4)."""

    closed: ClassVar[bool] = True

    def __init__(self, term: recipe.ProxyAnchorTerm, dimension: int, classes: int) -> None:
        super().__init__()
        self._loss = losses.ProxyAnchorLoss(classes, dimension, margin=term.margin, alpha=term.alpha)

    def forward(self, embeddings: Float[Tensor, "b d"], targets: Targets) -> Float[Tensor, ""]:
        """Of a whole batch: the mean over its classes of pulling, and over all classes of pushing."""
        return self._loss(embeddings, targets.labels)  # type: ignore[no-any-return]  # the library is untyped
