"""k-way n-shot classification: classes that were never trained, known by a few examples each.

A query goes to the class of its nearest example, or of its nearest *prototype*, the middle of a class's examples (Snell,
Swersky and Zemel, "Prototypical networks for few-shot learning", NIPS 2017).
"""

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from lookalike.errors import DataError, NotFoundError, UsageError
from lookalike.evaluation import distances as measured
from lookalike.evaluation.labels import Classes
from lookalike.metric import Metric
from lookalike.search import prepare

By = Literal["example", "prototype"]

_LARGEST = 2**20
"""Bytes of a file in a run at most; those of Omniglot have 300."""

_FILES = 1000
"""Test files of a run at most; those of Omniglot have 20."""

_LINE = re.compile(
    r"(?P<run>[^/\\]+)/test/(?P<test>[\w-][\w.-]*)\s+(?P<training_run>[^/\\]+)/training/(?P<training>[\w-][\w.-]*)"
)
"""No separator and no leading dot in a name: nothing outside the run can be meant."""

# What zipfile raises for damage, unknown compression and passwords.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


@dataclass(frozen=True, eq=False)
class Classification:
    """Which class each query is of, and how far each class is.

    Attributes:
        classes: all classes of the support set, sorted.
        distances: from each query to each class: to its nearest example, or to its prototype.
    """

    classes: Shaped[np.ndarray, " c"]
    distances: Float32[np.ndarray, "q c"]

    @property
    def labels(self) -> Shaped[np.ndarray, " q"]:
        """The nearest class of each query; of several at the same distance the first in sorted order."""
        return np.asarray(self.classes[self.distances.argmin(axis=1)])

    @property
    def nearest(self) -> Float32[np.ndarray, " q"]:
        """The distance of that class."""
        return np.asarray(self.distances.min(axis=1))


def classify(
    queries: Shaped[np.ndarray, "q d"],
    support: Shaped[np.ndarray, "s d"],
    support_labels: Shaped[np.ndarray, " s"],
    metric: Metric,
    by: By = "example",
) -> Classification:
    """Classify queries by their nearest class.

    Args:
        queries: float32, or codes packed into uint8 for Hamming.
        support: the same; the examples.
        support_labels: the class of each example, whole numbers or strings.
        metric: what to measure with.
        by: the nearest example, or the nearest prototype. A prototype is the mean for Euclidean distance, the mean of
            unit vectors for cosine distance, and the majority of each bit (1 where there is none) for Hamming distance.

    Raises:
        UsageError: no examples, or vectors that `lookalike.search.prepare` refuses.
    """
    asking, examples = measured.sides(queries, support, metric)
    classes = Classes.of(support_labels, len(examples))
    names = classes.names
    if not len(classes):
        raise UsageError("There is nothing to compare with: give an example of one class at least.")
    distances = np.empty((len(asking), len(classes)), np.float32)
    if by == "prototype":
        middles = [_prototype(examples.vectors[classes.members(code)], metric) for code in range(len(classes))]
        examples = prepare(np.stack(middles), metric)
        classes = Classes.of(np.arange(len(middles)), len(middles))
    for part, block in measured.rows(asking, examples, metric):
        distances[part] = np.minimum.reduceat(block[:, classes.order], classes.offsets[:-1], axis=1)
    return Classification(names, distances)


@dataclass(frozen=True, eq=False)
class FewShot:
    """How often few-shot classification is right.

    Attributes:
        accuracies: share of right answers in each episode.
        ways: classes in an episode.
        shots: examples of each.
        by: nearest example or prototype.
    """

    accuracies: Float64[np.ndarray, " episodes"]
    ways: int
    shots: int
    by: By

    @property
    def episodes(self) -> int:
        """The number of episodes."""
        return len(self.accuracies)

    @property
    def accuracy(self) -> float:
        """The mean over episodes."""
        return float(self.accuracies.mean())

    @property
    def interval(self) -> float:
        """Half the width of its 95 % confidence interval: 1.96 standard errors of the mean. NaN of one episode."""
        return 1.96 * float(self.accuracies.std(ddof=1)) / math.sqrt(self.episodes) if self.episodes > 1 else math.nan


def episodes(
    embeddings: Shaped[np.ndarray, "n d"],
    labels: Shaped[np.ndarray, " n"],
    *,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
    metric: Metric,
    by: By = "example",
) -> FewShot:
    """Classify in random episodes: some classes, some examples of each, and other items of them as queries.

    Args:
        embeddings: one row an item.
        labels: the class of each, whole numbers or strings.
        ways: classes in an episode, drawn anew for each from those that have enough items.
        shots: examples of each class.
        queries: of each class.
        episodes: how many.
        seed: the same arrays and seed give the same episodes.
        metric: what to measure with.
        by: as `classify` takes it.

    Raises:
        UsageError: a number below 1 (ways: below 2), or fewer classes with ``shots + queries`` items than ways.
    """
    for name, number, least in (
        ("ways", ways, 2),
        ("shots", shots, 1),
        ("queries", queries, 1),
        ("episodes", episodes, 1),
    ):
        if number < least:
            raise UsageError(f"{name} must be at least {least}, not {number}.")
    side = prepare(embeddings, metric)
    classes = Classes.of(labels, len(side))
    enough = np.flatnonzero(classes.sizes >= shots + queries)
    if len(enough) < ways:
        raise UsageError(
            f"{ways} ways take as many classes with {shots} + {queries} items, and only {len(enough)} have so many."
        )
    rng = np.random.default_rng(seed)
    accuracies = np.empty(episodes)
    for episode in range(episodes):
        chosen = rng.choice(enough, ways, replace=False)
        rows = np.stack([rng.choice(classes.members(code), shots + queries, replace=False) for code in chosen])
        support, asked = rows[:, :shots], rows[:, shots:]
        found = classify(
            side.vectors[asked.ravel()], side.vectors[support.ravel()], chosen.repeat(shots), metric, by
        ).labels
        accuracies[episode] = np.mean(found == chosen.repeat(queries))
    return FewShot(accuracies, ways, shots, by)


@dataclass(frozen=True, eq=False)
class Run:
    """One of the official one-shot runs of Omniglot: which of these drawings is of the same character?

    Attributes:
        name: such as ``run01``.
        training: files with one drawing of each character.
        test: files with drawings by somebody else.
        truth: for each test file the place of the right one in ``training``.
    """

    name: str
    training: tuple[bytes, ...]
    test: tuple[bytes, ...]
    truth: Int64[np.ndarray, " test"]


def read_runs(path: Path) -> tuple[Run, ...]:
    """Read the one-shot runs of Lake et al. (2015), the 20 of Omniglot's ``all_runs.zip`` or others laid out alike.

    Args:
        path: a folder or zip of ``run*/class_labels.txt``, ``run*/training/*.png`` and ``run*/test/*.png``. A line of
            ``class_labels.txt`` names a test file and the training file of its class.

    Raises:
        NotFoundError: nothing is there.
        DataError: it is no such folder or zip, a file that a run names is missing or out of all proportion, or a run
            names files that are not its own.
    """
    if not path.exists():
        raise NotFoundError(f"{path} is not there; give a folder or zip of one-shot runs, such as Omniglot's.")
    try:
        if path.is_dir():
            return _runs(path, path)
        with ZipFile(path) as archive:
            return _runs(zipfile.Path(archive), path)
    except _DAMAGE as e:
        raise DataError(f"{path} is no folder or zip of one-shot runs, or a damaged one: {e}.") from e


def one_shot(runs: Sequence[Run], embed: Callable[[list[bytes]], Shaped[np.ndarray, "n d"]], metric: Metric) -> FewShot:
    """Share of right answers in each run, by the nearest example.

    Args:
        runs: from `read_runs`.
        embed: makes an embedding of each picture file.
        metric: what to measure with.

    Raises:
        UsageError: no runs.
    """
    if not runs:
        raise UsageError("There are no runs to measure; read_runs reads some.")
    accuracies, ways = [], []
    for run in runs:
        found = classify(embed(list(run.test)), embed(list(run.training)), np.arange(len(run.training)), metric)
        accuracies.append(float(np.mean(found.labels == run.truth)))
        ways.append(len(run.training))
    return FewShot(np.array(accuracies), max(ways), 1, "example")


def _prototype(examples: Shaped[np.ndarray, "m d"], metric: Metric) -> Shaped[np.ndarray, " d"]:
    if metric == Metric.HAMMING:
        ones = np.unpackbits(examples, axis=1).sum(axis=0, dtype=np.int64)
        return np.packbits(2 * ones >= len(examples))
    vectors = examples.astype(np.float64)
    if metric == Metric.COSINE:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return np.asarray(vectors.mean(axis=0))


def _runs(root: "Path | zipfile.Path", path: Path) -> tuple[Run, ...]:
    folders = sorted((f for f in root.iterdir() if (f / "class_labels.txt").is_file()), key=lambda f: f.name)
    if not folders:
        raise DataError(f"{path} holds no one-shot runs: no folder in it has a class_labels.txt.")
    return tuple(_run(folder, path) for folder in folders)


def _run(folder: "Path | zipfile.Path", path: Path) -> Run:
    where = f"{path}: {folder.name}/class_labels.txt"
    try:
        lines = _bytes(folder / "class_labels.txt", where).decode().split("\n")
    except UnicodeDecodeError as e:
        raise DataError(f"{where} is no text.") from e
    asked, right = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            match = _LINE.fullmatch(line.strip())
            if not match or {match["run"], match["training_run"]} != {folder.name}:
                raise DataError(f"{where}, line {number}: not “{folder.name}/test/NAME {folder.name}/training/NAME”.")
            asked.append(match["test"])
            right.append(match["training"])
    names = sorted(set(right))
    if not asked or len(asked) > _FILES:
        raise DataError(f"{where} names {len(asked)} test files; a run has between 1 and {_FILES}.")
    training = tuple(_bytes(folder / "training" / name, f"{path}: {folder.name}/training/{name}") for name in names)
    test = tuple(_bytes(folder / "test" / name, f"{path}: {folder.name}/test/{name}") for name in asked)
    return Run(folder.name, training, test, np.array([names.index(name) for name in right]))


def _bytes(file: "Path | zipfile.Path", where: str) -> bytes:
    """A file of decent size; no more of it is read, whatever a zip says of itself."""
    if not file.is_file():
        raise DataError(f"{where} is missing.")
    with file.open("rb") as stream:
        content: bytes = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise DataError(f"{where} has more than {_LARGEST:,} bytes, which no drawing of a run takes.")
    return content
