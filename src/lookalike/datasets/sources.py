"""Where labelled pictures come from: frozen models that refuse what they do not know."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

from lookalike.errors import DataError, NotFoundError, UsageError

Report = Callable[[str], None]
"""Hears a line for every picture that is left out."""

Split = Literal["train", "validation", "test"]
"""What pictures are for: to train on, to choose settings by, to report figures on."""

_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def split_of(name: str) -> Split | None:
    """The split of this name, as ``val`` or ``Training``; nothing if it is none."""
    return _SPLITS.get(name.strip().lower())


def _normalised(name: object) -> object:
    split = split_of(name) if isinstance(name, str) else None
    if name is None or split:
        return split
    msg = f"“{name}” is no split; give one of {', '.join(get_args(Split))}"
    raise ValueError(msg)


class _Source(BaseModel):
    # Numbers become strings: in YAML, the classes of digits are [0, 1, 2].
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    split: Annotated[Split | None, BeforeValidator(_normalised)] = Field(None, description="only this split")
    classes: tuple[str, ...] | None = Field(None, min_length=1, description="only these classes")
    limit: int | None = Field(None, gt=0, description="pictures of each class in each split, the same each time")


class FolderSource(_Source):
    """A folder per class, or per split and class. With ``sketches``, a second such folder of sketches of the first's.

    A sketch belongs to the photo whose stem its own stem equals, or begins with when a ``-`` follows (``cup-7.jpg`` is
    drawn by ``cup-7.png`` and ``cup-7-2.png``). Sketches of photos that are not there count for their class alone.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    sketches: Path | None = None


class CsvSource(_Source):
    """A table with the columns ``path`` and ``label``, and ``split``, ``is_query``, ``is_gallery`` if it likes.

    Paths are relative to the table's folder. Other columns are ignored.
    """

    kind: Literal["csv"] = "csv"
    path: Path


class NpzSource(_Source):
    """NumPy arrays of pictures, n × h × w or n × h × w × 3, with labels.

    Either ``x_train``, ``y_train``, ``x_val``, ``y_val``, ``x_test``, ``y_test`` (or some of the three pairs), or the two
    arrays that ``images`` and ``labels`` name.
    """

    kind: Literal["npz"] = "npz"
    path: Path
    images: str = "images"
    labels: str = "labels"


class ToyShopSource(_Source):
    """Items of the generated toy shop; ``sketches`` drawn variants of each."""

    kind: Literal["toyshop"]
    count: int = Field(gt=0)
    seed: int = Field(ge=0)
    sketches: int = Field(0, ge=0)


def _kind(value: Any) -> Any:  # noqa: ANN401 -- what a YAML file holds has any shape
    return value.get("kind", "folder") if isinstance(value, dict) else getattr(value, "kind", None)


Source = Annotated[
    Annotated[FolderSource, Tag("folder")]
    | Annotated[CsvSource, Tag("csv")]
    | Annotated[NpzSource, Tag("npz")]
    | Annotated[ToyShopSource, Tag("toyshop")],
    Discriminator(_kind),
]
"""Any of these; ``folder`` where no kind is given."""


def guess(path: Path, **fields: object) -> FolderSource | CsvSource | NpzSource:
    """The source that a path looks like: a folder, a ``.csv`` or an ``.npz``.

    Args:
        path: where the pictures are.
        fields: settings of that source, as ``split="test"``.

    Raises:
        NotFoundError: there is nothing at the path.
        DataError: it is a file of another kind.
        UsageError: a setting that this source does not have, or a value that it does not take.
    """
    kinds: dict[str, type[FolderSource | CsvSource | NpzSource]] = {".csv": CsvSource, ".npz": NpzSource}
    if not path.exists():
        raise NotFoundError(f"There is no folder and no file {path}. Check the path.")
    model = FolderSource if path.is_dir() else kinds.get(path.suffix.lower())
    if model is None:
        raise DataError(f"{path} is no folder, .csv or .npz; see what can be read: lookalike datasets.")
    try:
        return model.model_validate({"path": path, **fields})
    except ValidationError as e:
        first = e.errors()[0]
        raise UsageError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}, for {path}."
        ) from e


LAYOUTS: dict[str, tuple[str, str]] = {
    "folder": (
        "a folder with a folder for each class; above them folders for splits, if there are any",
        "cups/1.jpg  cups/2.jpg  chairs/7.png\ntrain/cups/1.jpg  train/chairs/7.png  test/cups/2.jpg  test/chairs/8.png",
    ),
    "csv": (
        "a table of paths (relative to its folder) and labels; other columns are ignored",
        "path,label,split\nimages/1.jpg,cups,train\nimages/2.jpg,cups,test",
    ),
    "npz": (
        "NumPy arrays of pictures (n, h, w) or (n, h, w, 3), as uint8, bool or floats from 0 to 1, with labels",
        "x_train (60000, 28, 28)  y_train (60000,)  x_test (10000, 28, 28)  y_test (10000,)\nimages (964, 20, 105, 105)  labels (964, 20)",
    ),
    "toyshop": (
        "generated products and sketches of them; in recipes, where no data is at hand",
        "{kind: toyshop, count: 640, seed: 1, sketches: 2}",
    ),
}
"""What can be read: kind → (what it is, examples line by line)."""
