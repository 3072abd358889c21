"""The official one-shot classification runs of Omniglot (Lake, Salakhutdinov and Tenenbaum, Science 2015)."""

import errno
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from zipfile import ZipFile

import numpy as np

from lookalike.errors import DataError, NotFoundError, UsageError
from lookalike.evaluation.fewshot import FewShotScores, classify
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Int64, Shaped
from lookalike.unicode_forms import to_path
from lookalike.untrusted.paths import resolve_inside

_MAX_BYTES = 2**20
"""Size limit of a file. The drawings of Omniglot have 300 bytes."""

_MAX_FILES = 1000
"""Largest number of test files of a run, and of runs. Omniglot has 20 runs, with 20 test files each."""

_MAX_TOTAL = 2**28
"""Size limit of all files together, which are read into memory. Those of Omniglot have 300 kB."""

_LABELS = "class_labels.txt"

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
        UsageError: the path has the wrong type or is empty.
    """
    path = to_path(path)
    if not path.exists():
        raise NotFoundError(f"{path} does not exist; give a folder or zip of one-shot runs, such as Omniglot's.")
    try:
        if path.is_dir():
            return _read_all(_Folder(path))
        with ZipFile(path) as archive:
            return _read_all(_Archive(path, archive))
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


class _Files(Protocol):
    """The files of a folder or zip, by the names of run, folder and file; nothing outside of it is read."""

    @property
    def path(self) -> Path:
        """The folder or zip."""

    def runs(self) -> list[str]:
        """List the names of the folders that have a ``class_labels.txt``, sorted."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file ``RUN/FILE`` or ``RUN/FOLDER/FILE``; raises a `FileNotFoundError`, or another `OSError`."""


@dataclass(frozen=True)
class _Folder:
    path: Path

    def runs(self) -> list[str]:
        return sorted(f.name for f in self.path.iterdir() if (f / _LABELS).is_file())

    def open(self, name: str) -> IO[bytes]:
        file = resolve_inside(self.path, name)
        if not file.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return file.open("rb")


@dataclass(frozen=True)
class _Archive:
    """A zip. Its names are only compared, so that none of them leads anywhere."""

    path: Path
    archive: ZipFile

    def runs(self) -> list[str]:
        parts = (name.split("/") for name in self.archive.namelist())
        return sorted({run[0] for run in parts if run[1:] == [_LABELS] and run[0]})

    def open(self, name: str) -> IO[bytes]:
        try:
            return self.archive.open(name)
        except KeyError as e:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from e


class _Reader:
    """Reads files up to the limits; the sizes that a zip declares are not trusted."""

    def __init__(self, files: _Files) -> None:
        self.files = files
        self._left = _MAX_TOTAL

    def read(self, name: str) -> bytes:
        place = f"{self.files.path}: {name}"
        try:
            with self.files.open(name) as stream:
                content = stream.read(_MAX_BYTES + 1)
        except FileNotFoundError as e:
            raise DataError(f"{place} is missing.") from e
        if len(content) > _MAX_BYTES:
            raise DataError(f"{place} has more than {_MAX_BYTES:,} bytes, too many for a drawing.")
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"The runs in {self.files.path} have more than {_MAX_TOTAL:,} bytes, too many for drawings."
            )
        return content


def _read_all(files: _Files) -> tuple[OneShotRun, ...]:
    runs = files.runs()
    if not runs:
        raise DataError(f"{files.path} has no one-shot runs: none of its folders has a {_LABELS}.")
    if len(runs) > _MAX_FILES:
        raise DataError(f"{files.path} has {len(runs):,} one-shot runs, more than {_MAX_FILES:,}.")
    reader = _Reader(files)
    return tuple(_read_run(reader, run) for run in runs)


def _read_run(reader: _Reader, run: str) -> OneShotRun:
    place = f"{reader.files.path}: {run}/{_LABELS}"
    try:
        lines = reader.read(f"{run}/{_LABELS}").decode().split("\n")
    except UnicodeDecodeError as e:
        raise DataError(f"{place} is not text in UTF-8; download it again.") from e
    test_names, training_names = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            match = _LINE.fullmatch(line.strip())
            if not match or {match["run"], match["training_run"]} != {run}:
                raise DataError(f"{place}, line {number}: not “{run}/test/NAME {run}/training/NAME”.")
            test_names.append(match["test"])
            training_names.append(match["training"])
    if not test_names or len(test_names) > _MAX_FILES:
        raise DataError(f"{place} names {len(test_names)} test files; a run has between 1 and {_MAX_FILES}.")
    names = sorted(set(training_names))
    training = tuple(reader.read(f"{run}/training/{name}") for name in names)
    test = tuple(reader.read(f"{run}/test/{name}") for name in test_names)
    return OneShotRun(run, training, test, np.array([names.index(name) for name in training_names]))
