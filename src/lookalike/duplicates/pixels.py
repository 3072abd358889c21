"""Compare images pixel by pixel, to decide whether two images are copies of one image.

An encoder may give two products of one kind almost the same embedding. Their pixels differ: the difference between two shoes
is small, but it lies in places in which copies do not differ.

1. *Alignment.* An affine map lays the right image over the left one. It maximises the correlation of their brightness.
   Gauss-Newton steps find the map from coarse to fine (Evangelidis and Psarakis, "Parametric image alignment using enhanced
   correlation coefficient maximization", 2008), with the mean gradient of both images (Malis 2004) and robust weights that
   ignore parts that do not fit, such as a caption (Geman and McClure).
2. *Structure* is the mean of the structure term of SSIM (Wang et al., "Image quality assessment: from error visibility to
   structural similarity", 2004) over windows of 8 × 8 pixels. The weight of a window is its contrast, up to a limit, so an
   outline on white counts no more than a seam. The sharper image is blurred if that helps. At `FINE` pixels only a small
   share of the windows may differ completely.
3. *Colour* compares the mean colours of the windows.

The limits were chosen on copies of 17 kinds (see `benchmarks/copies.py`), and on different images of CIFAR-10's training set,
of a shop's catalogue, and of drawn forms.
"""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lookalike.shapes import Bool, Float32, Int64, UInt8

SIDE, FINE = 64, 128
"""The side in pixels at which images are compared, and at which images that agree are compared again."""

Planes = Float32[np.ndarray, "n s s"]
Maps = Float32[np.ndarray, "n 6"]
"""Affine maps from (x, y) in -1…1 of the left image to the right one: (1 + m₀)x + m₁y + m₂, m₃x + (1 + m₄)y + m₅."""

# From RGB to brightness, red against green, and both against blue.
_OPPONENT = np.array([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]], np.float32).T / np.float32(255)

# Sides at which images are aligned, and the minimum robust correlation of a pair that passes each one.
_LEVELS = ((16, 0.75), (32, 0.84), (64, 0.84))
_STEPS = 8

# A window's side and step; the standard deviation at which a window has half its weight; the deviation of noise.
_WINDOW, _STEP = 8, 4
_HALF, _NOISE = np.float32(0.03), np.float32(0.02)

# The minimum overlap of two aligned images, as a share of the image and of a window.
_MIN_OVERLAP = 0.6

# How often the left and the right image are blurred, at `SIDE`. Blurring does not help a pair with less structure than this.
_MIN_STRUCTURE = 0.6
_BLURS = ((0, 0), (1, 0), (0, 1), (3, 0), (0, 3), (7, 0), (0, 7))

# The share of windows that are ignored, those that differ most: an affine map is never exact at an edge.
_IGNORED_WINDOWS = 0.05

# The structure below which a window differs completely, and the share of an image of `FINE` pixels that may differ
# completely. Without this limit, the mean would accept two forms that are filled in differently.
_DIFFERENT, _MAX_DIFFERENT = 0.7, 0.02

# The limits of `agree`. Neither a change of colours nor an overlay elsewhere changes the structure of a part much.
_ALIKE, _EXACT = 0.9, 0.97
_MAX_COLOUR_DIFFERENCE, _MAX_UNEXPLAINED = 0.06, 0.05


def agree(left: UInt8[np.ndarray, "n s s 3"], right: UInt8[np.ndarray, "n s s 3"]) -> Bool[np.ndarray, " n"]:
    """Decide whether the two images of each pair are copies of one image.

    They are if one of these conditions holds:

    - The structure is alike and the colours are the same: recompressed, resized, cropped, blurred, framed, rotated a little.
    - The structure is exactly the same, and all colours have changed in the same way: brighter, paler, grey, warmer.
    - Structure and colours are the same except in a strip along a side or in a corner: a caption, a logo.

    Two plain images, without any structure, never agree. The order of a pair does not matter: if the right image does not
    agree when it is laid over the left one, the function lays the left image over the right one. At `FINE` pixels it
    compares only structure, since colours have no finer details.

    Args:
        left: images of `SIDE` or of `FINE` pixels.
        right: images of the same size.
    """
    a, b = (batch.astype(np.float32) @ _OPPONENT for batch in (left, right))
    agree = _overlay(a, b) if len(a) else np.zeros(0, bool)
    rest = np.flatnonzero(~agree)
    if len(rest):
        agree[rest] = _overlay(b[rest], a[rest])
    return agree


def _overlay(a: Float32[np.ndarray, "n s s 3"], b: Float32[np.ndarray, "n s s 3"]) -> Bool[np.ndarray, " n"]:
    """Compare pairs as `agree` describes, with the right images laid over the left ones."""
    rows, maps = _align(np.ascontiguousarray(a[..., 0]), np.ascontiguousarray(b[..., 0]))
    agree = np.zeros(len(a), bool)
    if len(rows):
        agree[rows] = _judge(a[rows], b[rows], maps)
    return agree


# ---- alignment


def _align(a: Planes, b: Planes) -> tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, "m 6"]]:
    """Return the rows that can be aligned, and their maps."""
    rows, maps = np.arange(len(a)), np.zeros((len(a), 6), np.float32)
    for side, min_correlation in _LEVELS:
        if 2 * side > a.shape[1] or not len(rows):
            break
        fitted, correlation = _fit(_shrink(a[rows], side), _shrink(b[rows], side), maps)
        kept = correlation >= min_correlation
        rows, maps = rows[kept], fitted[kept]
    return rows, maps


def _fit(a: Planes, b: Planes, maps: Maps) -> tuple[Maps, Float32[np.ndarray, " n"]]:
    """Improve maps by Gauss-Newton steps; also return the weighted correlation before the last step."""
    n, side = a.shape[:2]
    x, y = _grid(side)
    pixels_per_unit = np.float32(side / 2)
    down, across = np.gradient(b, axis=(1, 2))
    layers = np.stack([b, across * pixels_per_unit, down * pixels_per_unit], axis=-1)
    down, across = np.gradient(a, axis=(1, 2))
    left_gradients = np.stack([across * pixels_per_unit, down * pixels_per_unit], axis=-1).reshape(n, -1, 2)
    flat = a.reshape(n, -1)
    for _ in range(_STEPS):
        sampled, inside = _sample(layers, maps, x, y)
        weights = inside.astype(np.float32)
        for _ in range(2):
            u, v = _centred(flat, weights), _centred(sampled[..., 0], weights)
            gain = np.clip((weights * u * v).sum(1) / ((weights * u * u).sum(1) + 1e-4), 0.3, 3)[:, None]
            residual = v - gain * u
            scale = np.sqrt((weights * residual**2).sum(1) / (weights.sum(1) + 1e-6))[:, None] + 0.01
            weights = inside / (1 + (residual / scale) ** 2)
        correlation = (weights * u * v).sum(1) / np.sqrt((weights * u * u).sum(1) * (weights * v * v).sum(1) + 1e-9)
        gx, gy = (
            (sampled[..., 1] + gain * left_gradients[..., 0]) / 2,
            (sampled[..., 2] + gain * left_gradients[..., 1]) / 2,
        )
        # Brightness and contrast are unknowns too.
        columns = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy, np.ones_like(u), u], axis=-1)
        weighted = columns * weights[..., None]
        normal = weighted.transpose(0, 2, 1) @ columns
        damping = np.einsum("nii->ni", normal) * 0.01 + np.float32(5e-6 * flat.shape[1])
        normal += damping[..., None] * np.eye(8, dtype=np.float32)
        step = np.linalg.solve(normal, (weighted * residual[..., None]).sum(1)[..., None])[:, :6, 0]
        maps = np.clip(maps - np.clip(step, -0.1, 0.1), -0.4, 0.4).astype(np.float32)
    return maps, correlation


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (weights * values).sum(1, keepdims=True) / (weights.sum(1, keepdims=True) + np.float32(1e-6))
    return np.asarray(values - mean)


def _grid(side: int) -> tuple[Float32[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
    """Return x and y of the centres of all pixels, in -1…1."""
    at = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1
    y, x = np.meshgrid(at, at, indexing="ij")
    return x.ravel(), y.ravel()


def _sample(
    layers: Float32[np.ndarray, "n s s c"], maps: Maps, x: Float32[np.ndarray, " m"], y: Float32[np.ndarray, " m"]
) -> tuple[Float32[np.ndarray, "n m c"], Bool[np.ndarray, "n m"]]:
    """Return the bilinear values at the mapped points, and whether each point is inside the image."""
    n, side = layers.shape[:2]
    across = (((1 + maps[:, :1]) * x + maps[:, 1:2] * y + maps[:, 2:3]) + 1) * np.float32(side / 2) - np.float32(0.5)
    down = ((maps[:, 3:4] * x + (1 + maps[:, 4:5]) * y + maps[:, 5:]) + 1) * np.float32(side / 2) - np.float32(0.5)
    inside = (np.abs(across - (side - 1) / 2) <= side / 2) & (np.abs(down - (side - 1) / 2) <= side / 2)
    across, down = np.clip(across, 0, side - 1), np.clip(down, 0, side - 1)
    left, top = np.minimum(across.astype(np.int64), side - 2), np.minimum(down.astype(np.int64), side - 2)
    right, low = (across - left.astype(np.float32))[..., None], (down - top.astype(np.float32))[..., None]
    flat = layers.reshape(n, side * side, -1)
    at = (np.arange(n)[:, None], top * side + left)

    def corner(offset: int) -> np.ndarray:
        values: np.ndarray = flat[at[0], at[1] + offset]
        return values

    upper = corner(0) * (1 - right) + corner(1) * right
    lower = corner(side) * (1 - right) + corner(side + 1) * right
    return upper * (1 - low) + lower * low, inside


def _shrink(planes: Planes, side: int) -> Float32[np.ndarray, "n t t"]:
    n, by = planes.shape[0], planes.shape[1] // side
    means: np.ndarray = planes.reshape(n, side, by, side, by).mean((2, 4))
    return means


# ---- structure and colour


def _judge(a: Float32[np.ndarray, "n s s 3"], b: Float32[np.ndarray, "n s s 3"], maps: Maps) -> Bool[np.ndarray, " n"]:
    n, side = a.shape[:2]
    sampled, inside = _sample(b, maps, *_grid(side))
    b, overlap = sampled.reshape(a.shape), inside.reshape(n, side, side).astype(np.float32)
    share = _windows(overlap) + np.float32(1e-6)
    usable = (share > _MIN_OVERLAP).reshape(n, -1)
    whole, part, which = _structure(a[..., 0], b[..., 0], overlap, share)
    enough: np.ndarray = overlap.mean((1, 2)) >= _MIN_OVERLAP
    if side > SIDE:
        return enough & ((whole >= _ALIKE) | (part >= _EXACT))
    left, right = (
        np.stack([(_windows(p[..., i] * overlap) / share).reshape(n, -1) for i in range(3)], axis=-1) for p in (a, b)
    )
    difference = np.abs(left - right).max(-1)
    same = _max_of(difference, usable) <= _MAX_COLOUR_DIFFERENCE
    same_in_part = _max_of(difference, usable & (_parts(side)[which] > 0)) <= _MAX_COLOUR_DIFFERENCE
    unexplained = np.minimum(_unexplained(left, right, usable), _unexplained(right, left, usable))
    changed = unexplained <= _MAX_UNEXPLAINED
    alike = ((whole >= _ALIKE) & same) | ((whole >= _EXACT) & changed) | ((part >= _EXACT) & same_in_part)
    return np.asarray(enough & alike)


def _structure(
    a: Planes, b: Planes, overlap: Planes, share: Float32[np.ndarray, "n t t"]
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"], np.ndarray]:
    """Return the structure of the whole image, the best structure of a part of `_parts`, and the part's index."""
    n = len(a)
    whole, part, best_so_far, which = *np.zeros((3, n), np.float32), np.zeros(n, np.int64)
    parts, rows, scale = _parts(a.shape[1]), np.arange(n), a.shape[1] // SIDE
    for blurs in _BLURS:
        left, right = (_blur(planes[rows], times * scale**2) for planes, times in zip((a, b), blurs, strict=True))
        structure, weights = _window_structure(left, right, overlap[rows], share[rows])
        total = weights @ parts.T
        values = (structure * weights) @ parts.T / (total + np.float32(1e-3))
        values[total < _MIN_OVERLAP * total[:, :1]] = 0
        best_so_far[rows] = np.maximum(best_so_far[rows], values.max(1))
        if scale > 1:
            values[((structure < _DIFFERENT) * weights) @ parts.T > _MAX_DIFFERENT * total] = 0
        better = values.argmax(1)
        best = values[np.arange(len(rows)), better]
        which[rows] = np.where(best > part[rows], better, which[rows])
        whole[rows], part[rows] = np.maximum(whole[rows], values[:, 0]), np.maximum(part[rows], best)
        rows = rows[best_so_far[rows] > _MIN_STRUCTURE]
        if not len(rows):
            break
    return whole, part, which


def _window_structure(
    a: Planes, b: Planes, overlap: Planes, share: Float32[np.ndarray, "n t t"]
) -> tuple[Float32[np.ndarray, "n w"], Float32[np.ndarray, "n w"]]:
    """Return the structure term of each window, and its weight."""

    def mean(values: Planes) -> Float32[np.ndarray, "n t t"]:
        return np.asarray(_windows(values * overlap) / share)

    ma, mb = mean(a), mean(b)
    va, vb = np.maximum(mean(a * a) - ma**2, 0), np.maximum(mean(b * b) - mb**2, 0)
    structure = (mean(a * b) - ma * mb + _NOISE**2) / (np.sqrt(va * vb) + _NOISE**2)
    variance = np.maximum(va, vb)
    weights = variance / (variance + _HALF**2) * (share > _MIN_OVERLAP)
    return structure.reshape(len(a), -1), weights.reshape(len(a), -1)


def _windows(planes: Planes) -> Float32[np.ndarray, "n t t"]:
    """Return the means of the windows."""
    rows = sliding_window_view(planes, _WINDOW, axis=1)[:, ::_STEP].mean(-1)
    return np.asarray(sliding_window_view(rows, _WINDOW, axis=2)[:, :, ::_STEP].mean(-1))


def _blur(planes: Planes, times: int) -> Planes:
    """Blur with 1, 2, 1 in both directions; the border is repeated."""
    for _ in range(times):
        for axis in (1, 2):
            wide = np.pad(planes, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
            low, mid, high = (np.take(wide, range(i, i + planes.shape[axis]), axis) for i in range(3))
            planes = (low + 2 * mid + high) / 4
    return planes


def _max_of(values: Float32[np.ndarray, "n w"], chosen: Bool[np.ndarray, "n w"]) -> Float32[np.ndarray, " n"]:
    """Return the largest chosen value without the share `_IGNORED_WINDOWS`; infinity if no value is chosen."""
    count = chosen.sum(1)
    ordered = np.sort(np.where(chosen, values, -1), axis=1)
    last = values.shape[1] - 1 - np.floor(_IGNORED_WINDOWS * np.maximum(count - 1, 0)).astype(np.int64)
    return np.where(count > 0, ordered[np.arange(len(values)), last], np.inf).astype(np.float32)


def _unexplained(
    left: Float32[np.ndarray, "n w 3"], right: Float32[np.ndarray, "n w 3"], usable: Bool[np.ndarray, "n w"]
) -> Float32[np.ndarray, " n"]:
    """Return the colour difference that one change of all colours does not explain.

    The change may scale and shift brightness and both opponent colours, but not invert them. So a grey copy agrees with any
    colours, and a blue product does not agree with a red one.
    """
    weights = usable[..., None].astype(np.float32)
    count = weights.sum(1, keepdims=True) + np.float32(1e-6)
    left, right = (colours - (colours * weights).sum(1, keepdims=True) / count for colours in (left, right))
    stretch = (left * right * weights).sum(1, keepdims=True) / ((left**2 * weights).sum(1, keepdims=True) + 1e-4)
    return _max_of(np.abs(right - np.clip(stretch, 0, 3) * left).max(-1), usable)


@cache
def _parts(pixels: int) -> Float32[np.ndarray, "p w"]:
    """Return masks of windows: all windows; all but a strip along a side; all but a corner."""
    side, scale = (pixels - _WINDOW) // _STEP + 1, pixels / SIDE
    strips = [(thick, side) for thick in (2, 3, 4)]
    corners = [(3, 3), (4, 4), (5, 5), (3, 6), (6, 3), (4, 6), (6, 4)]
    made = [np.ones((side, side), np.float32)]
    for high, wide in strips + corners:
        part = np.ones((side, side), np.float32)
        part[: round(high * scale), : round(wide * scale)] = 0
        made += [np.rot90(part, turn) for turn in range(4)]
    return np.stack(made).reshape(len(made), -1)
