"""Choose the best of several heads by cross-validation over classes and images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lookalike.errors import DataError
from lookalike.learn.heads import fitting
from lookalike.learn.heads.fitting import is_beside
from lookalike.learn.heads.head import Features
from lookalike.learn.heads.scores import score_queries
from lookalike.learn.recipe.head_recipe import Discriminant, EncoderWhitening, HeadSettings, LinearMetric, Unchanged
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Int64

_FOLDS = 3

# Classes in the smallest fold: with one alone, nothing can be confused.
_FOLD_CLASSES = 2

MOST_IMAGES = 3_000
"""Images that the choice looks at, at most: more would change it little and take minutes."""

ChooseBy = Literal["both", "classes", "images"]


@dataclass(frozen=True)
class Trial:
    """A head, measured by cross-validation: mean average precision, mean over the folds.

    Attributes:
        settings: of the head.
        classes: of the images of classes that the head was not fitted to, among all images; none with fewer than four classes.
        images: of images of known classes that it was not fitted to, among each other; none with too few images a class.
    """

    settings: HeadSettings
    classes: float | None
    images: float | None

    @property
    def name(self) -> str:
        """The kind of head, and its most important setting."""
        return head_name(self.settings)

    def score(self, by: ChooseBy) -> float:
        """Return the mean of the measures that count."""
        values = [v for v in self.values(by) if v is not None]
        return sum(values) / len(values) if values else 0.0

    def keeps(self, other: "Trial", by: ChooseBy) -> bool:
        """Return whether no measure is worse than another head's."""
        pairs = zip(self.values(by), other.values(by), strict=True)
        return all(theirs is None or (mine is not None and mine >= theirs) for mine, theirs in pairs)

    def values(self, by: ChooseBy) -> tuple[float | None, float | None]:
        """Return the measures that count, and none in the place of another."""
        return self.classes if by != "images" else None, self.images if by != "classes" else None


def head_name(settings: HeadSettings) -> str:
    """Name a head by its kind and its most important setting."""
    match settings:
        case LinearMetric(loss=loss):
            name = f"linear, {loss.kind}"
        case EncoderWhitening(shrinkage=shrinkage) | Discriminant(shrinkage=shrinkage):
            name = f"{settings.kind}, shrinkage {shrinkage:g}"
        case Unchanged():
            name = settings.kind
    return f"{name}, beside" if is_beside(settings) else name


def choose(
    features: Features,
    labels: Int64[np.ndarray, " n"],
    candidates: Sequence[HeadSettings],
    seed: int,
    progress: Progress = SILENT,
    *,
    by: ChooseBy = "both",
) -> list[Trial]:
    """Measure heads on classes and on images that they were not fitted to, and sort them: the best one first.

    A head that lowers a measure comes after the first candidate, which should be the one that changes nothing.

    Args:
        features: of labelled images.
        labels: the class of each.
        candidates: the heads.
        seed: of the folds.
        progress: receives the stage ``"choosing"``.
        by: which measures count.
    """
    rng = np.random.default_rng(seed)
    if len(labels) > MOST_IMAGES:
        rows = np.sort(rng.permutation(len(labels))[:MOST_IMAGES])
        features, labels = features.take(rows), labels[rows]
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    by_class, by_image = _folds_of_classes(labels, rng), _folds_of_images(labels, rng)
    steps, done = len(candidates) * (len(by_class) + len(by_image)), 0
    trials = list[Trial]()
    for settings in candidates:
        measured = list[float | None]()
        for folds, among_all in ((by_class, True), (by_image, False)):
            scores = [_score(features, labels, fold, settings, seed, among_all=among_all) for fold in folds]
            measured.append(
                None if not scores or None in scores else float(np.mean([s for s in scores if s is not None]))
            )
            done += len(folds)
            progress.advance("choosing", done, steps)
        trials.append(Trial(settings, *measured))
    first = trials[0]
    # Sorting is stable: in a tie, the simplest one stays first.
    return sorted(trials, key=lambda trial: (trial.keeps(first, by), trial.score(by)), reverse=True)


def _score(
    features: Features, labels: np.ndarray, fold: np.ndarray, settings: HeadSettings, seed: int, *, among_all: bool
) -> float | None:
    """Fit a head without the rows of a fold, and return its mAP for them; none if it cannot be fitted."""
    rest = np.setdiff1d(np.arange(len(labels)), fold)
    try:
        head = fitting.fit(features.take(rest), labels[rest], settings, seed)
    except DataError:  # it needs more classes or images
        return None
    if among_all:
        scores = score_queries(features.apply(head), labels, fold)
    else:
        scores = score_queries(features.take(fold).apply(head), labels[fold], np.arange(len(fold)))
    return float(scores.average_precision.mean()) if len(scores.queries) else None


def _folds_of_classes(labels: Int64[np.ndarray, " n"], rng: np.random.Generator) -> list[np.ndarray]:
    """Split the rows by class; no folds if there are too few classes."""
    classes = rng.permutation(np.unique(labels))
    count = min(_FOLDS, len(classes) // _FOLD_CLASSES)
    return [np.flatnonzero(np.isin(labels, part)) for part in np.array_split(classes, count)] if count > 1 else []


def _folds_of_images(labels: Int64[np.ndarray, " n"], rng: np.random.Generator) -> list[np.ndarray]:
    """Split the rows so that each fold has images of each class that has enough."""
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        place[rows] = np.arange(len(rows)) % _FOLDS
    folds = [np.flatnonzero(place == fold) for fold in range(_FOLDS)]
    return folds if all(len(np.unique(labels[fold])) < len(fold) for fold in folds) else []
