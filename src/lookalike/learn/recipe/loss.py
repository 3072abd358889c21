"""Loss terms that a recipe can add up."""

from typing import Annotated, Literal

from pydantic import Field

from lookalike.learn.recipe.part import Part


class _Term(Part):
    weight: float = Field(1.0, gt=0)


class Comparison(_Term):
    """A term that compares pictures two by two.

    ``target`` says what makes a pair positive: the same class, or the same item. With ``across``, anchors are sketches
    and positives and negatives are photos.
    """

    target: Literal["class", "item"] = "class"
    across: bool = False


class TripletTerm(Comparison):
    """Triplet loss: max(0, d(a,p) - d(a,n) + margin), d squared as in R1 or true."""

    kind: Literal["triplet"]
    margin: float = Field(gt=0)
    squared: bool = True
    miner: Literal["all", "semihard", "hard", "distance"] = "semihard"


class ContrastiveTerm(Comparison):
    """Contrastive loss: a positive's distance d, and a negative's max(0, margin - d).

    ``squared`` takes half the square of both (R2; Hadsell et al. 2006), ``linear`` takes them as they are (R4).
    """

    kind: Literal["contrastive"]
    margin: float = Field(gt=0)
    form: Literal["squared", "linear"] = "squared"


class BinaryCrossEntropyTerm(Comparison):
    """Cross-entropy of "the same?", judged by a weighted distance through a sigmoid (Koch et al. 2015)."""

    kind: Literal["binary_cross_entropy"]
    power: Literal[1, 2] = Field(1, description="of the differences; Koch's is 1")


class CrossEntropyTerm(_Term):
    """Cross-entropy of a cosine classifier over the training classes, thrown away after training."""

    kind: Literal["cross_entropy"]
    smoothing: float = Field(0.0, ge=0, lt=1)
    scale: float = Field(16.0, gt=0, description="what the cosines are multiplied by before the softmax")


class SupervisedContrastiveTerm(_Term):
    """Supervised contrastive loss (Khosla et al. 2020) over the whole batch."""

    kind: Literal["supervised_contrastive"]
    temperature: float = Field(0.1, gt=0, description="what the cosines are divided by before the softmax")


class MultiSimilarityTerm(_Term):
    """Multi-similarity loss over the whole batch, on the pairs its own miner keeps (Wang et al. 2019)."""

    kind: Literal["multi_similarity"]
    alpha: float = Field(2.0, gt=0, description="sharpness for positives")
    beta: float = Field(50.0, gt=0, description="sharpness for negatives")
    base: float = Field(
        0.5, ge=-1, le=1, description="the cosine that positives should exceed and negatives fall below"
    )
    epsilon: float = Field(0.1, ge=0, description="the miner's margin, in cosines")


class ProxyAnchorTerm(_Term):
    """Proxy-anchor loss: a learned proxy for each training class, thrown away after training (Kim et al. 2020)."""

    kind: Literal["proxy_anchor"]
    margin: float = Field(0.1, ge=0, description="in cosines")
    alpha: float = Field(32.0, gt=0, description="sharpness")


LossTerm = Annotated[
    TripletTerm
    | ContrastiveTerm
    | BinaryCrossEntropyTerm
    | CrossEntropyTerm
    | SupervisedContrastiveTerm
    | MultiSimilarityTerm
    | ProxyAnchorTerm,
    Field(discriminator="kind"),
]
