"""The figures of a study: R4's 4.3 to 4.9 and 4.16 to 4.18."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lookalike.compression_study import tables
from lookalike.compression_study.measuring import Result
from lookalike.compression_study.methods import BASE, METHODS, UMAP
from lookalike.compression_study.study import EXTRA_SIZE, GRID_MIN_DIST, GRID_NEIGHBOURS
from lookalike.evaluation.report.charts import Draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that people with any colour vision tell apart, on light and on dark paper; marks differ as well.
_COLOURS = (
    "#888888",
    "#0072b2",
    "#d55e00",
    "#56b4e9",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#b8a000",
    "#7a5cc0",
    "#1f7a80",
    "#c8401a",
    "#4f8f2a",
    "#a33bb5",
)
_MARKS = "oos^vDPXd<>ph*"

_SMALL = 8

_MOST_CLASSES = 40

Grouped = dict[str, dict[int, Result]]


@dataclass(frozen=True)
class Figure:
    """A figure of a study.

    Attributes:
        name: of its file, and of its table.
        title: above it.
        caption: below it.
        draw: draws it.
    """

    name: str
    title: str
    caption: str
    draw: Draw


def figures(results: Sequence[Result]) -> list[Figure]:
    """Return all figures that the results allow."""
    grouped = tables.by_method(results)
    made = [
        Figure(name, tables.SCORES[name][0], caption, _lines(grouped, name))
        for name, caption in (
            ("map", "mAP by bytes of a code (R4's figures 4.3 and 4.4)."),
            ("mrr", "MRR by bytes of a code (R4's figures 4.7 and 4.8)."),
            ("recall", "Recall of the 10 nearest by bytes of a code."),
            ("time", "Milliseconds of a query by bytes of a code (R4's figure 4.9)."),
        )
    ]
    made.append(
        Figure(
            "bytes",
            "mAP at equal bytes",
            "mAP by bytes of an item with its share of the codec's files.",
            lambda axes: _draw_lines(axes, grouped, lambda r: r.bytes_per_item, lambda r: r.map, "mAP"),
        )
    )
    made.append(
        Figure(
            "recall-precision",
            "Recall and precision",
            "See the table for the sizes.",
            lambda axes: _curves(axes, grouped),
        )
    )
    if settings := tables.by_settings(results):
        caption = f"mAP of UMAP in {EXTRA_SIZE // 4} floats by its settings."
        made.append(Figure("umap-settings", "UMAP's settings", caption, lambda axes: _heat_map(axes, settings)))
    if percents := tables.by_percent(results):
        caption = f"mAP and MRR of UMAP in {EXTRA_SIZE // 4} floats by the share of the items that it was fitted to."
        made.append(Figure("umap-parts", "UMAP fitted to fewer items", caption, lambda axes: _percents(axes, percents)))
    if UMAP in grouped:
        caption = f"mAP of the embeddings and of UMAP by class, the best {_MOST_CLASSES} of the embeddings at most."
        made.append(Figure("classes", "mAP by class", caption, lambda axes: _classes(axes, grouped)))
    return made


def _lines(grouped: Grouped, name: str) -> Draw:
    title, _, value, _ = tables.SCORES[name]
    return lambda axes: _draw_lines(axes, grouped, lambda r: r.code_bytes, value, title, log=name == "time")


def _draw_lines(
    axes: "Axes",
    grouped: Grouped,
    size: Callable[[Result], float],
    value: Callable[[Result], float],
    label: str,
    *,
    log: bool = False,
) -> None:
    for name, of_method in grouped.items():
        colour, mark = _look(name)
        points = [(size(r), value(r)) for r in of_method.values()]
        x, y = zip(*points, strict=True)
        dashes = "--" if next(iter(of_method.values())).bits else "-"
        axes.plot(x, y, color=colour, marker=mark, markersize=5, linewidth=1.6, linestyle=dashes, label=name)
        if name == BASE:
            axes.axhline(y[0], color=colour, linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda number, _: f"{number:g}")
    axes.set(xlabel="bytes", ylabel=label)
    axes.legend(loc="best", fontsize=_SMALL, ncols=2)


def _look(name: str) -> tuple[str, str]:
    place = list(METHODS).index(name)
    return _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]


def _curves(axes: "Axes", grouped: Grouped) -> None:
    for name, result in tables.compared(grouped).items():
        colour, mark = _look(name)
        axes.plot(
            np.linspace(0, 1, len(result.curve)),
            result.curve,
            color=colour,
            marker=mark,
            markersize=4,
            linewidth=1.6,
            linestyle="--" if result.bits else "-",
            label=f"{name}, {result.code_bytes:,} B",
        )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="best", fontsize=_SMALL)


def _heat_map(axes: "Axes", settings: dict[tuple[int, float], Result]) -> None:
    values = np.array(
        [
            [settings[k, distance].map if (k, distance) in settings else np.nan for k in GRID_NEIGHBOURS]
            for distance in GRID_MIN_DIST
        ]
    )
    axes.imshow(values, cmap="viridis", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        ink = "white" if values[row, column] < middle else "black"
        axes.text(column, row, f"{values[row, column]:.3f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(GRID_NEIGHBOURS)), [str(k) for k in GRID_NEIGHBOURS])
    axes.set_yticks(range(len(GRID_MIN_DIST)), [f"{distance:g}" for distance in GRID_MIN_DIST])
    axes.set(xlabel="K, neighbours", ylabel="min_dist")
    axes.grid(visible=False)


def _percents(axes: "Axes", percents: dict[int, Result]) -> None:
    x = list(percents)
    scores = {"mAP": [r.map for r in percents.values()], "MRR": [r.mrr for r in percents.values()]}
    for number, (name, y) in enumerate(scores.items(), 1):
        axes.plot(x, y, color=_COLOURS[number], marker=_MARKS[number + 1], linewidth=1.6, label=name)
    axes.set(xlabel="% of the items", ylabel="score", ylim=(0, 1))
    axes.legend(loc="best", fontsize=_SMALL)


def _classes(axes: "Axes", grouped: Grouped) -> None:
    chosen = tables.compared(grouped)
    base = chosen[BASE].by_class
    labels = sorted(base, key=lambda label: -base[label])[:_MOST_CLASSES]
    places = np.arange(len(labels))
    for name, shift in ((BASE, -0.2), (UMAP, 0.2)):
        heights = [chosen[name].by_class.get(label, 0.0) for label in labels]
        axes.bar(places + shift, heights, 0.4, color=_look(name)[0], label=name)
    axes.set_xticks(places, labels, rotation=90, fontsize=_SMALL, parse_math=False)
    axes.set(ylabel="mAP", ylim=(0, 1))
    axes.legend(loc="best", fontsize=_SMALL)
