"""The page of a report, one self-contained HTML file, and its JSON document."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lookalike import atomic
from lookalike.errors import MissingExtraError, StorageError
from lookalike.evaluation.embedded import EmbeddedDataset
from lookalike.evaluation.protocols import RetrievalResult, VerificationResult
from lookalike.evaluation.report import charts, thumbnails
from lookalike.evaluation.report.embedding_map import NAMED, EmbeddingMap, place_names, sheet_columns
from lookalike.evaluation.report.illustrations import Illustrations, Neighbours, illustrate
from lookalike.evaluation.results import Evaluation, Score, distance_histogram
from lookalike.evaluation.retrieval import ClassScores

if TYPE_CHECKING:
    import jinja2

_HERE = Path(__file__).parent

# Limits of the page: headline scores, classes, and characters of a name. report.json has everything.
_HEADLINES = 4
_CLASSES = 60
_NAME_LENGTH = 18

_HEADLINE_SCORES = (
    "top-1",
    "mAP",
    "accuracy",
    "AUC",
    "item top-1",
    "20-way 1-shot",
    "5-way 1-shot",
    "Omniglot one-shot runs",
)

# A transparent pixel.
_NO_IMAGE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

Mark = Callable[[str], str]
"""Marks a text as HTML that must not be escaped."""


def require() -> None:
    """Check that the packages of a report are installed; call it before long work that ends in a report.

    Raises:
        MissingExtraError: a package is missing.
    """
    if any(find_spec(name) is None for name in ("matplotlib", "sklearn")):
        raise MissingExtraError("report", "A report")


def default_folder(encoder: str, data: str) -> Path:
    """Return the default folder of a report."""
    return Path("reports") / re.sub(r"[^\w.]+", "-", f"{encoder}-{data}").strip("-.")


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write ``report.html`` and ``report.json`` into a folder, and create it if needed.

    Returns:
        The path of ``report.html``.

    Raises:
        MissingExtraError: the extra “report” is not installed.
        StorageError: the files cannot be written.
    """
    require()
    page = render(evaluation, illustrate(evaluation))
    document = json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(folder / "report.json", document)
        atomic.write_text(folder / "report.html", page)
    except OSError as e:
        raise StorageError(f"The report cannot be written into {folder}: {e.strerror}. Choose another folder.") from e
    return folder / "report.html"


def render(evaluation: Evaluation, illustrations: Illustrations) -> str:
    """Render the page."""
    from markupsafe import Markup  # noqa: PLC0415 -- as jinja2

    loaded, style = environment()
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    # Style and script are this package's own. The charts escape the texts that they quote.
    page = loaded.get_template("report.html").render(
        _values(evaluation, illustrations, Markup),
        style=Markup(style),  # noqa: S704 -- as above
        script=Markup(script),  # noqa: S704 -- as above
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return f"{page}\n"


def environment() -> tuple["jinja2.Environment", str]:
    """Return the environment of the templates of reports, which escapes all texts, and the style of their pages."""
    import jinja2  # noqa: PLC0415 -- a report is rare, and an import of the package is not

    loader = jinja2.FileSystemLoader(_HERE)
    loaded = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return loaded, (_HERE / "report.css").read_text(encoding="utf-8")


def _values(evaluation: Evaluation, illustrations: Illustrations, mark: Mark) -> dict[str, Any]:
    """Return the values of the template."""
    data = evaluation.data
    image = data.image if data else None
    scores = [_score(s) for s in evaluation.scores]
    episodes = [_score(s) | {"chance": _episode_chance(s.name)} for s in evaluation.scores if "-way" in s.name]
    values: dict[str, Any] = {
        "about": evaluation.about,
        "headlines": _headlines(scores),
        "scores": scores,
        "training": _training(evaluation.history, mark),
        "map": data and illustrations.embedding_map and _map(data, illustrations.embedding_map),
        "retrieval": data and evaluation.retrieval and _retrieval(evaluation.retrieval, data, mark),
        "queries": data and _queries(illustrations.neighbours, data),
        "verification": evaluation.verification
        and _verification(evaluation.verification, evaluation.about.metric.unit, mark),
        "pairs": data and evaluation.verification and _pairs(illustrations.pairs, evaluation.verification, data),
        "episodes": episodes,
        "not_measured": evaluation.not_measured,
        "facts": _facts(evaluation),
        "thumbnail": lru_cache(None)(lambda row: thumbnails.thumbnail(image(row)) if image else _NO_IMAGE),
    }
    titles = {"training": "Training", "map": "Map", "retrieval": "Retrieval", "verification": "Verification"}
    values["sections"] = [
        ("scores", "Scores"),
        *((id_, title) for id_, title in titles.items() if values[id_]),
        *([("few-shot", "Few-shot")] if episodes else []),
        ("about", "About"),
    ]
    return values


def _score(score: Score) -> dict[str, str]:
    interval = " – ".join(score.format(end) for end in score.interval) if score.interval else ""
    return {"name": score.name, "text": score.format(score.value), "interval": interval, "meaning": score.meaning}


def _headlines(scores: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the four headline scores."""
    by_name = {score["name"]: score for score in scores}
    return [by_name[name] for name in _HEADLINE_SCORES if name in by_name][:_HEADLINES]


def _episode_chance(name: str) -> str:
    return _percent(1 / int(name.partition("-way")[0]))


def _percent(value: float) -> str:
    return f"{value:.2%}" if np.isfinite(value) else "–"


def _capitalise(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}."


def _training(history: Sequence[Mapping[str, float]], mark: Mark) -> list[dict[str, str]]:
    """Return a chart of the losses, one of the validation scores, and one of the parts of the loss."""
    keys = list(dict.fromkeys(key for line in history for key in line))
    losses = [k for k in ("loss", "validation.loss") if k in keys]
    scores = [k for k in keys if k.startswith("validation.") and k not in losses][:4]
    parts = [k for k in keys if k.startswith("loss.")][:4]
    drawn = []
    for title, chosen, label, caption in (
        ("Loss", losses, "loss", "Of training and, if measured, of the validation images."),
        ("Validation", scores, "score", "Measured on the validation images after each epoch."),
        ("Parts of the loss", parts if len(parts) > 1 else [], "loss", "Each part before it is weighted."),
    ):
        if chosen:
            drawn.append({"title": title, "svg": mark(charts.training(history, chosen, label)), "caption": caption})
    return drawn


def _map(data: EmbeddedDataset, embedding_map: EmbeddingMap) -> dict[str, Any]:
    class_names = [data.class_name(label) for label in range(int(embedding_map.labels.max()) + 1)]
    _, first = np.unique(embedding_map.labels, return_index=True)
    starts = np.sort(first)
    ends = [*starts[1:].tolist(), len(embedding_map.labels)]
    scaled = np.round(1000 * embedding_map.points).astype(int)
    groups = [
        {"rank": rank if rank < NAMED else None, "points": scaled[start:end].tolist()}
        for rank, (start, end) in enumerate(zip(starts.tolist(), ends, strict=True))
    ]
    names = [
        {
            "rank": n.rank,
            "text": n.text if len(n.text) <= _NAME_LENGTH else f"{n.text[: _NAME_LENGTH - 1]}…",
            "full": n.text,
            "count": n.count,
            "x": round(1000 * n.x),
            "y": round(1000 * n.y),
        }
        for n in place_names(embedding_map, class_names)
    ]
    contents = f"{len(embedding_map.rows):,} images of {len(groups)} classes"
    return {
        "groups": groups,
        "names": names,
        "others": max(0, len(groups) - NAMED),
        "labels": [class_names[label] for label in embedding_map.labels.tolist()],
        "columns": sheet_columns(len(embedding_map.rows)),
        "label": f"Map of {contents}: images with near embeddings lie near each other",
        "caption": f"{contents}, laid out by t-SNE after a PCA. Near points have near embeddings; distances between"
        " clouds mean little. Point at a dot, or use the arrow keys, to see its image.",
        "sheet": data.image and thumbnails.sprite_sheet(embedding_map, data.image),
        "mosaic": data.image and thumbnails.mosaic(embedding_map, data.image),
    }


def _retrieval(result: RetrievalResult, data: EmbeddedDataset, mark: Mark) -> dict[str, Any]:
    scores = result.by_class
    hardest = sorted(scores.by_class.items(), key=lambda pair: pair[1].map)
    counts = f"{scores.queries:,} queries."
    if scores.without_relevant:
        counts += f" {scores.without_relevant:,} more have no relevant item and are not counted."
    at_k = (scores.precision_at, scores.recall_at, scores.hit_rate_at, scores.map_at)
    return {
        "protocol": _capitalise(result.protocol),
        "curve": mark(charts.precision_recall(scores.curve, scores.eleven_points)),
        "at_k": [(k, *(_percent(by_k[k]) for by_k in at_k)) for k in scores.precision_at],
        "counts": counts,
        "classes": [_class(data.class_name(int(label)), of_class) for label, of_class in hardest[:_CLASSES]],
        "more": max(0, len(hardest) - _CLASSES),
    }


def _class(name: str, scores: ClassScores) -> dict[str, Any]:
    return {
        "name": name,
        "queries": f"{scores.queries:,}",
        "top_1": _percent(scores.top_1),
        "r_precision": _percent(scores.r_precision),
        "map": _percent(scores.map),
        "share": round(scores.map, 4),
    }


def _queries(neighbours: Sequence[Neighbours], data: EmbeddedDataset) -> list[dict[str, Any]]:
    kinds = (
        (False, "The worst queries", "Their rankings show what the encoder confuses."),
        (True, "The best queries", "Queries of different classes with the best rankings."),
    )
    shown = []
    for best, title, caption in kinds:
        queries = [_query(n, data) for n in neighbours if n.best == best]
        if queries and data.image:
            shown.append({"title": title, "caption": caption, "queries": queries})
    return shown


def _query(query: Neighbours, data: EmbeddedDataset) -> dict[str, Any]:
    label = data.labels[query.row]
    hits = [
        {
            "row": row,
            "name": data.class_name(int(data.labels[row])),
            "right": bool(data.labels[row] == label),
            "distance": f"{distance:.4g}",
        }
        for row, distance in zip(query.hits.tolist(), query.distances.tolist(), strict=True)
    ]
    name = data.class_name(int(label))
    return {"row": query.row, "name": name, "average_precision": f"{query.average_precision:.4f}", "hits": hits}


def _verification(result: VerificationResult, unit: str, mark: Mark) -> dict[str, Any]:
    confusion, histogram, curve = result.confusion, distance_histogram(result), result.roc.curve()
    chosen = (confusion.false_accept_rate, confusion.false_reject_rate)
    rows = []
    for i, (name, counts) in enumerate(zip(("different classes", "same class"), confusion.matrix, strict=True)):
        shares = [count / max(1, sum(counts)) for count in counts]
        cells = [
            {"count": f"{count:,}", "percent": _percent(share), "share": round(share, 4), "right": i == j}
            for j, (count, share) in enumerate(zip(counts, shares, strict=True))
        ]
        rows.append((name, cells))
    return {
        "protocol": _capitalise(result.protocol),
        "histogram": mark(charts.histogram(histogram, confusion.threshold, unit)),
        "roc": mark(charts.roc(curve, result.roc.auc, chosen)),
        "det": mark(charts.det(curve, result.roc.eer, chosen)),
        "confusion": rows,
        "threshold": f"{confusion.threshold:.4g}",
        "unit": unit,
    }


def _pairs(chosen: Sequence[int], result: VerificationResult, data: EmbeddedDataset) -> list[dict[str, Any]]:
    if not data.image:
        return []
    shown = []
    for i in chosen:
        left, right = int(result.pairs.left[i]), int(result.pairs.right[i])
        same, accepted = bool(result.pairs.same[i]), bool(result.accepted[i])
        shown.append(
            {
                "left_row": left,
                "right_row": right,
                "names": [data.class_name(int(data.labels[row])) for row in (left, right)],
                "distance": f"{result.distances[i]:.4g}",
                "right": same == accepted,
                "predicted": "same" if accepted else "different",
                "true": "same" if same else "different",
            }
        )
    return shown


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    about, data = evaluation.about, evaluation.data
    counts = [("images", f"{len(data):,}"), ("classes", f"{len(np.unique(data.labels)):,}")] if data else []
    return [
        ("encoder", about.encoder),
        ("data", about.data),
        *counts,
        ("metric", f"{about.metric} ({about.metric.unit})"),
        *about.facts.items(),
        ("seed", str(about.seed)),
        ("date", about.date),
        ("versions", ", ".join(f"{name} {number}" for name, number in about.versions.items())),
    ]
