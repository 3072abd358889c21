"""Cross-entropy of a cosine classifier over the training classes."""

from typing import ClassVar, Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Learned, Tensor, Term
from lookalike.shapes import Float


class CrossEntropyTerm(Term):
    """Cross-entropy of scaled cosines between embeddings and one learned direction per class (Wang et al. 2017, NormFace).

    The classifier is dropped after training.
    """

    per_class: ClassVar[bool] = True

    kind: Literal["cross_entropy"]
    smoothing: float = Field(0.0, ge=0, lt=1)
    scale: float = Field(16.0, gt=0, description="factor of the cosines before the softmax")

    def initial_parameters(self, dimension: int, classes: int) -> dict[str, Tensor]:
        """Draw a random direction for each class."""
        import torch

        return {"directions": torch.randn(classes, dimension) / dimension**0.5}

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over the images of the batch."""
        import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

        logits = self.scale * F.normalize(embeddings) @ F.normalize(learned["directions"]).T
        return F.cross_entropy(logits, targets.labels, label_smoothing=self.smoothing)
