"""Evaluation protocols: the queries and gallery of retrieval, the pairs and threshold of verification, the episodes.

The protocols keep scores honest: no query ranks itself, no threshold is judged on the images that it was chosen on, and every
random choice follows from a seed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from lookalike.datasets.dataset import COUNTED
from lookalike.errors import DataError, UsageError
from lookalike.evaluation import fewshot, retrieval, verification
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.intervals import Interval, PairDistances, verification_intervals
from lookalike.evaluation.roc import Roc
from lookalike.shapes import Bool, Float32, Int64

Task = Literal["retrieval", "verification", "few-shot"]
TASKS: tuple[Task, ...] = get_args(Task)

# Fewest classes with two images on either side, to choose a threshold on some classes and judge it on the others.
_MIN_CLASSES = 10

# Ranks of the measures at k in the literature on sketches, if the gallery has as many photos: precision@100 and mAP@200.
_SKETCH_KS = (100, 200)

# Largest number of queries of a class in an episode.
_EPISODE_QUERIES = 15


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation measures, and how much of it.

    Attributes:
        tasks: what to measure.
        required: true fails if a task cannot be measured; false notes the reason in `Evaluation.not_measured`.
        pairs: number of pairs that judge a verification threshold, and of those that choose it.
        ways: numbers of classes in a few-shot episode; a number above that of the suitable classes is skipped.
        shots: numbers of examples of each class.
        episodes: for each number of ways and shots.
        seed: of all random choices.

    Raises:
        UsageError: a task is unknown, or a number is too small.
    """

    tasks: tuple[Task, ...] = TASKS
    required: bool = False
    pairs: int = 20_000
    ways: tuple[int, ...] = (5, 20)
    shots: tuple[int, ...] = (1, 5)
    episodes: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        parse_tasks(self.tasks)
        for name, numbers, minimum in (
            ("pairs", (self.pairs,), 2),
            ("ways", self.ways, 2),
            ("shots", self.shots, 1),
            ("episodes", (self.episodes,), 1),
        ):
            if not numbers or min(numbers) < minimum:
                raise UsageError(f"{name} must be at least {minimum}, not {', '.join(map(str, numbers)) or 'empty'}.")


def parse_tasks(names: Collection[str]) -> tuple[Task, ...]:
    """Return the tasks of these names, in the order of `TASKS`.

    Raises:
        UsageError: a name is unknown.
    """
    if unknown := sorted(set(names) - set(TASKS)):
        raise UsageError(f"There is no task “{unknown[0]}” to evaluate; choose from {', '.join(TASKS)}.")
    return tuple(task for task in TASKS if task in names)


def check_labels(labels: Int64[np.ndarray, " n"]) -> None:
    """Check that something can be measured, before the work of embedding.

    Raises:
        DataError: there are fewer than two classes, or no class has two images.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:  # noqa: PLR2004 -- with one class every answer is right
        raise DataError("There is only one class; an evaluation needs at least two.")
    if counts.max() < 2:  # noqa: PLR2004 -- a pair of the same class
        raise DataError("No class has two images; an evaluation needs at least two of the same class.")


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """The result of the retrieval protocol.

    Attributes:
        queries: rows of the queries.
        gallery: rows of the gallery.
        by_class: scores if an item of the query's class is relevant.
        by_item: scores if only the same item is relevant; None unless sketches search for photos.
        protocol: the protocol in a sentence.
    """

    queries: Int64[np.ndarray, " q"]
    gallery: Int64[np.ndarray, " g"]
    by_class: retrieval.RetrievalScores
    by_item: retrieval.RetrievalScores | None
    protocol: str


def evaluate_retrieval(data: EmbeddedDataset) -> RetrievalResult:
    """Rank the gallery for each query, without the query itself.

    Queries and gallery are those that the data names. Without these, sketches are the queries and photos the gallery;
    without sketches, each image is a query against all others. Sketches have scores at the ranks 100 and 200, too, if the
    gallery is as large.

    Raises:
        DataError: there are no queries, or the gallery is empty.
    """
    has_sketches = data.sketch is not None and bool(data.sketch.any())
    if data.is_query is not None or data.is_gallery is not None:
        queries, gallery = (_rows(mask, len(data)) for mask in (data.is_query, data.is_gallery))
        protocol = f"{len(queries):,} queries against a gallery of {len(gallery):,}, as the data names them"
    elif has_sketches and data.sketch is not None:
        queries, gallery = np.flatnonzero(data.sketch), data.photos
        protocol = f"{len(queries):,} sketches against {len(gallery):,} photos"
    else:
        queries = gallery = np.arange(len(data))
        protocol = f"each of {len(queries):,} images against all others"
    if not len(queries) or not len(gallery):
        raise DataError("There are no queries, or the gallery is empty; check the columns is_query and is_gallery.")
    own_rows = _own_rows(queries, gallery)
    if own_rows is not None:
        protocol += "; no query is in its own ranking"
    ks = retrieval.KS + (tuple(k for k in _SKETCH_KS if k <= len(gallery)) if has_sketches else ())

    def scores(labels: Int64[np.ndarray, " n"]) -> retrieval.RetrievalScores:
        return retrieval.evaluate(
            data.vectors(queries, labels), data.vectors(gallery, labels), data.metric, ks=ks, own_rows=own_rows
        )

    by_item = None
    if has_sketches:
        paired = 0 if data.items is None else int(np.isin(data.items[queries], data.items[gallery]).sum())
        protocol += f"; {_describe_pairing(paired, len(queries), counted=data.sketches_counted)}"
        by_item = scores(data.items) if data.items is not None and paired else None
    return RetrievalResult(queries, gallery, scores(data.labels), by_item, protocol)


def _describe_pairing(paired: int, sketches: int, *, counted: bool) -> str:
    """Say how sketches belong to photos."""
    if counted:
        return COUNTED
    if not paired:
        return "each sketch belongs to the photos of its class, and none to one photo, since no name begins with that of a photo"
    rest = sketches - paired
    others = f", and {rest:,} only to those of their class" if rest else ""
    return f"{paired:,} sketches belong to the photo of their class whose name theirs begins with{others}"


def _rows(mask: Bool[np.ndarray, " n"] | None, count: int) -> Int64[np.ndarray, " m"]:
    return np.arange(count) if mask is None else np.flatnonzero(mask)


def _own_rows(queries: Int64[np.ndarray, " q"], gallery: Int64[np.ndarray, " g"]) -> Int64[np.ndarray, " q"] | None:
    """Return the position of each query in the gallery, both ascending; None if no query is in the gallery."""
    in_gallery = np.isin(queries, gallery)
    if not in_gallery.any():
        return None
    if not in_gallery.all():
        raise DataError(
            f"{in_gallery.sum():,} of {len(queries):,} queries are in the gallery too; put all of them there (is_gallery),"
            " or none."
        )
    return np.searchsorted(gallery, queries).astype(np.int64)


Unit = Literal["classes", "images"]
"""What a verification interval draws again."""


@dataclass(frozen=True, eq=False)
class VerificationResult:
    """The result of the verification protocol.

    Attributes:
        pairs: the judged pairs, as rows of the dataset.
        distances: of these pairs.
        roc: of these pairs, at every threshold.
        confusion: of these pairs, at a threshold that was chosen on other pairs.
        intervals: name of a score, or ``threshold`` → its 95 % confidence interval; see `lookalike.evaluation.intervals`.
        protocol: the protocol in a sentence.
    """

    pairs: verification.LabelledPairs
    distances: Float32[np.ndarray, " n"]
    roc: Roc
    confusion: verification.ConfusionMatrix
    intervals: Mapping[str, Interval]
    protocol: str

    @property
    def accepted(self) -> Bool[np.ndarray, " n"]:
        """Which pairs the threshold accepts as the same."""
        return np.asarray(self.distances <= np.float32(self.confusion.threshold))

    @property
    def scores(self) -> dict[str, float]:
        """The scores by name."""
        return _verification_scores(self.confusion, self.roc)


def _verification_scores(confusion: verification.ConfusionMatrix, roc: Roc) -> dict[str, float]:
    names = ("accuracy", "precision", "recall", "f1", "false_accept_rate", "false_reject_rate")
    return {name: getattr(confusion, name) for name in names} | {"auc": roc.auc, "eer": roc.eer}


def evaluate_verification(
    data: EmbeddedDataset, options: EvaluationOptions, threshold_data: EmbeddedDataset | None = None
) -> VerificationResult:
    """Judge random pairs of photos, half of them genuine, by a threshold that was chosen on other images.

    The threshold has the best accuracy on pairs of ``threshold_data``. Without it, the threshold is chosen on one half of
    the data and judged on the other half: on other classes if twenty or more have two images, else on other images of the
    same classes. The intervals are a bootstrap over the classes in the first case, and over the images in the second.

    Raises:
        DataError: there are too few images for genuine and impostor pairs on either side.
    """
    photos = data.photos
    unit = threshold_unit = _choose_unit(data.labels[photos])
    if threshold_data is not None:
        threshold_unit = _choose_unit(threshold_data.labels[threshold_data.photos])
        chosen_rows, judged_rows, description = threshold_data.photos, photos, "separate images"
    else:
        threshold_data = data
        chosen, judged = _halve(data.labels[photos], options.seed, unit)
        chosen_rows, judged_rows = photos[chosen], photos[judged]
        description = f"the other half of the {unit}"
    threshold_pairs, threshold_distances = _draw_pairs(threshold_data, chosen_rows, options.pairs, options.seed + 1)
    threshold = Roc.of_pairs(threshold_distances, threshold_pairs.same).best_accuracy().threshold
    pairs, distances = _draw_pairs(data, judged_rows, options.pairs, options.seed)
    roc, confusion = (
        Roc.of_pairs(distances, pairs.same),
        verification.confusion_matrix(distances, pairs.same, threshold),
    )
    judged_pairs = _pair_distances(pairs, distances, data, unit)
    chosen_pairs = _pair_distances(threshold_pairs, threshold_distances, threshold_data, threshold_unit)
    intervals = verification_intervals(judged_pairs, chosen_pairs, _verification_scores(confusion, roc), options.seed)
    protocol = (
        f"{len(pairs):,} random pairs, half of them of the same class; the threshold has the best accuracy on"
        f" {len(threshold_pairs):,} pairs of {description}"
    )
    if intervals:
        protocol += f"; the intervals come from a bootstrap over {judged_pairs.units:,} {unit}"
    return VerificationResult(pairs, distances, roc, confusion, intervals, protocol)


def _draw_pairs(
    data: EmbeddedDataset, rows: Int64[np.ndarray, " m"], count: int, seed: int
) -> tuple[verification.LabelledPairs, Float32[np.ndarray, " n"]]:
    pairs = verification.draw_pairs(data.labels[rows], count, seed)
    pairs = replace(pairs, left=rows[pairs.left], right=rows[pairs.right])
    return pairs, pairs.distances(data.embeddings, data.metric)


def _pair_distances(
    pairs: verification.LabelledPairs, distances: Float32[np.ndarray, " n"], data: EmbeddedDataset, unit: Unit
) -> PairDistances:
    left, right = (
        (data.labels[pairs.left], data.labels[pairs.right]) if unit == "classes" else (pairs.left, pairs.right)
    )
    return PairDistances(distances, pairs.same, left, right)


def _choose_unit(labels: Int64[np.ndarray, " n"]) -> Unit:
    """Take the classes as a sample if many have two images; take few classes as given, and their images as a sample."""
    return "classes" if len(_paired_classes(labels)) >= 2 * _MIN_CLASSES else "images"


def _paired_classes(labels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " c"]:
    """Return the classes that have two images."""
    classes, counts = np.unique(labels, return_counts=True)
    return classes[counts > 1]


def _halve(
    labels: Int64[np.ndarray, " n"], seed: int, unit: Unit
) -> tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " b"]]:
    """Return rows to choose a threshold on, and rows of other classes, or other images of the same classes, to judge it on."""
    rng = np.random.default_rng(seed)
    if unit == "classes":
        paired = _paired_classes(labels)
        chosen = np.isin(labels, rng.permutation(paired)[: len(paired) // 2])
        return np.flatnonzero(chosen), np.flatnonzero(~chosen)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        chosen[rng.permutation(of_class)[: len(of_class) // 2]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def evaluate_few_shot(data: EmbeddedDataset, options: EvaluationOptions) -> tuple[fewshot.FewShotScores, ...]:
    """Classify photos in k-way n-shot episodes: by the nearest example for one shot, by prototypes for more.

    Raises:
        DataError: no combination of ways and shots has enough classes with enough images.
    """
    photos = data.photos
    items = data.vectors(photos)
    counts = np.sort(np.unique(data.labels[photos], return_counts=True)[1])
    scores = []
    for ways in options.ways:
        for shots in options.shots:
            queries = min(_EPISODE_QUERIES, int(counts[-ways]) - shots) if len(counts) >= ways else 0
            if queries < 1:
                continue
            episodes = fewshot.Episodes(ways, shots, queries, options.episodes, options.seed)
            by: fewshot.ClassifyBy = "example" if shots == 1 else "prototype"
            scores.append(fewshot.classify_episodes(items, episodes, data.metric, by))
    if not scores:
        raise DataError(
            "There are too few classes for few-shot classification: it needs at least"
            f" {min(options.ways)} classes with {min(options.shots) + 1} images each."
        )
    return tuple(scores)
