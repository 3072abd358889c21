"""Recall and time of finding near-duplicates among CIFAR-10's 10,000 test images, decoding included.

    python benchmarks/duplicates.py cifar10 duplicates_cifar10_test_paths.csv [--encoder cifar10-triplet]
        [--peer fastdup --fastdup-python PYTHON] [--peer imagededup --imagededup-python PYTHON] [--json]

The CSV has the columns image, duplicate and judgment: pairs that people judged (Barz and Denzler, “Do we train on test data?
Purging CIFAR of near-duplicates”, 2020); 1 is a near-duplicate. The benchmark counts how many of these are among the closest
50, 100 and 1,000 of all 50 million pairs, and measures the seconds from the files to the pairs; for lookalike that is the
index, the search and the groups. A peer runs in its own environment, since each needs other versions, on the same files and
in the same run. The time to start Python is not measured.

    python -m venv dups && dups/bin/pip install fastdup
    python -m venv dups2 && dups2/bin/pip install --no-deps imagededup
    dups2/bin/pip install matplotlib numpy pillow pywavelets scikit-learn scipy tqdm
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lookalike import duplicates, encoders, search
from lookalike.collection import Collection
from lookalike.errors import LookalikeError, NotFoundError
from lookalike.stores import take_snapshot

CUTS = (50, 100, 1_000)

Pair = frozenset[str]
"""Two paths relative to the data."""

# Each writes a JSON document: seconds, and the nearest pairs of paths in order. Arguments: the folder of images, a scratch
# folder, the number of pairs, and the document.
FASTDUP = """
import json, os, sys, time
import fastdup
images, scratch, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
begun = time.perf_counter()
run = fastdup.create(work_dir=scratch, input_dir=images)
run.run(ccthreshold=0.5, threshold=0.5, nearest_neighbors_k=5, overwrite=True, print_summary=False, verbose=False)
found = run.similarity()
seconds = time.perf_counter() - begun
found = found.sort_values("distance", ascending=False, kind="stable")  # which is a similarity
pairs = dict.fromkeys(tuple(sorted(pair)) for pair in zip(found["filename_from"], found["filename_to"]))
json.dump({"version": fastdup.__version__, "seconds": seconds, "pairs": list(pairs)[:count]}, open(sys.argv[4], "w"))
"""

IMAGEDEDUP = """
import importlib.metadata, json, os, sys, time, types
# Only its networks need torch and torchvision: the two modules with networks stay empty.
for name, attribute in (("methods.cnn", "CNN"), ("utils.models", "CustomModel")):
    module = sys.modules["imagededup." + name] = types.ModuleType("imagededup." + name)
    setattr(module, attribute, None)
from imagededup.methods import hashing
images, scratch, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
results = []
for method in ("PHash", "DHash"):  # at 32 pixels, the other two find one pair of thirty and none
    begun = time.perf_counter()
    hasher = getattr(hashing, method)(verbose=False)
    codes = hasher.encode_images(image_dir=images, recursive=True)
    found = hasher.find_duplicates(encoding_map=codes, max_distance_threshold=10, scores=True)
    seconds = time.perf_counter() - begun
    near = sorted((d, *sorted((a, b))) for a, hits in found.items() for b, d in hits)
    pairs = dict.fromkeys((os.path.join(images, a), os.path.join(images, b)) for _, a, b in near)
    results.append({"method": method, "seconds": seconds, "pairs": list(pairs)[:count]})
json.dump({"version": importlib.metadata.version("imagededup"), "methods": results}, open(sys.argv[4], "w"))
"""


def measure(data: Path, judged: Path, encoder: str = encoders.DEFAULT) -> dict[str, Any]:
    """Measure lookalike.

    Args:
        data: the folder that the paths of the CSV are relative to.
        judged: the CSV.
        encoder: a bundled name, or a folder.

    Returns:
        ``name``, ``images``, ``seconds`` in all, ``index_seconds`` and ``search_seconds``; ``found``, the
        number of near-duplicates among the closest pairs for each of `CUTS`; and ``judged``, their number in all.

    Raises:
        NotFoundError: the data or the CSV does not exist.
    """
    truth = near_duplicates(data, judged)
    model = encoders.load(encoder)
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        with Collection.create(Path(scratch) / "test.lookalike", model) as collection:
            added = collection.add(data / "test")
            indexed = time.perf_counter()
            pairs = closest(collection, max(CUTS))
            done = time.perf_counter()
    return {
        "name": f"lookalike, {model.card.name}",
        "images": added.total,
        "seconds": done - begun,
        "index_seconds": indexed - begun,
        "search_seconds": done - indexed,
        "judged": len(truth),
        "found": counted(pairs, truth, data),
    }


def closest(collection: Collection, count: int) -> list[tuple[Path, Path]]:
    """Return the closest pairs of a collection, nearest first.

    The nearest neighbours of all images are pairs too. So the distance of the count-th nearest one of these is a radius that
    contains the closest pairs.
    """
    vectors, metric = take_snapshot(collection.store).vectors, collection.store.space.metric
    nearest = sorted(d for block in search.self_join(vectors, metric, k=1) for d in block.distances.tolist())
    radius = nearest[min(count, len(nearest)) - 1]
    found = duplicates.find_duplicates(collection, duplicates.SearchRadius.fixed(radius))
    return [(pair.left, pair.right) for pair in found.pairs[:count]]


def near_duplicates(data: Path, judged: Path) -> set[Pair]:
    """Read the pairs that people judged to be near-duplicates."""
    if not (data / "test").is_dir():
        raise NotFoundError(f"There is no folder {data / 'test'}; give the folder that CIFAR-10 was unpacked into.")
    try:
        with judged.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        truth = {frozenset((row["image"], row["duplicate"])) for row in rows if row["judgment"] == "1"}
    except OSError as e:
        raise NotFoundError(f"The judged pairs {judged} cannot be read: {e.strerror}.") from e
    except KeyError as e:
        raise NotFoundError(f"{judged} has no column {e}; it needs image, duplicate and judgment.") from e
    for path in sorted(path for pair in truth for path in pair):
        if not (data / path).is_file():
            raise NotFoundError(f"{judged} names {path}, which is not in {data}.")
    return truth


def counted(pairs: Iterable[tuple[Path, Path]], truth: set[Pair], data: Path) -> dict[str, int]:
    """Count the true pairs among the first ones, for each cut."""
    root = data.absolute()
    right = [frozenset(path.absolute().relative_to(root).as_posix() for path in pair) in truth for pair in pairs]
    return {str(cut): sum(right[:cut]) for cut in CUTS}


def measure_fastdup(data: Path, judged: Path, python: Path) -> list[dict[str, Any]]:
    """Measure fastdup with the five nearest of each image."""
    truth, result = near_duplicates(data, judged), _run(python, FASTDUP, data)
    return [_peer(f"fastdup {result['version']}", result, truth, data)]


def measure_imagededup(data: Path, judged: Path, python: Path) -> list[dict[str, Any]]:
    """Measure imagededup's hashes, within ten bits of 64."""
    truth, result = near_duplicates(data, judged), _run(python, IMAGEDEDUP, data)
    name = f"imagededup {result['version']}"
    return [_peer(f"{name}, {m['method']}", m, truth, data) for m in result["methods"]]


def _peer(name: str, result: Mapping[str, Any], truth: set[Pair], data: Path) -> dict[str, Any]:
    pairs = [(Path(a), Path(b)) for a, b in result["pairs"]]
    return {
        "name": name,
        "images": sum(1 for _ in (data / "test").rglob("*.jpg")),
        "seconds": result["seconds"],
        "judged": len(truth),
        "found": counted(pairs, truth, data),
    }


def _run(python: Path, script: str, data: Path) -> Any:  # noqa: ANN401 -- any JSON
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        work = Path(scratch) / "work"
        work.mkdir()
        line = [str(python), "-c", script, str((data / "test").absolute()), str(work), str(max(CUTS)), str(answer)]
        try:
            run = subprocess.run(line, cwd=work, capture_output=True, text=True, check=False)  # noqa: S603 -- as the user says
        except OSError as e:
            raise NotFoundError(
                f"{python} cannot be run: {e.strerror}. Give the Python of the peer's environment."
            ) from e
        if run.returncode or not answer.exists():
            last = (run.stderr or run.stdout).strip().splitlines()[-1:]
            raise NotFoundError(f"The peer in {python} failed: {' '.join(last) or run.returncode}")
        return json.loads(answer.read_text(encoding="utf-8"))


PEERS: Mapping[str, Callable[[Path, Path, Path], list[dict[str, Any]]]] = {
    "fastdup": measure_fastdup,
    "imagededup": measure_imagededup,
}


def table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table of results."""
    shown = Table("", *(f"among {cut:,}" for cut in CUTS), "seconds", "images/s")
    for result in results:
        found = [str(result["found"][str(cut)]) for cut in CUTS]
        shown.add_row(result["name"], *found, f"{result['seconds']:.1f}", f"{result['images'] / result['seconds']:.0f}")
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="CIFAR-10, with test/CLASS/NUMBER.jpg")
    parser.add_argument("judged", type=Path, metavar="CSV", help="the judged pairs")
    parser.add_argument("--encoder", default="cifar10-triplet")
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), default=[])
    parser.add_argument("--fastdup-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--imagededup-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    try:
        results = [measure(chosen.data, chosen.judged, chosen.encoder)]
        for peer in chosen.peer:
            results += PEERS[peer](chosen.data, chosen.judged, getattr(chosen, f"{peer}_python"))
    except LookalikeError as e:
        sys.exit(f"Error: {e}")
    if chosen.json:
        sys.stdout.write(json.dumps(results) + "\n")
    else:
        Console().print(table(results))


if __name__ == "__main__":
    main()
