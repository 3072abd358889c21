"""Loss terms that a recipe can add up."""

from typing import Annotated, Literal

from pydantic import Field

from lookalike.learn.recipe.part import Part


class TripletTerm(Part):
    """Triplet loss on unit embeddings: max(0, d(a,p) - d(a,n) + margin), d squared as in R1 or true.

    ``target`` says what makes a pair positive: the same class, or the same item. With ``across``, anchors are sketches
    and positives and negatives are photos.
    """

    kind: Literal["triplet"]
    weight: float = Field(1.0, gt=0)
    margin: float = Field(gt=0)
    squared: bool = True
    miner: Literal["all", "semihard", "hard"] = "semihard"
    target: Literal["class", "item"] = "class"
    across: bool = False


class CrossEntropyTerm(Part):
    """Cross-entropy of a cosine classifier over the training classes, thrown away after training."""

    kind: Literal["cross_entropy"]
    weight: float = Field(1.0, gt=0)
    smoothing: float = Field(0.0, ge=0, lt=1)
    scale: float = Field(16.0, gt=0, description="what the cosines are multiplied by before the softmax")


LossTerm = Annotated[TripletTerm | CrossEntropyTerm, Field(discriminator="kind")]
