"""Measure indexing: `lookalike index` compared with its parts, and the start-up of a search.

    python benchmarks/indexing.py [--tiny data/cifar10/test] [--photos data/fashion-300/images] [--rounds 3] [--json]

Three kinds of images: JPEGs of 32 pixels embedded by `cifar10-triplet` (each with its mirror image), photos of about 300
by `toyshop`, and photos of 12 megapixels by the same. These last are mosaics: twelve of the photos enlarged to 1000 × 1000
pixels each, with grain, saved at quality 90. Without the folders, images are drawn as `decode.py` draws its photo.

In each round, on the same files, in turns:

- decoding alone, on all cores: look up, read, fingerprint, decode and fit the files;
- inference alone, on all cores: embed fitted images in memory;
- indexing: create a collection, and add all images.

The *lower* ceiling is the slower of the first two. Both share the same cores, so the *bound* of indexing is
1 / (1 / decoding + 1 / inference). Rates are medians over the rounds, in images a second. *Work* is the processor time of
decoding and inference alone as a share of that of indexing; it hardly depends on the other load of the machine. The small
images are also indexed by the command itself, including its start-up.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from decode import photo
from PIL import Image
from rich.console import Console
from rich.table import Table

from lookalike import encoders, images
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.ingest import Entry
from lookalike.parallel import available_cores, prefetch_map
from lookalike.shapes import UInt8

TINY, MIDDLE, LARGE = 10_000, 3_000, 96
IN_MEMORY = 1_024
BATCHES = (1, 4, 8, 16, 64)


@dataclass(frozen=True)
class Figure:
    """The measurement of one kind of images: images a second, and shares in 0…1."""

    kind: str
    encoder: str
    images: int
    megabytes: float
    decoding: float
    inference: float
    indexing: float
    lower: float
    bound: float
    of_lower: float
    of_bound: float
    bound_of_lower: float
    work: float


def measure(tiny: Path | None = None, photos: Path | None = None, rounds: int = 3) -> dict[str, Any]:
    """Measure all figures.

    Args:
        tiny: a folder of images of about 32 pixels; they are drawn without it.
        photos: a folder of images of about 300 pixels; likewise.
        rounds: how often each is measured.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = _files(tiny, folder / "tiny", (32, 32), TINY)
        middle = _files(photos, folder / "middle", (225, 300), MIDDLE)
        large = _mosaics(middle, folder / "large")
        kinds = [
            ("32 px", "cifar10-triplet", small),
            ("300 px", "toyshop", middle),
            ("12 megapixels", "toyshop", large),
        ]
        figures = [_figure(kind, name, files, folder, rounds) for kind, name, files in kinds]
        return {
            "cores": available_cores(),
            "rounds": rounds,
            "figures": [asdict(figure) for figure in figures],
            "batches": {name: _batches(encoders.load(name), 3 * rounds) for name in ("cifar10-triplet", "toyshop")},
            "command": _command(small, folder, rounds),
        }


def _files(folder: Path | None, made: Path, size: tuple[int, int], limit: int) -> list[Path]:
    if folder is not None:
        return images.find(folder)[:limit]
    made.mkdir()
    for i in range(limit // 10):
        (made / f"{i:05}.jpg").write_bytes(photo(*size, seed=i))
    return images.find(made)


def _mosaics(photos: Sequence[Path], made: Path) -> list[Path]:
    made.mkdir()
    random = np.random.default_rng(0)
    for i in range(LARGE):
        mosaic = Image.new("RGB", (4000, 3000))
        for place, chosen in enumerate(random.choice(len(photos), 12)):
            with Image.open(photos[chosen]) as image:
                part = image.convert("RGB").resize((1000, 1000), Image.Resampling.BICUBIC)
            mosaic.paste(part, (1000 * (place % 4), 1000 * (place // 4)))
        grain = random.standard_normal((3000, 4000, 1), np.float32) * 4
        noisy = np.clip(np.asarray(mosaic, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(made / f"{i:03}.jpg", quality=90)
    return images.find(made)


def _figure(kind: str, name: str, files: Sequence[Path], folder: Path, rounds: int) -> Figure:
    encoder = encoders.load(name)
    about = encoder.card.input
    fitted = np.stack([images.load(path, about.size, about.fit) for path in files[:IN_MEMORY]])
    stages: dict[str, tuple[int, Callable[[], object]]] = {
        "decoding": (len(files), lambda: _decode(files, about.size, about.fit)),
        "inference": (len(fitted), lambda: _infer(encoder, fitted)),
        "indexing": (len(files), lambda: _index(files, encoder, folder / "new.lookalike")),
    }
    encoder.embed(fitted[:64])  # loads the network
    times: dict[str, list[tuple[float, float]]] = {stage: [] for stage in stages}
    for _ in range(rounds):
        for stage, (count, run) in stages.items():
            begun, cpu = time.perf_counter(), time.process_time()
            run()
            times[stage].append(((time.perf_counter() - begun) / count, (time.process_time() - cpu) / count))
    decoding, inference, indexing = (1 / statistics.median(wall for wall, _ in times[stage]) for stage in stages)
    busy = [statistics.median(work for _, work in times[stage]) for stage in stages]
    lower, bound = min(decoding, inference), 1 / (1 / decoding + 1 / inference)
    return Figure(
        kind,
        name,
        len(files),
        sum(path.stat().st_size for path in files) / 1e6,
        decoding,
        inference,
        indexing,
        lower,
        bound,
        indexing / lower,
        indexing / bound,
        bound / lower,
        (busy[0] + busy[1]) / busy[2],
    )


def _decode(files: Sequence[Path], size: int, fit: images.Fit) -> None:
    def work(group: Sequence[Path]) -> None:
        for path in group:
            path.stat()
            data = images.read_bytes(path)
            images.fingerprint(data)
            images.load(data, size, fit)

    with closing(prefetch_map(work, [files[i : i + 8] for i in range(0, len(files), 8)])) as done:
        for _ in done:
            pass


def _infer(encoder: Encoder, fitted: UInt8[np.ndarray, "n s s 3"]) -> None:
    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(lambda i: encoder.embed(fitted[i : i + 16]), range(0, len(fitted), 16)))


def _index(files: Sequence[Path], encoder: Encoder, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with Collection.create(path, encoder) as collection:
        added = collection.add([Entry(file) for file in files])
    if added.failed:
        raise SystemExit(f"{added.failures[0][1]} Only whole images can be measured with.")


def _batches(encoder: Encoder, runs: int) -> dict[int, float]:
    """Measure the milliseconds of one core for an image by the size of the batch: the median of runs of 64 images."""
    size = encoder.card.input.size
    batch_of_64 = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
    out = {}
    for batch in BATCHES:
        times = []
        for _ in range(runs):
            used = time.thread_time()
            for i in range(0, 64, batch):
                encoder.embed(batch_of_64[i : i + batch])
            times.append((time.thread_time() - used) / 64 * 1e3)
        out[batch] = statistics.median(times)
    return out


def _command(files: Sequence[Path], folder: Path, rounds: int) -> dict[str, float]:
    """Measure the seconds of the commands that index the small images and search them for one."""
    linked = folder / "linked"
    linked.mkdir()
    for i, path in enumerate(files):
        (linked / f"{i:05}{path.suffix}").symlink_to(path.absolute())
    collection = folder / "command.lookalike"

    # Compiled once, as an installed package is, independent of this environment.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")

    def seconds(*words: object) -> float:
        line = [sys.executable, "-m", "lookalike", *map(str, words)]
        begun = time.perf_counter()
        subprocess.run(line, env=environment, check=True, capture_output=True)  # noqa: S603 -- this Python, our own files
        return time.perf_counter() - begun

    seconds("encoders")
    index = seconds("index", linked, "--to", collection, "--encoder", "cifar10-triplet")
    seconds("search", collection, files[0])  # which makes the matrix
    search = statistics.median(seconds("search", collection, files[0]) for _ in range(rounds))
    return {"index_s": index, "images": len(files), "index_per_second": len(files) / index, "search_s": search}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=Path, help="a folder of images of about 32 pixels")
    parser.add_argument("--photos", type=Path, help="a folder of images of about 300 pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    found = measure(chosen.tiny, chosen.photos, chosen.rounds)
    if chosen.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    console = Console()
    table = Table("", "decoding/s", "inference/s", "indexing/s", "of the lower", "the bound is", "of the bound", "work")
    for it in found["figures"]:
        rates = (f"{it[name]:,.0f}" for name in ("decoding", "inference", "indexing"))
        shares = (f"{it[name]:.0%}" for name in ("of_lower", "bound_of_lower", "of_bound", "work"))
        table.add_row(f"{it['images']:,} × {it['kind']}", *rates, *shares)
    console.print(table)
    console.print({"ms an image on one core, by batch": found["batches"], "command": found["command"]})


if __name__ == "__main__":
    main()
