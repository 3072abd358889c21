"""The tables of a study: R4's 4.3 to 4.8 and 4.9, and all cells, as rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lookalike.compression_study.measuring import Result
from lookalike.compression_study.methods import BASE, METHODS, UMAP
from lookalike.compression_study.study import EXTRA_SIZE, GRID_MIN_DIST, GRID_NEIGHBOURS

Value = Callable[[Result], float]


@dataclass(frozen=True)
class Table:
    """A table of a study.

    Attributes:
        name: of its file.
        title: above it.
        about: what it shows.
        header: names of the columns.
        rows: numbers and texts.
    """

    name: str
    title: str
    about: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


SCORES: Final[dict[str, tuple[str, str, Value, str]]] = {
    "map": ("mAP", "Mean average precision of the whole ranking (R4's tables 4.3 and 4.4).", lambda r: r.map, ".3f"),
    "mrr": (
        "MRR",
        "Mean reciprocal rank of the first relevant item (R4's tables 4.5 and 4.6).",
        lambda r: r.mrr,
        ".3f",
    ),
    "top-1": ("Top-1", "Share of queries whose nearest item is relevant.", lambda r: r.top_1, ".3f"),
    "recall": (
        "Recall of neighbours",
        "Share of the 10 nearest by the embeddings that are among the 10 nearest by the codes.",
        lambda r: r.recall,
        ".3f",
    ),
    "time": (
        "Time of a query, ms",
        "Median time to encode a query, compare it with all items, and sort them (R4's table 4.7).",
        lambda r: r.query_ms,
        ".2f",
    ),
    "memory": ("Memory, MB", "All codes and the codec in memory (R4's table 4.8).", lambda r: r.memory_mb, ".2f"),
    "disk": ("Disk, MB", "All codes and the codec's files.", lambda r: r.disk_mb, ".2f"),
    "bytes": (
        "Bytes an item, codec included",
        "A code, and the item's share of the codec's files. Compare methods at equal numbers of this table.",
        lambda r: r.bytes_per_item,
        ".0f",
    ),
}
"""Name of a table → its title, what it shows, its value and format."""


def is_usual(result: Result) -> bool:
    """Return whether a result is of the tables by method and size, not one of UMAP's further measurements."""
    cell = result.cell
    return (cell.neighbours, cell.min_dist, cell.percent) == (15, 0.1, 100)


def by_method(results: Sequence[Result]) -> dict[str, dict[int, Result]]:
    """Group the usual results by method and size, in the order of the methods and from large to small."""
    grouped: dict[str, dict[int, Result]] = {}
    for name in METHODS:
        of_method = {r.cell.size: r for r in results if r.cell.method == name and is_usual(r)}
        if of_method:
            grouped[name] = dict(sorted(of_method.items(), reverse=True))
    return grouped


def by_settings(results: Sequence[Result]) -> dict[tuple[int, float], Result]:
    """Return UMAP's results by neighbours and smallest distance, if the study measured them."""
    found = {
        (r.cell.neighbours, r.cell.min_dist): r
        for r in results
        if r.cell.method == UMAP and r.cell.size == EXTRA_SIZE and r.cell.percent == 100  # noqa: PLR2004 -- all
    }
    return found if len(found) > 1 else {}


def by_percent(results: Sequence[Result]) -> dict[int, Result]:
    """Return UMAP's results by the share of the items that it was fitted to, if the study measured them."""
    found = {
        r.cell.percent: r
        for r in results
        if (r.cell.method, r.cell.size, r.cell.neighbours, r.cell.min_dist) == (UMAP, EXTRA_SIZE, 15, 0.1)
    }
    return dict(sorted(found.items())) if len(found) > 1 else {}


def tables(results: Sequence[Result]) -> list[Table]:
    """Return all tables that the results allow."""
    grouped = by_method(results)
    made = [_by_size(name, grouped) for name in SCORES]
    if settings := by_settings(results):
        rows = [
            (f"{distance:g}", *(_format(settings.get((k, distance)), SCORES["map"][2], ".3f") for k in GRID_NEIGHBOURS))
            for distance in GRID_MIN_DIST
        ]
        about = f"mAP of UMAP in {EXTRA_SIZE // 4} floats, by K and min_dist (R4's figures 4.16 and 4.17)."
        header = ("min_dist", *(f"K = {k}" for k in GRID_NEIGHBOURS))
        made.append(Table("umap-settings", "UMAP's settings", about, header, rows))
    if percents := by_percent(results):
        rows = [
            (f"{percent} %", f"{r.map:.3f}", f"{r.mrr:.3f}", f"{r.memory_mb:.2f}", f"{r.codec_bytes / 1e6:.2f}")
            for percent, r in percents.items()
        ]
        header = ("fitted to", "mAP", "MRR", "memory, MB", "codec's files, MB")
        about = f"UMAP in {EXTRA_SIZE // 4} floats, fitted to a share of the items (R4's table 4.9)."
        made.append(Table("umap-parts", "UMAP fitted to fewer items", about, header, rows))
    made.append(_classes(grouped))
    made.append(_curves(grouped))
    return made


def compared_size(grouped: dict[str, dict[int, Result]]) -> int:
    """Return the largest size that both floats and bits have, at which curves and classes are compared."""
    sizes = [set(of_method) for name, of_method in grouped.items() if name != BASE]
    shared = set.intersection(*sizes) if sizes else set()
    every = set().union(*sizes)
    return max(shared or every, default=0)


def compared(grouped: dict[str, dict[int, Result]]) -> dict[str, Result]:
    """Return the base, and each method at `compared_size` or else at its nearest smaller size."""
    size = compared_size(grouped)
    chosen = {}
    for name, of_method in grouped.items():
        fitting = [s for s in of_method if s <= size or name == BASE]
        if fitting:
            chosen[name] = of_method[max(fitting)]
    return chosen


def cells(results: Sequence[Result]) -> Table:
    """Return a table with a row for each cell."""
    header = (
        *("method", "code_bytes", "neighbours", "min_dist", "percent", "codec", "dimension", "bits"),
        *("map", "mrr", "top_1", "recall_at_10", "query_ms", "bytes_per_item", "memory_mb", "disk_mb", "fit_seconds"),
    )
    rows = [
        (
            *(r.cell.method, str(r.code_bytes), str(r.cell.neighbours), f"{r.cell.min_dist:g}", str(r.cell.percent)),
            *(r.codec, str(r.dimension), str(int(r.bits))),
            *(f"{score:.4f}" for score in (r.map, r.mrr, r.top_1, r.recall, r.query_ms)),
            *(f"{number:.3f}" for number in (r.bytes_per_item, r.memory_mb, r.disk_mb, r.fit_seconds)),
        )
        for r in results
    ]
    return Table("cells", "All cells", "A row for each cell.", header, rows)


def _format(result: Result | None, value: Value, pattern: str) -> str:
    return "" if result is None else format(value(result), pattern)


def _by_size(name: str, grouped: dict[str, dict[int, Result]]) -> Table:
    title, about, value, pattern = SCORES[name]
    sizes = sorted({size for of_method in grouped.values() for size in of_method}, reverse=True)
    rows = []
    for size in sizes:
        of_size = [of_method.get(size) for of_method in grouped.values()]
        rows.append((f"{size:,}", f"{size // 4:,}", f"{8 * size:,}", *(_format(r, value, pattern) for r in of_size)))
    return Table(name, title, about, ("bytes", "= floats", "= bits", *grouped), rows)


def _classes(grouped: dict[str, dict[int, Result]]) -> Table:
    chosen = compared(grouped)
    base = chosen[BASE]
    labels = sorted(base.by_class, key=lambda label: -base.by_class[label])
    rows = [(label, *(f"{r.by_class.get(label, 0.0):.3f}" for r in chosen.values())) for label in labels]
    about = f"mAP of the queries of each class, in {_sizes(chosen)} (R4's figure 4.18)."
    return Table("classes", "mAP by class", about, ("class", *chosen), rows)


def _curves(grouped: dict[str, dict[int, Result]]) -> Table:
    chosen = compared(grouped)
    rows = [(f"{level / 10:.1f}", *(f"{r.curve[level]:.3f}" for r in chosen.values())) for level in range(11)]
    about = f"Interpolated precision, in {_sizes(chosen)} (R4's figures 4.5 and 4.6)."
    return Table("recall-precision", "Recall and precision", about, ("recall", *chosen), rows)


def _sizes(chosen: dict[str, Result]) -> str:
    by_size: dict[int, list[str]] = {}
    for name, result in chosen.items():
        by_size.setdefault(result.cell.size, []).append(name)
    return "; ".join(f"{size:,} bytes: {', '.join(names)}" for size, names in by_size.items())
