"""Heads that are fitted in closed form after the last stage."""

from typing import Annotated, Literal

from pydantic import Field

from lookalike.learn.part import Part


class Whitening(Part):
    """A projection that whitens within classes; see ``heads.whitening.fit_whitening``."""

    kind: Literal["whitening"]
    shrinkage: float = Field(0.3, ge=0, le=1, description="of the covariance towards its mean variance")


class NetworkWhitening(Whitening):
    """Whitening of a network's features, after its last stage."""

    copies: bool = Field(
        False,
        description="half of the covariance is that of augmented copies around their image, so that copies stay near",
    )


class NetworkPrototypes(NetworkWhitening):
    """The same, with the mean prototype of an image's ImageNet classes; see ``heads.whitening.fit_prototypes``."""

    kind: Literal["prototypes"]  # type: ignore[assignment]  # the discriminator
    temperature: float = Field(2.0, gt=0, description="of the classifier; above 1, more classes share in an image")
    weight: float = Field(0.7, gt=0, description="of the prototypes, beside whitened features of length 1")


ClosedForm = Annotated[NetworkWhitening | NetworkPrototypes, Field(discriminator="kind")]
"""A head that is fitted to embeddings in closed form."""
