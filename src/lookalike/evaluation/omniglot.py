"""The official one-shot classification runs of Omniglot (Lake, Salakhutdinov and Tenenbaum, Science 2015)."""

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from lookalike.errors import DataError, NotFoundError, UsageError
from lookalike.evaluation.fewshot import FewShotScores, classify
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Int64, Shaped

_MAX_BYTES = 2**20
"""Size limit of a file. The drawings of Omniglot have 300 bytes."""

_MAX_FILES = 1000
"""Largest number of test files of a run. The runs of Omniglot have 20."""

_LINE = re.compile(
    r"(?P<run>[^/\\]+)/test/(?P<test>[\w-][\w.-]*)\s+(?P<training_run>[^/\\]+)/training/(?P<training>[\w-][\w.-]*)"
)
"""A name has no separator and no leading dot, so it cannot mean a file outside the run."""

# zipfile raises these for damage, unknown compression and passwords.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


@dataclass(frozen=True, eq=False)
class OneShotRun:
    """One run: which training drawing shows the same character as a test drawing?

    Attributes:
        name: such as ``run01``.
        training: contents of files with one drawing of each character.
        test: contents of files with drawings by another person.
        truth: for each test file the position of its class in ``training``.
    """

    name: str
    training: tuple[bytes, ...]
    test: tuple[bytes, ...]
    truth: Int64[np.ndarray, " test"]


def read_runs(path: str | os.PathLike[str]) -> tuple[OneShotRun, ...]:
    """Read one-shot runs: the 20 of Omniglot's ``all_runs.zip``, or others of the same layout.

    Args:
        path: a folder or zip of ``run*/class_labels.txt``, ``run*/training/*.png`` and ``run*/test/*.png``. A line of
            ``class_labels.txt`` names a test file and the training file of its class.

    Raises:
        NotFoundError: the path does not exist.
        DataError: the folder or zip has another layout, a file of a run is missing or too large, or a run names files of
            another run.
        UsageError: the path has the wrong type.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"The path of one-shot runs is a str or a Path, not {type(path).__name__}.")
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"{path} does not exist; give a folder or zip of one-shot runs, such as Omniglot's.")
    try:
        if path.is_dir():
            return _read_folder(path, path)
        with ZipFile(path) as archive:
            return _read_folder(zipfile.Path(archive), path)
    except _DAMAGE as e:
        raise DataError(f"{path} is not a folder or zip of one-shot runs, or is damaged: {e}.") from e


def classify_runs(
    runs: Sequence[OneShotRun],
    embed: Callable[[list[bytes]], Shaped[np.ndarray, "n d"]],
    metric: Metric,
    progress: Progress = SILENT,
) -> FewShotScores:
    """Classify the test drawings of each run by their nearest training drawing.

    Args:
        runs: from `read_runs`.
        embed: embeds the contents of image files.
        metric: compares the embeddings.
        progress: receives the stage “one-shot runs”.

    Raises:
        UsageError: there are no runs.
    """
    if not runs:
        raise UsageError("There are no one-shot runs; read some with read_runs.")
    accuracies = []
    for number, run in enumerate(runs, 1):
        support = LabelledVectors(embed(list(run.training)), np.arange(len(run.training)))
        predicted = classify(embed(list(run.test)), support, metric).labels
        accuracies.append(float(np.mean(predicted == run.truth)))
        progress.advance("one-shot runs", number, len(runs))
    return FewShotScores(np.array(accuracies), max(len(run.training) for run in runs), 1, "example")


def _read_folder(root: "Path | zipfile.Path", path: Path) -> tuple[OneShotRun, ...]:
    folders = sorted((f for f in root.iterdir() if (f / "class_labels.txt").is_file()), key=lambda f: f.name)
    if not folders:
        raise DataError(f"{path} has no one-shot runs: none of its folders has a class_labels.txt.")
    return tuple(_read_run(folder, path) for folder in folders)


def _read_run(folder: "Path | zipfile.Path", path: Path) -> OneShotRun:
    place = f"{path}: {folder.name}/class_labels.txt"
    try:
        lines = _read_bytes(folder / "class_labels.txt", place).decode().split("\n")
    except UnicodeDecodeError as e:
        raise DataError(f"{place} is not text in UTF-8; download it again.") from e
    test_names, training_names = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            match = _LINE.fullmatch(line.strip())
            if not match or {match["run"], match["training_run"]} != {folder.name}:
                raise DataError(f"{place}, line {number}: not “{folder.name}/test/NAME {folder.name}/training/NAME”.")
            test_names.append(match["test"])
            training_names.append(match["training"])
    if not test_names or len(test_names) > _MAX_FILES:
        raise DataError(f"{place} names {len(test_names)} test files; a run has between 1 and {_MAX_FILES}.")
    names = sorted(set(training_names))
    training = tuple(
        _read_bytes(folder / "training" / name, f"{path}: {folder.name}/training/{name}") for name in names
    )
    test = tuple(_read_bytes(folder / "test" / name, f"{path}: {folder.name}/test/{name}") for name in test_names)
    return OneShotRun(folder.name, training, test, np.array([names.index(name) for name in training_names]))


def _read_bytes(file: "Path | zipfile.Path", place: str) -> bytes:
    """Read a file up to the limit; the size that a zip declares is not trusted."""
    if not file.is_file():
        raise DataError(f"{place} is missing.")
    with file.open("rb") as stream:
        content: bytes = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(f"{place} has more than {_MAX_BYTES:,} bytes, too many for a drawing.")
    return content
