"""A recipe of a head: the last layer of an existing encoder, fitted to labelled images in seconds."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field

from lookalike.datasets import Source
from lookalike.encoders.card import MAX_DIMENSION, Scope, Text
from lookalike.learn.losses import ProxyAnchorTerm, SupervisedContrastiveTerm
from lookalike.learn.part import Count, Part, Positive
from lookalike.learn.recipe.head import Whitening

_Shrinkage = Annotated[float, Field(ge=0, le=1)]
_Dimension = Annotated[int, Field(gt=0, le=MAX_DIMENSION)]


_Beside = Annotated[
    bool,
    Field(
        description="keep the encoder's embedding, beside a projection of the features before the network's last layers"
    ),
]


class Unchanged(Part):
    """The encoder's own embeddings."""

    kind: Literal["none"] = "none"


class EncoderWhitening(Whitening):
    """Whitening of an encoder's embeddings."""

    dimension: _Dimension | None = Field(None, description="numbers of an embedding; by default as many as before")
    beside: _Beside = False


class Discriminant(Part):
    """Linear discriminant analysis: whitening, and only the axes between the means of classes; see ``heads.lda``."""

    kind: Literal["lda"]
    shrinkage: _Shrinkage = 0.3
    dimension: _Dimension | None = Field(
        None, description="by default one less than there are classes, at most as before"
    )


class LinearMetric(Part):
    """A projection that is trained by a loss, from whitening on; see ``heads.linear``."""

    kind: Literal["linear"]
    loss: Annotated[ProxyAnchorTerm | SupervisedContrastiveTerm, Field(discriminator="kind")]
    shrinkage: _Shrinkage = Field(0.8, description="of the whitening that training begins from")
    dimension: _Dimension | None = None
    beside: _Beside = False
    epochs: Count = 15
    batch: Count = 512
    learning_rate: Positive = 1e-3


HeadSettings = Annotated[Unchanged | EncoderWhitening | Discriminant | LinearMetric, Field(discriminator="kind")]
"""Any head that a recipe can name."""

CANDIDATES: tuple[Unchanged | EncoderWhitening | Discriminant | LinearMetric, ...] = (
    Unchanged(),
    EncoderWhitening(kind="whitening", shrinkage=0.1),
    EncoderWhitening(kind="whitening", shrinkage=0.3),
    EncoderWhitening(kind="whitening", shrinkage=0.5),
    EncoderWhitening(kind="whitening", shrinkage=0.8),
    Discriminant(kind="lda", shrinkage=0.5),
    LinearMetric(kind="linear", loss=ProxyAnchorTerm(kind="proxy_anchor")),
    LinearMetric(kind="linear", loss=SupervisedContrastiveTerm(kind="supervised_contrastive")),
)
"""The heads that ``auto`` compares."""

BESIDE: tuple[EncoderWhitening | LinearMetric, ...] = (
    EncoderWhitening(kind="whitening", shrinkage=0.3, beside=True),
    LinearMetric(kind="linear", loss=SupervisedContrastiveTerm(kind="supervised_contrastive"), beside=True),
)
"""Those that it compares, too, if a network has features before its last layers."""


class HeadData(Part):
    """The labelled images of a head."""

    sources: tuple[Source, ...] = Field(min_length=1)
    held_out: float = Field(
        0.25, gt=0, lt=1, description="share of each class's images that measures the gain and calibrates the encoder"
    )


class HeadRecipe(Part):
    """The settings of a head for an existing encoder."""

    name: str = Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9-]*$", description="the new encoder's name")
    description: Text = ""
    scope: Scope | None = None
    encoder: str = Field(
        alias="from", max_length=4_000, description="the encoder to improve: a bundled name, a folder, or hf://org/repo"
    )
    fingerprint: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of that encoder; a run with another one is refused"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    data: HeadData
    head: HeadSettings | Literal["auto"] = Field("auto", description="auto: the best one of several")
    choose_by: Literal["both", "classes", "images"] = Field(
        "both",
        description="what must get better for `auto`: retrieval of new classes, of new images of these classes, or both",
    )

    def absolute(self) -> Self:
        """Return a copy with absolute paths of the images."""
        sources = []
        for source in self.data.sources:
            paths = {name: path.absolute() for name, path in source if isinstance(path, Path)}
            sources.append(source.model_copy(update=paths))
        return self.model_copy(update={"data": self.data.model_copy(update={"sources": tuple(sources)})})

    def to_tree(self) -> dict[str, Any]:
        """Return the recipe as plain values with every default."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """Return the recipe as YAML with every default."""
        return yaml.safe_dump(self.to_tree(), sort_keys=False, allow_unicode=True)
