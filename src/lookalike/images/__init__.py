"""Images: find, open, check, orient, fit, fingerprint and shrink them. All decoding happens here.

Each function takes an `ImageSource`. Every image, trusted or not, passes through `open_image`. It detects the format from
the content, opens only known formats, checks the size before it decodes a pixel, and turns errors of Pillow into an
`ImageError`. The result is upright RGB, transparency on white, or on black if the image is nearly white.

Only the first frame of an animated image is used. The other frames are not counted, so thousands of them cost nothing.
Colour profiles are ignored: encoders are trained on images opened the same way, and a wrong profile does no harm.
"""

from lookalike.images.decoding import claimed_pixels, dimensions, is_animated, open_image, read_bytes
from lookalike.images.drawn import clean_sketch, looks_drawn
from lookalike.images.finding import SUFFIXES, Found, describe_not_taken, find, survey
from lookalike.images.fitting import Fit, Fitting, Interpolation, Resizing, load
from lookalike.images.formats import media_type
from lookalike.images.kinds import NotTaken
from lookalike.images.limits import DEFAULT_LIMITS, Limits
from lookalike.images.sources import ImageInMemory, ImageSource, fingerprint, from_base64
from lookalike.images.strokes import Stroke, Strokes, is_drawing, read_strokes, render_strokes
from lookalike.images.thumbnails import thumbnail

__all__ = [
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "Fit",
    "Fitting",
    "Found",
    "ImageInMemory",
    "ImageSource",
    "Interpolation",
    "Limits",
    "NotTaken",
    "Resizing",
    "Stroke",
    "Strokes",
    "claimed_pixels",
    "clean_sketch",
    "describe_not_taken",
    "dimensions",
    "find",
    "fingerprint",
    "from_base64",
    "is_animated",
    "is_drawing",
    "load",
    "looks_drawn",
    "media_type",
    "open_image",
    "read_bytes",
    "read_strokes",
    "render_strokes",
    "survey",
    "thumbnail",
]
