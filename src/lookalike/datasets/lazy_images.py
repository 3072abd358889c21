"""Images that are decoded on demand: files, rows of arrays, or generated products."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from lookalike import images, sample
from lookalike.images import Fitting
from lookalike.shapes import Int64, UInt8

# Pixels a side at which a generated product is inspected, since it has no size of its own.
_PRODUCT_SIZE = 64


@dataclass(frozen=True)
class ImageInfo:
    """The size of an image in pixels, and a fingerprint that only identical images share."""

    width: int
    height: int
    fingerprint: str


class LazyImages(Protocol):
    """Images by row, decoded on demand; safe to use from several threads."""

    def __len__(self) -> int:
        """Count the images."""

    def load(self, row: int, size: int, fit: Fitting) -> UInt8[np.ndarray, "size size 3"]:
        """Decode one image and fit it to a square.

        Raises:
            ImageError: the image cannot be decoded.
            NotFoundError: the file does not exist.
        """

    def inspect(self, row: int) -> ImageInfo:
        """Decode one image at full size. Raises the errors of `load`."""

    def name(self, row: int) -> str:
        """Return the name of one image, for messages."""

    def take(self, rows: np.ndarray) -> Self:
        """Select the images at these rows."""


@dataclass(frozen=True)
class FileImages:
    """Image files."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    def load(self, row: int, size: int, fit: Fitting) -> UInt8[np.ndarray, "size size 3"]:
        """Decode one file and fit it to a square."""
        return images.load(self.paths[row], size, fit)

    def inspect(self, row: int) -> ImageInfo:
        """Decode one file at full size."""
        data = images.read_bytes(self.paths[row])
        return ImageInfo(*images.open_image(data, name=repr(self.name(row))).size, images.fingerprint(data))

    def name(self, row: int) -> str:
        """Return the path of one file."""
        return str(self.paths[row])

    def take(self, rows: np.ndarray) -> "FileImages":
        """Select the files at these rows."""
        return FileImages(tuple(self.paths[row] for row in rows.tolist()))


@dataclass(frozen=True)
class ArrayImages:
    """Images in arrays of uint8 or bool, ``(n, h, w)``, ``(n, h, w, 1)`` or ``(n, h, w, 3)``.

    Attributes:
        arrays: the pixels.
        names: the name of each array, for messages.
        positions: for each image its array and its row there, so that `take` copies no pixels.
    """

    arrays: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    positions: Int64[np.ndarray, "n 2"]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.positions)

    def load(self, row: int, size: int, fit: Fitting) -> UInt8[np.ndarray, "size size 3"]:
        """Fit one image to a square."""
        return images.load(self._pixels(row), size, fit)

    def inspect(self, row: int) -> ImageInfo:
        """Return the size and the fingerprint of one image."""
        pixels = self._pixels(row)
        height, width = pixels.shape[:2]
        return ImageInfo(width, height, images.fingerprint(f"{pixels.shape}".encode() + pixels.tobytes()))

    def name(self, row: int) -> str:
        """Return the array and the position of one image."""
        array, position = self.positions[row].tolist()
        return f"{self.names[array]}[{position}]"

    def take(self, rows: np.ndarray) -> "ArrayImages":
        """Select the images at these rows."""
        return replace(self, positions=self.positions[rows])

    def _pixels(self, row: int) -> np.ndarray:
        array, position = self.positions[row].tolist()
        pixels: np.ndarray = self.arrays[array][position]
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        return pixels[..., 0] if pixels.shape[-1] == 1 and pixels.ndim == 3 else pixels  # noqa: PLR2004 -- h, w, channel


@dataclass(frozen=True)
class ToyShopImages:
    """Products of the toy shop, each rendered at the requested size.

    Attributes:
        products: the catalogue.
        variants: for each image its product and its variant: -1 is the photo, 0 and up are sketches.
    """

    products: tuple[sample.Product, ...]
    variants: Int64[np.ndarray, "n 2"]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.variants)

    def load(self, row: int, size: int, fit: Fitting) -> UInt8[np.ndarray, "size size 3"]:
        """Render one product. A product is square, so ``fit`` has no effect."""
        product, variant = self.variants[row].tolist()
        rendered = self.products[product].photo(size) if variant < 0 else self.products[product].sketch(variant, size)
        return images.load(rendered, size, fit)

    def inspect(self, row: int) -> ImageInfo:
        """Return the fingerprint of one product, rendered at 64 pixels."""
        pixels = self.load(row, _PRODUCT_SIZE, "squash")
        return ImageInfo(_PRODUCT_SIZE, _PRODUCT_SIZE, images.fingerprint(pixels.tobytes()))

    def name(self, row: int) -> str:
        """Return the number of the product, and of the sketch."""
        product, variant = self.variants[row].tolist()
        return f"product {product}" + (f", sketch {variant}" if variant >= 0 else "")

    def take(self, rows: np.ndarray) -> "ToyShopImages":
        """Select the images at these rows."""
        return replace(self, variants=self.variants[rows])
