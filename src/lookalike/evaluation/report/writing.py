"""A report as files: one page that needs nothing else, and one JSON document."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lookalike import atomic
from lookalike.errors import MissingExtraError, StorageError
from lookalike.evaluation.protocol import Ranking, Verification
from lookalike.evaluation.report import charts, pictures
from lookalike.evaluation.report.contents import KeyFigure, Neighbours, Report, histogram
from lookalike.evaluation.report.embedding_map import NAMED, Map, names, sheet_columns
from lookalike.evaluation.retrieval import ClassFigures

_HERE = Path(__file__).parent

# What the page has room for; report.json has all.
_HEROES = 4
_CLASSES = 60
_NAME = 18

_NO_PICTURE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def write(report: Report, folder: Path) -> Path:
    """Write ``report.html`` and ``report.json`` into a folder, which is made where it is not there.

    Returns:
        The path of ``report.html``.

    Raises:
        MissingExtraError: without the extra “report”.
        StorageError: they cannot be written.
    """
    page = render(report)
    figures = json.dumps(report.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("report.json", figures), ("report.html", page)):
            atomic.write_bytes(folder / name, text.encode())
    except OSError as e:
        raise StorageError(f"The report cannot be written into {folder}: {e.strerror}.") from e
    return folder / "report.html"


def render(report: Report) -> str:
    """The page.

    Raises:
        MissingExtraError: without the extra “report”.
    """
    try:
        import jinja2  # noqa: PLC0415 -- an extra
        from markupsafe import Markup  # noqa: PLC0415 -- comes with jinja2
    except ImportError as e:
        raise MissingExtraError("report", "A report") from e
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    # These are this package's own, and the charts are made with what they quote escaped.
    values = _values(report, Markup)
    page = environment.get_template("report.html").render(
        values,
        style=Markup(style),  # noqa: S704 -- as above
        script=Markup(script),  # noqa: S704 -- as above
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return f"{page}\n"


Mark = Callable[[str], str]
"""Says that a text is HTML already."""


def _values(report: Report, mark: Mark) -> dict[str, Any]:
    figures = report.figures
    key = [_figure(f) for f in report.key_figures]
    episodes = [_figure(f) | {"chance": _episode_chance(f.name)} for f in report.key_figures if "-way" in f.name]
    values = {
        "about": report.about,
        "heroes": _heroes(key),
        "key_figures": key,
        "training": _training(report.history, mark),
        "map": report.embedding_map and _map(report, report.embedding_map),
        "retrieval": figures.retrieval and _retrieval(figures.retrieval, report.classes, mark),
        "queries": _queries(report),
        "verification": figures.verification and _verification(figures.verification, report, mark),
        "pairs": figures.verification and _pairs(report, figures.verification),
        "episodes": episodes,
        "left_out": figures.left_out,
        "facts": _facts(report),
        "pictures": lru_cache(None)(
            lambda row: pictures.example(report.picture(row)) if report.picture else _NO_PICTURE
        ),
    }
    titles = {"training": "Training", "map": "Map", "retrieval": "Retrieval", "verification": "Verification"}
    values["sections"] = [
        ("figures", "Figures"),
        *((id_, title) for id_, title in titles.items() if values[id_]),
        *([("few-shot", "Few-shot")] if episodes else []),
        ("about", "About"),
    ]
    return values


def _heroes(figures: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The four that a reader of any field looks for."""
    wanted = (
        "top-1",
        "mAP",
        "accuracy",
        "AUC",
        "item top-1",
        "20-way 1-shot",
        "5-way 1-shot",
        "Omniglot one-shot runs",
    )
    by_name = {f["name"]: f for f in figures}
    return [by_name[name] for name in wanted if name in by_name][:_HEROES]


def _figure(figure: KeyFigure) -> dict[str, str]:
    interval = " – ".join(figure.write(end) for end in figure.interval) if figure.interval else ""
    return {
        "name": figure.name,
        "text": figure.write(figure.value),
        "interval": interval,
        "meaning": figure.meaning,
    }


def _episode_chance(name: str) -> str:
    return _share(1 / int(name.partition("-way")[0]))


def _share(value: float) -> str:
    return f"{value:.2%}" if np.isfinite(value) else "–"


def _training(history: Sequence[Mapping[str, float]], mark: Mark) -> list[dict[str, str]]:
    """Losses in one chart, what validation gives in another."""
    keys = list(dict.fromkeys(key for line in history for key in line))
    losses = [k for k in ("loss", "validation.loss") if k in keys]
    shares = [k for k in keys if k.startswith("validation.") and k not in losses][:4]
    parts = [k for k in keys if k.startswith("loss.")][:4]
    found = []
    for title, chosen, label, caption in (
        ("Loss", losses, "loss", "Of training and, where it was measured, of the pictures held out."),
        ("Validation", shares, "figure", "Measured after each epoch on the pictures held out."),
        ("Parts of the loss", parts if len(parts) > 1 else [], "loss", "Each part before it is weighted."),
    ):
        if chosen:
            found.append({"title": title, "svg": mark(charts.training(history, chosen, label)), "caption": caption})
    return found


def _map(report: Report, drawn: Map) -> dict[str, Any]:
    classes, shown = report.classes, names(drawn, report.classes)
    _, starts = np.unique(drawn.labels, return_index=True)
    starts = np.sort(starts)
    ends = [*starts[1:].tolist(), len(drawn.labels)]
    scaled = np.round(1000 * drawn.points).astype(int)
    groups = [
        {"place": place if place < NAMED else None, "points": scaled[start:end].tolist()}
        for place, (start, end) in enumerate(zip(starts.tolist(), ends, strict=True))
    ]
    places = [
        {
            "place": n.place,
            "text": _short(n.text),
            "full": n.text,
            "count": n.count,
            "x": round(1000 * n.x),
            "y": round(1000 * n.y),
        }
        for n in shown
    ]
    named = f"{len(drawn.rows):,} pictures of {len(groups)} classes"
    return {
        "groups": groups,
        "names": places,
        "others": max(0, len(groups) - NAMED),
        "labels": [classes[label] for label in drawn.labels.tolist()],
        "columns": sheet_columns(len(drawn.rows)),
        "label": f"Map of {named}: pictures with near embeddings lie near each other",
        "caption": f"{named}, laid out by t-SNE after a PCA. What is near in the embedding is near here; distances between"
        " clouds mean little. Point at a dot, or use the arrow keys, to see its picture.",
        "sheet": report.picture and pictures.sheet(drawn, report.picture),
        "mosaic": report.picture and pictures.mosaic(drawn, report.picture),
    }


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _retrieval(ranking: Ranking, classes: Sequence[str], mark: Mark) -> dict[str, Any]:
    result = ranking.by_class
    hardest = sorted(result.by_class.items(), key=lambda pair: pair[1].map)
    counts = f"{result.queries:,} queries."
    if result.without_relevant:
        counts += f" {result.without_relevant:,} more have nothing to find and count nowhere."
    return {
        "how": f"{ranking.how[0].upper()}{ranking.how[1:]}.",
        "curve": mark(charts.precision_recall(result.curve, result.eleven_points)),
        "at": [
            (k, *(_share(by[k]) for by in (result.precision_at, result.recall_at, result.hit_rate_at, result.map_at)))
            for k in result.precision_at
        ],
        "counts": counts,
        "classes": [_class(classes[int(label)], figures) for label, figures in hardest[:_CLASSES]],
        "more": max(0, len(hardest) - _CLASSES),
    }


def _class(name: str, figures: ClassFigures) -> dict[str, Any]:
    return {
        "name": name,
        "queries": f"{figures.queries:,}",
        "top_1": _share(figures.top_1),
        "r_precision": _share(figures.r_precision),
        "map": _share(figures.map),
        "share": round(figures.map, 4),
    }


def _queries(report: Report) -> list[dict[str, Any]]:
    kinds = (
        (False, "The worst queries", "What an encoder confuses shows best where its rankings are worst."),
        (True, "The best queries", "Some of those whose ranking is best."),
    )
    found = []
    for best, title, caption in kinds:
        chosen = [_query(report, n) for n in report.neighbours if n.best == best]
        if chosen and report.picture:
            found.append({"title": title, "caption": caption, "queries": chosen})
    return found


def _query(report: Report, query: Neighbours) -> dict[str, Any]:
    labels, classes = report.labels, report.classes
    hits = [
        {
            "row": row,
            "name": classes[labels[row]],
            "right": bool(labels[row] == labels[query.row]),
            "distance": f"{far:.4g}",
        }
        for row, far in zip(query.hits.tolist(), query.distances.tolist(), strict=True)
    ]
    return {
        "row": query.row,
        "name": classes[labels[query.row]],
        "score": f"{query.average_precision:.4f}",
        "hits": hits,
    }


def _verification(measured: Verification, report: Report, mark: Mark) -> dict[str, Any]:
    verdicts, shown, curve = measured.verdicts, histogram(measured), measured.roc.curve()
    here, unit = (verdicts.far, verdicts.frr), report.about.metric.unit
    rows = []
    for i, (name, counts) in enumerate(zip(("two classes", "one class"), verdicts.matrix, strict=True)):
        shares = [count / max(1, sum(counts)) for count in counts]
        cells = [
            {"count": f"{count:,}", "percent": _share(share), "share": round(share, 4), "right": i == j}
            for j, (count, share) in enumerate(zip(counts, shares, strict=True))
        ]
        rows.append((name, cells))
    return {
        "how": f"{measured.how[0].upper()}{measured.how[1:]}.",
        "histogram": mark(charts.histogram(shown.genuine, shown.impostor, shown.edges, verdicts.threshold, unit)),
        "roc": mark(charts.roc(curve[:, 0], curve[:, 1], measured.roc.auc, here)),
        "det": mark(charts.det(curve[:, 0], curve[:, 1], measured.roc.eer, here)),
        "confusion": rows,
        "threshold": f"{verdicts.threshold:.4g}",
        "unit": unit,
    }


def _pairs(report: Report, measured: Verification) -> list[dict[str, Any]]:
    if not report.picture:
        return []
    found = []
    for i in report.examples:
        left, right = int(measured.pairs.left[i]), int(measured.pairs.right[i])
        same = bool(measured.pairs.same[i])
        said = bool(measured.distances[i] <= np.float32(measured.verdicts.threshold))
        found.append(
            {
                "left": left,
                "row": right,
                "names": [report.classes[report.labels[row]] for row in (left, right)],
                "distance": f"{measured.distances[i]:.4g}",
                "right": same == said,
                "said": "same" if said else "different",
                "true": "same" if same else "different",
            }
        )
    return found


def _facts(report: Report) -> list[tuple[str, str]]:
    about = report.about
    return [
        ("encoder", about.encoder),
        ("data", about.data),
        ("pictures", f"{len(report.labels):,}"),
        ("classes", f"{len(np.unique(report.labels)):,}"),
        ("metric", f"{about.metric} ({about.metric.unit})"),
        *about.facts.items(),
        ("seed", str(about.seed)),
        ("date", about.date),
        ("versions", ", ".join(f"{name} {number}" for name, number in about.versions.items())),
    ]
