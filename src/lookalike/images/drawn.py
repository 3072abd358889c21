"""Detection of line drawings, which are searched by an encoder's sketch branch."""

import numpy as np
from PIL import Image, ImageFilter

from lookalike.images.decoding import open_image
from lookalike.images.limits import DEFAULT_LIMITS, Limits
from lookalike.images.sources import ImageSource, check_source, name_source, read_file
from lookalike.images.strokes import is_drawing

_SIDE = 256  # pixels of the longer side that is looked at
_COLOURED = 24  # levels between the channels of a pixel from which on it has a colour
_PAPER, _INK = 232, 160  # paper is at least, and ink at most this light
_MOST_COLOURED = 0.01  # of the pixels
_LEAST_PAPER = 0.72
_INK_SHARE = (0.002, 0.22)
_MOST_SHADE = (
    1.0  # pixels between paper and ink, for each pixel of ink: lines have only their edges, and photos have shades
)
_LINE = 9  # pixels; a line is thinner
_MOST_WIDE = 0.25  # of the ink, that lies in areas wider than a line


def looks_drawn(source: ImageSource, *, name: str | None = None, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Return whether an image is a drawing as strokes, or looks like a sketch: thin dark lines on white paper, in grey.

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
    image = open_image(checked, name=name, at_least=_SIDE, limits=limits)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image, dtype=np.int16)
    grey = image.convert("L")
    light = np.asarray(grey)
    ink = light <= _INK
    return bool(
        (np.ptp(pixels, axis=2) >= _COLOURED).mean() <= _MOST_COLOURED
        and (light >= _PAPER).mean() >= _LEAST_PAPER
        and _INK_SHARE[0] <= ink.mean() <= _INK_SHARE[1]
        and (~ink & (light < _PAPER)).sum() <= _MOST_SHADE * ink.sum()
        # An opening keeps only the ink of areas in which a square of this size fits.
        and (np.asarray(grey.filter(ImageFilter.MaxFilter(_LINE)).filter(ImageFilter.MinFilter(_LINE))) <= _INK).sum()
        <= _MOST_WIDE * ink.sum()
    )
