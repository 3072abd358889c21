"""Results of an evaluation: its scores as objects, as a table for people, and as JSON."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from lookalike import tables
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.fewshot import FewShotScores
from lookalike.evaluation.intervals import wilson_interval
from lookalike.evaluation.protocols import RetrievalResult, VerificationResult
from lookalike.evaluation.retrieval import RetrievalScores
from lookalike.metric import Metric
from lookalike.shapes import Float64, Int64

FORMAT = 2
"""Version of the JSON document."""

# Ranks of the summary's scores of sketches.
_NEAR, _FAR, _FARTHER = 10, 100, 200


def installed_versions() -> dict[str, str]:
    """Return the versions that scores may depend on."""
    packages = {name: version(name) for name in ("lookalike", "numpy", "onnxruntime")}
    return packages | {"python": platform.python_version()}


@dataclass(frozen=True)
class About:
    """The encoder, the data and the settings of an evaluation.

    Attributes:
        metric: of the distances.
        seed: of all random choices.
        encoder: its name.
        data: a description of the images.
        facts: further facts by name: counts, options, minutes.
        date: in UTC.
        versions: of the packages that computed the scores.
    """

    metric: Metric
    seed: int = 0
    encoder: str = "unnamed encoder"
    data: str = "unnamed data"
    facts: Mapping[str, str] = field(default_factory=dict)
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    versions: Mapping[str, str] = field(default_factory=installed_versions)


@dataclass(frozen=True)
class Score:
    """A score of the summary.

    Attributes:
        name: such as ``mAP``.
        value: a share in 0…1, or another number.
        kind: a share is shown in per cent.
        interval: 95 % confidence interval, if there is one.
        meaning: for readers who do not know the name.
    """

    name: str
    value: float
    kind: Literal["share", "number"]
    interval: tuple[float, float] | None
    meaning: str

    def format(self, value: float) -> str:
        """Format the value, or an end of the interval, for people."""
        if not math.isfinite(value):
            return "–"
        return f"{value:.2%}" if self.kind == "share" else f"{value:.4f}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of an evaluation. ``print`` shows them as a table.

    Attributes:
        about: what was measured.
        retrieval: scores of retrieval.
        verification: scores of verification.
        few_shot: scores of few-shot classification, for each number of ways and shots.
        one_shot_runs: scores of the official one-shot runs of Omniglot.
        not_measured: for each task that could not be measured, the reason.
        data: the embeddings that were measured; None if only one-shot runs were.
        history: a mapping for each epoch of the training run, as in its ``metrics.jsonl``.
    """

    about: About
    retrieval: RetrievalResult | None = None
    verification: VerificationResult | None = None
    few_shot: tuple[FewShotScores, ...] = ()
    one_shot_runs: FewShotScores | None = None
    not_measured: tuple[str, ...] = ()
    data: EmbeddedDataset | None = None
    history: tuple[Mapping[str, float], ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """For each image that could not be embedded, the reason."""
        return self.data.failures if self.data else ()

    @property
    def scores(self) -> list[Score]:
        """The scores of the summary, in the order of the table."""
        scores = []
        if self.retrieval:
            scores += _retrieval_scores(self.retrieval)
        if self.verification:
            scores += _verification_scores(self.verification)
        scores += [_few_shot_score(result) for result in self.few_shot]
        if runs := self.one_shot_runs:
            meaning = f"official one-shot runs of Omniglot, mean of {runs.episodes} runs"
            scores.append(Score("Omniglot one-shot runs", runs.accuracy, "share", _few_shot_interval(runs), meaning))
        return scores

    @property
    def protocols(self) -> tuple[str, ...]:
        """For each measured task with queries or pairs, a sentence that says how it was measured."""
        results = {"Retrieval": self.retrieval, "Verification": self.verification}
        return tuple(f"{task}: {result.protocol}." for task, result in results.items() if result)

    def __str__(self) -> str:
        """Format the scores as a table, followed by how they were measured, and by what was not measured."""
        not_measured = (f"Not measured: {line}" for line in self.not_measured)
        return "\n".join([*self.table().splitlines(), *self.protocols, *not_measured])

    def table(self) -> str:
        """Format the scores as a table; empty without scores."""
        rows = [
            (s.name, s.format(s.value), "–".join(s.format(end) for end in s.interval or ()), s.meaning)
            for s in self.scores
        ]
        return tables.text_table(("score", "value", "95% interval", "meaning"), rows) if rows else ""

    def to_dict(self) -> dict[str, Any]:
        """Return all scores and curves, without images, as JSON values; NaN and infinity become None."""
        about = self.about
        tree = {
            "format": FORMAT,
            "about": {
                **vars(about),
                "metric": str(about.metric),
                "facts": dict(about.facts),
                "versions": dict(about.versions),
            },
            "scores": [vars(score) for score in self.scores],
            "retrieval": self.retrieval and _retrieval_result_dict(self.retrieval, self.data),
            "verification": self.verification and _verification_dict(self.verification),
            "few_shot": [_few_shot_dict(result) for result in self.few_shot],
            "one_shot_runs": self.one_shot_runs and _few_shot_dict(self.one_shot_runs),
            "not_measured": list(self.not_measured),
            "history": [dict(line) for line in self.history],
        }
        return json.loads(json.dumps(_to_json(tree), allow_nan=False))  # type: ignore[no-any-return]  # a dict went in


@dataclass(frozen=True, eq=False)
class Histogram:
    """Numbers of pairs by distance.

    Attributes:
        edges: of the bins, in the metric's unit.
        genuine: pairs of the same class.
        impostor: pairs of different classes.
    """

    edges: Float64[np.ndarray, " edges"]
    genuine: Int64[np.ndarray, " bins"]
    impostor: Int64[np.ndarray, " bins"]


def distance_histogram(result: VerificationResult, bins: int = 60) -> Histogram:
    """Count the judged pairs in bins of equal width."""
    edges = np.histogram_bin_edges(result.distances.astype(np.float64), bins)
    genuine, impostor = (
        np.histogram(result.distances[kind], edges)[0] for kind in (result.pairs.same, ~result.pairs.same)
    )
    return Histogram(edges, genuine, impostor)


def _share(name: str, value: float, count: int | None, meaning: str) -> Score:
    return Score(name, value, "share", None if count is None else wilson_interval(value, count), meaning)


def _retrieval_scores(result: RetrievalResult) -> list[Score]:
    by_class, by_item = result.by_class, result.by_item
    scores = [
        _share("top-1", by_class.top_1, by_class.queries, "the nearest item is of the query's class"),
        _share("mAP", by_class.map, None, "mean average precision over the whole ranking"),
        _share("R-precision", by_class.r_precision, None, "precision at R, the number of relevant items"),
        Score("MRR", by_class.mrr, "number", None, "mean of 1 / rank of the first relevant item"),
    ]
    if _FAR in by_class.precision_at:
        scores.append(
            _share(
                f"precision@{_FAR}",
                by_class.precision_at[_FAR],
                None,
                f"share of the {_FAR} nearest photos that is of the query's class",
            )
        )
    if _FARTHER in by_class.map_at:
        scores.append(
            _share(f"mAP@{_FARTHER}", by_class.map_at[_FARTHER], None, f"mAP over the {_FARTHER} nearest photos")
        )
    if by_item:
        near = by_item.hit_rate_at[_NEAR]
        scores += [
            _share("item top-1", by_item.top_1, by_item.queries, "the nearest photo is the sketched item"),
            _share(f"item in {_NEAR}", near, by_item.queries, f"the sketched item is among the {_NEAR} nearest photos"),
            Score("item MRR", by_item.mrr, "number", None, "mean of 1 / rank of the sketched item"),
        ]
    return scores


def _verification_scores(result: VerificationResult) -> list[Score]:
    shares = {
        "accuracy": ("accuracy", "pairs judged correctly at the threshold"),
        "precision": ("precision", "share of the accepted pairs that are of the same class"),
        "recall": ("recall", "share of the pairs of the same class that are accepted"),
        "f1": ("F1", "harmonic mean of precision and recall"),
        "auc": ("AUC", "chance that a pair of the same class is nearer than one of different classes"),
        "eer": ("EER", "error rate at which false accepts equal false rejects"),
        "false_accept_rate": ("FAR", "false accept rate: pairs of different classes accepted as the same"),
        "false_reject_rate": ("FRR", "false reject rate: pairs of the same class rejected"),
        "threshold": ("threshold", "largest distance of a pair accepted as the same"),
    }
    values = result.scores | {"threshold": result.confusion.threshold}
    return [
        Score(
            title,
            values[name],
            "number" if name in {"auc", "threshold"} else "share",
            result.intervals.get(name),
            meaning,
        )
        for name, (title, meaning) in shares.items()
    ]


def _few_shot_score(result: FewShotScores) -> Score:
    by = "nearest example" if result.by == "example" else "nearest prototype"
    meaning = f"accuracy, mean of {result.episodes:,} episodes, {by}"
    name = f"{result.ways}-way {result.shots}-shot"
    return Score(name, result.accuracy, "share", _few_shot_interval(result), meaning)


def _few_shot_interval(result: FewShotScores) -> tuple[float, float] | None:
    half = result.interval
    return (max(0.0, result.accuracy - half), min(1.0, result.accuracy + half)) if math.isfinite(half) else None


def _to_json(value: Any) -> Any:  # noqa: ANN401 -- any JSON, and arrays
    """Turn arrays into lists, and NaN and infinity, which JSON lacks, into None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _few_shot_dict(result: FewShotScores) -> dict[str, Any]:
    names = ("ways", "shots", "by", "episodes", "accuracy", "interval")
    return {name: getattr(result, name) for name in names}


def _retrieval_result_dict(result: RetrievalResult, data: EmbeddedDataset | None) -> dict[str, Any]:
    return {
        "protocol": result.protocol,
        "by_class": _retrieval_dict(result.by_class, data),
        "by_item": result.by_item and _retrieval_dict(result.by_item, None),  # a class would be a single item
    }


def _retrieval_dict(scores: RetrievalScores, data: EmbeddedDataset | None) -> dict[str, Any]:
    tree = {f.name: getattr(scores, f.name) for f in fields(scores) if f.name not in {"by_class", "average_precision"}}
    tree["eleven_points"] = scores.eleven_points
    tree["classes"] = [
        {"class": data.class_name(int(label)), **asdict(of_class)}
        for label, of_class in scores.by_class.items()
        if data
    ]
    return tree


def _verification_dict(result: VerificationResult) -> dict[str, Any]:
    confusion, curve = result.confusion, result.roc.curve()
    counts = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    return {
        "protocol": result.protocol,
        "pairs": len(result.pairs),
        "threshold": confusion.threshold,
        "confusion": {name: getattr(confusion, name) for name in counts},
        **result.scores,
        "intervals": dict(result.intervals),
        "roc": {"false_accept_rate": curve[:, 0], "false_reject_rate": curve[:, 1]},
        "histogram": vars(distance_histogram(result)),
    }
