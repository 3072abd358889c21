"""``encoder.json``: what an encoder is and where it comes from."""

import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Float64, Shaped
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from lookalike import atomic
from lookalike.errors import EncoderError, MismatchError, NotFoundError, StorageError, UsageError
from lookalike.images import Fit
from lookalike.metric import Metric
from lookalike.query import Branch

FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(_Part):
    """How a picture becomes the network's input: fitted to ``size`` pixels a side, (value / 255 - mean) / std."""

    size: int = Field(gt=0, le=4096)
    fit: Fit
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Calibration(_Part):
    """What distances mean, fitted on held-out pairs.

    A card of before this was measured may tell the distances at given false accept rates alone.
    """

    distance_at_far: dict[str, float] = Field(description="false accept rate, as a decimal, to distance")
    metric: Metric | None = Field(default=None, description="of the distances; none: the card's")
    codec: str = Field(default="none", description="name of the codec whose vectors the distances are of")
    threshold: float | None = Field(
        default=None, ge=0, description="the distance of best accuracy; no farther is the same"
    )
    knots: tuple[tuple[float, float], ...] = Field(
        default=(), description="(distance, probability of the same), straight in between and constant outside"
    )
    prior: float = Field(default=0.5, gt=0, lt=1, description="share of genuine pairs that the probabilities assume")
    genuine: int = Field(default=0, ge=0, description="pairs of the same that it was fitted on")
    impostors: int = Field(default=0, ge=0, description="pairs of different ones")
    data: str = Field(default="", description="what it was fitted on")

    @model_validator(mode="after")
    def _falls(self) -> Self:
        distances, values = [knot[0] for knot in self.knots], [knot[1] for knot in self.knots]
        if any(a >= b for a, b in pairwise(distances)) or any(a < b for a, b in pairwise(values)):
            raise ValueError("the knots of a probability ascend in distance, and the probability never rises")
        if not all(0 <= value <= 1 for value in values):
            raise ValueError("a probability lies between 0 and 1")
        return self

    def probability(self, distances: Shaped[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """P(same | distance) in 0…1, as if half of all pairs were of the same; it never rises with the distance.

        Where genuine pairs are rarer than that, as among all pairs of a collection, it is too high: with odds ``o``
        of meeting one, ``p / (1 - p)`` is to be multiplied by ``o``.

        Raises:
            UsageError: this calibration has no probabilities.
        """
        if not self.knots:
            raise UsageError("This encoder's calibration tells no probabilities; run: lookalike calibrate.")
        at, values = np.array(self.knots).T
        return np.asarray(np.interp(distances, at, values))


class Provenance(_Part):
    """How the encoder came to be."""

    recipe: dict[str, Any] = Field(description="the training recipe, whole")
    seed: int
    minutes: float = Field(description="of training, on `machine`")
    machine: str
    versions: dict[str, str]
    pictures: int = Field(description="trained on")
    figures: dict[str, float] = Field(description="measured on the validation split")


class Card(_Part):
    """The contents of ``encoder.json``."""

    format: int = FORMAT
    name: str
    description: str
    licence: str
    dimension: int = Field(gt=0, description="floats, or bits where the output is bits")
    output: Literal["float", "bits"]
    metric: Metric = Field(description="the one it was trained for")
    input: Input
    branches: tuple[Branch, ...] = Field(min_length=1)
    calibration: Calibration | None = None
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if "photo" not in self.branches:
            raise ValueError("an encoder needs the branch “photo”")
        if (self.output == "bits") != (self.metric is Metric.HAMMING):
            raise ValueError(f"{self.output}s are not compared by {self.metric}")
        if self.output == "bits" and self.dimension % 8:
            raise ValueError(f"{self.dimension} bits fill no whole bytes")
        known = self.calibration.metric if self.calibration else None
        if known and (known is Metric.HAMMING) != (self.output == "bits"):
            raise ValueError(f"{self.output}s are not calibrated for {known}")
        return self

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``encoder.json`` of an artefact.

        Raises:
            NotFoundError: no such file.
            MismatchError: it is of a format that this version does not know.
            EncoderError: it is no encoder card.
        """
        path = folder / "encoder.json"
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotFoundError(f"{folder} is no encoder: it has no encoder.json.") from e
        except (OSError, UnicodeDecodeError) as e:
            raise EncoderError(f"{path} cannot be read: {e}.") from e
        # Before anything else: another format may have other fields.
        with suppress(ValueError):
            tree = json.loads(text)
            if isinstance(tree, dict) and tree.get("format", FORMAT) != FORMAT:
                raise MismatchError(
                    f"{path} has format {tree['format']}; this lookalike reads format {FORMAT}. Update lookalike, or export"
                    " again."
                )
        try:
            return cls.model_validate_json(text)
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise EncoderError(f"{path} is no encoder card; {where}: {first['msg']}.") from e


def calibrate(folder: Path, calibration: Calibration) -> Card:
    """Write a calibration into the card of an artefact, in place of one that may be there.

    Others see the old card or the new one, whole. The encoder's fingerprint stays as it is: embeddings do not change.

    Args:
        folder: of the artefact.
        calibration: what its distances mean.

    Returns:
        The card as it is now.

    Raises:
        NotFoundError, EncoderError: as `Card.read`.
        MismatchError: as there, or the calibration is of bits and the encoder gives floats, or the other way round.
        StorageError: the folder cannot be written.
    """
    card = Card.read(folder)
    try:
        # Through the model again: a calibration that does not go with the encoder is refused.
        card = Card.model_validate(card.model_dump() | {"calibration": calibration.model_dump()})
    except ValidationError as e:
        raise MismatchError(f"The calibration is not of the encoder in {folder}: {e.errors()[0]['msg']}.") from e
    path = folder / "encoder.json"
    try:
        atomic.write_bytes(path, (card.model_dump_json(indent=2) + "\n").encode())
    except OSError as e:
        raise StorageError(
            f"{path} cannot be written ({e.strerror}); calibrate a copy of the encoder in a folder of your own."
        ) from e
    return card
