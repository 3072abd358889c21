"""The report's charts: arrays in, inline SVG out.

Drawn by matplotlib's `Figure` and its SVG back-end, never by pyplot, whose state is global. Colours are
written as the page's CSS variables, so that a chart follows light and dark, and text stays text.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["Axes"], None]

# Colours that no chart uses otherwise → what the style sheet calls them.
_INK, _QUIET, _LINE, _CARD, _FIRST, _SECOND = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _LINE: "var(--line)",
    _CARD: "var(--card)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
}

_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lookalike",  # the same report has the same bytes
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
    "figure.facecolor": "none",
}

# Points that a curve of thousands is thinned to: more than a screen has columns.
_POINTS = 400


def training(history: Sequence[Mapping[str, float]], keys: Sequence[str], label: str) -> str:
    """Figures of a run over its epochs, a line each.

    Args:
        history: a mapping an epoch, with ``epoch`` and what was measured after it; what is missing leaves a gap.
        keys: which figures; the first is drawn solid, the others dashed in turns.
        label: what the vertical axis shows.
    """

    def draw(axes: "Axes") -> None:
        for place, key in enumerate(keys):
            known = [(line["epoch"], line[key]) for line in history if key in line]
            x, y = np.asarray(known, dtype=np.float64).T
            dashes = ("-", (0, (4, 2)), ":", "-.")[place % 4]
            colour = (_FIRST, _SECOND, _INK, _QUIET)[place % 4]
            axes.plot(x, y, color=colour, linestyle=dashes, label=key, marker="o" if len(x) == 1 else None)
        axes.set(xlabel="epoch", ylabel=label)
        axes.margins(x=0.01)
        if len(history) < 12:  # noqa: PLR2004 -- so few that the axis would get halves of epochs
            axes.set_xticks([line["epoch"] for line in history])
        axes.legend(loc="best", labelcolor=_INK)

    return _svg(draw, f"training-{keys[0]}", f"{', '.join(keys)} over {len(history)} epochs")


def histogram(
    genuine: Int64[np.ndarray, " bins"],
    impostor: Int64[np.ndarray, " bins"],
    edges: Float64[np.ndarray, " edges"],
    threshold: float,
    unit: str,
) -> str:
    """How far pairs of one class and of two are apart, each as a share of its kind.

    Args:
        genuine: pairs of one class, counted between the edges.
        impostor: pairs of two classes.
        edges: one more than there are bins, in the metric's unit.
        threshold: up to which a pair counts as the same.
        unit: what the horizontal axis counts.
    """

    def draw(axes: "Axes") -> None:
        kinds = ((impostor, "two classes", _SECOND, "//"), (genuine, "one class", _FIRST, ""))
        for counts, name, colour, hatch in kinds:
            shares = counts / max(1, counts.sum())
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.28)
            # The hatch tells the two apart without colour.
            axes.stairs(shares, edges, color=colour, linewidth=1.8, label=name, hatch=hatch or None)
        if np.isfinite(threshold):
            axes.axvline(
                threshold, color=_INK, linewidth=1.4, linestyle=(0, (4, 3)), label=f"threshold {threshold:.4g}"
            )
        axes.set(xlabel=unit, ylabel="share of pairs", xlim=(edges[0], edges[-1]), ylim=(0, None))
        axes.yaxis.set_major_formatter(_percent)
        axes.legend(loc="best", labelcolor=_INK)

    return _svg(draw, "histogram", "Histogram of distances within one class and between two")


def roc(far: Float64[np.ndarray, " n"], frr: Float64[np.ndarray, " n"], auc: float, here: tuple[float, float]) -> str:
    """True accept rate over false accept rate.

    Args:
        far: false accept rate at each threshold, ascending.
        frr: false reject rate.
        auc: area under the curve.
        here: FAR and FRR at the chosen threshold.
    """

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1.4, linestyle=(0, (4, 3)))
        x, y = _thinned(far, 1 - frr)
        axes.plot(x, y, color=_FIRST, label=f"AUC {auc:.4f}", clip_on=False)
        _mark(axes, here[0], 1 - here[1])
        axes.set(xlabel="false accept rate", ylabel="true accept rate", xlim=(0, 1), ylim=(0, 1))
        _shares(axes)
        axes.legend(loc="lower right", labelcolor=_INK)

    return _svg(draw, "roc", f"ROC curve; area under it {auc:.4f}")


def det(far: Float64[np.ndarray, " n"], frr: Float64[np.ndarray, " n"], eer: float, here: tuple[float, float]) -> str:
    """False reject rate over false accept rate, both axes in normal deviates (Martin et al. 1997).

    Args:
        far: false accept rate at each threshold, ascending.
        frr: false reject rate.
        eer: where the two are equal.
        here: FAR and FRR at the chosen threshold.
    """
    ticks = np.array([0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95])
    # What the axes show begins at the smallest rate that so many pairs can tell from 0.
    low = min((float(rates[rates > 0].min()) for rates in (far, frr) if (rates > 0).any()), default=0.01)
    low = min(max(low, 1e-5), 0.01)

    def deviates(rates: np.ndarray) -> np.ndarray:
        return np.array([NormalDist().inv_cdf(r) for r in np.clip(rates, low, 1 - low).tolist()])

    def draw(axes: "Axes") -> None:
        inside = (far > 0) & (frr > 0) & (far < 1) & (frr < 1)
        x, y = _thinned(deviates(far[inside]), deviates(frr[inside]))
        low_high = deviates(np.array([low, 0.95]))
        axes.plot(low_high, low_high, color=_LINE, linewidth=1.4, linestyle=(0, (4, 3)))
        axes.plot(x, y, color=_FIRST, label=f"EER {eer:.2%}")
        _mark(axes, *deviates(np.array(here)).tolist())
        shown = ticks[ticks >= low]
        names = [f"{100 * t:g}%" for t in shown]
        axes.set(xlabel="false accept rate", ylabel="false reject rate", xlim=low_high, ylim=low_high)
        axes.set_xticks(deviates(shown), names)
        axes.set_yticks(deviates(shown), names)
        axes.legend(loc="upper right", labelcolor=_INK)

    return _svg(draw, "det", f"DET curve; equal error rate {eer:.2%}")


def precision_recall(precision: Float64[np.ndarray, " n"], eleven: Float64[np.ndarray, " 11"]) -> str:
    """Mean precision at each recall, and the 11 interpolated points.

    Args:
        precision: at recall 0…1 in equal steps.
        eleven: interpolated precision at recall 0, 0.1 … 1.
    """

    def draw(axes: "Axes") -> None:
        axes.plot(np.linspace(0, 1, len(precision)), precision, color=_FIRST, label="mean over queries")
        axes.plot(np.linspace(0, 1, 11), eleven, "o", color=_SECOND, markersize=5, clip_on=False, label="11 points")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
        _shares(axes)
        axes.legend(loc="best", labelcolor=_INK)

    return _svg(draw, "precision-recall", "Precision–recall curve")


def _mark(axes: "Axes", x: float, y: float) -> None:
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


def _shares(axes: "Axes") -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent)


def _percent(value: float, _position: float) -> str:
    return f"{100 * value:.4g}%"


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `_POINTS` points of a monotone curve, evenly along its length, its ends among them."""
    if len(x) <= _POINTS:
        return x, y
    span = [np.ptp(v) or 1.0 for v in (x, y)]
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) / span[0] + np.abs(np.diff(y)) / span[1])])
    rows = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _POINTS)).clip(0, len(x) - 1))
    return x[rows], y[rows]


def _svg(draw: Draw, name: str, label: str) -> str:
    """A chart as an inline SVG element; `name` makes its ids its own within the page."""
    import matplotlib as mpl  # noqa: PLC0415 -- an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 -- an extra

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 4.0), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(file.getvalue(), name, label)


def _inline(svg: str, name: str, label: str) -> str:
    """What may stand in a page: no prolog, ids of its own, the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<svg [^>]*viewBox=\"([^\"]+)\"[^>]*>",
        rf'<svg class="chart" role="img" viewBox="\1" aria-label="{escape(label)}">',
        svg,
        count=1,
    )
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg).replace("xlink:href", "href")
    # Groups have ids that nothing asks for; marks, clips and patterns are asked for by theirs.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"\s*\n\s*", " ", svg)
