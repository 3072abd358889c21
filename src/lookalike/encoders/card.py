"""Encoder cards, the files ``encoder.json``: properties, calibration and provenance of encoders."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lookalike import atomic
from lookalike.encoders.crops import Crops, source_side
from lookalike.encoders.network import one_line
from lookalike.encoders.paths import own_file
from lookalike.errors import EncoderError, MismatchError, NotFoundError, StorageError, UsageError, plain_reason
from lookalike.images import Fit, Fitting, Interpolation, Resizing
from lookalike.metric import Metric
from lookalike.query import Branch
from lookalike.shapes import Float64, Shaped
from lookalike.untrusted import parsing

FORMAT = 1

MAX_SIZE = 1024
"""The limit of pixels a side. 64 fitted images are in memory at once: 200 MB at this size. Networks of images take 32 to 640."""

MAX_DIMENSION = 65_536
"""The limit of numbers an image; embeddings have 32 to 4,096."""

MAX_TOKENS = 1024
"""The limit of tokens a text. Networks of texts take 32 to 248."""

_MAX_BYTES = 1 << 20

_LINE = r"^[^\p{Cc}\p{Zl}\p{Zp}]*$"
Line = Annotated[str, Field(max_length=200, pattern=_LINE)]
"""One line of text."""

Text = Annotated[str, Field(max_length=10_000)]

_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_LINE)]

Scope = Annotated[str, Field(min_length=1, max_length=300, pattern=_LINE)]
"""One line of text: what an encoder was trained on, and which images it does not know."""


class _Strict(BaseModel):
    # An alias is the name of a field in files.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )


# Of values in 0…1. The limits leave room for networks that take 0…255, and none for infinity in float32.
Mean = Annotated[float, Field(ge=-1e3, le=1e3)]
Std = Annotated[float, Field(ge=1e-6, le=1e6)]


class Input(_Strict):
    """The preprocessing of an image: fit to ``size`` pixels a side, then (value / 255 - mean) / std."""

    size: int = Field(gt=0, le=MAX_SIZE)
    fit: Fit
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Std, Std, Std]
    resize: int | None = Field(
        default=None,
        gt=0,
        le=4 * MAX_SIZE,
        description="side to resize to in whole pixels before the middle is cropped, as torchvision does; none: as `fit` says",
    )
    interpolation: Interpolation = Field(default="bicubic", description="the filter of `resize`")
    crops: Crops = Field(default=1, description="how many embeddings of an image are averaged")

    @model_validator(mode="after")
    def _check_resize(self) -> Self:
        if self.resize is None:
            if self.interpolation != "bicubic":
                raise ValueError("interpolation needs resize")
        elif self.fit == "pad" or self.resize < self.size:
            raise ValueError("resize needs the fit “squash” or “crop”, and at least size pixels")
        return self

    @property
    def side(self) -> int:
        """Pixels a side of a fitted image: ``size``, or more if crops are cut from it."""
        return source_side(self.size, self.crops)

    @property
    def fitting(self) -> Fitting:
        """How an image becomes a square of ``side``."""
        if self.resize is None or self.fit == "pad":
            return self.fit
        return Resizing(self.fit, max(self.resize, self.side), self.interpolation)

    @property
    def decoded_side(self) -> int:
        """The side of the square that a decoded image is resized to."""
        return max(self.resize or 0, self.side)


TokenPool = Literal["first", "mean"]


class Output(_Strict):
    """The output of a network that has several, or one for each part of an image."""

    name: Line | None = Field(default=None, min_length=1, description="of the output; none: the network has only one")
    pool: TokenPool | None = Field(
        default=None,
        description="how the vectors of an image's parts become one: the first, or the mean; none: there is one vector",
    )


class TextInput(_Strict):
    """The preprocessing of a text: tokens by ``tokenizer.json``, which also decides about case, then padding to ``tokens``."""

    tokens: int = Field(
        gt=0, le=MAX_TOKENS, description="tokens of each text; a longer text is cut, a shorter one padded"
    )
    padding: int = Field(default=0, ge=0, lt=2**31, description="the number of the token that pads a text")
    ids: _Name = Field(default="input_ids", description="the network's input for the numbers of the tokens")
    mask: _Name | None = Field(
        default=None, description="its input that is 1 for a token and 0 for padding; none if it has no such input"
    )
    output: _Name | None = Field(
        default=None, description="the output that is the embedding; none if it is the only one"
    )


_Distance = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Rate = Annotated[str, Field(max_length=40, pattern=r"^(0?\.\d+|1(\.0*)?|\d(\.\d+)?e-\d+)$")]


CalibrationKind = Literal["classes", "copies"]
"""What a genuine pair of a calibration is: two images of one class, or an image and a changed copy of it."""


class Calibration(_Strict):
    """A calibration of distances, fitted on held-out pairs.

    A card of an early version may have only the distances at false accept rates.
    """

    kind: CalibrationKind = Field(
        default="classes", description="of genuine pairs: of one class, or copies of one image"
    )

    distance_at_false_accept_rate: dict[_Rate, _Distance] = Field(
        alias="distance_at_far", max_length=100, description="false accept rate, as a decimal, to distance"
    )
    true_accept_rate: dict[_Rate, _Share] = Field(
        default={},
        max_length=100,
        description="false accept rate, as a decimal, to the share of genuine pairs within its distance",
    )
    metric: Metric | None = Field(default=None, description="of the distances; none: the card's")
    codec: Line = Field(default="none", description="name of the codec whose codes it was fitted on")
    threshold: _Distance | None = Field(
        default=None, description="the distance with the best accuracy: pairs within it count as the same"
    )
    knots: tuple[tuple[float, float], ...] = Field(
        default=(),
        max_length=10_000,
        description="(distance, probability of the same), linear in between and constant outside",
    )
    prior: float = Field(default=0.5, gt=0, lt=1, description="share of genuine pairs that the probabilities assume")
    genuine: int = Field(default=0, ge=0, description="number of genuine pairs that it was fitted on")
    impostors: int = Field(default=0, ge=0, description="number of impostor pairs")
    data: str = Field(default="", max_length=2_000, description="the data that it was fitted on")

    @model_validator(mode="after")
    def _check_knots(self) -> Self:
        distances, values = [knot[0] for knot in self.knots], [knot[1] for knot in self.knots]
        if any(a >= b for a, b in pairwise(distances)) or any(a < b for a, b in pairwise(values)):
            raise ValueError("the distances of knots must ascend, and their probabilities must not")
        if not all(0 <= value <= 1 for value in values):
            raise ValueError("a probability lies between 0 and 1")
        return self

    def probability(self, distances: Shaped[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """Compute P(same | distance) in 0…1 for equal priors; it never rises with the distance.

        It is too high if genuine pairs are rarer, as among all pairs of a collection. For odds ``o`` of a genuine pair,
        multiply ``p / (1 - p)`` by ``o``.

        Raises:
            UsageError: this calibration has no probabilities.
        """
        if not self.knots:
            raise UsageError("This encoder's calibration has no probabilities. Run lookalike calibrate.")
        at, values = np.array(self.knots).T
        return np.asarray(np.interp(distances, at, values))


class Provenance(_Strict):
    """The provenance of an encoder: its training recipe, data and results."""

    recipe: dict[str, Any] = Field(description="the whole training recipe")
    seed: int
    minutes: float = Field(description="of training, on `machine`")
    machine: str
    versions: dict[str, str]
    images: int = Field(alias="pictures", description="number of training images")
    figures: dict[str, float] = Field(description="measured on the validation split")
    weights: Annotated[str, Field(max_length=400, pattern=_LINE)] | None = Field(
        default=None,
        description="origin and licence of the public weights that training started from; none: random weights",
    )


_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Origin(_Strict):
    """The record of a public encoder: what was fetched, and what the network must still be."""

    source: Line = Field(description="address on the hub, or name of the folder")
    commit: Line | None = Field(default=None, description="of the repository on the hub; none: it was a folder")
    layout: Line = Field(description="the tool whose layout its files have")
    files: dict[Line, _Sha256] = Field(max_length=100, description="name and SHA-256 of each file that was read")
    networks: dict[Line, _Sha256] = Field(
        max_length=10, description="name and SHA-256 of each network and tokenizer in this folder"
    )


class Card(_Strict):
    """The contents of ``encoder.json``."""

    format: int = FORMAT
    name: Line = Field(min_length=1)
    description: Text
    scope: Scope | None = Field(default=None, description="what it was trained on, and which images it does not know")
    licence: Line
    dimension: int = Field(gt=0, le=MAX_DIMENSION, description="floats, or bits if the output is bits")
    output: Literal["float", "bits"]
    metric: Metric = Field(description="the metric that it was trained for")
    input: Input
    network_output: Output | None = Field(
        default=None, description="of the branches for images; none: the network has one output, a vector an image"
    )
    text: TextInput | None = Field(default=None, description="of the branch for texts")
    branches: tuple[Branch, ...] = Field(min_length=1, max_length=3)
    calibrations: tuple[Calibration, ...] = Field(default=(), max_length=2, description="at most one of each kind")
    provenance: Provenance | None = None
    origin: Origin | None = Field(default=None, description="of a public encoder that was fetched or converted")

    @model_validator(mode="before")
    @classmethod
    def _read_single_calibration(cls, tree: Any) -> Any:  # noqa: ANN401 -- anything that a file has
        """Accept the cards of early versions, which have one calibration."""
        if not isinstance(tree, dict) or "calibration" not in tree:
            return tree
        known = tree["calibration"]
        return {k: v for k, v in tree.items() if k != "calibration"} | {
            "calibrations": [] if known is None else [known]
        }

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if "photo" not in self.branches:
            raise ValueError("an encoder needs the branch “photo”")
        if len(set(self.branches)) < len(self.branches):
            raise ValueError("an encoder has each branch once")
        if ("text" in self.branches) != (self.text is not None):
            raise ValueError("an encoder with the branch “text” describes its input in “text”, and no other one does")
        if (self.output == "bits") != (self.metric is Metric.HAMMING):
            raise ValueError(f"the metric {self.metric} does not compare {self.output}s")
        if self.output == "bits" and self.dimension % 8:
            raise ValueError(f"the dimension of bits must be a multiple of 8, not {self.dimension}")
        if self.output == "bits" and self.input.crops > 1:
            raise ValueError("the bits of several crops have no mean")
        # The codes of a codec may have another metric than the encoder's output.
        for known in self.calibrations:
            if known.codec == "none" and known.metric and (known.metric is Metric.HAMMING) != (self.output == "bits"):
                raise ValueError(f"a calibration for {known.metric} does not apply to {self.output}s")
        if len({known.kind for known in self.calibrations}) < len(self.calibrations):
            raise ValueError("an encoder has one calibration of each kind")
        return self

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the ``encoder.json`` of an artefact.

        Raises:
            NotFoundError: the file does not exist.
            MismatchError: this version does not know its format.
            EncoderError: it is not an encoder card.
        """
        path = own_file(folder, "encoder.json")
        try:
            tree = parsing.read_json(path, _MAX_BYTES)
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotFoundError(f"{folder} is not an encoder: it has no encoder.json.") from e
        except OSError as e:
            raise EncoderError(f"{path} cannot be read: {e.strerror}.") from e
        except parsing.ParseError as e:
            raise EncoderError(f"{path} cannot be read: {e}. Export the encoder again.") from e
        # Before validation: another format may have other fields.
        if isinstance(tree, dict) and tree.get("format", FORMAT) != FORMAT:
            raise MismatchError(
                f"{path} has format {one_line(tree['format'])}; this lookalike reads format {FORMAT}. Update lookalike, or"
                " export again."
            )
        try:
            # Of JSON, in which a list is a tuple.
            return cls.model_validate_json(json.dumps(tree))
        except ValidationError as e:
            first = e.errors()[0]
            where = one_line(".".join(map(str, first["loc"])) or "the file")
            raise EncoderError(
                f"{path} is not an encoder card; {where}: {one_line(plain_reason(first['msg']))}."
            ) from e


def write_calibration(folder: Path, calibration: Calibration) -> Card:
    """Write a calibration into the card of an artefact, in place of an earlier one of its kind.

    Other processes see the old card or the new one. Embeddings and the encoder's fingerprint stay the same.

    Args:
        folder: the artefact's folder.
        calibration: of its embeddings, or of a codec's codes.

    Returns:
        The new card.

    Raises:
        NotFoundError, EncoderError: as `Card.read`.
        MismatchError: as `Card.read`, or the calibration is of bits and the encoder gives floats, or the other way round.
        StorageError: the folder is not writable.
    """
    card = Card.read(folder)
    try:
        others = [known.model_dump() for known in card.calibrations if known.kind != calibration.kind]
        # `model_copy` would not check whether the calibration applies to the encoder.
        card = Card.model_validate(card.model_dump() | {"calibrations": [*others, calibration.model_dump()]})
    except ValidationError as e:
        raise MismatchError(f"The calibration is not of the encoder in {folder}: {e.errors()[0]['msg']}.") from e
    path = folder / "encoder.json"
    try:
        atomic.write_text(path, card.model_dump_json(indent=2) + "\n")
    except OSError as e:
        raise StorageError(
            f"{path} cannot be written ({e.strerror}); calibrate a copy of the encoder in a folder of your own."
        ) from e
    return card
