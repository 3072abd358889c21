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
"""What a term learns, by name."""


class Term(Part):
    """A loss term: its settings, what it learns, and its formula.

    Attributes:
        knows_classes: the term learns something of each training class, so it has no value for images of other classes.
    """

    knows_classes: ClassVar[bool] = False

    weight: float = Field(1.0, gt=0)

    def initial(self, dimension: int, classes: int) -> dict[str, Tensor]:
        """Return the initial values of what the term learns beside the network, by name; by default nothing.

        Random values come from torch's generator.

        Args:
            dimension: of the embeddings.
            classes: the number of training classes.
        """
        return {}

    def value(self, embeddings: Float[Tensor, "b d"], targets: Targets, learned: Learned) -> Float[Tensor, ""]:
        """Compute the term for a batch.

        Args:
            embeddings: of any length; terms that use cosines normalise them.
            targets: labels, items and branches of the images.
            learned: the current values of what `initial` returned.

        Returns:
            A scalar from which gradients flow to the embeddings and to what is learned.
        """
        raise NotImplementedError


class Comparison(Term):
    """A term that compares pairs of images.

    ``target`` says what makes a pair positive: the same class, or the same item. With ``across``, anchors are sketches
    and the images compared with them are photos.
    """

    target: Literal["class", "item"] = "class"
    across: bool = False
