"""Detection of line drawings, which are searched for by an encoder's sketch branch, and their ink as black on white.

A line drawing is paper with thin lines of ink: pencil, pen, chalk on a board, on paper of any colour, in uneven light. The colour of
the paper at each place is a polynomial of degree 2, fitted to the pixels that are near it. The depth of the ink is a pixel's
difference from the paper: 0 for paper, 1 for the darkest ink, or the lightest chalk.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageFilter

from lookalike.images.decoding import open_image
from lookalike.images.limits import DEFAULT_LIMITS, Limits
from lookalike.images.sources import ImageSource, check_source, name_source, read_file
from lookalike.images.strokes import is_drawing
from lookalike.shapes import Float32, Shaped

_SIDE, _LEAST_SIDE = 256, 128  # pixels of the longer side that is looked at
_FITTED = 64  # pixels of the longer side that the paper is fitted to
_ROUNDS = 4  # of the fit of the paper
_NEAR, _GRAIN = 2.5, 3.0  # median differences, and levels, within which a pixel counts as paper
_DARKEST = 99.8  # percentile of the differences that has the depth 1
_LEAST_CONTRAST = 30  # levels between paper and ink
_FAINT, _CLEAR = 0.3, 0.6  # depths below which a pixel is paper, and from which on it is ink

# What a line drawing has; benchmarks/drawn.py measures how many drawings and photos do.
_LEAST_PAPER = 0.8
_MOST_SHADE = (
    1.4  # pixels between paper and ink, for each pixel of ink: lines have only their edges, and photos have shades
)
_LINE = 9  # pixels; a line is thinner
_MOST_WIDE, _MOST_WIDE_AND_PALE = (
    0.05,
    0.2,
)  # of the depth, that lies in areas wider than a line: of clear ink, and of all
_ONE_SIDE = 0.97  # of the ink that is darker than the paper, or that is lighter
_MOST_GRAIN = 0.08  # of the depth, the root mean square of the paper

_WHITE, _BLACK = 232, 128  # paper that is at least this light and ink that is at most this light stay as they are
_COLOURED = 24  # levels between the channels of a pixel from which on it has a colour


def looks_drawn(source: ImageSource, *, name: str | None = None, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Return whether an image is a drawing as strokes, or looks like a line drawing: thin lines of ink or chalk on even paper.

    Args:
        source: the image.
        name: its name in messages.
        limits: maximum bytes and pixels.

    Raises:
        ImageError, NotFoundError, UsageError: as `open_image`.
    """
    name, checked = name or name_source(source), check_source(source)
    if not isinstance(checked, Image.Image):
        checked = read_file(checked, limits)
        if is_drawing(checked):
            return True
    ink = _Ink.find(_as_pixels(open_image(checked, name=name, at_least=_SIDE, limits=limits)))
    return ink.is_line_drawing()


def clean_sketch(image: Image.Image) -> Image.Image:
    """Return a sketch as dark ink on white paper, as encoders learn them.

    A sketch in dark grey on white paper stays as it is, and so does an image that is not a line drawing.

    Args:
        image: RGB.
    """
    ink = _Ink.find(_as_pixels(image))
    if not ink.is_line_drawing() or ink.is_black_on_white():
        return image
    pixels = np.asarray(image, np.float32)
    depth = _depth(pixels - ink.paper_of(pixels), ink.contrast)
    clean = np.clip((depth - ink.grain) / (1 - ink.grain), 0, 1)
    return Image.fromarray(np.uint8(255 - 255 * clean + 0.5)).convert("RGB")


def _as_pixels(image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    longer = max(image.size)
    scale = min(max(longer, _LEAST_SIDE), _SIDE) / longer
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR), np.float32)


@dataclass(frozen=True, eq=False)
class _Ink:
    """The ink and the paper of a small image.

    Attributes:
        pixels: the image.
        paper: coefficients of the paper's colour, see `_terms`.
        difference: of each pixel from the paper.
        contrast: levels between the paper and the darkest ink, or the lightest chalk.
        depth: of the ink at each pixel, from 0 to 1.
        grain: root mean square of the paper's depth.
    """

    pixels: Float32[np.ndarray, "h w 3"]
    paper: Float32[np.ndarray, "6 3"]
    difference: Float32[np.ndarray, "h w 3"]
    contrast: float
    depth: Float32[np.ndarray, "h w"]
    grain: float

    @classmethod
    def find(cls, pixels: Float32[np.ndarray, "h w 3"]) -> Self:
        """Tell the ink of an image from its paper."""
        terms, step = _terms(pixels.shape[0], pixels.shape[1]), max(1, max(pixels.shape) // _FITTED)
        paper = _fit_paper(terms[::step, ::step].reshape(-1, 6), pixels[::step, ::step].reshape(-1, 3))
        difference = pixels - terms @ paper
        contrast = max(float(np.percentile(np.abs(difference).max(axis=2), _DARKEST)), 1.0)
        depth = _depth(difference, contrast)
        faint = depth[depth < _FAINT]
        grain = float(np.sqrt(np.mean(faint**2))) if len(faint) else 1.0
        return cls(pixels, paper, difference, contrast, depth, grain)

    def paper_of(self, pixels: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
        """Return the colour of the paper at each pixel of the image in another size."""
        return np.asarray(_terms(pixels.shape[0], pixels.shape[1]) @ self.paper)

    def is_line_drawing(self) -> bool:
        """Return whether most of the image is even paper, and the ink is in thin lines, all darker than the paper or all lighter."""
        if self.contrast < _LEAST_CONTRAST or self.grain > _MOST_GRAIN:
            return False
        faint, clear = self.depth >= _FAINT, self.depth >= _CLEAR
        if 1 - faint.mean() < _LEAST_PAPER or (faint & ~clear).sum() > _MOST_SHADE * clear.sum():
            return False
        darker = (self.difference.mean(axis=2)[clear] < 0).mean()
        if max(darker, 1 - darker) < _ONE_SIDE:
            return False
        # An opening keeps only the ink of areas in which a square of this size fits.
        grey = Image.fromarray(np.uint8(self.depth * 255))
        wide = np.asarray(grey.filter(ImageFilter.MinFilter(_LINE)).filter(ImageFilter.MaxFilter(_LINE))) / 255
        return bool(
            wide.sum() <= _MOST_WIDE_AND_PALE * self.depth.sum()
            and wide[wide >= _FAINT].sum() <= _MOST_WIDE * self.depth[faint].sum()
        )

    def is_black_on_white(self) -> bool:
        """Return whether the paper is white, and the ink dark and without colour."""
        ink, faint = self.depth >= _CLEAR, self.depth < _FAINT
        return bool(
            np.median(self.pixels[faint].min(axis=1)) >= _WHITE
            and np.median(self.pixels[ink].max(axis=1)) <= _BLACK
            and np.median(np.ptp(self.pixels[ink], axis=1)) < _COLOURED
        )


def _terms(height: int, width: int) -> Float32[np.ndarray, "h w 6"]:
    """Return 1, x, y, x², y² and xy of each pixel, from -1 to 1 along both sides."""
    y, x = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32), indexing="ij"
    )
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _fit_paper(terms: Float32[np.ndarray, "n 6"], pixels: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "6 3"]:
    """Fit the paper's colour by least squares to the pixels near it, first near the median colour."""
    distance = np.abs(pixels - np.median(pixels, axis=0)).max(axis=1)
    for _ in range(_ROUNDS):
        near = distance <= max(float(np.median(distance)) * _NEAR, _GRAIN)
        paper = np.linalg.lstsq(terms[near], pixels[near], rcond=None)[0]
        distance = np.abs(pixels - terms @ paper).max(axis=1)
    return np.asarray(paper, np.float32)


def _depth(difference: Shaped[np.ndarray, "h w 3"], contrast: float) -> Float32[np.ndarray, "h w"]:
    return np.asarray(np.minimum(np.abs(difference).max(axis=2) / np.float32(contrast), np.float32(1)))
