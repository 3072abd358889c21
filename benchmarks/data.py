"""Vectors for the benchmarks: real embeddings, and more of them by repetition with noise.

    python benchmarks/data.py --data data/cifar10          embeds the images once, and caches the vectors

The vectors are bit-identical on one machine. They are made as follows:

1. Choose 16,000 images of the folder, evenly in the order of their names (all, if there are fewer). Without a folder, draw
   4,000 products of the toy shop with seed 0. Shuffle them; the last 1,000 are the queries.
2. Concatenate three vectors of an image, each of length 1: its embeddings by the two encoders `ENCODERS` (128 numbers each)
   and its pixels (16 × 16, RGB, mean 0). The result is a base vector of 1,024 numbers.
3. Multiply the base vector by a random matrix for d dimensions: with orthonormal rows for d ≥ 1,024, which keeps every
   distance, or with orthonormal columns for fewer. Scale the result to length 1.
4. Repeat the set for a larger gallery. The first copy is unchanged. Each further copy of x is moved, before it is scaled, by
   ∑ wᵢ (neighbourᵢ - x) / √8 over the 8 nearest neighbours of x, with wᵢ from a normal distribution. So it lies about as far
   away as the neighbours, in their directions, and does not raise the intrinsic dimension. Isotropic noise would, and no
   index would be fast on it.

Codes are the signs of another random map of the centred vectors of 256 numbers, as in random hyperplane hashing
(Charikar 2002).
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike import atomic, encoders, images, parallel, sample
from lookalike.embedding import Embedder
from lookalike.metric import Metric
from lookalike.search import knn

CACHE = Path(__file__).parent / "cache"
ENCODERS = ("copies", "toyshop")
MAX_IMAGES = 16_000
PRODUCTS = 4_000
QUERIES = 1_000
BASE = 1_024
NEIGHBOURS = 8
PIXELS = 16
VERSION = 2
"""Incremented with every change of the cached data."""

CODED = 256
"""Numbers of the vectors that codes are made of."""

_BLOCK = 8_192


@dataclass(frozen=True, eq=False)
class Source:
    """Base vectors, from which vectors of any number and dimension are made.

    Attributes:
        name: what the images are, for a table's heading.
        base: float32 ``(n, 1024)``, shuffled; the last `QUERIES` are asked, the others are there to be found.
        neighbours: ``(n - QUERIES, 8)``, the nearest others of each that is there to be found, nearest first.
        key: of the files in `CACHE` that what is made of it is kept in; nothing is kept without.
    """

    name: str
    base: np.ndarray
    neighbours: np.ndarray
    key: str = ""

    def gallery(self, rows: int, dimension: int) -> np.ndarray:
        """Return a gallery: float32 ``(rows, dimension)``. The first rows of a larger gallery are a smaller gallery."""
        vectors = np.empty((rows, dimension), np.float32)
        if self._kept(f"{rows}x{dimension}", vectors):
            return vectors
        for start, block in self._blocks(rows, dimension):
            vectors[start : start + len(block)] = block
        self._keep(f"{rows}x{dimension}", vectors)
        return vectors

    def _kept(self, name: str, into: np.ndarray) -> bool:
        path = CACHE / f"{self.key}-{name}.npy"
        if not (self.key and path.exists()):
            return False
        into[:] = np.load(path, mmap_mode="r")
        return True

    def _keep(self, name: str, made: np.ndarray) -> None:
        if self.key:
            with atomic.atomic_write(CACHE / f"{self.key}-{name}.npy") as part, part.open("wb") as file:
                np.save(file, made)

    def _blocks(self, rows: int, dimension: int) -> Iterator[tuple[int, np.ndarray]]:
        real = _lift(self.base[:-QUERIES], dimension)
        yield 0, real[:rows]
        for start in range(len(real), rows, _BLOCK):
            mine = np.arange(start, min(start + _BLOCK, rows)) % len(real)
            # A generator for each block, so that a gallery's first rows do not depend on its size.
            weights = np.random.default_rng([start, dimension]).standard_normal((_BLOCK, NEIGHBOURS), np.float32)
            moved = np.zeros((len(mine), dimension), np.float32)
            for place in range(NEIGHBOURS):
                steps = real[self.neighbours[mine, place]] - real[mine]
                moved += weights[: len(mine), place, None] * steps
            yield start, _unit(real[mine] + moved / np.float32(np.sqrt(NEIGHBOURS)))

    def queries(self, count: int, dimension: int) -> np.ndarray:
        """Return vectors of images that are not in a gallery: float32 ``(count, dimension)``."""
        if count > QUERIES:
            raise ValueError(f"There are {QUERIES} queries, not {count}.")
        return _lift(self.base[-QUERIES:][:count], dimension)

    def codes(self, rows: int, bits: int) -> np.ndarray:
        """Return codes of the gallery: uint8 ``(rows, bits / 8)``."""
        packed = np.empty((rows, bits // 8), np.uint8)
        if self._kept(f"{rows}x{bits}bits", packed):
            return packed
        centre = self._centre()
        for start, block in self._blocks(rows, CODED):
            packed[start : start + len(block)] = _signs(block - centre, bits)
        self._keep(f"{rows}x{bits}bits", packed)
        return packed

    def query_codes(self, count: int, bits: int) -> np.ndarray:
        """Return codes of queries: uint8 ``(count, bits / 8)``."""
        return _signs(self.queries(count, CODED) - self._centre(), bits)

    def _centre(self) -> np.ndarray:
        centre: np.ndarray = _lift(self.base[:-QUERIES], CODED).mean(axis=0)
        return centre


def source(folder: Path | None) -> Source:
    """Load the vectors of a folder's images or of the toy shop from the cache, or make them."""
    loaded = [encoders.load(name) for name in ENCODERS]
    paths = [] if folder is None else images.find(folder)
    if 0 < len(paths) < 2 * QUERIES:
        raise SystemExit(f"{folder} holds {len(paths)} images; the benchmarks need {2 * QUERIES:,} or more.")
    if folder is not None and not paths:
        raise SystemExit(f"{folder} holds no images.")
    if len(paths) > MAX_IMAGES:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, MAX_IMAGES).astype(int)]
    name = f"{len(paths):,} images of {folder.name}" if folder else f"{PRODUCTS:,} products of the toy shop"
    key = [str(VERSION), *(encoder.fingerprint for encoder in loaded), name]
    key += [f"{path.relative_to(folder)} {path.stat().st_size}" for path in paths if folder]
    digest = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    kept = CACHE / f"{digest}.npz"
    if kept.exists():
        with np.load(kept) as arrays:
            return Source(name, arrays["base"], arrays["neighbours"], digest)
    say(f"Describing {name}: once, since it is kept in {CACHE.name}/.")
    base = np.concatenate(list(_embed_all(paths, loaded)))
    base = base[np.random.default_rng(0).permutation(len(base))]
    there = base[:-QUERIES]
    hits = knn(there, there, NEIGHBOURS + 1, Metric.EUCLIDEAN)
    found = hits.rows.reshape(len(there), NEIGHBOURS + 1)
    # An image that occurs twice may not be its own first neighbour; in both cases there are at most nine others.
    others = found != np.arange(len(there))[:, None]
    others[others.all(axis=1), -1] = False
    neighbours = found[others].reshape(len(there), NEIGHBOURS)
    CACHE.mkdir(exist_ok=True)
    with atomic.atomic_write(kept) as part, part.open("wb") as file:
        np.savez(file, base=base, neighbours=neighbours)
    return Source(name, base, neighbours, digest)


def say(line: str) -> None:
    """Print a line of progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _embed_all(paths: list[Path], loaded: list[encoders.Encoder]) -> Iterator[np.ndarray]:
    total, step = len(paths) or PRODUCTS, 1_000
    products = [] if paths else sample.catalogue(PRODUCTS, 0)
    for start in range(0, total, step):
        here = slice(start, min(start + step, total))
        batch = list(
            parallel.prefetch_map(_open, paths[here]) if paths else parallel.prefetch_map(_draw, products[here])
        )
        parts = [_unit(_pixels(batch)), *(Embedder.of(encoder).embed(batch) for encoder in loaded)]
        yield np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))
        say(f"  {here.stop:,} of {total:,}")


def _open(path: Path) -> Image.Image:
    return images.open_image(path)


def _draw(product: sample.Product) -> Image.Image:
    return product.photo(64)


def _pixels(batch: list[Image.Image]) -> np.ndarray:
    flat = np.stack([images.load(p, PIXELS) for p in batch]).reshape(len(batch), -1).astype(np.float32)
    return np.asarray(flat - flat.mean(axis=1, keepdims=True))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0))


def _lift(base: np.ndarray, dimension: int) -> np.ndarray:
    tall = np.random.default_rng([1, dimension]).standard_normal((max(BASE, dimension), min(BASE, dimension)))
    orthonormal = np.linalg.qr(tall)[0].astype(np.float32)
    return _unit(base @ (orthonormal if dimension < BASE else orthonormal.T))


def _signs(vectors: np.ndarray, bits: int) -> np.ndarray:
    planes = np.random.default_rng([2, bits]).standard_normal((vectors.shape[1], bits), np.float32)
    return np.packbits(vectors @ planes > 0, axis=1)


def main() -> None:
    """Make the vectors, and print their properties."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of images; without it, the toy shop")
    vectors = source(parser.parse_args().data)
    say(f"{vectors.name}: {len(vectors.base):,} base vectors, {QUERIES:,} of them queries.")


if __name__ == "__main__":
    main()
