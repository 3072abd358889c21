"""Pseudo-sketches: line drawings traced from photos, which train a sketch branch where nobody has drawn.

Edges or contours of a photo become strokes, as in self-supervised sketch-based retrieval (S3BIR): simplified, bent, of one
width, and some left out.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np

from lookalike.datasets import LabelledImages
from lookalike.learn.recipe.pseudo_sketches import PseudoSketches, PseudoSketchStyle
from lookalike.shapes import Bool, Float32, UInt8

# The side of an image, in pixels, for which the scales of the filters are given.
_REFERENCE = 128

# Fractional bits of coordinates that OpenCV draws between pixels.
_BITS = 4

# Cells per side of the random grid that bends strokes: 4 bend a whole outline and leave its details.
_BENDS = 4


def pseudo_sketch(
    image: UInt8[np.ndarray, "h w 3"], style: PseudoSketchStyle, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a photo in black strokes on white, or return it as it is.

    Args:
        image: the photo, RGB.
        style: what is traced, and how.
        rng: of all random choices; the same state gives the same drawing.

    Returns:
        The drawing. It is white if the photo has no edge; otherwise it has the longest stroke at least.
    """
    kind = style.kinds[rng.integers(len(style.kinds))]
    if kind == "photo":
        return image
    found = _select(_trace(_edge_map(image, kind, rng)), image, style, rng)
    return _draw(found, image, style, rng)


def with_pseudo_sketches(samples: LabelledImages, config: PseudoSketches, seed: int) -> LabelledImages:
    """Return the samples, and pseudo-sketches of photos: each of the photo's class, and of the same item.

    Args:
        samples: photos, and perhaps sketches, which stay.
        config: how many drawings of which photos, and their style.
        seed: with a photo's position it determines its drawings.
    """
    rows = np.repeat(np.flatnonzero(~samples.sketch & ~_drawn(samples, config)), config.count)
    drawings = np.empty((len(rows), *samples.images.shape[1:]), np.uint8)
    for i, row in enumerate(rows.tolist()):
        drawings[i] = pseudo_sketch(samples.images[row], config, np.random.default_rng((seed, i)))
    return replace(
        samples,
        images=np.concatenate([samples.images, drawings]),
        labels=np.concatenate([samples.labels, samples.labels[rows]]),
        items=np.concatenate([samples.items, samples.items[rows]]),
        sketch=np.concatenate([samples.sketch, np.ones(len(rows), bool)]),
    )


def _drawn(samples: LabelledImages, config: PseudoSketches) -> Bool[np.ndarray, " n"]:
    """Mark the images whose class or item has sketches, if these get no pseudo-sketches."""
    match config.without:
        case "class":
            return np.isin(samples.labels, samples.labels[samples.sketch])
        case "item":
            return np.isin(samples.items, samples.items[samples.sketch])
        case None:
            return np.zeros(len(samples), bool)


def _edge_map(
    image: UInt8[np.ndarray, "h w 3"], kind: Literal["edges", "regions", "lines"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w"]:
    """Mark what a drawing traces, with 255."""
    scale = max(image.shape[:2]) / _REFERENCE
    match kind:
        case "edges":
            return _canny(_grey(image, rng), scale, rng)
        case "regions":
            return _borders(image, scale, rng)
        case "lines":
            return _dark_lines(_grey(image, rng), scale, rng)


def _grey(image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Mix the channels at random: no fixed mix shows the borders between all colours."""
    weights = rng.uniform(0.2, 1.2, 3)
    mixed: Float32[np.ndarray, "h w"] = image.astype(np.float32) @ (weights / weights.sum()).astype(np.float32)
    return mixed


def _canny(grey: Float32[np.ndarray, "h w"], scale: float, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Find edges (Canny 1986) after a random blur, with thresholds that the image's own gradients determine."""
    sigma = scale * math.exp(rng.uniform(math.log(0.8), math.log(2.5)))
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma)
    dx, dy = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    largest = max(float(np.abs(dx).max()), float(np.abs(dy).max()), 1.0)
    to_int16 = 16_384 / largest  # a pixel's two gradients then have a length that fits
    high = max(float(np.quantile(np.hypot(dx, dy), rng.uniform(0.86, 0.96))), largest / 20) * to_int16
    low = high * rng.uniform(0.3, 0.6)
    right, down = ((gradient * to_int16).astype(np.int16) for gradient in (dx, dy))
    return np.asarray(cv2.Canny(right, down, low, high, L2gradient=True), np.uint8)


def _borders(image: UInt8[np.ndarray, "h w 3"], scale: float, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Find the borders between two to four groups of similar colours."""
    smooth = cv2.GaussianBlur(image, (0, 0), scale * rng.uniform(1, 2))
    colours = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    groups = int(rng.integers(2, 5))
    centres = colours[rng.choice(len(colours), groups, replace=len(colours) < groups)]
    for _ in range(4):  # iterations of k-means; the borders hardly move after them
        nearest = ((colours[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        for group in range(groups):
            if (own := nearest == group).any():
                centres[group] = colours[own].mean(axis=0)
    grouped = cv2.medianBlur(nearest.reshape(image.shape[:2]).astype(np.uint8), 5)
    border = np.zeros(grouped.shape, bool)
    border[:-1] |= grouped[:-1] != grouped[1:]
    border[:, :-1] |= grouped[:, :-1] != grouped[:, 1:]
    return border.astype(np.uint8) * 255


def _dark_lines(grey: Float32[np.ndarray, "h w"], scale: float, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Find dark lines by a difference of Gaussians (Winnemöller et al. 2012, XDoG)."""
    sigma = scale * rng.uniform(0.8, 1.6)
    narrow, wide = cv2.GaussianBlur(grey, (0, 0), sigma), cv2.GaussianBlur(grey, (0, 0), 1.6 * sigma)
    difference = narrow - wide
    threshold = min(float(np.quantile(difference, rng.uniform(0.06, 0.14))), -1.0)
    return (difference < threshold).astype(np.uint8) * 255


def _trace(edges: UInt8[np.ndarray, "h w"]) -> list[Float32[np.ndarray, "n 2"]]:
    """Trace the marked pixels as closed strokes; a thin line is traced to and fro."""
    contours, _ = cv2.findContours(edges, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(contour, np.float32).reshape(-1, 2) for contour in contours]


def _select(
    strokes: Sequence[Float32[np.ndarray, "n 2"]],
    image: UInt8[np.ndarray, "h w 3"],
    style: PseudoSketchStyle,
    rng: np.random.Generator,
) -> list[Float32[np.ndarray, "n 2"]]:
    """Leave out short strokes, and some of the others at random; the longest one stays."""
    least = max(image.shape[:2]) * rng.uniform(0.06, 0.2)
    share = rng.uniform(0, style.drop)
    by_length = sorted(strokes, key=len, reverse=True)
    return by_length[:1] + [s for s in by_length[1:] if len(s) >= least and rng.random() >= share]


def _draw(
    strokes: Sequence[Float32[np.ndarray, "n 2"]],
    image: UInt8[np.ndarray, "h w 3"],
    style: PseudoSketchStyle,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw strokes, bent and simplified as by an unsteady hand."""
    height, width = image.shape[:2]
    side = max(height, width)
    reach = side * style.deform / 100
    grid = rng.uniform(-1, 1, (_BENDS, _BENDS, 2)).astype(np.float32) * (reach * rng.random())
    bend = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    thickness = max(1, round(side * rng.uniform(*style.thickness) / 100))
    tolerance = side * rng.uniform(0.003, 0.012)
    drawing = np.full((height, width), 255, np.uint8)
    for stroke in strokes:
        x, y = stroke.astype(int).T
        moved = stroke + bend[y, x] + rng.normal(0, reach / 8, 2)
        simple = cv2.approxPolyDP(moved.astype(np.float32)[:, None], tolerance, closed=True)
        smooth = _round_corners(simple[:, 0])
        points = np.round(smooth * (1 << _BITS)).astype(np.int32)
        cv2.polylines(drawing, [points], isClosed=True, color=0, thickness=thickness, lineType=cv2.LINE_AA, shift=_BITS)
    return np.repeat(drawing[:, :, None], 3, axis=2)


def _round_corners(points: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "m 2"]:
    """Cut each corner of a closed stroke (Chaikin 1974)."""
    following = np.roll(points, -1, axis=0)
    cut: Float32[np.ndarray, "m 2"] = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1)
    return cut.reshape(-1, 2)
