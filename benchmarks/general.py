"""The images of the encoders `general` and `sketch`: those that they learn from, and those that they are measured on.

::

    python benchmarks/general.py data

It writes tables of paths and classes, data/general.csv, data/fashion-300-articles.csv, data/sketchy-21.csv and data/sketchy-42.csv, and copies
the validation images of the first to data/general-validation, for `lookalike calibrate --copies`. If there is a folder ``tiny`` with
Tiny-ImageNet, it writes data/tiny.csv for `sketch`.

``data`` has the folders ``fashion-60``, ``fashion-300`` and ``sketchy-128``, and the tables ``fashion-60.csv`` and ``fashion-300.csv``.

Held out are all of fashion-300, and 42 classes of Sketchy's photos: the 21 unseen ones of the literature (Yelamarthi et al. 2018) and every
fifth of the other 104. Of the rest, every sixth class is for validation, and a fashion article has at most 60 images.
"""

import argparse
import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

UNSEEN = [
    "bat",
    "cabin",
    "cow",
    "dolphin",
    "door",
    "giraffe",
    "helicopter",
    "mouse",
    "pear",
    "raccoon",
    "rhinoceros",
    "saw",
    "scissors",
    "seagull",
    "skyscraper",
    "songbird",
    "sword",
    "tree",
    "wheelchair",
    "windmill",
    "window",
]

_EACH = 60

_OX, _EACH_TINY = "n02403003", 200

Row = tuple[str, str]
"""The path of an image, and its class."""


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    held = held_out_classes(data)
    sketchy = photos(data)
    learned = [*_at_most(articles(data, "fashion-60"), _EACH), *(row for row in sketchy if row[1] not in held)]
    classes = sorted({name for _, name in learned})
    validation = set(classes[2::6])
    rows = [(path, name, "validation" if name in validation else "train") for path, name in learned]
    _write(data / "general.csv", ("path", "label", "split"), rows)
    for path, _, split in rows:
        if split == "validation":
            to = data / "general-validation" / path.replace("/", "-")
            to.parent.mkdir(exist_ok=True)
            shutil.copyfile(data / path, to)
    _write(data / "fashion-300-articles.csv", ("path", "label"), articles(data, "fashion-300"))
    _write(data / "sketchy-21.csv", ("path", "label"), [row for row in sketchy if row[1] in UNSEEN])
    _write(data / "sketchy-42.csv", ("path", "label"), [row for row in sketchy if row[1] in held])
    if (data / "tiny").is_dir():
        _write(data / "tiny.csv", ("path", "label"), tiny(data))


def held_out_classes(data: Path) -> set[str]:
    """Return the 42 classes of Sketchy that nothing is fitted on."""
    names = sorted({name for _, name in photos(data)})
    return {*UNSEEN, *[name for name in names if name not in UNSEEN][::5]}


def photos(data: Path) -> list[Row]:
    """List the photos of Sketchy."""
    found = sorted((data / "sketchy-128" / "photo").glob("*/*.jpg"))
    return [(path.relative_to(data).as_posix(), path.parent.name) for path in found]


def articles(data: Path, name: str) -> list[Row]:
    """List the products of a set of fashion whose images exist, by article."""
    with (data / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        rows = [(f"{name}/{row['file']}", row["article"]) for row in csv.DictReader(file)]
    return [row for row in rows if (data / row[0]).is_file()]


def tiny(data: Path) -> list[Row]:
    """List the first images of each class of Tiny-ImageNet, but for oxen, which are an unseen class of Sketchy: cows."""
    classes = [folder for folder in sorted((data / "tiny" / "train").iterdir()) if folder.name != _OX]
    return [
        (path.relative_to(data).as_posix(), folder.name)
        for folder in classes
        for path in sorted((folder / "images").iterdir())[:_EACH_TINY]
    ]


def _at_most(rows: list[Row], limit: int) -> list[Row]:
    """Keep the first rows of each class."""
    counts: dict[str, int] = {}
    kept = []
    for row in rows:
        counts[row[1]] = counts.get(row[1], 0) + 1
        if counts[row[1]] <= limit:
            kept.append(row)
    return kept


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
