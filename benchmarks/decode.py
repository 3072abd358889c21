"""Measure decoding: a 12-megapixel photo in full and at reduced scale, and small JPEGs.

    python benchmarks/decode.py [--size 224] [--repeats 9] [--json]

The photo is smoothed noise with grain, saved at quality 90: about as hard to decode as a real one (2 to 5 MB). All
figures are medians on one thread; `difference` is the mean absolute difference, in grey levels of 255, between what the
encoder would see after a full decode and what `images.load` gives it.
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from lookalike import images


def photo(width: int, height: int, seed: int = 0) -> bytes:
    """Make a JPEG of clouds of several sizes, edges and grain."""
    random = np.random.default_rng(seed)
    scene = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 1.0), (16, 0.6), (64, 0.35), (256, 0.15)):
        noise = random.integers(0, 256, (min(cells, height), min(cells, width), 3), dtype=np.uint8)
        cloud = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        scene += strength * (np.asarray(cloud, np.float32) - 127.5)
    # Steps in brightness along smooth curves: the edges of things.
    scene += 40 * np.sign(scene[:, :, :1])
    scene += random.normal(0, 4, scene.shape).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(scene + 127.5, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def median_ms(work: Callable[[], object], repeats: int, calls: int = 1) -> float:
    """Measure the milliseconds of one call: the median over `repeats` of the mean over `calls`."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        times.append((time.perf_counter() - begun) / calls)
    return 1000 * statistics.median(times)


def measure(size: int, repeats: int) -> dict[str, float]:
    """Measure all figures, by name."""
    large, middle, small = photo(4000, 3000), photo(300, 300), photo(32, 32)
    full = images.load(images.open_image(large), size)
    reduced = images.load(large, size)
    full_ms = median_ms(lambda: images.load(images.open_image(large), size), repeats)
    reduced_ms = median_ms(lambda: images.load(large, size), repeats)
    middle_ms = median_ms(lambda: images.load(middle, size), repeats, 50)
    small_ms = median_ms(lambda: images.load(small, 32), repeats, 500)
    return {
        "size": size,
        "photo_megabytes": len(large) / 1e6,
        "full_ms": full_ms,
        "reduced_ms": reduced_ms,
        "ratio": full_ms / reduced_ms,
        "difference": float(np.abs(full.astype(np.int16) - reduced).mean()),
        "300px_per_second": 1000 / middle_ms,
        "32px_ms": small_ms,
        "32px_per_second": 1000 / small_ms,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How much decoding costs.")
    parser.add_argument("--size", type=int, default=224, help="side of the encoder's input, in pixels")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.size, arguments.repeats)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.writelines(f"{name:20} {value:12,.3f}\n" for name, value in figures.items())


if __name__ == "__main__":
    main()
