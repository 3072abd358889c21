"""Calibration: the thresholds and probabilities of an encoder's distances, fitted on held-out images."""

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from lookalike import datasets, encoders, images
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration, CalibrationKind, write_calibration
from lookalike.errors import (
    AlreadyExistsError,
    DataError,
    ImageError,
    NotFoundError,
    StorageError,
    UsageError,
)
from lookalike.evaluation import copies
from lookalike.evaluation.embedded import embed_dataset
from lookalike.evaluation.labels import LabelledVectors
from lookalike.evaluation.roc import Roc
from lookalike.evaluation.verification import ConfusionMatrix, LabelledPairs, confusion_matrix, draw_pairs
from lookalike.images import ImageSource
from lookalike.metric import Metric, format_distance, format_probability
from lookalike.parallel import prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.shapes import Bool, Float32, Shaped

PAIRS = 20_000
"""Default number of genuine pairs, at most."""

IMPOSTORS = 1_000_000
"""Number of impostor pairs, at most: the smallest of `RATES` needs as many to expect `MIN_ERRORS` of them below its distance."""

# Changed copies of each image, besides the image itself.
_COPIES = 2

_PAIRS_OF: Mapping[CalibrationKind, tuple[str, str]] = {
    "classes": ("of the same class", "of different classes"),
    "copies": ("of copies", "of different images"),
}

# Fewest pairs of either kind; a calibration on fewer is unreliable.
_MIN_PAIRS = 10

# Lines of the printed probability curve, and characters of a bar of probability 1.
_LINES = 12
_BAR = 40

RATES = ("0.1", "0.01", "0.001", "0.0001", "0.00001")
"""False accept rates whose distances a card states."""

MIN_ERRORS = 10
"""Fewest impostor pairs that must be expected below the distance of a rate; with fewer, the distance is unreliable."""

MAX_KNOTS = 64
"""Largest number of points of the probability curve."""


class _Block(NamedTuple):
    """A range of distances with one probability, and the shares of all genuine and of all impostor pairs in it."""

    first: float
    last: float
    genuine: float
    impostors: float

    @property
    def probability(self) -> float:
        """The probability of “same”, if genuine and impostor pairs are equally frequent."""
        return self.genuine / (self.genuine + self.impostors)

    def pool(self, farther: "_Block") -> "_Block":
        """Unite the range with the next one."""
        return _Block(self.first, farther.last, self.genuine + farther.genuine, self.impostors + farther.impostors)


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """Vectors to calibrate on; the encoder must not have been trained on their images.

    Attributes:
        vectors: of photos; those with the same label show the same thing.
        description: for the encoder's card.
        failures: for each image that could not be embedded, the reason.
        kind: what the same label means: one class, or copies of one image.
    """

    vectors: LabelledVectors
    description: str
    failures: tuple[str, ...] = ()
    kind: CalibrationKind = "classes"

    @classmethod
    def open(
        cls,
        embedder: Embedder,
        path: str | os.PathLike[str],
        split: str | None = None,
        progress: Progress = SILENT,
    ) -> Self:
        """Embed the photos of a dataset.

        Args:
            embedder: the encoder to calibrate.
            path: a folder, .csv or .npz; see `lookalike.datasets`.
            split: the split to use; required if there are splits.
            progress: receives the stage “embedding”.

        Raises:
            NotFoundError: the path does not exist.
            DataError: the data is invalid, or none of the images can be decoded.
            UsageError: the split is missing or unknown.
        """
        dataset = datasets.open_dataset(datasets.infer_source(path, split=split))
        if split is None and dataset.splits is not None:
            raise UsageError(
                f"{path} has the splits {', '.join(map(str, dataset.split_names))}; choose one with --split: neither the"
                " one that the encoder was trained on, nor the one that scores will be reported on."
            )
        embedded = embed_dataset(embedder, dataset.take(~dataset.sketch), progress)
        description = f"{len(embedded):,} images of {len(dataset.classes):,} classes, {Path(path).name}"
        if split:
            description += f", split {split}"
        return cls(LabelledVectors(embedded.embeddings, embedded.labels), description, embedded.failures)

    @classmethod
    def of_copies(
        cls, embedder: Embedder, path: str | os.PathLike[str], seed: int = 0, progress: Progress = SILENT
    ) -> Self:
        """Embed the images of a folder, and two changed copies of each; see `lookalike.evaluation.copies`.

        Args:
            embedder: the encoder to calibrate.
            path: a folder of different images; labels are not needed.
            seed: the same images and seed give the same copies.
            progress: receives the stage “embedding”.

        Raises:
            NotFoundError: the folder does not exist.
            DataError: fewer than two images can be decoded.
        """
        files = images.find(path)

        def change(numbered: tuple[int, Path]) -> list[ImageSource] | str:
            i, file = numbered
            rng = np.random.default_rng((seed, i))
            changes = rng.choice(list(copies.CHANGES), _COPIES, replace=False)
            try:
                image = images.open_image(file)
            except (ImageError, NotFoundError, StorageError) as e:
                return str(e)
            return [image, *(copies.CHANGES[name](image, rng) for name in changes)]

        vectors, failures = [], []
        with closing(prefetch_map(change, enumerate(files))) as changed:
            for done, made in enumerate(changed, 1):
                if isinstance(made, str):
                    failures.append(made)
                else:
                    vectors.append(embedder.embed(made))
                progress.advance("embedding", done, len(files))
        if len(vectors) < 2:  # noqa: PLR2004 -- a pair of different images
            found = "only one image" if vectors else "no image"
            raise DataError(f"{path} has {found} that can be decoded; give a folder of many different images.")
        description = f"{len(vectors):,} images and {_COPIES} changed copies of each, {Path(path).name}"
        same = np.repeat(np.arange(len(vectors)), 1 + _COPIES)
        return cls(LabelledVectors(np.concatenate(vectors), same), description, tuple(failures), "copies")


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration, and the error rates of its threshold. ``print`` shows both.

    Attributes:
        calibration: fitted on all pairs.
        confusion: of all pairs; each half is judged by the best threshold of the other half.
        auc: of all pairs.
        requested: number of genuine pairs that were requested; the data may have fewer.
    """

    calibration: Calibration
    confusion: ConfusionMatrix
    auc: float
    requested: int

    @property
    def accuracy(self) -> float:
        """The share of right decisions if genuine and impostor pairs were equally frequent: ``1 - (FAR + FRR) / 2``."""
        return 1 - (self.confusion.false_accept_rate + self.confusion.false_reject_rate) / 2

    @property
    def warning(self) -> str | None:
        """A warning if the data has fewer genuine pairs than were requested; else None."""
        genuine, impostors = self.calibration.genuine, self.calibration.impostors
        if genuine >= self.requested:
            return None
        same, different = _PAIRS_OF[self.calibration.kind]
        return (
            f"The calibration uses {genuine:,} pairs {same}, not {self.requested:,}, and {impostors:,} {different}. Give more"
            " images for more pairs."
        )

    @property
    def pairs(self) -> str:
        """The numbers of pairs, in words."""
        same, different = _PAIRS_OF[self.calibration.kind]
        return f"{self.calibration.genuine:,} pairs {same} and {self.calibration.impostors:,} {different}"

    def __str__(self) -> str:
        """Format the distances of the rates, the error rates of the threshold, and the curve of probabilities."""
        calibration, confusion = self.calibration, self.confusion
        metric = calibration.metric or Metric.EUCLIDEAN
        rates = calibration.distance_at_false_accept_rate.items()
        lines = ["false accept rate  distance"] if rates else []
        lines += [f"{f'{100 * float(rate):g}%':>17}  {format_distance(d, metric):>8}" for rate, d in rates]
        threshold = (
            f"Best threshold {format_distance(confusion.threshold, metric)}: accuracy {self.accuracy:.1%},"
            f" FAR {confusion.false_accept_rate:.1%}, FRR {confusion.false_reject_rate:.1%}; AUC {self.auc:.4f}"
        )
        lines += ["", threshold, "", "distance  same"]
        distances = np.linspace(0, calibration.knots[-1][0], _LINES)
        for distance, p in zip(distances.tolist(), calibration.probability(distances).tolist(), strict=True):
            bar = "█" * round(p * _BAR)
            lines.append(f"{format_distance(distance, metric):>8}  {format_probability(p):>4}  {bar}".rstrip())
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration and the error rates as JSON values."""
        return {
            "calibration": self.calibration.model_dump(mode="json"),
            "accuracy": self.accuracy,
            "false_accept_rate": self.confusion.false_accept_rate,
            "false_reject_rate": self.confusion.false_reject_rate,
            "auc": self.auc,
        }


def calibrate(embedder: Embedder, data: CalibrationData, pairs: int = PAIRS, seed: int = 0) -> CalibrationResult:
    """Fit a calibration to random pairs of images.

    Args:
        embedder: made the vectors; the calibration holds for its metric and its codec.
        data: vectors and labels.
        pairs: number of genuine pairs to draw, at most. Impostor pairs are all that there are, up to a million.
        seed: the same data and seed give the same calibration.

    Raises:
        DataError: there are fewer than ten genuine pairs, or fewer than ten impostor pairs.
        UsageError: the vectors do not fit the metric, or no pair is requested.
    """
    drawn = draw(np.asarray(data.vectors.labels), pairs, seed)
    genuine, impostors = int(drawn.same.sum()), int((~drawn.same).sum())
    if min(genuine, impostors) < _MIN_PAIRS:
        of_same, of_different = _PAIRS_OF[data.kind]
        raise DataError(
            f"The data has {genuine} pairs {of_same} and {impostors} {of_different}; a calibration needs at least"
            f" {_MIN_PAIRS} of each. Give more images, or more --pairs."
        )
    distances = drawn.distances(data.vectors.vectors, embedder.metric)
    calibration = fit(distances, drawn.same, embedder.metric, data.description, data.kind)
    calibration = calibration.model_copy(update={"codec": embedder.codec_id})
    confusion = _cross_validate(distances, drawn.same, calibration.threshold or 0.0, seed)
    return CalibrationResult(calibration, confusion, Roc.of_pairs(distances, drawn.same).auc, pairs)


def draw(labels: Shaped[np.ndarray, " n"], pairs: int, seed: int) -> LabelledPairs:
    """Draw genuine pairs, and all impostor pairs, up to a million, which small false accept rates need.

    Args:
        labels: the class of each row.
        pairs: number of genuine pairs, at most.
        seed: the same labels, pairs and seed give the same pairs.

    Raises:
        UsageError, DataError: as `draw_pairs`.
    """
    return draw_pairs(labels, 2 * pairs, seed, impostors=IMPOSTORS)


def fit(
    distances: Shaped[np.ndarray, " n"],
    same: Bool[np.ndarray, " n"],
    metric: Metric,
    data: str,
    kind: CalibrationKind = "classes",
) -> Calibration:
    """Fit a calibration to pairs.

    Args:
        distances: of held-out pairs, such as those of `lookalike.evaluation.verification.draw_pairs`.
        same: true for genuine pairs.
        metric: of the distances.
        data: a description of the pairs, for the card.
        kind: of the genuine pairs.

    Returns:
        `Calibration.distance_at_false_accept_rate` has only rates with at least ten expected impostor pairs: 0.001 needs
        10,000 impostor pairs.
        `Calibration.knots` are an isotonic regression (pool adjacent violators; Zadrozny and Elkan, KDD 2002) in which
        all genuine pairs together weigh as much as all impostor pairs.

    Raises:
        UsageError: a distance is negative, infinite or NaN.
        DataError: there is no genuine pair, or no impostor pair.
    """
    roc = Roc.of_pairs(distances, same)
    points = {
        rate: roc.at_false_accept_rate(float(rate))
        for rate in RATES
        if roc.impostors * float(rate) >= MIN_ERRORS and roc.false_accept_rates[0] <= float(rate)
    }
    return Calibration(
        kind=kind,
        metric=metric,
        distance_at_false_accept_rate={rate: point.threshold for rate, point in points.items()},
        true_accept_rate={rate: round(1 - point.false_reject_rate, 6) for rate, point in points.items()},
        threshold=roc.best_accuracy().threshold,
        knots=_fit_knots(roc),
        genuine=roc.genuine,
        impostors=roc.impostors,
        data=data,
    )


def check_destination(encoder: Encoder, to: Path | None) -> None:
    """Check, before the work, that a calibration can be saved; see `save`.

    Raises:
        AlreadyExistsError: ``to`` exists.
        UsageError: ``to`` is missing, and the encoder is shared: bundled, or in the cache of a hub.
    """
    if to is not None and os.path.exists(to):  # noqa: PTH110 -- false for a name that is too long, too
        raise AlreadyExistsError(f"{to} already exists; give --to a new folder.")
    if to is None and not encoder.is_saved:
        raise UsageError(
            f"“{encoder.card.name}” was changed in memory. Give a folder for a calibrated copy with --to DIR (in Python, to=)."
        )
    if to is None and encoders.is_shared(encoder):
        raise UsageError(
            f"“{encoder.card.name}” is shared and stays unchanged. Give a folder for a calibrated copy with --to DIR (in Python, to=)."
        )


def save(encoder: Encoder, calibration: Calibration, to: Path | None = None) -> Path:
    """Write a calibration into the card of an encoder, or of a new copy of it.

    Args:
        encoder: the encoder.
        calibration: replaces an earlier one.
        to: folder of the copy; None changes the encoder itself.

    Returns:
        The folder of the calibrated encoder.

    Raises:
        AlreadyExistsError, UsageError: see `check_destination`.
        StorageError: the folder cannot be written.
    """
    check_destination(encoder, to)
    folder = encoder.folder if to is None else encoder.copy(to)
    write_calibration(folder, calibration)
    return folder


def _cross_validate(
    distances: Float32[np.ndarray, " n"], same: Bool[np.ndarray, " n"], threshold: float, seed: int
) -> ConfusionMatrix:
    """Judge each half of the pairs by the best threshold of the other half; report them under the fitted threshold."""
    half = np.zeros(len(same), bool)
    rng = np.random.default_rng(seed)
    for kind in (same, ~same):
        half[rng.permutation(np.flatnonzero(kind))[::2]] = True
    first, second = (
        confusion_matrix(
            distances[part], same[part], Roc.of_pairs(distances[~part], same[~part]).best_accuracy().threshold
        )
        for part in (half, ~half)
    )
    return ConfusionMatrix(
        threshold,
        first.true_negatives + second.true_negatives,
        first.false_positives + second.false_positives,
        first.false_negatives + second.false_negatives,
        first.true_positives + second.true_positives,
    )


def _fit_knots(roc: Roc) -> tuple[tuple[float, float], ...]:
    """Return (distance, probability) at both ends of each range of distances with one probability."""
    genuine, impostors = np.diff(roc.genuine_accepted, prepend=0), np.diff(roc.impostors_accepted, prepend=0)
    # Most distances are of impostor pairs alone; neighbours of one kind have one probability, so they are one block.
    kind = np.where(genuine == 0, 0, np.where(impostors == 0, 1, 2))
    starts = np.flatnonzero(np.diff(kind, prepend=-1).astype(bool) | (kind == 2))  # noqa: PLR2004 -- both kinds
    ends = np.append(starts[1:], len(kind)) - 1
    blocks: list[_Block] = []
    for first, last, genuine_share, impostor_share in zip(
        roc.thresholds[starts].tolist(),
        roc.thresholds[ends].tolist(),
        (np.add.reduceat(genuine, starts) / roc.genuine).tolist(),
        (np.add.reduceat(impostors, starts) / roc.impostors).tolist(),
        strict=True,
    ):
        block = _Block(first, last, genuine_share, impostor_share)
        # Pool adjacent violators: the probability may not rise with the distance.
        while blocks and blocks[-1].probability <= block.probability:
            block = blocks.pop().pool(block)
        blocks.append(block)
    while len(blocks) > MAX_KNOTS // 2:
        i = min(range(len(blocks) - 1), key=lambda i: _pooling_loss(blocks[i], blocks[i + 1]))
        blocks[i : i + 2] = [blocks[i].pool(blocks[i + 1])]
    # An event that n pairs never show has at most the probability 1 / (n + 2) (Laplace's rule of succession).
    lower, upper = 1 / (roc.genuine + 2), 1 - 1 / (roc.impostors + 2)
    knots = [(end, min(max(block.probability, lower), upper)) for block in blocks for end in (block.first, block.last)]
    return tuple(dict.fromkeys(knots))


def _pooling_loss(near: _Block, far: _Block) -> float:
    """Return the growth of the squared error if both ranges get one probability."""
    a, b = near.genuine + near.impostors, far.genuine + far.impostors
    return a * b / (a + b) * (near.probability - far.probability) ** 2
