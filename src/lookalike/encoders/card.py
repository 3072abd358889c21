"""``encoder.json``: what an encoder is and where it comes from."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from lookalike.errors import EncoderError, MismatchError, NotFoundError
from lookalike.images import Fit
from lookalike.metric import Metric

FORMAT = 1

Branch = Literal["photo", "sketch"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(_Part):
    """How a picture becomes the network's input: fitted to ``size`` pixels a side, (value / 255 - mean) / std."""

    size: int = Field(gt=0, le=4096)
    fit: Fit
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Calibration(_Part):
    """What distances mean, fitted on held-out pairs."""

    distance_at_far: dict[str, float] = Field(description="false accept rate, as a decimal, to distance")


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
