"""Charts of a report, as inline SVG.

They use matplotlib's `Figure` and its SVG back-end, not pyplot, whose state is global. Colours are CSS variables of the
page, so that a chart follows light and dark mode. Text stays text.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from lookalike.evaluation.results import Histogram
from lookalike.shapes import Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["Axes"], None]

# Placeholder colours → variables of the style sheet. No chart uses these colours for anything else.
_INK, _QUIET, _LINE, _CARD, _FIRST, _SECOND = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _LINE: "var(--line)",
    _CARD: "var(--card)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
}

# The same colours in light mode, as in report.css.
_LIGHT = {_INK: "#211c26", _QUIET: "#6d6672", _LINE: "#e4ddd2"}

_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lookalike",  # the same report gets the same bytes
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _QUIET,
    "axes.edgecolor": _LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _QUIET,
    "ytick.labelcolor": _QUIET,
    "xtick.major.size": 0,
    "xtick.major.pad": 7,
    "ytick.major.pad": 7,
    "ytick.major.size": 0,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "figure.facecolor": "none",
}

# Largest number of points of a curve: more would be closer than the pixels of a screen.
_POINTS = 400


def training(history: Sequence[Mapping[str, float]], keys: Sequence[str], label: str) -> str:
    """Draw values of a training run over its epochs, a line each.

    Args:
        history: a mapping for each epoch, with ``epoch`` and the values; a missing value leaves a gap.
        keys: the values to draw; the first line is solid, the others are dashed.
        label: of the vertical axis.
    """

    def draw(axes: "Axes") -> None:
        for number, key in enumerate(keys):
            known = [(line["epoch"], line[key]) for line in history if key in line]
            x, y = np.asarray(known, dtype=np.float64).T
            dashes = ("-", (0, (4, 2)), ":", "-.")[number % 4]
            colour = (_FIRST, _SECOND, _INK, _QUIET)[number % 4]
            axes.plot(x, y, color=colour, linestyle=dashes, label=key, marker="o" if len(x) == 1 else None)
        axes.set(xlabel="epoch", ylabel=label)
        axes.margins(x=0.01)
        if len(history) < 12:  # noqa: PLR2004 -- so few epochs would get ticks at halves
            axes.set_xticks([line["epoch"] for line in history])
        axes.legend(loc="best")

    return svg(draw, f"training-{keys[0]}", f"{', '.join(keys)} over {len(history)} epochs")


def histogram(counts: Histogram, threshold: float, unit: str) -> str:
    """Draw the distances of genuine and of impostor pairs, each as shares of their kind.

    Args:
        counts: pairs of both kinds by distance.
        threshold: largest distance of an accepted pair.
        unit: of the horizontal axis.
    """

    def draw(axes: "Axes") -> None:
        edges = counts.edges
        kinds = ((counts.impostor, "different classes", _SECOND, "//"), (counts.genuine, "same class", _FIRST, ""))
        for pairs, name, colour, hatch in kinds:
            shares = pairs / max(1, pairs.sum())
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.28)
            # The hatch distinguishes the two without colour.
            axes.stairs(shares, edges, color=colour, linewidth=1.8, label=name, hatch=hatch or None)
        if np.isfinite(threshold):
            axes.axvline(
                threshold, color=_INK, linewidth=1.4, linestyle=(0, (4, 3)), label=f"threshold {threshold:.4g}"
            )
        axes.set(xlabel=unit, ylabel="share of pairs", xlim=(edges[0], edges[-1]), ylim=(0, None))
        axes.yaxis.set_major_formatter(_percent)
        axes.legend(loc="best")

    return svg(draw, "histogram", "Histogram of the distances of pairs of the same class and of different classes")


def roc(curve: Float64[np.ndarray, "n 2"], auc: float, chosen: tuple[float, float]) -> str:
    """Draw the true accept rate over the false accept rate.

    Args:
        curve: (FAR, FRR) at each threshold, FAR ascending.
        auc: area under the curve.
        chosen: (FAR, FRR) at the chosen threshold.
    """

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1.4, linestyle=(0, (4, 3)))
        x, y = _thin(curve[:, 0], 1 - curve[:, 1])
        axes.plot(x, y, color=_FIRST, label=f"AUC {auc:.4f}", clip_on=False)
        _mark_threshold(axes, chosen[0], 1 - chosen[1])
        axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(0, 1), ylim=(0, 1))
        _use_percent(axes)
        axes.legend(loc="lower right")

    return svg(draw, "roc", f"ROC curve; area under it {auc:.4f}")


def det(curve: Float64[np.ndarray, "n 2"], eer: float, chosen: tuple[float, float]) -> str:
    """Draw the false reject rate over the false accept rate, both in normal deviates (Martin et al. 1997).

    Args:
        curve: (FAR, FRR) at each threshold, FAR ascending.
        eer: the equal error rate.
        chosen: (FAR, FRR) at the chosen threshold.
    """
    accepts, rejects = curve.T
    ticks = np.array([0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95])
    # The axes begin at the smallest rate above 0 that the number of pairs allows.
    low = min((float(rates[rates > 0].min()) for rates in (accepts, rejects) if (rates > 0).any()), default=0.01)
    low = min(max(low, 1e-5), 0.01)

    def deviates(rates: np.ndarray) -> np.ndarray:
        return np.array([NormalDist().inv_cdf(r) for r in np.clip(rates, low, 1 - low).tolist()])

    def draw(axes: "Axes") -> None:
        inside = ((curve > 0) & (curve < 1)).all(axis=1)
        x, y = _thin(deviates(accepts[inside]), deviates(rejects[inside]))
        low_high = deviates(np.array([low, 0.95]))
        axes.plot(low_high, low_high, color=_LINE, linewidth=1.4, linestyle=(0, (4, 3)))
        axes.plot(x, y, color=_FIRST, label=f"EER {eer:.2%}")
        _mark_threshold(axes, *deviates(np.array(chosen)).tolist())
        shown = ticks[ticks >= low]
        names = [f"{100 * t:g}%" for t in shown]
        axes.set(xlabel="false accept rate", ylabel="false reject rate", xlim=low_high, ylim=low_high)
        axes.set_xticks(deviates(shown), names)
        axes.set_yticks(deviates(shown), names)
        axes.legend(loc="upper right")

    return svg(draw, "det", f"DET curve; equal error rate {eer:.2%}")


def precision_recall(precision: Float64[np.ndarray, " n"], eleven: Float64[np.ndarray, " 11"]) -> str:
    """Draw the mean precision at each recall, and the 11 interpolated points.

    Args:
        precision: interpolated precision at recall 0…1 in equal steps.
        eleven: interpolated precision at recall 0, 0.1 … 1.
    """

    def draw(axes: "Axes") -> None:
        axes.plot(np.linspace(0, 1, len(precision)), precision, color=_FIRST, label="mean over queries")
        axes.plot(np.linspace(0, 1, 11), eleven, "o", color=_SECOND, markersize=5, clip_on=False, label="11 points")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
        _use_percent(axes)
        axes.legend(loc="best")

    return svg(draw, "precision-recall", "Precision–recall curve")


def codecs(
    points: Sequence[tuple[float, float, bool]], chosen: str, base_bytes: float, measure: str, label: str
) -> str:
    """Draw the share of a score that codecs keep over the bytes of an item.

    Args:
        points: bytes of an item, share kept and whether the codec is the chosen one.
        chosen: the name of the chosen one.
        base_bytes: bytes of an original vector, which keeps all.
        measure: the name of the score.
        label: of the chart, for a reader that does not see it.
    """

    def draw(axes: "Axes") -> None:
        best = -1.0
        front = [(size, best := kept) for size, kept, _ in sorted(points) if kept > best]
        axes.plot(*zip(*front, strict=True), color=_QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        others = [(size, kept) for size, kept, is_chosen in points if not is_chosen]
        if others:
            axes.plot(*zip(*others, strict=True), "o", color=_SECOND, markersize=6, label="other codecs")
        axes.plot([base_bytes], [1], "s", color=_INK, markersize=7, label="original vectors")
        mark = [(size, kept) for size, kept, is_chosen in points if is_chosen]
        axes.plot(*zip(*mark, strict=True), "o", color=_FIRST, markersize=12, label=f"chosen: {chosen}", zorder=5)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
        axes.yaxis.set_major_formatter(_percent)
        axes.set(xlabel="bytes an item", ylabel=f"{measure} kept")
        axes.margins(y=0.08)
        axes.legend(loc="lower right", labelcolor=_INK)

    return svg(draw, "codecs", label)


def _mark_threshold(axes: "Axes", x: float, y: float) -> None:
    axes.plot(
        [x],
        [y],
        "o",
        color=_CARD,
        markeredgecolor=_INK,
        markeredgewidth=2,
        markersize=8,
        label="at the threshold",
        clip_on=False,
        zorder=5,
    )


def _use_percent(axes: "Axes") -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent)


def _percent(value: float, _position: float) -> str:
    return f"{100 * value:.4g}%"


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `_POINTS` points of a monotone curve, evenly spaced along it, with both ends."""
    if len(x) <= _POINTS:
        return x, y
    span = [np.ptp(v) or 1.0 for v in (x, y)]
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) / span[0] + np.abs(np.diff(y)) / span[1])])
    rows = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _POINTS)).clip(0, len(x) - 1))
    return x[rows], y[rows]


def svg(draw: Draw, name: str, label: str) -> str:
    """Draw a chart as an inline SVG element; ``name`` makes its ids unique in the page."""
    file = io.StringIO()
    _save(draw, _STYLE, file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(file.getvalue(), name, label)


def png(draw: Draw) -> bytes:
    """Draw a chart as a PNG on white, in the colours of light mode; ``draw`` names no colour of the page."""
    style = {key: _LIGHT.get(value, value) if isinstance(value, str) else value for key, value in _STYLE.items()}
    file = io.BytesIO()
    _save(draw, style | {"figure.facecolor": "#ffffff"}, file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _save(draw: Draw, style: dict[Any, object], file: io.StringIO | io.BytesIO, **settings: Any) -> None:  # noqa: ANN401 -- matplotlib's
    import matplotlib as mpl  # noqa: PLC0415 -- an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 -- an extra

    with mpl.rc_context(style):
        figure = Figure(figsize=(5.6, 4.0), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, **settings)


def _inline(svg: str, name: str, label: str) -> str:
    """Prepare an SVG for a page: without prolog, with unique ids, in the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<svg [^>]*viewBox=\"([^\"]+)\"[^>]*>",
        rf'<svg class="chart" role="img" viewBox="\1" aria-label="{escape(label)}">',
        svg,
        count=1,
    )
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg).replace("xlink:href", "href")
    # Nothing refers to the ids of groups; marks, clips and patterns are referred to.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"\s*\n\s*", " ", svg)
