"""Labelled pictures in NumPy's npz files."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from lookalike.datasets.dataset import Dataset
from lookalike.datasets.pictures import Arrays
from lookalike.datasets.sources import NpzSource, Split
from lookalike.errors import DataError

_ENDINGS: tuple[tuple[str, Split], ...] = (
    ("train", "train"),
    ("val", "validation"),
    ("valid", "validation"),
    ("validation", "validation"),
    ("test", "test"),
)

# What zipfile raises on bytes that lie; RuntimeError says that they are encrypted, or packed in an unknown way.
_BROKEN = (zipfile.BadZipFile, EOFError, RuntimeError)

# Pictures of floats that are looked at and converted at once.
_CHUNK = 1024


def find(source: NpzSource) -> Dataset:
    """Read the arrays; only those of its split, where the source names one.

    Raises:
        DataError: no such file, no npz, none of the arrays looked for, arrays of Python objects, of other types or of
            other shapes, floats that are not from 0 to 1.
    """
    path = source.path
    try:
        # Opened here: NumPy would leave what it cannot read open.
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array; save pictures and labels together with np.savez.")
            pairs = _pairs(source, file)
            read = [(split, x, _pictures(path, file, x), _labels(path, file, y), y) for split, x, y in pairs]
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror or e}.") from e
    except (ValueError, *_BROKEN) as e:
        raise DataError(f"{path} is no npz file, or a damaged one; save it with np.savez.") from e
    kinds = {labels.dtype.kind for _, _, _, labels, _ in read}
    if len(kinds) > 1:
        raise DataError(f"{path} has numbers for labels in one split and names in another; use the same in both.")
    arrays, every, splits, places = [], [], list[str](), []
    for i, (split, x, pictures, labels, y) in enumerate(read):
        flat, names = _flatten(path, x, pictures, y, labels)
        arrays.append(flat)
        every.append(names)
        splits += [split or ""] * len(names)
        places.append(np.stack([np.full(len(names), i), np.arange(len(names))], axis=1))
    classes, positions = np.unique(np.concatenate(every), return_inverse=True)
    return Dataset(
        name=str(path),
        pictures=Arrays(tuple(arrays), tuple(f"{path}: {x}" for _, x, _ in pairs), np.concatenate(places)),
        labels=positions.astype(np.int64),
        classes=tuple(map(str, classes.tolist())),
        items=np.arange(len(positions)),
        sketch=np.zeros(len(positions), bool),
        splits=None if pairs[0][0] is None else np.asarray(splits),
    )


def _pairs(source: NpzSource, file: np.lib.npyio.NpzFile) -> list[tuple[Split | None, str, str]]:
    """(split, pictures, labels): which arrays belong together."""
    there = set(file.files)
    if {source.images, source.labels} <= there:
        return [(None, source.images, source.labels)]
    pairs: list[tuple[Split | None, str, str]] = []
    for ending, split in _ENDINGS:
        x, y = f"x_{ending}", f"y_{ending}"
        if (x in there) != (y in there):
            raise DataError(f"{source.path} has only one of {x} and {y}; it takes pictures and labels.")
        if x in there:
            pairs.append((split, x, y))
    named = {"images", "labels"} & source.model_fields_set
    if not pairs or named:
        raise DataError(
            f"{source.path} has the arrays {', '.join(file.files) or 'of nothing'}; looked for were {source.images} and "
            f"{source.labels}, or x_train, y_train, x_test and y_test. Name them with the settings images and labels."
        )
    return [pair for pair in pairs if source.split in (None, pair[0])] or pairs


def _read(path: Path, file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array: object = file[name]
    except ValueError as e:
        if "pickle" not in str(e):
            raise DataError(f"“{name}” in {path} is damaged; save or download it again.") from e
        raise DataError(
            f"“{name}” in {path} holds Python objects, which could run anything when read; save it as numbers or text."
        ) from e
    except (*_BROKEN, zlib.error) as e:
        raise DataError(f"“{name}” in {path} is damaged; save or download it again.") from e
    if not isinstance(array, np.ndarray):  # any zip opens, and gives the bytes of what is no array
        raise DataError(f"“{name}” in {path} is no array; save the file with np.savez.")
    return array


def _labels(path: Path, file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    labels = _read(path, file, name)
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


def _pictures(path: Path, file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    values = np.atleast_1d(_read(path, file, name))
    if values.dtype in (np.uint8, np.bool_):
        return values
    if values.dtype.kind != "f":
        raise DataError(f"“{name}” in {path} holds {values.dtype}; pictures are uint8, bool or floats from 0 to 1.")
    out = np.empty(values.shape, np.uint8)
    for at in range(0, len(values), _CHUNK):
        some = values[at : at + _CHUNK]
        # Negated, so that NaN is refused too.
        if not ((some >= 0) & (some <= 1)).all():
            raise DataError(f"“{name}” in {path} has floats that are not from 0 to 1; scale them, and mend NaN.")
        np.rint(some * 255, out=out[at : at + _CHUNK], casting="unsafe")
    return out


def _flatten(path: Path, x: str, pictures: np.ndarray, y: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, h, w[, c]) and labels (n,): labels have the leading axes of their pictures, any number of them."""
    if labels.ndim > 1 and labels.shape[1:] == (1,) and pictures.shape[1:2] != (1,):
        labels = labels[:, 0]  # a column, as Keras has it
    lead, each = pictures.shape[: labels.ndim], pictures.shape[labels.ndim :]
    if not labels.ndim or lead != labels.shape:
        raise DataError(f"{path}: {x} of shape {pictures.shape} and {y} of shape {labels.shape} do not go together.")
    colour = len(each) == 3 and each[2] in (1, 3)  # noqa: PLR2004 -- height, width, channels
    if not (len(each) == 2 or colour) or 0 in each[:2]:  # noqa: PLR2004 -- height, width
        raise DataError(
            f"{path}: a picture in {x} would be of shape {each}, as {y} is of shape {labels.shape}; it should be "
            "(height, width), or (height, width, 3)."
        )
    if not labels.size:
        raise DataError(f"{path}: there are no pictures in {x}.")
    return pictures.reshape(-1, *each), labels.reshape(-1)
