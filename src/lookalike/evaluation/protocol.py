"""From embeddings and labels to all figures of an evaluation: who asks whom, which pairs, whose threshold.

The rules that make figures honest stand here once: a picture is never its own answer, a threshold is never judged on
the pictures that it was chosen on, and what is drawn follows from a seed.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lookalike.errors import DataError, UsageError
from lookalike.evaluation import fewshot, retrieval, verification
from lookalike.evaluation.subject import Subject

Task = Literal["retrieval", "verification", "few-shot"]
TASKS: tuple[Task, ...] = get_args(Task)

# Classes that either half has to have where a threshold is chosen on some classes and judged on the others.
_CLASSES = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What to measure, and how much of it.

    Attributes:
        pairs: drawn to judge a threshold, and as many to choose it.
        ways: classes in an episode of few-shot classification; those that there are not enough classes for are left out.
        shots: examples of each.
        episodes: of each kind.
        seed: of all that is drawn.
    """

    tasks: tuple[Task, ...] = TASKS
    pairs: int = 20_000
    ways: tuple[int, ...] = (5, 20)
    shots: tuple[int, ...] = (1, 5)
    episodes: int = 1000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Ranking:
    """A retrieval measurement.

    Attributes:
        queries: rows that asked.
        gallery: rows that were ranked.
        by_class: the answer is of the query's class.
        by_item: the answer is the query's very item; only where sketches ask for photos.
        how: the protocol in a sentence.
    """

    queries: Int64[np.ndarray, " q"]
    gallery: Int64[np.ndarray, " g"]
    by_class: retrieval.Retrieval
    by_item: retrieval.Retrieval | None
    how: str


@dataclass(frozen=True, eq=False)
class Verification:
    """A verification measurement.

    Attributes:
        pairs: those that were judged; their rows are the subject's.
        distances: of these.
        roc: of these, at every threshold.
        verdicts: of these, at the threshold that was chosen on others.
        how: the protocol in a sentence.
    """

    pairs: verification.LabelledPairs
    distances: Float32[np.ndarray, " n"]
    roc: verification.Roc
    verdicts: verification.Verdicts
    how: str


@dataclass(frozen=True)
class Figures:
    """All that was measured, and why the rest was not."""

    retrieval: Ranking | None = None
    verification: Verification | None = None
    few_shot: tuple[fewshot.FewShot, ...] = ()
    one_shot_runs: fewshot.FewShot | None = None
    left_out: tuple[str, ...] = ()


def measure(
    subject: Subject,
    plan: Plan,
    validation: Subject | None = None,
    *,
    insist: bool = False,
    tell: Callable[[Task], None] = lambda _: None,
) -> Figures:
    """Measure all that the plan names.

    Args:
        subject: what is measured.
        plan: what, and how much.
        validation: what the threshold of verification is chosen on; without it, on half of the subject.
        insist: fail where a task cannot be measured, instead of noting why.
        tell: hears what is about to be measured.

    Raises:
        DataError: the labels tell nothing apart; or, where that is insisted on, a task that they do not suffice for.
    """
    check(subject.labels)
    left_out: list[str] = []

    def attempt(task: Task, work: Callable[[], T], otherwise: T) -> T:
        if task not in plan.tasks:
            return otherwise
        tell(task)
        try:
            return work()
        except (DataError, UsageError) as e:
            if insist:
                raise
            left_out.append(f"{task}: {e}")
            return otherwise

    return Figures(
        retrieval=attempt("retrieval", lambda: rank(subject), None),
        verification=attempt("verification", lambda: verify(subject, plan, validation), None),
        few_shot=attempt("few-shot", lambda: classify(subject, plan), ()),
        left_out=tuple(left_out),
    )


def check(labels: Int64[np.ndarray, " n"]) -> None:
    """See whether anything can be measured, before much work goes into it.

    Raises:
        DataError: the labels tell nothing apart, or nothing is alike.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:  # noqa: PLR2004 -- of one class everything is right
        raise DataError("There is one class only; measuring what is told apart takes two at least.")
    if counts.max() < 2:  # noqa: PLR2004 -- two of a class are what should be found alike
        raise DataError("No class has two pictures; measuring what is alike takes two of one class.")


def rank(subject: Subject) -> Ranking:
    """Retrieval: each query ranks the gallery, itself left out.

    Queries and gallery are those that the data names; else sketches ask for photos; else all ask for all others.

    Raises:
        DataError: no queries, or nothing to find.
    """
    drawn = subject.sketch is not None and bool(subject.sketch.any())
    if subject.is_query is not None or subject.is_gallery is not None:
        queries, gallery = (_rows(mask, len(subject)) for mask in (subject.is_query, subject.is_gallery))
        how = f"{len(queries):,} queries against a gallery of {len(gallery):,}, as the data names them"
    elif drawn and subject.sketch is not None:
        queries, gallery = np.flatnonzero(subject.sketch), subject.photos
        how = f"{len(queries):,} sketches against {len(gallery):,} photos"
    else:
        queries = gallery = np.arange(len(subject))
        how = f"each of {len(queries):,} pictures against all others"
    if not len(queries) or not len(gallery):
        raise DataError("There are no queries, or there is nothing to find; see the columns is_query and is_gallery.")
    itself = _itself(queries, gallery)
    if itself is not None:
        how += ", a query never being its own answer"

    def by(truth: Int64[np.ndarray, " n"]) -> retrieval.Retrieval:
        return retrieval.evaluate(
            subject.embeddings[queries],
            subject.embeddings[gallery],
            truth[queries],
            truth[gallery],
            subject.metric,
            itself=itself,
        )

    items = subject.items if drawn else None
    shown = items is not None and bool(np.isin(items[queries], items[gallery]).any())
    return Ranking(queries, gallery, by(subject.labels), by(items) if items is not None and shown else None, how)


def _rows(mask: Bool[np.ndarray, " n"] | None, count: int) -> Int64[np.ndarray, " m"]:
    return np.arange(count) if mask is None else np.flatnonzero(mask)


def _itself(queries: Int64[np.ndarray, " q"], gallery: Int64[np.ndarray, " g"]) -> Int64[np.ndarray, " q"] | None:
    """The place of each query in the gallery, where they are there; both ascend."""
    inside = np.isin(queries, gallery)
    if not inside.any():
        return None
    if not inside.all():
        raise DataError(
            f"{inside.sum():,} of {len(queries):,} queries are in the gallery too; let all be (is_gallery), or none."
        )
    return np.searchsorted(gallery, queries).astype(np.int64)


def verify(subject: Subject, plan: Plan, validation: Subject | None = None) -> Verification:
    """Verification of drawn pairs of photos, half of them genuine, by a threshold chosen on other pictures.

    The threshold is the one of best accuracy on pairs of `validation`; without it, on pairs of one half of the subject,
    and it is judged on the other half: other classes where there are twenty or more with two pictures, else other
    pictures of the same classes.

    Raises:
        DataError: too few pictures for pairs of one class and of two on either side.
    """
    photos = subject.photos
    if validation is not None:
        others, ours, whose = validation, photos, "other pictures, kept for that"
        theirs = validation.photos
    else:
        others = subject
        theirs, ours, whose = _halves(subject.labels[photos], plan.seed)
        theirs, ours = photos[theirs], photos[ours]
    chosen_on, chosen_at = _pairs(others, theirs, plan.pairs, plan.seed + 1)
    threshold = verification.Roc.of_pairs(chosen_at, chosen_on.same).best_accuracy().threshold
    pairs, distances = _pairs(subject, ours, plan.pairs, plan.seed)
    return Verification(
        pairs,
        distances,
        verification.Roc.of_pairs(distances, pairs.same),
        verification.judge(distances, pairs.same, threshold),
        f"{len(pairs):,} drawn pairs, half of them of one class; the threshold is the one of best accuracy on"
        f" {len(chosen_on):,} pairs of {whose}",
    )


def _pairs(
    subject: Subject, rows: Int64[np.ndarray, " m"], count: int, seed: int
) -> tuple[verification.LabelledPairs, Float32[np.ndarray, " n"]]:
    drawn = verification.draw(subject.labels[rows], count, seed)
    drawn = replace(drawn, left=rows[drawn.left], right=rows[drawn.right])
    return drawn, drawn.distances(subject.embeddings, subject.metric)


def _halves(labels: Int64[np.ndarray, " n"], seed: int) -> tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " b"], str]:
    """Rows to choose a threshold on, rows to judge it on, and in words whose the former are."""
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    paired = classes[counts > 1]
    if len(paired) >= 2 * _CLASSES:
        chosen = np.isin(labels, rng.permutation(paired)[: len(paired) // 2])
        return np.flatnonzero(chosen), np.flatnonzero(~chosen), "the other half of the classes"
    chosen = np.zeros(len(labels), dtype=bool)
    for label in classes:
        mine = np.flatnonzero(labels == label)
        chosen[rng.permutation(mine)[: len(mine) // 2]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen), "the other half of the pictures"


def classify(subject: Subject, plan: Plan) -> tuple[fewshot.FewShot, ...]:
    """k-way n-shot classification of photos, by the nearest example for one shot and by prototypes for more.

    Raises:
        DataError: there are too few classes with enough pictures for any of the plan's ways and shots.
    """
    photos = subject.photos
    labels = subject.labels[photos]
    counts = np.unique(labels, return_counts=True)[1]
    found = []
    for ways in plan.ways:
        for shots in plan.shots:
            queries = min(15, int(np.sort(counts)[-ways]) - shots) if len(counts) >= ways else 0
            if queries < 1:
                continue
            found.append(
                fewshot.episodes(
                    subject.embeddings[photos],
                    labels,
                    ways=ways,
                    shots=shots,
                    queries=queries,
                    episodes=plan.episodes,
                    seed=plan.seed,
                    metric=subject.metric,
                    by="example" if shots == 1 else "prototype",
                )
            )
    if not found:
        need = f"{min(plan.ways)} classes with {min(plan.shots) + 1} pictures"
        raise DataError(f"There are too few classes for few-shot classification: it takes {need}.")
    return tuple(found)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of so many (Wilson 1927), as if they were independent."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def parse_tasks(names: Collection[str]) -> tuple[Task, ...]:
    """The tasks of these names, in the order of `TASKS`.

    Raises:
        UsageError: there is none of that name.
    """
    if strange := sorted(set(names) - set(TASKS)):
        raise UsageError(f"There is nothing to measure called “{strange[0]}”; choose from {', '.join(TASKS)}.")
    return tuple(task for task in TASKS if task in names)
