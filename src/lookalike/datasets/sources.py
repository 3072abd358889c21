"""Sources of labelled images: frozen models, one for each layout, that refuse unknown fields."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

from lookalike.errors import DataError, NotFoundError, UsageError, plain_reason
from lookalike.unicode_forms import to_path

Split = Literal["train", "validation", "test"]
"""The part of a dataset that trains a network, chooses its settings, or measures it."""

_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def parse_split(name: str) -> Split | None:
    """Return the split that a name such as ``val`` or ``Training`` means; None for any other name."""
    return _SPLITS.get(name.strip().lower())


def _normalise_split(name: object) -> object:
    split = parse_split(name) if isinstance(name, str) else None
    if name is None or split:
        return split
    msg = f"“{name}” is not a split; give one of {', '.join(get_args(Split))}"
    raise ValueError(msg)


class _Source(BaseModel):
    # Numbers become strings: in YAML, the classes of digits are [0, 1, 2].
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    split: Annotated[Split | None, BeforeValidator(_normalise_split)] = Field(None, description="only this split")
    classes: tuple[str, ...] | None = Field(None, min_length=1, description="only these classes")
    limit: int | None = Field(
        None, gt=0, description="largest number of photos of each class in each split; always the same ones"
    )


class FolderSource(_Source):
    """A folder per class, or per split and class; ``sketches`` is a second folder of the same layout.

    A sketch belongs to the photo of its class with the same stem, or with the stem that precedes a ``-``: ``cup-7.png`` and
    ``cup-7-2.png`` are sketches of ``cup-7.jpg``. A sketch without a photo has only a class. So do all sketches if the names of
    those of each class are numbers without gaps: they are counted, and their numbers mean no item.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    sketches: Path | None = None


class CsvSource(_Source):
    """A table with the columns ``path`` and ``label``, and optionally ``split``, ``is_query`` and ``is_gallery``.

    Paths are relative to the table's folder, or to ``folder``. Other columns are ignored.
    """

    kind: Literal["csv"] = "csv"
    path: Path
    folder: Path | None = None


class NpzSource(_Source):
    """NumPy arrays of images, n × h × w or n × h × w × 3, with labels.

    The file has pairs such as ``x_train`` and ``y_train``, ``x_val`` and ``y_val``, ``x_test`` and ``y_test``, or the two
    arrays that ``images`` and ``labels`` name.
    """

    kind: Literal["npz"] = "npz"
    path: Path
    images: str = "images"
    labels: str = "labels"


class ToyShopSource(_Source):
    """Generated products of the toy shop, each with a photo and ``sketches`` sketches."""

    kind: Literal["toyshop"]
    count: int = Field(gt=0, le=1_000_000)
    seed: int = Field(ge=0, lt=2**63)
    sketches: int = Field(0, ge=0, le=100)


def _kind(value: Any) -> Any:  # noqa: ANN401 -- a YAML value has any type
    return value.get("kind", "folder") if isinstance(value, dict) else getattr(value, "kind", None)


Source = Annotated[
    Annotated[FolderSource, Tag("folder")]
    | Annotated[CsvSource, Tag("csv")]
    | Annotated[NpzSource, Tag("npz")]
    | Annotated[ToyShopSource, Tag("toyshop")],
    Discriminator(_kind),
]
"""Any source; ``folder`` is the default kind."""


def infer_source(path: str | os.PathLike[str], **settings: object) -> FolderSource | CsvSource | NpzSource:
    """Infer the source from a path: a folder, a ``.csv`` or an ``.npz``.

    Args:
        path: where the images are.
        settings: fields of that source, such as ``split="test"``.

    Raises:
        NotFoundError: the path does not exist.
        DataError: the file is of another type.
        UsageError: the path has the wrong type or is empty, or the source has no such field or does not accept the value.
    """
    path = to_path(path)
    models: dict[str, type[FolderSource | CsvSource | NpzSource]] = {".csv": CsvSource, ".npz": NpzSource}
    if not os.path.exists(path):  # noqa: PTH110 -- false for a name that is too long, too
        raise NotFoundError(f"There is no folder and no file {path}. Check the path.")
    model = FolderSource if path.is_dir() else models.get(path.suffix.lower())
    if model is None:
        raise DataError(f"{path} is not a folder, .csv or .npz; for the layouts, run: lookalike datasets.")
    try:
        return model.model_validate({"path": path, **settings})
    except ValidationError as e:
        first = e.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {plain_reason(first['msg'])}, for {path}.") from e


LAYOUTS: dict[str, tuple[str, str]] = {
    "folder": (
        "a folder with a folder for each class, optionally inside a folder for each split",
        "cups/1.jpg  cups/2.jpg  chairs/7.png\ntrain/cups/1.jpg  train/chairs/7.png  test/cups/2.jpg  test/chairs/8.png",
    ),
    "csv": (
        "a table of paths (relative to its folder) and labels; other columns are ignored",
        "path,label,split\nimages/1.jpg,cups,train\nimages/2.jpg,cups,test",
    ),
    "npz": (
        "NumPy arrays of images (n, h, w) or (n, h, w, 3), as uint8, bool or floats from 0 to 1, with labels",
        "x_train (60000, 28, 28)  y_train (60000,)  x_test (10000, 28, 28)  y_test (10000,)\nimages (964, 20, 105, 105)  labels (964, 20)",
    ),
    "toyshop": (
        "generated products and their sketches, for recipes without data",
        "{kind: toyshop, count: 640, seed: 1, sketches: 2}",
    ),
}
"""Every layout: kind → (description, examples line by line)."""
