"""The self-distillation loss."""

from typing import ClassVar, Literal

from pydantic import Field

from lookalike.encoders.card import MAX_SIZE
from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Learned, Tensor, Term
from lookalike.shapes import Float


class SelfDistillationTerm(Term):
    """Distance of an augmented image's features from those that the public weights give to the clean, larger image.

    It keeps what a network knows while copies move nearer and the input gets smaller, and needs no labels but for a
    whitening. The distances are one minus the cosine of centred features, the same of features whitened within classes
    (see ``heads.whitening``), and the Kullback–Leibler divergence of the classes of the public classifier (Hinton et al. 2015).
    """

    per_class: ClassVar[bool] = True

    kind: Literal["self_distillation"]
    size: int = Field(ge=8, le=MAX_SIZE, description="pixels per side of the clean images")
    shrinkage: float = Field(0.3, ge=0, le=1, description="of the whitening; see `head`")
    classes: float = Field(0.1, ge=0, description="weight of the divergence of classes")
    temperature: float = Field(1.5, gt=0, description="of the classifier")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over the images."""
        import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

        teacher = targets.teacher
        assert teacher is not None  # noqa: S101 -- the loop makes it for this term
        x, y = embeddings - teacher.centre, teacher.features - teacher.centre
        scores, expected = (
            F.linear(features, teacher.weight, teacher.bias) / self.temperature
            for features in (embeddings, teacher.features)
        )
        divergence = F.kl_div(
            F.log_softmax(scores, 1), F.log_softmax(expected, 1), reduction="batchmean", log_target=True
        )
        plain = (1 - F.cosine_similarity(x, y)).mean()
        whitened = (1 - F.cosine_similarity(x @ teacher.whitening, y @ teacher.whitening)).mean()
        total: Tensor = plain + whitened + self.classes * divergence
        return total
