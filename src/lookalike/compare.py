"""Verification, classification and calibration by an embedder, without a collection.

A distance has a probability if the encoder is calibrated; see `Embedder.calibration`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from lookalike import images, search
from lookalike.embedding import Embedder
from lookalike.encoders.card import CalibrationKind
from lookalike.errors import DataError, NotFoundError, UsageError
from lookalike.evaluation import fewshot
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.evaluation.labels import LabelledVectors
from lookalike.images import ImageSource
from lookalike.metric import Metric, format_distance, format_probability, same_or_copy, similarity
from lookalike.progress import SILENT, Progress
from lookalike.query import Branch, Within
from lookalike.shapes import Shaped
from lookalike.tables import text_table


@dataclass(frozen=True)
class Verdict:
    """The result of a verification: whether two images show the same thing.

    Attributes:
        distance: in the metric's unit.
        similarity: in 0…1.
        probability: of the same thing, for equal priors; none if the encoder is not calibrated.
        metric: of the distance and the threshold.
        threshold: the largest distance that counts as the same; none if it is neither given nor calibrated.
        same: whether the distance is at most the threshold; none without a threshold.
        calibrated_on: what the same is: images of one class, or copies of one image; none if the encoder is not calibrated.
    """

    distance: float
    similarity: float
    probability: float | None
    metric: Metric
    threshold: float | None
    same: bool | None
    calibrated_on: CalibrationKind | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON, as the command line and HTTP return it."""
        return dict(vars(self))

    def describe(self) -> str:
        """Describe the verdict in words: the same, different, a copy, or not a copy."""
        if self.same is None:
            return "no verdict without a threshold"
        if self.calibrated_on == "copies":
            return "a copy" if self.same else "not a copy"
        return "the same" if self.same else "different"

    def __str__(self) -> str:
        """Format the verdict as one line."""
        same = ""
        if self.probability is not None:
            same = f", probably {same_or_copy(self.calibrated_on)}: {format_probability(self.probability)}"
        threshold = "" if self.threshold is None else f", threshold {self.threshold:.3g}"
        return f"{self.describe()}: distance {self.distance:.3g} ({self.metric}){threshold}{same}"


@dataclass(frozen=True)
class RankedClass:
    """A class with its distance from a query.

    Attributes:
        label: the class.
        distance: from its nearest example, or from its prototype.
        similarity: in 0…1.
        probability: as in `Verdict`; none for a prototype, since a calibration is fitted on pairs of images.
    """

    label: str
    distance: float
    similarity: float
    probability: float | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Ranking(Sequence[RankedClass]):
    """Classes sorted by their distance from a query, then by name.

    Attributes:
        classes: the classes.
        metric: of the distances.
    """

    classes: tuple[RankedClass, ...]
    metric: Metric

    def __len__(self) -> int:
        """Count the classes."""
        return len(self.classes)

    @overload
    def __getitem__(self, index: int) -> RankedClass: ...

    @overload
    def __getitem__(self, index: slice) -> "Ranking": ...

    def __getitem__(self, index: int | slice) -> "RankedClass | Ranking":
        """Return one class, or a ranking of a slice of the classes."""
        if isinstance(index, slice):
            return Ranking(self.classes[index], self.metric)
        return self.classes[index]

    @property
    def label(self) -> str:
        """The nearest class."""
        return self.classes[0].label

    def __str__(self) -> str:
        """Format as a table for a terminal, without names of columns and without control characters."""
        return "\n".join(text_table(*self.table()).split("\n")[1:])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the column names and the rows of a table for people; see `lookalike.stores.Answer.table`."""
        rows = [[format_distance(ranked.distance, self.metric), ranked.label] for ranked in self.classes]
        return ["distance", "class"], rows


def find_threshold(
    embedder: Embedder,
    within: Within | None = None,
    false_accept_rate: float | None = None,
    branch: Branch = "photo",
) -> float | None:
    """Find the threshold of a verification: the largest distance that counts as the same.

    Args:
        embedder: made the vectors.
        within: a distance, or a similarity such as ``"80%"``.
        false_accept_rate: use the distance at which this share of the pairs of different things counts as the same.
        branch: of the left image.

    Returns:
        The given threshold, else the calibrated one with the best accuracy, else none.

    Raises:
        UsageError: both are given, a lower bound is given, or the encoder is not calibrated for the rate.
    """
    given = embedder.distance_range(within, false_accept_rate, branch)
    if given is not None and given.min > 0:
        raise UsageError(f"A threshold is one distance, not the range {given.min:g}..{given.max:g}.")
    if given is not None:
        return given.max
    calibration = embedder.calibration(branch)
    return None if calibration is None else calibration.threshold


def verify_vectors(
    embedder: Embedder,
    left: Shaped[np.ndarray, "1 c"],
    right: Shaped[np.ndarray, "1 c"],
    threshold: float | None = None,
    branch: Branch = "photo",
) -> Verdict:
    """Decide whether two vectors represent the same thing.

    Args:
        embedder: made the vectors.
        left: ``(1, c)``.
        right: ``(1, c)``, of a photo.
        threshold: see `find_threshold`.
        branch: of the left vector.
    """
    metric, calibration = embedder.metric, embedder.calibration(branch)
    distances = search.knn(left, right, 1, metric).distances  # bit-identical to the distance of a hit
    distance = float(distances[0])
    probabilities = embedder.probabilities(distances, branch)
    return Verdict(
        distance,
        similarity(distance, metric, embedder.space.dimension),
        None if probabilities is None else float(probabilities[0]),
        metric,
        threshold,
        None if threshold is None else bool(distances[0] <= np.float32(threshold)),  # as `search.within` rounds it
        None if calibration is None else calibration.kind,
    )


def verify(
    embedder: Embedder,
    left: ImageSource,
    right: ImageSource,
    threshold: float | None = None,
    branch: Branch = "photo",
) -> Verdict:
    """Decide whether two images show the same thing.

    Args:
        embedder: embeds them.
        left: an image.
        right: another image, a photo.
        threshold: see `find_threshold`.
        branch: of the left image.

    Raises:
        ImageError, NotFoundError: one of them cannot be used.
        UsageError: the encoder does not have the branch.
    """
    return verify_vectors(embedder, embedder.embed([left], branch), embedder.embed([right]), threshold, branch)


def rank_classes(
    embedder: Embedder,
    queries: Shaped[np.ndarray, "q c"],
    support: LabelledVectors,
    *,
    by: ClassifyBy = "example",
    branch: Branch = "photo",
) -> list[Ranking]:
    """Rank all classes for each query vector, by distance and then by name.

    Args:
        embedder: made the vectors.
        queries: ``(q, c)``.
        support: the examples.
        by: as in `classify`.
        branch: of the queries.
    """
    examples = LabelledVectors(support.vectors, np.asarray(support.labels, dtype=str))
    result = fewshot.classify(queries, examples, embedder.metric, by)
    similarities = similarity(result.distances, embedder.metric, embedder.space.dimension)
    calibration = embedder.calibration(branch)
    by_class = by == "example" and calibration is not None and calibration.kind == "classes"
    probabilities = embedder.probabilities(result.distances, branch) if by_class else None
    order = np.argsort(result.distances, axis=1, kind="stable").tolist()
    return [
        Ranking(
            tuple(
                RankedClass(
                    str(result.classes[c]),
                    float(result.distances[q, c]),
                    float(similarities[q, c]),
                    None if probabilities is None else float(probabilities[q, c]),
                )
                for c in order[q]
            ),
            embedder.metric,
        )
        for q in range(len(queries))
    ]


@dataclass(frozen=True)
class RankedExample:
    """An example of a class with its distance from a query.

    Attributes:
        index: its place among the examples.
        distance: from the query.
        similarity: in 0…1.
    """

    index: int
    distance: float
    similarity: float


def rank_examples(
    embedder: Embedder, query: Shaped[np.ndarray, "1 c"], examples: Shaped[np.ndarray, "n c"]
) -> list[RankedExample]:
    """Rank examples by their distance from a query vector, then by their place.

    The distance of the nearest example of a class is bit-identical to that of the class in `rank_classes`.

    Args:
        embedder: made the vectors.
        query: ``(1, c)``.
        examples: ``(n, c)``; at least one.
    """
    (distances,) = fewshot.classify(
        query, LabelledVectors(examples, np.arange(len(examples))), embedder.metric
    ).distances
    similarities = similarity(distances, embedder.metric, embedder.space.dimension)
    order = np.argsort(distances, kind="stable").tolist()
    return [RankedExample(i, float(distances[i]), float(similarities[i])) for i in order]


@dataclass(frozen=True)
class Classified:
    """The result of `classify`.

    Attributes:
        answers: for each query, the ranking of all classes.
        failures: path and reason of each unusable example.
    """

    answers: tuple[Ranking, ...]
    failures: tuple[tuple[Path, str], ...]


def classify(
    embedder: Embedder,
    queries: Sequence[ImageSource],
    support: Mapping[str, Sequence[Path]],
    *,
    by: ClassifyBy = "example",
    branches: tuple[Branch, Branch] = ("photo", "photo"),
    progress: Progress = SILENT,
) -> Classified:
    """Classify images from a few labelled examples per class (k-way n-shot).

    A query takes the class of its most similar example (Koch et al. 2015, section 2.1), or of its nearest prototype
    (Snell et al. 2017, equation 1). The encoder need not have seen the classes.

    Args:
        embedder: embeds the images.
        queries: images.
        support: class → image files of its examples. Unusable files are reported and skipped.
        by: compare with every example, or with the mean of a class's examples.
        branches: of the queries, and of the examples.
        progress: receives the stage ``"embedding"`` of the examples.

    Raises:
        ImageError, NotFoundError: a query cannot be used.
        DataError: there are no classes, or one has no usable example.
        UsageError: the encoder does not have the branch.
    """
    of_queries, of_examples = branches
    vectors = embedder.embed(queries, of_queries)
    if not support:
        raise DataError("There are no classes to choose from; give at least one example of each class.")
    examples = [(label, path) for label, paths in support.items() for path in paths]
    embedded = embedder.embed_files([path for _, path in examples], of_examples, progress)
    failed = {path for path, _ in embedded.failures}
    labels = [label for label, path in examples if path not in failed]
    if empty := sorted(support.keys() - set(labels)):
        raise DataError(f"The class “{empty[0]}” has no usable image; each class needs at least one.")
    # A calibration holds for photos only, on both sides.
    branch = of_queries if of_examples == "photo" else of_examples
    answers = rank_classes(embedder, vectors, LabelledVectors(embedded.vectors, labels), by=by, branch=branch)
    return Classified(tuple(answers), embedded.failures)


def find_examples(folder: Path, *, drawings: bool = False) -> dict[str, list[Path]]:
    """Find the examples of each class in a folder with a folder for each class.

    Args:
        folder: the folder.
        drawings: also take JSON files, which may hold strokes.

    Raises:
        NotFoundError: the folder does not exist, or holds no folders.
    """
    folder = folder.absolute()
    paths = images.find(folder, drawings=drawings)
    classes: dict[str, list[Path]] = {
        inner.name: [] for inner in sorted(folder.iterdir()) if inner.is_dir() and not inner.name.startswith(".")
    }
    for path in paths:
        first, *rest = path.relative_to(folder).parts
        if rest:
            classes.setdefault(first, []).append(path)
    if not classes:
        raise NotFoundError(f"{folder} has no folders of examples. Make one for each class, such as {folder}/cat.")
    return classes
