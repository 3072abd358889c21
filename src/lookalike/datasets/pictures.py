"""Pictures that are not decoded yet: files, rows of arrays, or products still to be drawn."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from jaxtyping import Int64, UInt8

from lookalike import images, sample
from lookalike.images import Fit

# Pixels a side at which a generated product is looked at: it has no size of its own.
_DRAWN = 64


@dataclass(frozen=True)
class Seen:
    """What one picture is: its size in pixels, and a fingerprint that only the very same picture has."""

    width: int
    height: int
    fingerprint: str


class Pictures(Protocol):
    """Pictures by position, read when they are asked for; several threads may ask."""

    def __len__(self) -> int:
        """How many."""

    def load(self, row: int, size: int, fit: Fit) -> UInt8[np.ndarray, "size size 3"]:
        """One picture as an encoder sees it. Raises ImageError or NotFoundError where it cannot be used."""

    def look(self, row: int) -> Seen:
        """Decode one picture whole. Raises as `load`."""

    def name(self, row: int) -> str:
        """What to call it."""

    def take(self, rows: np.ndarray) -> Self:
        """Those at these positions."""


@dataclass(frozen=True)
class Files:
    """Picture files."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    def load(self, row: int, size: int, fit: Fit) -> UInt8[np.ndarray, "size size 3"]:
        """As `Pictures`."""
        return images.load(self.paths[row], size, fit)

    def look(self, row: int) -> Seen:
        """As `Pictures`."""
        data = images.read_bytes(self.paths[row])
        return Seen(*images.open_image(data, name=repr(self.name(row))).size, images.fingerprint(data))

    def name(self, row: int) -> str:
        """As `Pictures`."""
        return str(self.paths[row])

    def take(self, rows: np.ndarray) -> "Files":
        """As `Pictures`."""
        return Files(tuple(self.paths[row] for row in rows.tolist()))


@dataclass(frozen=True)
class Arrays:
    """Pictures of arrays: uint8 or bool, (n, h, w), (n, h, w, 1) or (n, h, w, 3).

    ``places`` says for each picture which array it is in, and at which position, so that to take some copies none.
    """

    arrays: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    places: Int64[np.ndarray, "n 2"]

    def __len__(self) -> int:
        """How many."""
        return len(self.places)

    def load(self, row: int, size: int, fit: Fit) -> UInt8[np.ndarray, "size size 3"]:
        """As `Pictures`."""
        return images.load(self._pixels(row), size, fit)

    def look(self, row: int) -> Seen:
        """As `Pictures`."""
        pixels = self._pixels(row)
        height, width = pixels.shape[:2]
        return Seen(width, height, images.fingerprint(f"{pixels.shape}".encode() + pixels.tobytes()))

    def name(self, row: int) -> str:
        """As `Pictures`."""
        array, position = self.places[row].tolist()
        return f"{self.names[array]}[{position}]"

    def take(self, rows: np.ndarray) -> "Arrays":
        """As `Pictures`."""
        return replace(self, places=self.places[rows])

    def _pixels(self, row: int) -> np.ndarray:
        array, position = self.places[row].tolist()
        pixels: np.ndarray = self.arrays[array][position]
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        return pixels[..., 0] if pixels.shape[-1] == 1 and pixels.ndim == 3 else pixels  # noqa: PLR2004 -- h, w, channel


@dataclass(frozen=True)
class Drawn:
    """Products of the toy shop, each as a photo (variant -1) or as one of its sketches, drawn at the size asked for."""

    products: tuple[sample.Product, ...]
    places: Int64[np.ndarray, "n 2"]

    def __len__(self) -> int:
        """How many."""
        return len(self.places)

    def load(self, row: int, size: int, fit: Fit) -> UInt8[np.ndarray, "size size 3"]:
        """As `Pictures`; a product is drawn square, so that there is nothing to fit."""
        product, variant = self.places[row].tolist()
        drawn = self.products[product].photo(size) if variant < 0 else self.products[product].sketch(variant, size)
        return images.load(drawn, size, fit)

    def look(self, row: int) -> Seen:
        """As `Pictures`."""
        return Seen(_DRAWN, _DRAWN, images.fingerprint(self.load(row, _DRAWN, "squash").tobytes()))

    def name(self, row: int) -> str:
        """As `Pictures`."""
        product, variant = self.places[row].tolist()
        return f"product {product}" + (f", sketch {variant}" if variant >= 0 else "")

    def take(self, rows: np.ndarray) -> "Drawn":
        """As `Pictures`."""
        return replace(self, places=self.places[rows])
