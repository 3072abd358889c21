"""What a report holds: figures, curves, and the pictures that go with them."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lookalike.evaluation.fewshot import FewShot
from lookalike.evaluation.protocol import Figures, Ranking, Verification, wilson
from lookalike.evaluation.report.embedding_map import Map
from lookalike.evaluation.report.pictures import Picture
from lookalike.evaluation.retrieval import Retrieval
from lookalike.metric import Metric

FORMAT = 1


def installed() -> dict[str, str]:
    """The versions that figures may depend on."""
    packages = {name: version(name) for name in ("lookalike", "numpy", "onnxruntime")}
    return packages | {"python": platform.python_version()}


@dataclass(frozen=True)
class About:
    """What was measured on what.

    Attributes:
        encoder: its name.
        data: what the pictures are, in words.
        metric: what distances were measured with.
        seed: of all that was drawn.
        facts: whatever else there is to know, by name: counts, options, minutes.
        date: when, in UTC.
        versions: of what computed it.
    """

    encoder: str
    data: str
    metric: Metric
    seed: int
    facts: Mapping[str, str] = field(default_factory=dict)
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    versions: Mapping[str, str] = field(default_factory=installed)


@dataclass(frozen=True)
class KeyFigure:
    """A figure that a reader looks for first.

    Attributes:
        name: as it is called.
        value: a share where `kind` says so.
        kind: "share" is written in per cent.
        interval: 95 % confidence, where one exists.
        meaning: for those who do not know the name.
    """

    name: str
    value: float
    kind: Literal["share", "number"]
    interval: tuple[float, float] | None
    meaning: str

    def write(self, value: float) -> str:
        """The value, or an end of the interval, as people read it."""
        if not math.isfinite(value):
            return "–"
        return f"{value:.2%}" if self.kind == "share" else f"{value:.4f}"


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A query and its nearest.

    Attributes:
        row: the query's.
        average_precision: of its whole ranking.
        hits: rows, the nearest first.
        distances: of these.
        best: shown as one of the best, not of the worst.
    """

    row: int
    average_precision: float
    hits: Int64[np.ndarray, " k"]
    distances: Float32[np.ndarray, " k"]
    best: bool


@dataclass(frozen=True, eq=False)
class Histogram:
    """Distances of pairs, counted between edges.

    Attributes:
        edges: in the metric's unit.
        genuine: pairs of one class.
        impostor: pairs of two.
    """

    edges: Float64[np.ndarray, " edges"]
    genuine: Int64[np.ndarray, " bins"]
    impostor: Int64[np.ndarray, " bins"]


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation, or a training run with the evaluation that ends it.

    Attributes:
        about: what was measured on what.
        figures: what came out.
        labels: the class of each row, a position in `classes`.
        classes: their names.
        history: a mapping an epoch, as in a run's ``metrics.jsonl``.
        examples: positions in the judged pairs, worth a look.
        neighbours: queries worth a look.
        embedding_map: where there are pictures enough for one.
        picture: row → its picture; without it the report has figures and curves alone.
    """

    about: About
    figures: Figures
    labels: Int64[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.int64))
    classes: tuple[str, ...] = ()
    history: tuple[Mapping[str, float], ...] = ()
    examples: tuple[int, ...] = ()
    neighbours: tuple[Neighbours, ...] = ()
    embedding_map: Map | None = None
    picture: Picture | None = None

    @property
    def key_figures(self) -> list[KeyFigure]:
        """The figures to look at first."""
        found = []
        if self.figures.retrieval:
            found += _of_retrieval(self.figures.retrieval)
        if self.figures.verification:
            found += _of_verification(self.figures.verification)
        found += [_of_episodes(shown) for shown in self.figures.few_shot]
        if runs := self.figures.one_shot_runs:
            meaning = f"official one-shot runs of Omniglot, mean over {runs.episodes} runs"
            found.append(KeyFigure("Omniglot one-shot runs", runs.accuracy, "share", _around(runs), meaning))
        return found

    def to_json(self) -> dict[str, Any]:
        """All figures and curves, without pictures; what is not a number there is null."""
        about = self.about
        tree = {
            "format": FORMAT,
            "about": {
                **vars(about),
                "metric": str(about.metric),
                "facts": dict(about.facts),
                "versions": dict(about.versions),
            },
            "figures": [vars(f) for f in self.key_figures],
            "retrieval": self.figures.retrieval and _ranking_json(self.figures.retrieval, self.classes),
            "verification": self.figures.verification and _verification_json(self.figures.verification),
            "few_shot": [_episodes_json(shown) for shown in self.figures.few_shot],
            "one_shot_runs": self.figures.one_shot_runs and _episodes_json(self.figures.one_shot_runs),
            "left_out": list(self.figures.left_out),
            "history": [dict(line) for line in self.history],
        }
        return json.loads(json.dumps(_finite(tree), allow_nan=False))  # type: ignore[no-any-return]  # a mapping came in


def _finite(value: Any) -> Any:  # noqa: ANN401 -- any JSON, and arrays
    """Arrays as lists, and NaN and infinity, which JSON lacks, as null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def histogram(measured: Verification, bins: int = 60) -> Histogram:
    """The judged pairs' distances in bins of equal width."""
    edges = np.histogram_bin_edges(measured.distances.astype(np.float64), bins)
    genuine, impostor = (
        np.histogram(measured.distances[kind], edges)[0] for kind in (measured.pairs.same, ~measured.pairs.same)
    )
    return Histogram(edges, genuine, impostor)


def _of_retrieval(ranking: Ranking) -> list[KeyFigure]:
    result, count = ranking.by_class, ranking.by_class.queries
    found = [
        KeyFigure("top-1", result.top_1, "share", wilson(result.top_1, count), "the nearest is of the query's class"),
        KeyFigure("mAP", result.map, "share", None, "mean average precision over the whole ranking"),
        KeyFigure(
            "R-precision", result.r_precision, "share", None, "of as many as there are of the class, those that are"
        ),
        KeyFigure("MRR", result.mrr, "number", None, "mean of 1 / rank of the first right one"),
    ]
    if ranking.by_item:
        item = ranking.by_item
        found.append(
            KeyFigure(
                "item top-1",
                item.top_1,
                "share",
                wilson(item.top_1, item.queries),
                "the nearest is the very item drawn",
            )
        )
    return found


def _of_verification(measured: Verification) -> list[KeyFigure]:
    v, count = measured.verdicts, len(measured.pairs)
    return [
        KeyFigure("accuracy", v.accuracy, "share", wilson(v.accuracy, count), "pairs judged right at the threshold"),
        KeyFigure("precision", v.precision, "share", None, "of pairs called the same, those that are"),
        KeyFigure("recall", v.recall, "share", None, "of pairs that are the same, those called so"),
        KeyFigure("F1", v.f1, "share", None, "harmonic mean of precision and recall"),
        KeyFigure("AUC", measured.roc.auc, "number", None, "chance that a pair of one class is nearer than one of two"),
        KeyFigure("EER", measured.roc.eer, "share", None, "error rate where false accepts and false rejects are equal"),
        KeyFigure(
            "FAR",
            v.far,
            "share",
            wilson(v.far, v.false_positives + v.true_negatives),
            "pairs of two classes called the same",
        ),
        KeyFigure(
            "FRR",
            v.frr,
            "share",
            wilson(v.frr, v.false_negatives + v.true_positives),
            "pairs of one class called different",
        ),
        KeyFigure("threshold", v.threshold, "number", None, "distance up to which a pair is called the same"),
    ]


def _of_episodes(shown: FewShot) -> KeyFigure:
    by = "nearest example" if shown.by == "example" else "nearest prototype"
    meaning = f"mean over {shown.episodes:,} episodes, {by}"
    return KeyFigure(f"{shown.ways}-way {shown.shots}-shot", shown.accuracy, "share", _around(shown), meaning)


def _around(shown: FewShot) -> tuple[float, float] | None:
    half = shown.interval
    return (max(0.0, shown.accuracy - half), min(1.0, shown.accuracy + half)) if math.isfinite(half) else None


def _episodes_json(shown: FewShot) -> dict[str, Any]:
    return {
        "ways": shown.ways,
        "shots": shown.shots,
        "by": shown.by,
        "episodes": shown.episodes,
        "accuracy": shown.accuracy,
        "interval": shown.interval,
    }


def _ranking_json(ranking: Ranking, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "protocol": ranking.how,
        "by_class": _retrieval_json(ranking.by_class, classes),
        "by_item": ranking.by_item and _retrieval_json(ranking.by_item, ()),
    }


def _retrieval_json(result: Retrieval, classes: tuple[str, ...]) -> dict[str, Any]:
    tree = {f.name: getattr(result, f.name) for f in fields(result) if f.name not in {"by_class", "average_precision"}}
    tree["eleven_points"] = result.eleven_points
    # By item every class would be a single thing.
    tree["classes"] = [
        {"class": classes[int(label)], **asdict(figures)} for label, figures in result.by_class.items() if classes
    ]
    return tree


def _verification_json(measured: Verification) -> dict[str, Any]:
    v, shown = measured.verdicts, histogram(measured)
    scores = ("accuracy", "precision", "recall", "f1", "far", "frr")
    return {
        "protocol": measured.how,
        "pairs": len(measured.pairs),
        "threshold": v.threshold,
        "confusion": {
            "true_negatives": v.true_negatives,
            "false_positives": v.false_positives,
            "false_negatives": v.false_negatives,
            "true_positives": v.true_positives,
        },
        **{name: getattr(v, name) for name in scores},
        "auc": measured.roc.auc,
        "eer": measured.roc.eer,
        "roc": {"far": measured.roc.curve()[:, 0], "frr": measured.roc.curve()[:, 1]},
        "histogram": vars(shown),
    }
