"""Whether two pictures are one, by their pixels: laid over each other, do they show the same down to the details?

An encoder makes of a picture what it has learned to see, and two products of one kind may be the same to it. Pixels are
not: what differs between two shoes is small, and is where no copy differs.

1. The right picture is laid over the left one: the affine map for which their brightness correlates best, found by
   Gauss-Newton steps from coarse to fine (Evangelidis and Psarakis, "Parametric image alignment using enhanced
   correlation coefficient maximization", 2008), with the mean gradient of both (Malis 2004) and weights that give up
   what does not fit, such as a caption (Geman and McClure).
2. *Structure* is the mean of the structure term of SSIM (Wang et al., "Image quality assessment: from error visibility
   to structural similarity", 2004) over windows of 8 × 8 pixels, each weighted by how much there is to be seen in it, up
   to a limit: so an outline before white counts no more than a seam. Of the two, the sharper one may be blurred. In `FINE`
   pixels hardly any window may show something else altogether.
3. *Colour* is compared by the mean colours of the windows.

The limits were chosen on copies of 17 kinds (see `benchmarks/copies.py`), and on different pictures of CIFAR-10's training
set, of a shop's catalogue, and of drawn forms.
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

SIDE, FINE = 64, 128
"""Pixels of a side at which pictures are compared, and at which they may be compared again, more finely."""

Planes = Float32[np.ndarray, "n s s"]
Maps = Float32[np.ndarray, "n 6"]
"""Of (x, y) in -1…1 in the left picture to the right one: (1 + m₀)x + m₁y + m₂, m₃x + (1 + m₄)y + m₅."""

# Brightness, red against green, both against blue.
_OPPONENT = np.array([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]], np.float32).T / np.float32(255)

# Sides at which pictures are laid over each other, and the robust correlation below which they are given up there.
_LEVELS = ((16, 0.75), (32, 0.84), (64, 0.84))
_STEPS = 8

# A window's side and step; its standard deviation that counts half; the deviation that is noise.
_WINDOW, _STEP = 8, 4
_HALF, _NOISE = np.float32(0.03), np.float32(0.02)

# Seen in both, at least: of the picture, and of a window.
_SEEN = 0.6

# Times that the left and the right picture are blurred, at `SIDE`; below so much structure as they are, no blur will help.
_HOPELESS = 0.6
_BLURS = ((0, 0), (1, 0), (0, 1), (3, 0), (0, 3), (7, 0), (0, 7))

# Of the windows, those that differ most are passed over, since a map is never quite right at an edge.
_PASSED = 0.05

# Structure below which a window shows something else, and how much of a picture of `FINE` pixels may do so: means alone would
# take a form for the same one filled in differently.
_OTHER, _MOST_OTHER = 0.7, 0.02

# The limits of `agree`. A change of colours leaves structure as it is, nearly; so does what is laid over a part.
_ALIKE, _EXACT = 0.9, 0.97
_SAME_COLOUR, _SAME_CHANGE = 0.06, 0.05


def agree(left: UInt8[np.ndarray, "n s s 3"], right: UInt8[np.ndarray, "n s s 3"]) -> Bool[np.ndarray, " n"]:
    """Whether the two of each pair are one picture.

    They are if one of these holds, which are the ways in which pictures are saved twice:

    - structure is alike and colours are the same: recompressed, resized, cropped, blurred, framed, turned a little;
    - structure is the same exactly, and colours have changed alike everywhere: brighter, paler, grey, warmer;
    - both are the same but for a strip along a side or a part in a corner: a caption, a logo.

    Two pictures in which there is nothing to be seen are not. Either picture may be the one that is laid over the other,
    so the order does not matter. Of pictures of `FINE` pixels structure alone is compared: colours are no finer.

    Args:
        left: pictures of `SIDE` or of `FINE` pixels.
        right: others.
    """
    a, b = (pictures.astype(np.float32) @ _OPPONENT for pictures in (left, right))
    found = _over(a, b) if len(a) else np.zeros(0, bool)
    rest = np.flatnonzero(~found)
    if len(rest):
        found[rest] = _over(b[rest], a[rest])
    return found


def _over(a: Float32[np.ndarray, "n s s 3"], b: Float32[np.ndarray, "n s s 3"]) -> Bool[np.ndarray, " n"]:
    """As `agree`, the right ones laid over the left ones."""
    rows, maps = _align(np.ascontiguousarray(a[..., 0]), np.ascontiguousarray(b[..., 0]))
    found = np.zeros(len(a), bool)
    if len(rows):
        found[rows] = _judge(a[rows], b[rows], maps)
    return found


# ---- laying over


def _align(a: Planes, b: Planes) -> tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, "m 6"]]:
    """The rows that are not given up, and their maps."""
    rows, maps = np.arange(len(a)), np.zeros((len(a), 6), np.float32)
    for side, least in _LEVELS:
        if 2 * side > a.shape[1] or not len(rows):
            break
        fitted, correlation = _fit(_shrink(a[rows], side), _shrink(b[rows], side), maps)
        kept = correlation >= least
        rows, maps = rows[kept], fitted[kept]
    return rows, maps


def _fit(a: Planes, b: Planes, maps: Maps) -> tuple[Maps, Float32[np.ndarray, " n"]]:
    """Maps after some steps, and the weighted correlation under the last but one."""
    n, side = a.shape[:2]
    x, y = _grid(side)
    slope = np.float32(side / 2)  # a pixel's difference, as one of a unit
    down, across = np.gradient(b, axis=(1, 2))
    layers = np.stack([b, across * slope, down * slope], axis=-1)
    down, across = np.gradient(a, axis=(1, 2))
    ours = np.stack([across * slope, down * slope], axis=-1).reshape(n, -1, 2)
    flat = a.reshape(n, -1)
    for _ in range(_STEPS):
        theirs, seen = _sample(layers, maps, x, y)
        weights = seen.astype(np.float32)
        for _ in range(2):
            u, v = _centred(flat, weights), _centred(theirs[..., 0], weights)
            gain = np.clip((weights * u * v).sum(1) / ((weights * u * u).sum(1) + 1e-4), 0.3, 3)[:, None]
            rest = v - gain * u
            scale = np.sqrt((weights * rest**2).sum(1) / (weights.sum(1) + 1e-6))[:, None] + 0.01
            weights = seen / (1 + (rest / scale) ** 2)
        correlation = (weights * u * v).sum(1) / np.sqrt((weights * u * u).sum(1) * (weights * v * v).sum(1) + 1e-9)
        gx, gy = (theirs[..., 1] + gain * ours[..., 0]) / 2, (theirs[..., 2] + gain * ours[..., 1]) / 2
        # Brightness and contrast are unknowns beside the map.
        columns = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy, np.ones_like(u), u], axis=-1)
        weighted = columns * weights[..., None]
        normal = weighted.transpose(0, 2, 1) @ columns
        damping = np.einsum("nii->ni", normal) * 0.01 + np.float32(5e-6 * flat.shape[1])
        normal += damping[..., None] * np.eye(8, dtype=np.float32)
        step = np.linalg.solve(normal, (weighted * rest[..., None]).sum(1)[..., None])[:, :6, 0]
        maps = np.clip(maps - np.clip(step, -0.1, 0.1), -0.4, 0.4).astype(np.float32)
    return maps, correlation


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (weights * values).sum(1, keepdims=True) / (weights.sum(1, keepdims=True) + np.float32(1e-6))
    return np.asarray(values - mean)


def _grid(side: int) -> tuple[Float32[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
    """The x and y of all pixels' centres, in -1…1."""
    at = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1
    y, x = np.meshgrid(at, at, indexing="ij")
    return x.ravel(), y.ravel()


def _sample(
    layers: Float32[np.ndarray, "n s s c"], maps: Maps, x: Float32[np.ndarray, " m"], y: Float32[np.ndarray, " m"]
) -> tuple[Float32[np.ndarray, "n m c"], Bool[np.ndarray, "n m"]]:
    """Values where the maps lead to, bilinear, and whether that is inside."""
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
        found: np.ndarray = flat[at[0], at[1] + offset]
        return found

    upper = corner(0) * (1 - right) + corner(1) * right
    lower = corner(side) * (1 - right) + corner(side + 1) * right
    return upper * (1 - low) + lower * low, inside


def _shrink(planes: Planes, side: int) -> Float32[np.ndarray, "n t t"]:
    n, by = planes.shape[0], planes.shape[1] // side
    means: np.ndarray = planes.reshape(n, side, by, side, by).mean((2, 4))
    return means


# ---- judging


def _judge(a: Float32[np.ndarray, "n s s 3"], b: Float32[np.ndarray, "n s s 3"], maps: Maps) -> Bool[np.ndarray, " n"]:
    n, side = a.shape[:2]
    sampled, inside = _sample(b, maps, *_grid(side))
    b, seen = sampled.reshape(a.shape), inside.reshape(n, side, side).astype(np.float32)
    share = _windows(seen) + np.float32(1e-6)
    there = (share > _SEEN).reshape(n, -1)
    whole, part, which = _structure(a[..., 0], b[..., 0], seen, share)
    enough: np.ndarray = seen.mean((1, 2)) >= _SEEN
    if side > SIDE:
        return enough & ((whole >= _ALIKE) | (part >= _EXACT))
    ours, theirs = (
        np.stack([(_windows(p[..., i] * seen) / share).reshape(n, -1) for i in range(3)], axis=-1) for p in (a, b)
    )
    apart = np.abs(ours - theirs).max(-1)
    same = _most(apart, there) <= _SAME_COLOUR
    same_beside = _most(apart, there & (_parts(side)[which] > 0)) <= _SAME_COLOUR
    changed = np.minimum(_unexplained(ours, theirs, there), _unexplained(theirs, ours, there)) <= _SAME_CHANGE
    alike = ((whole >= _ALIKE) & same) | ((whole >= _EXACT) & changed) | ((part >= _EXACT) & same_beside)
    return np.asarray(enough & alike)


def _structure(
    a: Planes, b: Planes, seen: Planes, share: Float32[np.ndarray, "n t t"]
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"], np.ndarray]:
    """Structure of the whole, the best one of what `_parts` leave, and which of these that is."""
    n = len(a)
    whole, part, hope, which = *np.zeros((3, n), np.float32), np.zeros(n, np.int64)
    parts, rows, finer = _parts(a.shape[1]), np.arange(n), a.shape[1] // SIDE
    for blurs in _BLURS:
        ours, theirs = (_blur(planes[rows], times * finer**2) for planes, times in zip((a, b), blurs, strict=True))
        similar, weights = _compared(ours, theirs, seen[rows], share[rows])
        left = weights @ parts.T
        values = (similar * weights) @ parts.T / (left + np.float32(1e-3))
        values[left < _SEEN * left[:, :1]] = 0
        hope[rows] = np.maximum(hope[rows], values.max(1))
        if finer > 1:
            values[((similar < _OTHER) * weights) @ parts.T > _MOST_OTHER * left] = 0
        better = values.argmax(1)
        best = values[np.arange(len(rows)), better]
        which[rows] = np.where(best > part[rows], better, which[rows])
        whole[rows], part[rows] = np.maximum(whole[rows], values[:, 0]), np.maximum(part[rows], best)
        rows = rows[hope[rows] > _HOPELESS]
        if not len(rows):
            break
    return whole, part, which


def _compared(
    a: Planes, b: Planes, seen: Planes, share: Float32[np.ndarray, "n t t"]
) -> tuple[Float32[np.ndarray, "n w"], Float32[np.ndarray, "n w"]]:
    """The structure term of each window, and its weight."""

    def mean(values: Planes) -> Float32[np.ndarray, "n t t"]:
        return np.asarray(_windows(values * seen) / share)

    ma, mb = mean(a), mean(b)
    va, vb = np.maximum(mean(a * a) - ma**2, 0), np.maximum(mean(b * b) - mb**2, 0)
    similar = (mean(a * b) - ma * mb + _NOISE**2) / (np.sqrt(va * vb) + _NOISE**2)
    most = np.maximum(va, vb)
    weights = most / (most + _HALF**2) * (share > _SEEN)
    return similar.reshape(len(a), -1), weights.reshape(len(a), -1)


def _windows(planes: Planes) -> Float32[np.ndarray, "n t t"]:
    """Means over the windows."""
    rows = sliding_window_view(planes, _WINDOW, axis=1)[:, ::_STEP].mean(-1)
    return np.asarray(sliding_window_view(rows, _WINDOW, axis=2)[:, :, ::_STEP].mean(-1))


def _blur(planes: Planes, times: int) -> Planes:
    """With 1, 2, 1 in both directions; the outermost pixels stand for what is beyond."""
    for _ in range(times):
        for axis in (1, 2):
            wide = np.pad(planes, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
            low, mid, high = (np.take(wide, range(i, i + planes.shape[axis]), axis) for i in range(3))
            planes = (low + 2 * mid + high) / 4
    return planes


def _most(values: Float32[np.ndarray, "n w"], chosen: Bool[np.ndarray, "n w"]) -> Float32[np.ndarray, " n"]:
    """The largest of the chosen values, but for `_PASSED` of them; infinite where none is chosen."""
    count = chosen.sum(1)
    ordered = np.sort(np.where(chosen, values, -1), axis=1)
    last = values.shape[1] - 1 - np.floor(_PASSED * np.maximum(count - 1, 0)).astype(np.int64)
    return np.where(count > 0, ordered[np.arange(len(values)), last], np.inf).astype(np.float32)


def _unexplained(
    ours: Float32[np.ndarray, "n w 3"], theirs: Float32[np.ndarray, "n w 3"], there: Bool[np.ndarray, "n w"]
) -> Float32[np.ndarray, " n"]:
    """What one change of colours for the whole picture does not explain.

    Brightness and either opponent colour may be stretched and shifted, and none is turned into its opposite. So grey
    explains all colours, and blue does not explain red.
    """
    weights = there[..., None].astype(np.float32)
    count = weights.sum(1, keepdims=True) + np.float32(1e-6)
    ours, theirs = (colours - (colours * weights).sum(1, keepdims=True) / count for colours in (ours, theirs))
    stretch = (ours * theirs * weights).sum(1, keepdims=True) / ((ours**2 * weights).sum(1, keepdims=True) + 1e-4)
    return _most(np.abs(theirs - np.clip(stretch, 0, 3) * ours).max(-1), there)


@cache
def _parts(pixels: int) -> Float32[np.ndarray, "p w"]:
    """Which windows of a picture are looked at: all; all but a strip along a side; all but a corner."""
    side, part_of = (pixels - _WINDOW) // _STEP + 1, pixels / SIDE
    strips = [(thick, side) for thick in (2, 3, 4)]
    corners = [(3, 3), (4, 4), (5, 5), (3, 6), (6, 3), (4, 6), (6, 4)]
    made = [np.ones((side, side), np.float32)]
    for high, wide in strips + corners:
        part = np.ones((side, side), np.float32)
        part[: round(high * part_of), : round(wide * part_of)] = 0
        made += [np.rot90(part, turn) for turn in range(4)]
    return np.stack(made).reshape(len(made), -1)
