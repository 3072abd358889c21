"""Run all benchmarks, or some of them.

    make bench                                                      everything, packages and folders included
    python benchmarks/run.py --data data/cifar10                    everything, of these images
    python benchmarks/run.py --data data/cifar10 single batch       these sections

Each section is saved to ``benchmarks/results/SECTION.json`` after its measurement. A section is not measured again with the
same code, data, machine, packages and threads, so a stopped run resumes. ``--again`` measures it again. At the end, the
benchmark writes tables and plots of all saved sections: `results.md`, a PNG for each section that has a plot, and the tables
in ``docs/performance.md``.
"""

import argparse
import hashlib
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import file_sections
import growth
import indexes
import measuring
import pairs
import peers
import scans
import showing
from data import Source, say
from file_sections import ImageFiles

from lookalike import atomic

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Section:
    """Part of the run.

    Attributes:
        measure: gives the figures, as plain data.
        protocol: how they come about.
    """

    measure: Callable[[Source, ImageFiles], Any]
    protocol: str


SECTIONS = {
    "single": Section(lambda source, _: scans.single(source), measuring.PROTOCOL),
    "batch": Section(lambda source, _: scans.batch(source), measuring.PROTOCOL),
    "bits": Section(lambda source, _: scans.bits(source), measuring.PROTOCOL),
    "selfjoin": Section(lambda source, _: pairs.compare(source), pairs.PROTOCOL),
    "hnsw": Section(lambda source, _: indexes.hnsw(source), indexes.PROTOCOL),
    "ivfpq": Section(lambda source, _: indexes.ivfpq(source), indexes.PROTOCOL),
    "growth": Section(lambda source, _: growth.measure(source, known=_graphs()), growth.PROTOCOL),
    "index": Section(lambda _, given: file_sections.index(given), file_sections.INDEX),
    "duplicates": Section(lambda _, given: file_sections.near_duplicates(given), file_sections.DUPLICATES),
}


def measure(names: list[str], given: ImageFiles, threads: int, *, again: bool) -> list[str]:
    """Measure sections and save each; a failure in one does not affect the others.

    Returns:
        Sections that failed.
    """
    peers.limit_threads(threads)
    source = data.source(given.data)
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for name in names:
        path = RESULTS / f"{name}.json"
        place = {**measuring.environment(threads, source.name), "files": given.available}
        key = _key(place)
        if not again and _saved_key(path) == key:
            say(f"{name}: measured already, by the same code on the same data; --again measures it anew")
            continue
        say(f"{name}: measuring")
        begun = time.perf_counter()
        try:
            cases = SECTIONS[name].measure(source, given)
        except Exception:  # noqa: BLE001 -- shown, and the other sections are measured
            traceback.print_exc()
            failed.append(name)
            continue
        seconds = round(time.perf_counter() - begun, 1)
        saved = {"section": name, "key": key, "seconds": seconds, "protocol": SECTIONS[name].protocol}
        text = json.dumps({**saved, "environment": place, "cases": cases}, indent=1, ensure_ascii=False)
        atomic.write_bytes(path, f"{text}\n".encode())
        say(f"{name}: {seconds:.0f} s")
    return failed


def _saved_key(path: Path) -> str:
    """Return the key of a saved section; an empty key if it is missing or truncated."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["key"])
    except (FileNotFoundError, ValueError, KeyError):
        return ""


def _graphs() -> list[dict[str, Any]]:
    """Return the results of the HNSW section by the same code, so that the largest graphs are not built twice."""
    path = RESULTS / "hnsw.json"
    if not path.exists():
        return []
    saved = json.loads(path.read_text(encoding="utf-8"))
    cases: list[dict[str, Any]] = saved["cases"] if saved["key"] == _key(saved["environment"]) else []
    return cases


def _key(place: dict[str, Any]) -> str:
    """Return a key of all that a result depends on: code, packages, machine and data."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *(here.parent / "src" / "lookalike").rglob("*.py")]):
        if path.stem not in {"showing", "plots"}:
            digest.update(path.read_bytes())
    fixed = {
        name: place[name] for name in ("processor", "cores", "python", "versions", "blas", "threads", "data", "files")
    }
    digest.update(json.dumps(fixed, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def main() -> None:
    """Measure the given sections, then write the tables and plots of all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all without")
    parser.add_argument("--data", type=Path, help="a folder of images; without it, the toy shop")
    parser.add_argument("--judged", type=Path, help=f"of near-duplicates; DATA/../{file_sections.JUDGED} without it")
    parser.add_argument("--photos", type=Path, help=f"of about 300 pixels; DATA/../{file_sections.PHOTOS} without it")
    parser.add_argument("--fastdup", type=Path, help=f"the Python that has fastdup; {file_sections.FASTDUP} without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="measure finished sections again")
    parser.add_argument("--show", action="store_true", help="only write tables and plots")
    asked = parser.parse_args()
    if unknown := [name for name in asked.sections if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]}; choose of {', '.join(SECTIONS)}")
    if missing := [p for p in (asked.data, asked.judged, asked.photos, asked.fastdup) if p and not p.exists()]:
        parser.error(f"there is no {missing[0]}")
    given = ImageFiles.of(asked.data, asked.judged, asked.photos, asked.fastdup)
    failed: list[str] = []
    try:
        if not asked.show:
            failed = measure(asked.sections or list(SECTIONS), given, asked.threads, again=asked.again)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. Finished sections are saved; the same command continues.") from None
    finally:
        showing.write(RESULTS, showing.DOCS)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}; see above. The other sections are saved.")


if __name__ == "__main__":
    main()
