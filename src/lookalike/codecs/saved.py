"""Files of codecs: settings as JSON, arrays as safetensors. They may come from a stranger."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lookalike import atomic
from lookalike.errors import MismatchError, StorageError, reason_of
from lookalike.metric import Metric, VectorSpace
from lookalike.shapes import Shaped
from lookalike.untrusted import parsing
from lookalike.untrusted.paths import read_inside

T = TypeVar("T")

Arrays = dict[str, Shaped[np.ndarray, "..."]]

SETTINGS = "codec.json"
ARRAYS = "codec.safetensors"

FORMAT = 1

LARGEST = 2.0**60
"""The limit of a number in an embedding and in an array of a codec; the square of a larger one may overflow float32."""

_MAX_SETTINGS = 2**16
_MAX_ARRAYS = 2**28
_FINGERPRINT = 64


@dataclass(frozen=True)
class Reader:
    """Settings and arrays of a saved codec, checked while they are taken out one by one.

    Attributes:
        where: the folder, for messages.
        settings: those that were not taken yet.
        arrays: those that were not taken yet.
    """

    where: str
    settings: dict[str, Any]
    arrays: Arrays = field(default_factory=dict)

    def damaged(self, reason: str) -> StorageError:
        """Make the error of a damaged codec."""
        return StorageError(f"The codec in {self.where} is damaged: {reason}. Compress the collection again.")

    def integer(self, name: str, smallest: int, largest: int) -> int:
        """Take a whole number in a range."""
        value = self.settings.pop(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
            raise self.damaged(f"{name} is not a whole number from {smallest} to {largest}")
        return value

    def number(self, name: str, smallest: float, largest: float) -> float:
        """Take a number in a range."""
        value = self.settings.pop(name, None)
        if not isinstance(value, int | float) or isinstance(value, bool) or not smallest <= value <= largest:
            raise self.damaged(f"{name} is not a number from {smallest:g} to {largest:g}")
        return float(value)

    def choice(self, name: str, choices: Iterable[T]) -> T:
        """Take one of several values."""
        value = self.settings.pop(name, None)
        for choice in choices:
            if value == choice and type(value) is type(choice):
                return choice
        raise self.damaged(f"{name} has an unknown value")

    def array(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> Shaped[np.ndarray, "..."]:
        """Take an array of this dtype and shape; none stands for any length. Floats are finite."""
        array = self.arrays.pop(name, None)
        if array is None:
            raise self.damaged(f"the array {name} is missing")
        fits = len(array.shape) == len(shape) and all(
            want in (None, length) for want, length in zip(shape, array.shape, strict=True)
        )
        if array.dtype != np.dtype(dtype) or not fits:
            raise self.damaged(f"the array {name} has another dtype or shape")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise self.damaged(f"the array {name} has a number that is not finite")
        return array

    def take(self, prefix: str) -> Arrays:
        """Take the arrays whose names have this prefix, without it."""
        names = [name for name in self.arrays if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.arrays.pop(name) for name in names}

    def check_size(self, name: str, array: Shaped[np.ndarray, "..."]) -> None:
        """Check that the numbers of an array are not so large that distances overflow."""
        if not (np.abs(array) <= LARGEST).all():
            raise self.damaged(f"the array {name} has a number beyond {LARGEST:.0e}")

    def finish(self) -> None:
        """Check that nothing is left over."""
        if unknown := [*self.settings, *self.arrays]:
            raise self.damaged(f"it has an unknown {unknown[0][:40]!r}")


def save(
    folder: Path,
    name: str,
    embeddings: VectorSpace,
    settings: Mapping[str, Any],
    arrays: Arrays,
    *,
    encoder: str | None = None,
) -> None:
    """Write a codec into a folder; see `Codec.save`. The JSON has the SHA-256 of the arrays, and is written last."""
    data, text = _serialise(name, embeddings, settings, arrays, encoder)
    try:
        atomic.write_bytes(folder / ARRAYS, data)
        atomic.write_text(folder / SETTINGS, text)
    except OSError as e:
        raise StorageError(f"The codec cannot be written into {folder}: {reason_of(e)}.") from e


def size(name: str, embeddings: VectorSpace, settings: Mapping[str, Any], arrays: Arrays) -> int:
    """Return the bytes of both files."""
    data, text = _serialise(name, embeddings, settings, arrays, None)
    return len(data) + len(text.encode())


def _serialise(
    name: str, embeddings: VectorSpace, settings: Mapping[str, Any], arrays: Arrays, encoder: str | None
) -> tuple[bytes, str]:
    import safetensors.numpy  # noqa: PLC0415 -- most commands load no codec

    data = safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
    document = {
        "format": FORMAT,
        "codec": name,
        "embeddings": {"metric": str(embeddings.metric), "dimension": embeddings.dimension},
        "encoder": encoder,
        "sha256": hashlib.sha256(data).hexdigest(),
        "settings": dict(settings),
    }
    return data, json.dumps(document, indent=2) + "\n"


def load(folder: Path, name: str, embeddings: VectorSpace, encoder: str | None) -> Reader:
    """Read a codec's files; see `Codec.load`."""
    reader = Reader(str(folder), *_read(folder))
    if reader.settings.get("format") != FORMAT:
        raise MismatchError(f"The codec in {folder} has another format than {FORMAT}. Update lookalike.")
    reader.choice("format", [FORMAT])
    if reader.settings.get("codec") != name:
        raise MismatchError(
            f"{folder} holds another codec than “{name}”. Load it by its own name, or compress the collection again."
        )
    reader.choice("codec", [name])
    space, own = reader.settings.pop("embeddings", None), reader.settings.pop("encoder", None)
    if not isinstance(space, dict) or set(space) != {"metric", "dimension"}:
        raise reader.damaged("embeddings is not a metric and a dimension")
    inner = Reader(reader.where, space)
    fitted_on = VectorSpace(Metric(inner.choice("metric", map(str, Metric))), inner.integer("dimension", 1, 2**20))
    if fitted_on != embeddings:
        raise MismatchError(
            f"The codec in {folder} encodes {fitted_on.dimension} numbers by the {fitted_on.metric} metric, not"
            f" {embeddings.dimension} by {embeddings.metric}. Use the encoder and the metric that it was fitted for."
        )
    if own is not None and not (isinstance(own, str) and len(own) == _FINGERPRINT):
        raise reader.damaged("encoder is not a fingerprint")
    if encoder is not None and own is not None and own != encoder:
        raise MismatchError(
            f"The codec in {folder} was fitted for another encoder. Use that encoder, or compress the collection again."
        )
    settings = reader.settings.pop("settings", None)
    if not isinstance(settings, dict):
        raise reader.damaged("it has no settings")
    arrays = dict(reader.arrays)
    reader.arrays.clear()
    reader.finish()
    return Reader(reader.where, settings, arrays)


def _read(folder: Path) -> tuple[dict[str, Any], Arrays]:
    from safetensors import SafetensorError  # noqa: PLC0415 -- as in `_serialise`
    from safetensors.numpy import load as parse  # noqa: PLC0415

    damaged = Reader(str(folder), {}).damaged
    try:
        document = parsing.parse_json(read_inside(folder, SETTINGS, _MAX_SETTINGS))
        data = read_inside(folder, ARRAYS, _MAX_ARRAYS)
    except (OSError, ValueError) as e:
        raise StorageError(f"The codec in {folder} cannot be read: {reason_of(e)}.") from e
    if not isinstance(document, dict):
        raise damaged(f"{SETTINGS} is not a mapping")
    if document.pop("sha256", None) != hashlib.sha256(data).hexdigest():
        raise damaged(f"{ARRAYS} is not the file that {SETTINGS} names")
    try:
        return document, parse(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as e:
        raise damaged(f"{ARRAYS} is not safetensors") from e
