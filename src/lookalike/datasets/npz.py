"""Labelled images in NumPy's npz files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike.datasets.dataset import Dataset
from lookalike.datasets.lazy_images import ArrayImages
from lookalike.datasets.npz_file import NpzFile
from lookalike.datasets.sources import NpzSource, Split
from lookalike.errors import DataError

_ENDINGS: tuple[tuple[str, Split], ...] = (
    ("train", "train"),
    ("val", "validation"),
    ("valid", "validation"),
    ("validation", "validation"),
    ("test", "test"),
)

# Images of floats that are checked and converted at a time.
_CHUNK = 1024


@dataclass(frozen=True)
class _Pair:
    """An array of images and its array of labels, by name."""

    split: Split | None
    images: str
    labels: str


def open_npz(source: NpzSource) -> Dataset:
    """Read the arrays of a file; of one split only, if the source names one.

    Raises:
        DataError: the file does not exist, is not an npz, or lacks the arrays; or an array has Python objects, another
            type, another shape, or floats outside 0…1.
    """
    path = source.path
    with NpzFile(path) as file:
        pairs = _pairs(source, file)
        arrays = [(_read_images(path, file, pair.images), _read_labels(path, file, pair.labels)) for pair in pairs]
    if len({labels.dtype.kind for _, labels in arrays}) > 1:
        raise DataError(f"{path} has numbers as labels in one split and names in another; use the same in both.")
    flat = [_flatten(path, pair, *both) for pair, both in zip(pairs, arrays, strict=True)]
    counts = [len(labels) for _, labels in flat]
    array_of_row = np.repeat(np.arange(len(flat)), counts)
    row_in_array = np.concatenate([np.arange(count) for count in counts])
    classes, positions = np.unique(np.concatenate([labels for _, labels in flat]), return_inverse=True)
    return Dataset(
        name=str(path),
        images=ArrayImages(
            tuple(pixels for pixels, _ in flat),
            tuple(f"{path}: {pair.images}" for pair in pairs),
            np.stack([array_of_row, row_in_array], axis=1),
        ),
        labels=positions.astype(np.int64),
        classes=tuple(map(str, classes.tolist())),
        items=np.arange(len(positions)),
        sketch=np.zeros(len(positions), bool),
        splits=None if pairs[0].split is None else np.repeat([str(pair.split) for pair in pairs], counts),
    )


def _pairs(source: NpzSource, file: NpzFile) -> list[_Pair]:
    present = set(file.names)
    if {source.images, source.labels} <= present:
        return [_Pair(None, source.images, source.labels)]
    pairs: list[_Pair] = []
    for ending, split in _ENDINGS:
        x, y = f"x_{ending}", f"y_{ending}"
        if (x in present) != (y in present):
            raise DataError(f"{source.path} has only one of {x} and {y}; it needs images and labels.")
        if x in present:
            pairs.append(_Pair(split, x, y))
    named = {"images", "labels"} & source.model_fields_set
    if not pairs or named:
        raise DataError(
            f"{source.path} has the arrays {', '.join(file.names) or '(none)'}, but neither {source.images} and "
            f"{source.labels} nor x_train, y_train, x_test and y_test. Name them with the settings images and labels."
        )
    return [pair for pair in pairs if source.split in (None, pair.split)] or pairs


def _read_labels(path: Path, file: NpzFile, name: str) -> np.ndarray:
    labels = file.read(name)
    if labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    if labels.dtype.kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as e:
            raise DataError(f"“{name}” in {path} is not in UTF-8; save the labels as str.") from e
    if labels.dtype.kind != "U":
        raise DataError(f"“{name}” in {path} holds {labels.dtype}; labels are whole numbers or text.")
    return labels


def _read_images(path: Path, file: NpzFile, name: str) -> np.ndarray:
    values = np.atleast_1d(file.read(name))
    if values.dtype in (np.uint8, np.bool_):
        return values
    if values.dtype.kind != "f":
        raise DataError(f"“{name}” in {path} holds {values.dtype}; images are uint8, bool or floats from 0 to 1.")
    out = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        # Negated, so that NaN is refused too.
        if not ((chunk >= 0) & (chunk <= 1)).all():
            raise DataError(f"“{name}” in {path} has floats outside 0 to 1; scale them, and replace NaN.")
        np.rint(chunk * 255, out=out[start : start + _CHUNK], casting="unsafe")
    return out


def _flatten(path: Path, pair: _Pair, pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``(n, h, w[, c])`` and labels ``(n,)`` of arrays that may have more, equal leading axes."""
    if labels.ndim > 1 and labels.shape[1:] == (1,) and pixels.shape[1:2] != (1,):
        labels = labels[:, 0]  # a column, as in Keras
    leading, image_shape = pixels.shape[: labels.ndim], pixels.shape[labels.ndim :]
    if not labels.ndim or leading != labels.shape:
        raise DataError(
            f"{path}: {pair.images} has shape {pixels.shape} and {pair.labels} has shape {labels.shape}; each image needs one "
            "label."
        )
    colour = len(image_shape) == 3 and image_shape[2] in (1, 3)  # noqa: PLR2004 -- height, width, channels
    if not (len(image_shape) == 2 or colour) or 0 in image_shape[:2]:  # noqa: PLR2004 -- height, width
        raise DataError(
            f"{path}: {pair.labels} of shape {labels.shape} gives each image in {pair.images} the shape {image_shape}; an "
            "image has (height, width) or (height, width, 3)."
        )
    if not labels.size:
        raise DataError(f"{path}: there are no images in {pair.images}.")
    return pixels.reshape(-1, *image_shape), labels.reshape(-1)
