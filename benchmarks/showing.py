"""Tables of saved results, in `results.md` and between marks in the docs.

A mark is a comment: ``<!-- single -->`` before the table and ``<!-- /single -->`` after it.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import plots

from lookalike import atomic

DOCS = Path(__file__).parent.parent / "docs" / "performance.md"
ORDER = ("single", "batch", "bits", "selfjoin", "hnsw", "ivfpq", "growth", "index", "duplicates")
TITLES = {
    "single": "One query, exact",
    "batch": "A batch of 256 queries, exact",
    "bits": "Bits, exact",
    "selfjoin": "Self-join within a radius",
    "hnsw": "HNSW",
    "ivfpq": "IVF-PQ",
    "growth": "How cost grows",
    "index": "Getting images in",
    "duplicates": "Near-duplicates",
}
FLOOR, OURS = "floor", "lookalike"
Saved = dict[str, Any]


def write(results: Path, docs: Path) -> None:
    """Write plots and tables of all saved sections."""
    saved = read(results)
    plots.draw(saved, results)
    atomic.write_bytes(results / "results.md", page(saved).encode())
    if docs.exists():
        atomic.write_bytes(docs, marked(docs.read_text(encoding="utf-8"), saved).encode())


def read(results: Path) -> dict[str, Saved]:
    """Read the saved sections by name, in display order."""
    paths = {name: results / f"{name}.json" for name in ORDER}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}


def page(saved: dict[str, Saved]) -> str:
    """Format all tables as Markdown."""
    parts = [
        "# Benchmark results\n\nMade by `make bench`, not by hand. What the tables say: [docs/performance.md](../../docs/performance.md)."
    ]
    parts.append(measured(saved))
    for name, section in saved.items():
        parts.append(f"## {TITLES[name]}\n\n{section['protocol']}\n\n{table(section)}{_plot(name, '')}")
    return "\n\n".join(parts) + "\n"


def marked(text: str, saved: dict[str, Saved]) -> str:
    """Replace the tables and plots between the marks of a text."""
    made = dict.fromkeys(ORDER, "")  # a table of what is no longer there goes
    made |= {name: table(section) + _plot(name, "../benchmarks/results/") for name, section in saved.items()}
    made |= {"measured": measured(saved), "memory": memory(saved)}
    for name, lines in made.items():
        ending = "\n" if lines else ""
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(rf"\g<1>{lines.replace(chr(92), chr(92) * 2)}{ending}\g<2>", text)
    return text


def measured(saved: dict[str, Saved]) -> str:
    """Format the machine, date and duration of each section's measurement."""
    rows = []
    for name, section in saved.items():
        place = section["environment"]
        busy = f"{place['load']:.1f}"
        rows.append(
            (name, place["date"][:16].replace("T", " "), f"`{place['commit']}`", busy, f"{section['seconds']:,.0f}")
        )
    places = dict.fromkeys(_place(section["environment"]) for section in saved.values())
    return "\n\n".join([*places, _markdown(("section", "date (UTC)", "commit", "load before", "seconds"), rows)])


def _place(place: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in place["versions"].items())
    return (
        f"{place['processor']}, {place['cores']} cores, {place['memory_gb']:.0f} GB; {place['system']}; Python"
        f" {place['python']}, {place['blas']}, {versions}. {place['threads']} threads. Vectors of {place['data']}."
    )


def _plot(name: str, folder: str) -> str:
    return f"\n\n![{TITLES[name]}]({folder}{name}.png)" if name in plots.DRAWN else ""


def memory(saved: dict[str, Saved]) -> str:
    """Format the bytes of a vector for each of lookalike's search methods."""
    told: dict[str, dict[str, float]] = {}
    for case in saved.get("single", {"cases": []})["cases"]:
        for name, size in case["held_bytes"].items():
            told.setdefault(name, {})[_size(case)] = size / case["rows"]
    for section in ("hnsw", "ivfpq"):
        for case in saved.get(section, {"cases": []})["cases"]:
            for curve in case["curves"]:
                if curve["name"] == OURS:
                    told.setdefault(TITLES[section], {})[_size(case)] = curve["bytes"] / case["rows"]
    sizes = list(dict.fromkeys(size for sizes in told.values() for size in sizes))
    rows = [(name, *(f"{of[size]:,.0f}" if size in of else "–" for size in sizes)) for name, of in told.items()]
    return _markdown(("bytes a vector", *sizes), rows)


def table(section: Saved) -> str:
    """Format a section's results as Markdown."""
    return TABLES[section["section"]](section["cases"])


def _scans(cases: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(it["name"] for case in cases for it in case["contenders"]))
    rows = []
    for case in cases:
        times = {it["name"]: it for it in case["contenders"]}
        cells = [_size(case) + (f", {case['queries']} asked" if len({c["queries"] for c in cases}) > 1 else "")]
        for name in names:
            it = times.get(name)
            over = times.get(FLOOR if name.startswith(OURS) else OURS)
            if it is None:
                cells.append("–")
            elif name == FLOOR or over is None:
                cells.append(_number(it["ms"]))
            else:
                cells.append(f"{_number(it['ms'])} ({it['ms'] / over['ms']:.3g}×){'*' if it['share'] < 1 else ''}")
        rows.append(tuple(cells))
    notes = {it["name"]: it["note"] for case in cases for it in case["contenders"] if it["note"]}
    missed = {
        it["name"]: min(c["recall"] for case in cases for c in case["contenders"] if c["name"] == it["name"])
        for case in cases
        for it in case["contenders"]
        if it.get("recall") is not None and it["recall"] < 1
    }
    said = [
        "Milliseconds; in brackets, for lookalike times the floor, for all others times lookalike.",
        *(
            ["\\* measured on fewer queries and scaled up."]
            if any(it["share"] < 1 for c in cases for it in c["contenders"])
            else []
        ),
        *(f"{name}: {note}." for name, note in notes.items()),
        *(f"{name} found {found:.4f} of the nearest." for name, found in missed.items()),
    ]
    return _markdown(("", *names), rows) + "\n\n" + " ".join(said)


def _selfjoin(cases: list[dict[str, Any]]) -> str:
    rows = []
    for case in cases:
        ours = next((it["seconds"] for it in case["contenders"] if it["name"] == OURS), None)
        for it in case["contenders"]:
            part = "all" if it["share"] == 1 else f"{it['share']:.1%}"
            ratio = f"{it['seconds'] / ours:.3g}×" if ours else "–"
            megabytes = f"{it['bytes'] / 1e6:,.0f}"
            rows.append((_size(case), it["name"], f"{it['seconds']:.3g}", ratio, f"{it['pairs']:,}", part, megabytes))
    return _markdown(("", "", "seconds", "times lookalike", "pairs found", "rows asked", "MB beside the vectors"), rows)


def _curves(cases: list[dict[str, Any]]) -> str:
    rows = []
    for case in cases:
        ours = next((curve for curve in case["curves"] if curve["name"] == OURS), None)
        for curve in case["curves"]:
            cells = [_size(case), curve["name"], f"{curve['build_seconds']:,.0f}", f"{curve['bytes'] / 1e6:,.0f}"]
            for rate in ("alone_qps", "batched_qps"):
                value, mine = curve[rate], ours[rate] if ours else None
                ratio = f" ({value / mine:.2f})" if value and mine and curve is not ours else ""
                cells.append(f"{value:,.0f}{ratio}" if value else "–")
            best = max(curve["points"], key=lambda point: point["recall"])
            rows.append((*cells, f"{best['recall']:.4f} at {best['setting']}"))
    heading = (
        "",
        "",
        "built in s",
        "MB",
        "one at a time, queries/s",
        "batched, queries/s",
        "best recall, at the setting",
    )
    return _markdown(heading, rows) + "\n\nQueries a second at recall 0.95; in brackets, times lookalike's."


def _growth(cases: dict[str, Any]) -> str:
    names = list(cases["exponents"])
    sizes = list(dict.fromkeys(point["rows"] for point in cases["points"]))
    times = {(point["name"], point["rows"]): point["ms"] for point in cases["points"]}
    rows = [(f"{size:,}", *(_number(times.get((name, size))) for name in names)) for size in sizes]
    slopes = (f"{b:.2f}" if (b := cases["exponents"][name]) is not None else "–" for name in names)
    told: dict[str, list[str]] = {}
    for point in cases["points"]:
        if point.get("recall") is not None:
            told.setdefault(point["name"], []).append(f"{point['recall']:.4f} of {point['rows']:,}")
    said = " ".join(["Milliseconds.", *(f"Recall, {name}: {', '.join(recalls)}." for name, recalls in told.items())])
    return _markdown(("vectors", *names), [*rows, ("exponent", *slopes)]) + f"\n\n{said}"


def _index(cases: dict[str, Any]) -> str:
    rows = [
        (
            f"{it['images']:,} of {it['kind']}" + (" (drawn)" if it["kind"] in cases["drawn"] else ""),
            it["encoder"],
            *(f"{it[name]:,.0f}" for name in ("decoding", "inference", "bound", "indexing")),
            *(f"{it[name]:.0%}" for name in ("of_lower", "of_bound")),
        )
        for it in cases["figures"]
    ]
    heading = (
        "",
        "encoder",
        "decoding/s",
        "inference/s",
        "bound/s",
        "indexing/s",
        "of the lower ceiling",
        "of the bound",
    )
    command = cases["command"]
    said = (
        f"`lookalike index` of {command['images']:,} images of 32 px, start-up included: {command['index_s']:.1f} s;"
        f" `lookalike search` among them {command['search_s']:.2f} s."
    )
    return _markdown(heading, rows) + f"\n\n{said}"


def _duplicates(cases: dict[str, Any]) -> str:
    if not cases["finders"]:
        return str(cases["missing"])
    cuts = list(cases["finders"][0]["found"])
    rows = [
        (
            it["name"],
            *(f"{it['found'][cut]} of {it['judged']}" for cut in cuts),
            f"{it['seconds']:.1f}",
            f"{it['images'] / it['seconds']:,.0f}",
        )
        for it in cases["finders"]
    ]
    return _markdown(("", *(f"among the closest {int(cut):,}" for cut in cuts), "seconds", "images/s"), rows)


TABLES: dict[str, Callable[[Any], str]] = {
    "single": _scans,
    "batch": _scans,
    "bits": _scans,
    "selfjoin": _selfjoin,
    "hnsw": _curves,
    "ivfpq": _curves,
    "growth": _growth,
    "index": _index,
    "duplicates": _duplicates,
}


def _size(case: dict[str, Any]) -> str:
    return f"{case['rows']:,} × {case['dimension']:,}"


def _number(value: float | None) -> str:
    """Format a number with three significant digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 -- from here on all digits stand before the point


def _markdown(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = tuple(heading)
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
