"""The loss of soft labels: what a sketch shows, as a public classifier sees it in the photo."""

from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Learned, Tensor, Term
from lookalike.shapes import Float


class SoftLabelsTerm(Term):
    """Divergence of the ImageNet classes of a sketch's embedding from those that a public network sees in the drawn photo.

    SAKE (Liu et al. 2019) without its names of classes: the softmax over the 1,000 classes of a ``teacher`` says how a photo
    relates to things outside the training classes, and the sketch should say the same (Kullback–Leibler divergence, Hinton
    et al. 2015). The classifier of embeddings is a ridge regression of photo vectors to the teacher's scores, made before training.
    """

    per_class = True

    kind: Literal["soft_labels"]
    teacher: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"] = Field(
        "efficientnet_lite0", description="whose ImageNet weights see the photos"
    )
    temperature: float = Field(1.0, gt=0, description="divisor of the scores before the softmax")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over the sketches with a photo; 0 if there is none."""
        import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

        labels = targets.soft_labels
        assert labels is not None  # noqa: S101 -- the loop makes them for this term
        rows = targets.sketch & labels.known
        if not rows.any():
            return (embeddings * 0).sum()
        scores = F.linear(F.normalize(embeddings[rows]), labels.weight, labels.bias)
        found, expected = (F.log_softmax(s / self.temperature, 1) for s in (scores, labels.scores[rows]))
        return F.kl_div(found, expected, reduction="batchmean", log_target=True)
