"""From what was measured to a report: which pairs and which queries are worth a look."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from jaxtyping import Int64

from lookalike import search
from lookalike.errors import MissingExtraError
from lookalike.evaluation import protocol
from lookalike.evaluation.protocol import Plan, Ranking, Verification
from lookalike.evaluation.report.contents import About, Neighbours, Report
from lookalike.evaluation.report.embedding_map import POINTS, lay_out
from lookalike.evaluation.report.pictures import Picture
from lookalike.evaluation.subject import Subject

# Pairs of each kind that are shown, queries of each kind, and nearest of each.
_RIGHT, _WRONG = 2, 6
_BEST, _WORST = 3, 6
_NEAREST = 8


def measure(
    subject: Subject,
    classes: Sequence[str],
    about: About,
    *,
    picture: Picture | None = None,
    validation: Subject | None = None,
    history: Sequence[Mapping[str, float]] = (),
    plan: Plan | None = None,
    points: int = POINTS,
) -> Report:
    """Measure all that can be, and put it into a report: what a training run does at its end.

    Args:
        subject: what is measured.
        classes: the names of its labels.
        about: what was measured on what.
        picture: row → its picture; of an array it is ``array.__getitem__``.
        validation: what the threshold of verification is chosen on; without it, on half of the subject.
        history: a mapping an epoch.
        plan: what is measured, and how much of it; by default all, with the seed of `about`.
        points: of the map at most.

    Raises:
        DataError: the labels tell nothing apart.
        MissingExtraError: without the extra “report”.
    """
    require()
    figures = protocol.measure(subject, plan or Plan(seed=about.seed), validation)
    made = Report(about, figures, subject.labels, tuple(classes), tuple(history))
    return illustrate(made, subject, picture, points=points)


def illustrate(report: Report, subject: Subject, picture: Picture | None, *, points: int = POINTS) -> Report:
    """The same report with examples and a map: what takes the extra “report”.

    Args:
        report: figures, with the labels of the subject.
        subject: what was measured.
        picture: row → its picture.
        points: of the map at most.

    Raises:
        MissingExtraError: without the extra “report”.
    """
    require()
    figures, seed = report.figures, report.about.seed
    return replace(
        report,
        examples=_examples(figures.verification, seed) if figures.verification else (),
        neighbours=_neighbours(figures.retrieval, subject, seed) if figures.retrieval else (),
        embedding_map=lay_out(subject.embeddings, subject.labels, subject.metric, seed, points),
        picture=picture,
    )


def require() -> None:
    """Check that what a report takes is installed, before hours of work that should end in one.

    Raises:
        MissingExtraError: it is not.
    """
    missing = [name for name in ("jinja2", "matplotlib", "sklearn") if find_spec(name) is None]
    if missing:
        raise MissingExtraError("report", "A report")


def _examples(measured: Verification, seed: int) -> tuple[int, ...]:
    """Positions of some pairs that were judged right, drawn, and of those that were judged most wrong."""
    rng = np.random.default_rng(seed)
    same, distances = measured.pairs.same, measured.distances
    # As the threshold was rounded when it was judged.
    said = distances <= np.float32(measured.verdicts.threshold)
    chosen: list[int] = []
    for kind in (same & said, ~same & ~said):
        right = np.flatnonzero(kind)
        chosen += np.sort(rng.choice(right, min(_RIGHT, len(right)), replace=False)).tolist()
    accepts, rejects = np.flatnonzero(~same & said), np.flatnonzero(same & ~said)
    for worst in (
        accepts[np.argsort(distances[accepts], kind="stable")],
        rejects[np.argsort(-distances[rejects], kind="stable")],
    ):
        chosen += _of_different_pictures(worst, measured)
    return tuple(chosen)


def _of_different_pictures(order: Int64[np.ndarray, " n"], measured: Verification) -> list[int]:
    """The first pairs of an order, no picture twice: one strange picture would fill them all."""
    seen: set[int] = set()
    chosen: list[int] = []
    for i in order.tolist():
        rows = {int(measured.pairs.left[i]), int(measured.pairs.right[i])}
        if len(chosen) < _WRONG and not rows & seen:
            chosen.append(i)
            seen |= rows
    return chosen


def _neighbours(ranking: Ranking, subject: Subject, seed: int) -> tuple[Neighbours, ...]:
    """Some of the best queries and the worst, by average precision, with their nearest."""
    scores = ranking.by_class.average_precision
    usable = np.random.default_rng(seed).permutation(np.flatnonzero(np.isfinite(scores)))
    order = usable[np.argsort(scores[usable], kind="stable")]
    labels = subject.labels[ranking.queries]
    worst = _one_a_class(order, labels, _WORST)
    best = set(_one_a_class(order[::-1], labels, _BEST)).difference(worst)
    places = np.array([*worst, *sorted(best)], dtype=np.int64)
    queries = ranking.queries[places]
    # One more than is shown, where a query may find itself.
    k = min(_NEAREST + 1, len(ranking.gallery))
    hits = search.knn(subject.embeddings[queries], subject.embeddings[ranking.gallery], k, subject.metric)
    found = []
    for i, (place, row) in enumerate(zip(places.tolist(), queries.tolist(), strict=True)):
        rows, distances = (
            a[hits.offsets[i] : hits.offsets[i + 1]] for a in (ranking.gallery[hits.rows], hits.distances)
        )
        others = np.flatnonzero(rows != row)[:_NEAREST]
        found.append(Neighbours(row, float(scores[place]), rows[others], distances[others], place in best))
    return tuple(sorted(found, key=lambda n: (n.best, n.average_precision)))


def _one_a_class(order: Int64[np.ndarray, " q"], labels: Int64[np.ndarray, " n"], count: int) -> list[int]:
    """The first places of an order, each of another class: what fails differently tells more."""
    _, first = np.unique(labels[order], return_index=True)
    return [int(place) for place in order[np.sort(first)[:count]]]
