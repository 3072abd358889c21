"""The relational distillation loss."""

from typing import Literal

from pydantic import Field

from lookalike.learn.losses.targets import Targets
from lookalike.learn.losses.term import Learned, Tensor, Term
from lookalike.shapes import Float


class RelationalDistillationTerm(Term):
    """Differences between the relations of sketches and the relations of the photos that they were drawn from.

    Park et al. 2019 (RKD), eq. 4-9: the Huber loss of all distances between two sketches, each side divided by its mean, plus
    ``angles`` times the Huber loss of the cosines of all angles between three. The photos teach: no gradient reaches them. A shift
    or a scale of either side changes nothing, so a sketch need not look like a photo to be where it belongs.
    """

    kind: Literal["relational_distillation"]
    angles: float = Field(2.0, ge=0, description="weight of the angles beside the distances")

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Average over pairs and triplets of the sketches whose photo is in the batch; 0 if there are fewer than two."""
        import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

        sketches, photos = targets.drawn_photos()
        if len(sketches) < 2:  # noqa: PLR2004 -- a pair
            return (embeddings * 0).sum()
        x, y = embeddings[sketches], embeddings[photos].detach()
        total = F.smooth_l1_loss(_distances(x), _distances(y))
        if self.angles:
            total = total + self.angles * F.smooth_l1_loss(_angles(x), _angles(y))
        return total


def _distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Return all distances, divided by the mean of those above 0 (eq. 5)."""
    import torch

    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / distances.sum().div((distances > 0).sum().clamp(min=1)).clamp(min=1e-12)


def _angles(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n n"]:
    """Return the cosine of the angle at each point between each two points (eq. 8); 0 where two points are equal."""
    import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

    directions = F.normalize(x[None] - x[:, None], dim=2)  # from the first point to the second
    return directions @ directions.transpose(1, 2)
