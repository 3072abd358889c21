"""Plots of saved results, with their main findings as titles."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN = ("single", "batch", "selfjoin", "hnsw", "ivfpq", "growth")
# Okabe and Ito's colours, which people with any colour vision tell apart; marks differ as well.
STYLES = {
    "lookalike": ("#0072B2", "o"),
    "lookalike, condensed": ("#56B4E9", "o"),
    "FAISS": ("#D55E00", "s"),
    "FAISS, refined": ("#E69F00", "s"),
    "scikit-learn": ("#CC79A7", "^"),
    "hnswlib": ("#009E73", "D"),
    "USearch": ("#E69F00", "v"),
    "LanceDB": ("#666666", "P"),
    "LanceDB, refined": ("#666666", "P"),
    "NumPy": ("#000000", "x"),
    "exact": ("#0072B2", "o"),
    "exact, int8 scan": ("#56B4E9", "s"),
    "HNSW": ("#009E73", "D"),
    "building HNSW": ("#E69F00", "v"),
    "self-join": ("#D55E00", "^"),
    "self-join, approximate": ("#CC79A7", "<"),
}
OURS, FLOOR = "lookalike", "floor"
INK = "#333333"


def draw(saved: dict[str, dict[str, Any]], folder: Path) -> None:
    """Draw a PNG for each section that has a plot; none if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: ICN001, PLC0415
    except ModuleNotFoundError:
        return
    matplotlib.use("Agg")
    drawings: dict[str, Callable[[Any], Any]] = {
        "single": lambda cases: _ratios(cases, "One query"),
        "batch": lambda cases: _ratios(cases, "256 queries"),
        "selfjoin": _dots,
        "hnsw": lambda cases: _curves(cases, "HNSW"),
        "ivfpq": lambda cases: _curves(cases, "IVF-PQ"),
        "growth": _growth,
    }
    from matplotlib import pyplot as plt  # noqa: PLC0415

    look: Any = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "axes.edgecolor": "#999999",
    }
    with plt.rc_context(look):
        for name in DRAWN:
            if name in saved:
                figure = drawings[name](saved[name]["cases"])
                figure.savefig(folder / f"{name}.png", dpi=140, facecolor="white", metadata={"Software": None})
                plt.close(figure)


def _ratios(cases: list[dict[str, Any]], what: str) -> Any:  # noqa: ANN401 -- matplotlib is imported where it is needed
    """Plot times as multiples of the floor, with a row for each size and a mark for each contender."""
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 0.55 * len(cases) + 2), layout="constrained")
    names = list(dict.fromkeys(it["name"] for case in cases for it in case["contenders"] if it["name"] != FLOOR))
    for name in names:
        points = [
            (times[name] / times[FLOOR], place) for place, case in enumerate(cases) if name in (times := _times(case))
        ]
        colour, mark = STYLES[name]
        big = 90 if name.startswith(OURS) else 45
        axes.scatter(
            [time for time, _ in points],
            [place for _, place in points],
            c=colour,
            marker=mark,
            s=big,
            label=name,
            zorder=3,
        )
    axes.axvline(1, color=INK, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_yticks(range(len(cases)), [f"{case['rows']:,} × {case['dimension']:,}" for case in cases])
    axes.grid(axis="x", color="#E5E5E5", zorder=0)
    axes.tick_params(length=0)
    reads = "reading the vectors once" if what == "One query" else "the bare arithmetic"
    axes.set_xlabel(f"time, in times of {reads} (dotted: the floor)")
    ours = [(_times(case)[OURS] / _times(case)[FLOOR], _best(case) / _times(case)[OURS]) for case in cases]
    title = (
        f"{what}: lookalike takes {_range([a for a, _ in ours])} times the floor,\n"
        f"the best other exact search {_range([b for _, b in ours])} times lookalike's time"
    )
    axes.set_title(title, loc="left", fontsize=12)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    figure.legend(ncols=5, frameon=False, loc="outside lower left", fontsize=9)
    return figure


def _times(case: dict[str, Any]) -> dict[str, float]:
    return {it["name"]: it["ms"] for it in case["contenders"]}


def _best(case: dict[str, Any]) -> float:
    return min(
        (ms for name, ms in _times(case).items() if name != FLOOR and not name.startswith(OURS)), default=float("nan")
    )


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low} to {high}"


def _dots(cases: list[dict[str, Any]]) -> Any:  # noqa: ANN401
    """Plot seconds on the left and memory on the right."""
    from matplotlib import pyplot as plt  # noqa: PLC0415

    case = cases[0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
    names = [it["name"] for it in case["contenders"]]
    for axes, values, unit in (
        (left, [it["seconds"] for it in case["contenders"]], "s"),
        (right, [it["bytes"] / 1e6 for it in case["contenders"]], "MB"),
    ):
        axes.scatter(values, names, c=[STYLES[name][0] for name in names], s=80, zorder=3)
        for name, value in zip(names, values, strict=True):
            text = f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"  # noqa: PLR2004 -- three digits
            axes.annotate(text, (value, name), xytext=(9, 0), textcoords="offset points", va="center")
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 2, max(values) * 8)
        axes.set_xlabel("seconds" if unit == "s" else "MB beside the vectors, at most")
        axes.grid(color="#E5E5E5", zorder=0)
        axes.tick_params(length=0, which="both")
    left.set_ylim(len(names) - 0.5, -0.5)
    ours = next(it["seconds"] for it in case["contenders"] if it["name"] == OURS)
    others = [it["seconds"] / ours for it in case["contenders"] if it["name"] != OURS]
    found = next(it["pairs"] for it in case["contenders"] if it["name"] == OURS)
    title = f"All {found:,} pairs within a radius among {case['rows']:,} vectors of {case['dimension']} numbers"
    if others:
        title += f":\nthe next fastest takes {min(others):.2g} times as long as lookalike"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def _curves(cases: list[dict[str, Any]], what: str) -> Any:  # noqa: ANN401
    """Plot recall against queries a second: a panel for each set, single queries above and batches below."""
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    modes = (("alone_qps", "one at a time"), ("batched_qps", "batched"))
    figure, grid = plt.subplots(2, len(cases), figsize=(5.2 * len(cases) + 0.6, 7), layout="constrained", squeeze=False)
    for column, case in enumerate(cases):
        for row, (rate, mode) in enumerate(modes):
            axes = grid[row][column]
            for curve in case["curves"]:
                colour, mark = STYLES[curve["name"]]
                recalls, rates = [p["recall"] for p in curve["points"]], [p[rate] for p in curve["points"]]
                width = 2.4 if curve["name"] == OURS else 1.4
                axes.plot(recalls, rates, color=colour, marker=mark, markersize=5, linewidth=width, label=curve["name"])
            axes.axvline(0.95, color=INK, linewidth=1, linestyle=":")
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid(color="#E5E5E5")
            axes.tick_params(length=0)
            axes.set_title(f"{case['rows']:,} × {case['dimension']}, {mode}", loc="left", fontsize=10)
            axes.set_xlabel("recall at 10" if row else "")
            axes.set_ylabel("" if column else "queries a second")
            _label(axes, [(c["name"], c["points"][0]["recall"], c["points"][0][rate]) for c in case["curves"]])
    figure.suptitle(_finding(cases, what), x=0.01, ha="left", fontsize=12)
    return figure


def _label(axes: "Axes", firsts: Sequence[tuple[str, float, float]]) -> None:
    """Write names at the left ends of curves, stacked if the ends meet."""
    left, _ = axes.get_xlim()
    axes.set_xlim(left - 0.3 * (1 - left), 1 + 0.02 * (1 - left))
    low, high = axes.get_ylim()
    step = (high / low) ** 0.07
    last = 0.0
    for name, recall, rate in sorted(firsts, key=lambda it: it[2]):
        last = max(rate, last * step)
        colour = STYLES[name][0]
        place: dict[str, Any] = {
            "xytext": (-9, 0),
            "textcoords": "offset points",
            "ha": "right",
            "va": "center",
            "fontsize": 9,
        }
        axes.annotate(name, (recall, last), color=colour, **place)


def _finding(cases: list[dict[str, Any]], what: str) -> str:
    told = []
    for case in cases:
        rates = {curve["name"]: curve["alone_qps"] for curve in case["curves"] if curve["alone_qps"]}
        size = f"{case['rows']:,} × {case['dimension']}"
        if not rates:
            told.append(f"{size}: none reaches it")
            continue
        best = max(rates, key=lambda name: rates[name])
        ours = f", lookalike {rates[OURS]:,.0f}" if OURS in rates and best != OURS else ""
        told.append(f"{size}: {best} {rates[best]:,.0f}{ours}")
    return f"{what}, queries a second one at a time at recall 0.95\n" + "; ".join(told)


def _growth(cases: dict[str, Any]) -> Any:  # noqa: ANN401
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 5.6), layout="constrained")
    for name, power in cases["exponents"].items():
        points = [(point["rows"], point["ms"]) for point in cases["points"] if point["name"] == name]
        colour, mark = STYLES[name]
        rows, times = zip(*points, strict=True)
        axes.plot(rows, times, color=colour, marker=mark, linewidth=1.8)
        label = name + (f": $n^{{{power:.2f}}}$" if power is not None else "")
        axes.annotate(
            label, (rows[-1], times[-1]), xytext=(6, 0), textcoords="offset points", color=colour, va="center"
        )
    axes.set(xscale="log", yscale="log", xlabel="vectors of 128 numbers", ylabel="milliseconds")
    axes.set_xlim(right=max(point["rows"] for point in cases["points"]) * 12)
    axes.grid(color="#E5E5E5")
    axes.tick_params(length=0)
    slopes = {name: f"$n^{{{b:.2f}}}$" for name, b in cases["exponents"].items() if b is not None}
    said = [
        f"{name} {slopes[key]}"
        for key, name in (
            ("exact", "an exact query grows as"),
            ("HNSW", "one of HNSW as"),
            ("self-join", "a self-join as"),
        )
        if key in slopes
    ]
    title = ", ".join(said) or "How cost grows"
    axes.set_title(title[0].upper() + title[1:], loc="left", fontsize=12)
    return figure
