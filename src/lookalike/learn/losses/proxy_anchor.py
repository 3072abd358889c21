"""The proxy-anchor loss."""

from typing import ClassVar, Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Learned, Tensor, Term
from lookalike.shapes import Float


class ProxyAnchorTerm(Term):
    """Proxy-anchor loss: cosines between embeddings and one learned proxy per class (Kim et al. 2020, eq. 4).

    The proxies are dropped after training.
    """

    per_class: ClassVar[bool] = True

    kind: Literal["proxy_anchor"]
    margin: float = Field(0.1, ge=0, description="in cosines")
    alpha: float = Field(32.0, gt=0, description="sharpness")

    def initial_parameters(self, dimension: int, classes: int) -> dict[str, Tensor]:
        """Draw a random proxy for each class, as pytorch-metric-learning does."""
        import torch

        return {"proxies": torch.nn.init.kaiming_normal_(torch.empty(classes, dimension), mode="fan_out")}

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Add the pull, averaged over the batch's classes, and the push, averaged over all classes."""
        from pytorch_metric_learning import losses

        proxies = learned["proxies"]
        # The library's own initialisation would advance torch's generator.
        loss = losses.ProxyAnchorLoss(
            *proxies.shape, margin=self.margin, alpha=self.alpha, weight_init_func=lambda tensor: tensor
        )
        loss.proxies = proxies
        total: Tensor = loss(embeddings, targets.labels)
        return total
