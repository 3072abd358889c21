"""What an encoder says of pictures, without a collection: are these two the same, and of which class is this one.

Distances become probabilities where the encoder is calibrated (see `Calibration`) for the metric that is asked with. A
calibration is made of photos: what came in as a sketch lies farther from everything, and gets none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from lookalike import images, ingest, search
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration
from lookalike.errors import DataError, UsageError
from lookalike.evaluation import calibration as fitting
from lookalike.evaluation import fewshot, verification
from lookalike.evaluation.fewshot import By
from lookalike.evaluation.verification import Verdicts
from lookalike.metric import Metric, similarity
from lookalike.query import Branch, Vectors

Picture = Path | bytes


# Pictures held in memory at a time.
_BATCH = 64

# Pairs of either kind below which a calibration would be chance.
_FEWEST = 10


@dataclass(frozen=True)
class Verdict:
    """Whether two pictures are the same.

    Attributes:
        distance: in the metric's unit.
        similarity: in 0…1.
        probability: of being the same, where pairs of both kinds are as frequent; none where it is not known.
        metric: of the distance and the threshold.
        threshold: same is what lies at most this far apart; none where none was given and the encoder has none.
        same: what follows; none without a threshold.
    """

    distance: float
    similarity: float
    probability: float | None
    metric: Metric
    threshold: float | None
    same: bool | None


@dataclass(frozen=True)
class Ranked:
    """A class, as near as it comes to a query.

    Attributes:
        label: the class.
        distance: to its nearest example, or to its prototype.
        similarity: in 0…1.
        probability: of being the same, as in `Verdict`; none for a prototype, since pairs of pictures were calibrated.
    """

    label: str
    distance: float
    similarity: float
    probability: float | None


def embed(encoder: Encoder, pictures: Sequence[Picture], branch: Branch = "photo") -> Vectors:
    """Embeddings of pictures, in order.

    Raises:
        ImageError: one of them cannot be used.
        UsageError: the encoder has no such branch.
    """
    about = encoder.card.input
    out = [encoder.embed(np.empty((0, about.size, about.size, 3), np.uint8), branch)]
    for start in range(0, len(pictures), _BATCH):
        fitted = [images.load(p, about.size, about.fit) for p in pictures[start : start + _BATCH]]
        out.append(encoder.embed(np.stack(fitted), branch))
    return np.concatenate(out)


def calibration(encoder: Encoder, metric: Metric, branch: Branch = "photo") -> Calibration | None:
    """What the encoder's distances mean in this metric, for queries that came in this way; none where it is not known."""
    known = encoder.card.calibration
    fits = known is not None and (known.metric or encoder.card.metric) is metric and branch == "photo"
    return known if fits else None


def probabilities(
    encoder: Encoder, distances: Shaped[np.ndarray, "*shape"], metric: Metric, branch: Branch = "photo"
) -> Float64[np.ndarray, "*shape"] | None:
    """P(same | distance) for equal priors, see `Calibration.probability`; none where it is not known."""
    known = calibration(encoder, metric, branch)
    return known.probability(distances) if known is not None and known.knots else None


def radius(encoder: Encoder, far: float, metric: Metric, branch: Branch = "photo") -> float:
    """The distance within which this share of pairs of different things would be taken for the same.

    Raises:
        UsageError: the encoder is not calibrated for the metric or the branch, or not for this rate.
    """
    known = calibration(encoder, metric, branch)
    name = encoder.card.name
    if known is None:
        what = "sketches" if branch != "photo" else f"the {metric} metric"
        raise UsageError(
            f"“{name}” is not calibrated for {what}, so no distance has a known false accept rate. Give a distance, or run"
            " lookalike calibrate."
        )
    for rate, distance in known.distance_at_far.items():
        if float(rate) == far:
            return distance
    rates = ", ".join(known.distance_at_far)
    if not rates:
        raise UsageError(
            f"“{name}” was calibrated on too few pairs to know any false accept rate. Give it more pictures."
        )
    raise UsageError(
        f"“{name}” is calibrated for the false accept rates {rates}; {far:g} is none of them. Give one of these, or a"
        " distance; small rates take more pairs to calibrate."
    )


def judge(
    encoder: Encoder,
    left: Shaped[np.ndarray, "1 c"],
    right: Shaped[np.ndarray, "1 c"],
    *,
    metric: Metric | None = None,
    threshold: float | None = None,
    far: float | None = None,
    branch: Branch = "photo",
) -> Verdict:
    """Whether two vectors of an encoder are of the same thing; see `verify`.

    Args:
        encoder: made them.
        left: ``(1, c)``.
        right: ``(1, c)``.
        metric: as in `verify`.
        threshold: as there.
        far: as there.
        branch: which way the left one came in.
    """
    metric = metric or encoder.card.metric
    if threshold is not None and far is not None:
        raise UsageError("Give a threshold or a false accept rate, not both.")
    if threshold is not None and not threshold >= 0:
        raise UsageError(f"A threshold is a distance of at least 0, {threshold:g} is none.")
    if far is not None:
        threshold = radius(encoder, far, metric, branch)
    elif threshold is None and (known := calibration(encoder, metric, branch)):
        threshold = known.threshold
    distances = search.knn(left, right, 1, metric).distances  # the very distance that a search gives
    distance = float(distances[0])
    likely = probabilities(encoder, distances, metric, branch)
    return Verdict(
        distance,
        similarity(distance, metric, encoder.card.dimension),
        None if likely is None else float(likely[0]),
        metric,
        threshold,
        None if threshold is None else bool(distances[0] <= np.float32(threshold)),  # as `search.within` rounds it
    )


def verify(
    encoder: Encoder,
    left: Picture,
    right: Picture,
    *,
    metric: Metric | None = None,
    threshold: float | None = None,
    far: float | None = None,
    branch: Branch = "photo",
) -> Verdict:
    """Whether two pictures are the same.

    Args:
        encoder: judges.
        left: a picture's file, or its content.
        right: another one, a photo.
        metric: the encoder's own unless given.
        threshold: the same is what lies at most this far apart. Where neither this nor ``far`` is given, the encoder's
            own threshold counts, if it is calibrated.
        far: the threshold at which this share of pairs of different things is taken for the same.
        branch: which way the left one comes in.

    Raises:
        ImageError: one of them cannot be used.
        UsageError: both thresholds, a metric or a branch that the encoder does not have, or a rate it is not calibrated for.
    """
    a, b = embed(encoder, [left], branch), embed(encoder, [right])
    return judge(encoder, a, b, metric=metric, threshold=threshold, far=far, branch=branch)


def rank(
    encoder: Encoder,
    queries: Shaped[np.ndarray, "q c"],
    support: Shaped[np.ndarray, "n c"],
    labels: Sequence[str],
    *,
    by: By = "example",
    metric: Metric | None = None,
    branch: Branch = "photo",
) -> list[tuple[Ranked, ...]]:
    """All classes for each query vector, nearest first; of equally near ones in the order of their names.

    Args:
        encoder: made the vectors.
        queries: ``(q, c)``.
        support: ``(n, c)``, the examples.
        labels: the class of each example.
        by: as in `classify`.
        metric: as there.
        branch: which way the queries came in.
    """
    metric = metric or encoder.card.metric
    found = fewshot.classify(queries, support, np.asarray(labels, dtype=str), metric, by)
    alike = similarity(found.distances, metric, encoder.card.dimension)
    likely = probabilities(encoder, found.distances, metric, branch) if by == "example" else None
    order = np.argsort(found.distances, axis=1, kind="stable").tolist()
    return [
        tuple(
            Ranked(
                str(found.classes[c]),
                float(found.distances[q, c]),
                float(alike[q, c]),
                None if likely is None else float(likely[q, c]),
            )
            for c in order[q]
        )
        for q in range(len(queries))
    ]


@dataclass(frozen=True)
class Classified:
    """What `classify` found.

    Attributes:
        answers: for each query the classes, nearest first; of equally near ones in the order of their names.
        failures: path and reason of each example that could not be used.
    """

    answers: tuple[tuple[Ranked, ...], ...]
    failures: tuple[tuple[Path, str], ...]


def classify(
    encoder: Encoder,
    queries: Sequence[Picture],
    support: Mapping[str, Sequence[Path]],
    *,
    by: By = "example",
    metric: Metric | None = None,
    branch: Branch = "photo",
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Classified:
    """Of which class pictures are, from a few examples of each (k-way n-shot).

    A query is compared with every example and takes the class of the most similar one (Koch et al. 2015, section 2.1),
    or of the nearest prototype (Snell et al. 2017, equation 1).

    Args:
        encoder: it need never have seen these classes.
        queries: pictures' files, or their contents.
        support: class → its examples, photos. One that cannot be used is reported and left out.
        by: what a class's distance is measured to.
        metric: the encoder's own unless given.
        branch: which way the queries come in.
        tell: hears (done, total) of the examples.

    Raises:
        ImageError: a query cannot be used.
        DataError: no classes, or one without a usable example.
        UsageError: a metric or a branch that the encoder does not have.
    """
    asked = embed(encoder, queries, branch)
    if not support:
        raise DataError("There are no classes to choose from; give one example of each at least.")
    pairs = [(label, path) for label, paths in support.items() for path in paths]
    _, vectors, failures = ingest.embed(encoder, [path for _, path in pairs], tell=tell)
    broken = {path for path, _ in failures}
    labels = [label for label, path in pairs if path not in broken]
    if empty := sorted(support.keys() - set(labels)):
        raise DataError(f"The class “{empty[0]}” has no picture that can be used; each class needs one at least.")
    answers = rank(encoder, asked, vectors, labels, by=by, metric=metric, branch=branch)
    return Classified(tuple(answers), tuple(failures))


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and how well its threshold does.

    Attributes:
        calibration: fitted on all pairs.
        verdicts: on all pairs too, each half of them judged by the best threshold of the other half.
        auc: of all pairs.
        asked: how many pairs were asked for; there may not be so many.
    """

    calibration: Calibration
    verdicts: Verdicts
    auc: float
    asked: int


def calibrate(
    vectors: Vectors,
    labels: Sequence[str] | Shaped[np.ndarray, " n"],
    metric: Metric,
    *,
    data: str,
    pairs: int = 20_000,
    seed: int = 0,
) -> Calibrated:
    """Learn what distances mean from labelled vectors that the encoder was not trained on.

    Args:
        vectors: ``(n, c)``, of photos.
        labels: the same is what has the same label.
        metric: to be calibrated for.
        data: what the vectors are of, in words; it is kept in the card.
        pairs: how many are drawn, half of them of the same.
        seed: the same vectors, labels and seed give the same calibration.

    Raises:
        DataError: fewer than ten pairs of the same, or of different ones.
        UsageError: vectors that do not fit the metric, or fewer than two pairs asked for.
    """
    drawn = verification.draw(np.asarray(labels), pairs, seed)
    if min(drawn.same.sum(), (~drawn.same).sum()) < _FEWEST:
        raise DataError(
            f"There are {drawn.same.sum()} pairs of the same and {(~drawn.same).sum()} of different things; calibrating takes"
            f" {_FEWEST} of either at least. Give more pictures, or more --pairs."
        )
    distances = drawn.distances(vectors, metric)
    half = np.zeros(len(drawn), bool)
    rng = np.random.default_rng(seed)
    for kind in (drawn.same, ~drawn.same):
        half[rng.permutation(np.flatnonzero(kind))[::2]] = True
    judged = []
    for chosen in (half, ~half):
        threshold = verification.Roc.of_pairs(distances[~chosen], drawn.same[~chosen]).best_accuracy().threshold
        judged.append(verification.judge(distances[chosen], drawn.same[chosen], threshold))
    fitted = fitting.fit(distances, drawn.same, metric, data)
    one, other = judged
    verdicts = Verdicts(
        fitted.threshold or 0.0,
        one.true_negatives + other.true_negatives,
        one.false_positives + other.false_positives,
        one.false_negatives + other.false_negatives,
        one.true_positives + other.true_positives,
    )
    return Calibrated(fitted, verdicts, verification.Roc.of_pairs(distances, drawn.same).auc, drawn.asked)
