"""Photos: filled parts, lit from the upper left, in front of a backdrop with their shadow.

Outlines are filled at several times the size and averaged down, one part at a time and only within its bounds; colour,
light and print are then computed on pixels of the final size. So a photo takes only a few milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lookalike.sample.geometry import Points
from lookalike.sample.palette import Paint, tint
from lookalike.sample.parts import Part, Pattern

Plane = NDArray[np.float32]
_LARGE = 160
"""From this size on three samples per pixel side suffice; below, four are as cheap and cleaner."""
_ABSORPTION = np.array([0.58, 0.60, 0.44], dtype=np.float32)[:, None, None]
"""Shares of red, green and blue that full shade absorbs: shadows are cool."""


Setting = Literal["sweep", "floor", "disc"]
"""A wall alone, a wall and a floor, or both with a painted disc on the wall."""


@dataclass(frozen=True)
class Pose:
    """The position of a product in the frame: ``frame = product @ matrix + offset``; the frame is 0…1 both ways."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def place(self, outline: Points) -> Points:
        """Convert product units to frame units, ``(n, 2)``."""
        return outline @ self.matrix + self.offset

    @property
    def scale(self) -> float:
        """Frame units per product unit."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))


@dataclass(frozen=True)
class Backdrop:
    """The background of a product."""

    kind: Setting
    paint: Paint
    accent: Paint
    horizon: float
    """Top of the floor, in frame units from the top."""


@dataclass(frozen=True)
class Scene:
    """A product ready to be drawn: parts in product units, their pose and their backdrop."""

    parts: Sequence[Part]
    pose: Pose
    backdrop: Backdrop
    stands: bool
    """It stands on a floor; otherwise it lies flat or hangs, and its shadow falls straight behind it."""


@dataclass(frozen=True)
class _Mask:
    """The share of each pixel that a part covers, within its bounds."""

    rows: slice
    columns: slice
    cover: Plane


def _flat(outline: Points, origin: tuple[int, int], factor: float, sampling: int) -> list[float]:
    corner = np.array(origin, dtype=np.float64) * sampling + 0.5
    flat: list[float] = (outline * (factor * sampling) - corner).ravel().tolist()
    return flat


def _rasterise(part: Part, pose: Pose, size: int) -> _Mask | None:
    """Return the pixels that a part covers in an image of ``size`` pixels a side; none if it covers none."""
    sampling = 3 if size >= _LARGE else 4
    width, outline = part.width * pose.scale * size, pose.place(part.outline)
    reach = width / 2 + 1
    left, top = np.maximum(np.floor(outline.min(axis=0) * size - reach), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(outline.max(axis=0) * size + reach), size).astype(int).tolist()
    if right <= left or bottom <= top:
        return None
    fine = Image.new("L", ((right - left) * sampling, (bottom - top) * sampling))
    pen = ImageDraw.Draw(fine)
    flat = _flat(outline, (left, top), size, sampling)
    if width > 0:
        pen.line(flat, fill=255, width=max(1, round(width * sampling)), joint="curve")
    else:
        pen.polygon(flat, fill=255)
    for hole in part.holes:
        pen.polygon(_flat(pose.place(hole), (left, top), size, sampling), fill=0)
    plane = np.asarray(fine.reduce(sampling), dtype=np.float32) * np.float32(1 / 255)
    return _Mask(slice(top, bottom), slice(left, right), plane)


def _blur(plane: Plane, radius: float) -> Plane:
    image = Image.fromarray((plane * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) * np.float32(1 / 255)


def _light(part: Part, height: int, width: int) -> Plane:
    """Compute the light on a part, from -1 (shade) to 1 (white), for each pixel of its bounds."""
    u = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    v = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    if part.shade == "round":
        away = (u + 0.35) ** 2 + (v + 0.42) ** 2
        light = 0.20 - 0.24 * away
        if part.gloss > 0:
            light += part.gloss * np.exp(-((u + 0.35) ** 2) / 0.045) * np.exp(-((v + 0.42) ** 2) / 0.045)
    elif part.shade == "hollow":
        light = -0.22 + 0.16 * u + 0.20 * v
    elif part.shade in ("tube", "bar"):
        across, along = (u, v) if part.shade == "tube" else (v, u)
        profile = 0.13 - 0.34 * (across + 0.38) ** 2 + part.gloss * np.exp(-(((across + 0.52) / 0.13) ** 2))
        light = profile - 0.04 * along
    else:
        light = 0.06 - 0.07 * u - 0.13 * v
        if part.gloss > 0:
            light += part.gloss * np.exp(-(((u + v + 0.75) / 0.3) ** 2))
    return light.astype(np.float32)


def _ramp(distance: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute the cover by an edge that is ``distance`` pixels away, positive inside: smooth over one pixel."""
    cover: NDArray[np.floating] = np.clip(distance + 0.5, 0, 1)
    return cover


def _rasterise_pattern(pattern: Pattern, mask: _Mask, pose: Pose, size: int) -> Plane:
    """Compute the share of each pixel that the print covers, with edges smooth over one pixel."""
    y, x = np.mgrid[mask.rows, mask.columns].astype(np.float32)
    back = np.linalg.inv(pose.matrix).astype(np.float32)
    frame_x, frame_y = (x + 0.5) / size - pose.offset[0], (y + 0.5) / size - pose.offset[1]
    px = frame_x * back[0, 0] + frame_y * back[1, 0]
    py = frame_x * back[0, 1] + frame_y * back[1, 1]
    cosine, sine = np.cos(np.radians(pattern.angle)), np.sin(np.radians(pattern.angle))
    u, v = (px * cosine + py * sine) / pattern.pitch, (py * cosine - px * sine) / pattern.pitch
    sharp = pattern.pitch * pose.scale * size

    def wave(t: NDArray[np.floating], share: float) -> NDArray[np.floating]:
        """Make a stripe of the given share in every unit of t."""
        distance: NDArray[np.floating] = share / 2 - np.abs(t - np.floor(t) - 0.5)
        return _ramp(distance * sharp)

    if pattern.kind == "dots":
        row = np.floor(v)
        shifted = u + 0.5 * (row % 2)
        field = _ramp((0.27 - np.hypot(shifted - np.floor(shifted) - 0.5, v - row - 0.5)) * sharp)
    elif pattern.kind == "checks":
        field = 0.5 * wave(u, 0.5) + 0.5 * wave(v, 0.5)
    elif pattern.kind == "zigzag":
        field = wave(v + 0.55 * np.abs(u * 0.8 - np.floor(u * 0.8) - 0.5), 0.42)
    else:
        field = wave(v, 0.46)
    printed: Plane = field.astype(np.float32)
    return printed


def _apply_light(base: Plane, light: Plane) -> Plane:
    """Light colours: towards white above 0, towards cool shade below."""
    up, down = np.maximum(light, 0), np.minimum(np.maximum(-1.5 * light, 0), 1)
    lit: Plane = base * (1 - up - _ABSORPTION * down) + 255 * up
    return lit


def _rim(mask: Plane, size: int) -> Plane:
    """Compute light along edges that face the upper left, and shade along the others, for volume."""
    soft = _blur(np.pad(mask, 2), size * 0.016)[2:-2, 2:-2]
    step = max(1, round(size * 0.012))
    lean = np.zeros_like(soft)
    lean[step:-step, step:-step] = soft[2 * step :, 2 * step :] - soft[: -2 * step, : -2 * step]
    return lean * np.float32(0.32)


def _paint_part(canvas: Plane, drawn: Plane, part: Part, mask: _Mask, *, pose: Pose, size: int) -> None:
    """Paint a part over the canvas; ``drawn`` ``(size, size)`` collects the cover of the product."""
    height, width = mask.cover.shape
    base = np.array(part.paint, dtype=np.float32)[:, None, None]
    opaque = mask.cover if part.alpha == 1 else mask.cover * np.float32(part.alpha)
    if part.pattern is not None:
        ink = np.array(part.pattern.paint, dtype=np.float32)[:, None, None]
        base = base + (ink - base) * _rasterise_pattern(part.pattern, mask, pose, size)
    if part.shade == "halo":
        u, v = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        opaque = opaque * np.maximum(1 - u**2 - v**2, 0) ** 2
    elif part.shade != "flat":
        light = _light(part, height, width)
        if min(height, width) > size // 12:
            light = light + _rim(mask.cover, size)
        base = _apply_light(base, light)
    here = canvas[:, mask.rows, mask.columns]
    here += (base - here) * opaque
    if part.role != "glow":
        area = drawn[mask.rows, mask.columns]
        np.maximum(area, mask.cover, out=area)


def _cast_shadow(canvas: Plane, drawn: Plane, part: Part, mask: _Mask, size: int) -> None:
    """Cast the shadow of a part on the parts behind it: down and to the right, only on the product itself."""
    spread = max(2, round(size * 0.03))
    top, left = max(0, mask.rows.start - spread), max(0, mask.columns.start - spread)
    rows, columns = slice(top, min(size, mask.rows.stop + spread)), slice(left, min(size, mask.columns.stop + spread))
    under = drawn[rows, columns]
    if not under.any():
        return
    wide = np.zeros_like(under)
    drop, aside = round(size * 0.014), round(size * 0.006)
    first, second = mask.rows.start - top + drop, mask.columns.start - left + aside
    target = wide[first : first + mask.cover.shape[0], second : second + mask.cover.shape[1]]
    target[...] = mask.cover[: target.shape[0], : target.shape[1]]
    shade = _blur(wide, size * 0.012) * under * np.float32(0.75 * part.lift)
    canvas[:, rows, columns] *= 1 - shade * _ABSORPTION


def _render_backdrop(backdrop: Backdrop, stands: bool, size: int) -> Plane:
    """Render the empty backdrop ``(3, size, size)``, lit from the upper left."""
    x = np.linspace(0, 1, size, dtype=np.float32)
    y = x[:, None]
    wall, accent = (np.array(paint, dtype=np.float32)[:, None, None] for paint in (backdrop.paint, backdrop.accent))
    glow = np.exp(-((x - 0.36) ** 2) / 0.22) * np.exp(-((y - 0.32) ** 2) / 0.22)
    up, down = 0.46 * glow, 0.08 * y * x
    canvas: Plane = wall * (1 - up - down) + 255 * up
    if backdrop.kind == "disc":
        disc = _ramp((0.40 - np.hypot(x - 0.5, y - 0.47)) * size) * 0.85
        up = 0.25 * glow
        canvas += (accent * (1 - up) + 255 * up - canvas) * disc
    if stands and backdrop.kind != "sweep":
        first = max(0, min(size - 1, round(backdrop.horizon * size)))
        floor = np.array(tint(backdrop.paint, -0.09), dtype=np.float32)[:, None, None]
        near = (y[first:] - y[first]) / (1.01 - backdrop.horizon)
        up = (0.10 + 0.28 * near) * (0.4 + 0.6 * glow[first:])
        canvas[:, first:] = floor * (1 - up) + 255 * up
    return canvas


def _cast_ground_shadow(canvas: Plane, silhouette: Plane, stands: bool, size: int) -> None:
    """Cast the shadow of the whole product on its backdrop, at a fraction of the size, as it is soft."""
    small = Image.fromarray((silhouette * 255).astype(np.uint8)).reduce(4 if size >= _LARGE else 2)
    side = small.width
    far, near = Image.new("L", (side, side)), Image.new("L", (side, side))
    if stands:
        left, top, right, bottom = small.getbbox() or (0, 0, side, side)
        tall, wide = max(2, round(side * 0.075)), right - left
        far.paste(
            small.crop((left, top, right, bottom)).resize((round(wide * 1.08), tall)),
            (left, bottom - round(tall * 0.62)),
        )
        feet = small.crop((left, bottom - max(2, (bottom - top) // 9), right, bottom))
        near.paste(feet.resize((wide, max(2, round(side * 0.03)))), (left, bottom - round(side * 0.015)))
        planes = ((far, 0.022, 0.42), (near, 0.011, 0.55))
    else:
        far.paste(small, (round(side * 0.022), round(side * 0.035)))
        planes = ((far, 0.02, 0.38), (far, 0.06, 0.22))
    light = np.ones((side, side), dtype=np.float32)
    for plane, spread, strength in planes:
        blurred = plane.filter(ImageFilter.GaussianBlur(side * spread))
        light *= 1 - np.asarray(blurred, dtype=np.float32) * np.float32(strength / 255)
    dark = Image.fromarray(1 - light).resize((size, size), Image.Resampling.BILINEAR)
    canvas *= 1 - np.asarray(dark) * _ABSORPTION


def render_photo(scene: Scene, size: int) -> Image.Image:
    """Render a scene as an RGB image of ``size`` by ``size`` pixels."""
    pose = scene.pose
    masks: list[tuple[Part, _Mask]] = []
    silhouette = np.zeros((size, size), dtype=np.float32)
    for part in scene.parts:
        mask = _rasterise(part, pose, size)
        if mask is None:
            continue
        masks.append((part, mask))
        if part.role != "glow":
            here = silhouette[mask.rows, mask.columns]
            np.maximum(here, mask.cover * np.float32(part.alpha), out=here)
    canvas = _render_backdrop(scene.backdrop, scene.stands, size)
    _cast_ground_shadow(canvas, silhouette, scene.stands, size)
    drawn = np.zeros_like(silhouette)
    for part, mask in masks:
        if part.lift > 0 and part.role != "glow":
            _cast_shadow(canvas, drawn, part, mask, size)
        _paint_part(canvas, drawn, part, mask, pose=pose, size=size)
    pixels = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
