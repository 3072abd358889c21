"""Changed copies of images, like duplicates in photo collections: recompressed, resized, cropped, recoloured, captioned."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
"""Make a copy of an RGB image, at random."""


def _recompressed(image: Image.Image, _: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def _cropped(share: float) -> Change:
    """Crop a share of width and height, at random sides."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        size = np.array(image.size)
        start = rng.random(2) * share * size
        left, top, right, low = np.rint([*start, *(start + (1 - share) * size)]).astype(int).tolist()
        return image.crop((left, top, right, low))

    return change


def _captioned(image: Image.Image, _: np.random.Generator) -> Image.Image:
    image = image.copy()
    width, height = image.size
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, round(0.88 * height), width, height), fill="black")
    pen.line((0.1 * width, 0.94 * height, 0.8 * width, 0.94 * height), fill="white", width=max(1, height // 20))
    return image


def _marked(image: Image.Image, _: np.random.Generator) -> Image.Image:
    image = image.copy()
    width, height = image.size
    corner = (0.7 * width, 0.03 * height, 0.97 * width, 0.25 * height)
    ImageDraw.Draw(image).ellipse(corner, fill=(220, 20, 40))
    return image


def _values(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    """Change the values of pixels, 0…255."""
    return lambda image, rng: Image.fromarray(
        np.clip(np.rint(change(np.asarray(image, np.float64), rng)), 0, 255).astype(np.uint8)
    )


CHANGES: Mapping[str, Change] = {
    "JPEG of quality 30": _recompressed,
    "half the size": lambda image, _: image.resize(
        (max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS
    ),
    "cropped by 5 %": _cropped(0.05),
    "cropped by 10 %": _cropped(0.1),
    "cropped by 15 %": _cropped(0.15),
    "brightness × 0.75 or 1.3": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.choice([0.75, 1.3])),
    "contrast × 0.7 or 1.35": lambda image, rng: ImageEnhance.Contrast(image).enhance(rng.choice([0.7, 1.35])),
    "saturation × 0.5 or 1.5": lambda image, rng: ImageEnhance.Color(image).enhance(rng.choice([0.5, 1.5])),
    "gamma 0.7 or 1.4": _values(lambda x, rng: 255 * (x / 255) ** rng.choice([0.7, 1.4])),
    "grey": lambda image, _: image.convert("L").convert("RGB"),
    "warmer": _values(lambda x, _: x * np.array([1.12, 1.0, 0.85])),
    "blurred": lambda image, _: image.filter(ImageFilter.GaussianBlur(0.025 * min(image.size))),
    "noise of 8 grey levels": _values(lambda x, rng: x + rng.normal(0, 8, x.shape)),
    "turned by 3°": lambda image, rng: image.rotate(
        rng.choice([-3, 3]), Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)
    ),
    "framed": lambda image, rng: ImageOps.expand(
        image, max(1, round(0.05 * min(image.size))), str(rng.choice(["white", "black"]))
    ),
    "with a caption": _captioned,
    "with a logo": _marked,
}
"""The changes by name."""
