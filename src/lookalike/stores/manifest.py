"""``manifest.json``: what every vector in a collection's folder has in common."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.errors import MismatchError, NotFoundError, StorageError
from lookalike.metric import Metric

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1


class EncoderPin(BaseModel):
    """Which encoder made the vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str


class Manifest(BaseModel):
    """``manifest.json``: what every vector in the folder has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["lookalike-collection"] = "lookalike-collection"
    version: int = FORMAT
    metric: Metric
    dimension: int = Field(gt=0, description="floats of a vector, or bits of a code")
    codec: str = "none"
    encoder: EncoderPin

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Of the vectors."""
        return self.metric.dtype

    @property
    def columns(self) -> int:
        """Of the matrix: floats, or bytes of packed bits."""
        return self.dimension if self.metric is not Metric.HAMMING else -(-self.dimension // 8)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a collection's manifest.

        Raises:
            NotFoundError: there is no collection.
            MismatchError: another version wrote it.
            StorageError: it is damaged.
        """
        path = folder / "manifest.json"
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotFoundError(
                f"There is no collection at {folder}. Make one with: lookalike index PICTURES --to {folder}"
            ) from e
        except (OSError, ValueError) as e:
            raise StorageError(f"{path} cannot be read: {e}.") from e
        if isinstance(tree, dict) and tree.get("version", FORMAT) != FORMAT:
            raise MismatchError(
                f"{folder} has the format {tree['version']}, and this lookalike reads format {FORMAT}."
                " Open it with the version that wrote it, or index the pictures again."
            )
        try:
            manifest = cls.model_validate(tree)
        except ValidationError as e:
            raise StorageError(f"{path} is damaged: {e.errors()[0]['msg']}.") from e
        if manifest.codec != "none":
            raise MismatchError(f"{folder} has the codec “{manifest.codec}”, which this lookalike does not know.")
        return manifest
