"""The base of loss terms: a recipe part that computes its own value."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lookalike.learn.part import Part
from lookalike.shapes import Float

if TYPE_CHECKING:
    from torch import Tensor

    from lookalike.learn.losses.targets import Targets
else:
    # Recipes are read without torch, so the annotations of terms must not import it.
    Tensor = Targets = Any

__all__ = ["Comparison", "Learned", "Tensor", "Term"]

Learned = Mapping[str, Tensor]
"""The learned parameters of a term, by name."""


class Term(Part):
    """A loss term: its settings, its learned parameters and its formula.

    Attributes:
        per_class: the term has parameters for each training class, or targets for each training image, so it has no value for
            images of other classes.
    """

    per_class: ClassVar[bool] = False

    weight: float = Field(1.0, gt=0)

    def initial_parameters(self, dimension: int, classes: int) -> dict[str, Tensor]:
        """Return the initial values of the term's learned parameters, by name; by default none.

        Random values come from torch's generator.

        Args:
            dimension: of the embeddings.
            classes: the number of training classes.
        """
        return {}

    def compute(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Compute the term for a batch.

        Args:
            embeddings: of any length; terms that use cosines normalise them.
            targets: labels, items and branches of the images.
            learned: the current values of the `initial_parameters`.

        Returns:
            A scalar from which gradients flow to the embeddings and the learned parameters.
        """
        raise NotImplementedError


class Comparison(Term):
    """A term that compares pairs of images.

    ``target`` defines a positive pair: two images of the same class, or of the same item. With ``across``, anchors are
    sketches, and the other images are photos.
    """

    target: Literal["class", "item"] = "class"
    across: bool = False
