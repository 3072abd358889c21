"""Images: find, open, check, orient, fit, fingerprint and shrink them. All decoding happens here.

Each function takes an `ImageSource`. Every image, from a disk or from a stranger, passes through `open_image`: content
decides the format, only the formats listed there are opened, the size is checked before a pixel is decoded, and what
Pillow raises comes out as an `ImageError`. The result is upright RGB, transparency on white.

An animated image stands for its first frame. The other frames are not counted, so thousands of them cost nothing.
Colour profiles are ignored: encoders are trained on images opened the same way, and a wrong profile does no harm.
"""

from lookalike.images.decoding import dimensions, is_animated, open_image, read_bytes
from lookalike.images.finding import SUFFIXES, find
from lookalike.images.fitting import Fit, load
from lookalike.images.formats import media_type
from lookalike.images.limits import DEFAULT_LIMITS, Limits
from lookalike.images.sources import ImageInMemory, ImageSource, fingerprint, from_base64
from lookalike.images.thumbnails import thumbnail

__all__ = [
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "Fit",
    "ImageInMemory",
    "ImageSource",
    "Limits",
    "dimensions",
    "find",
    "fingerprint",
    "from_base64",
    "is_animated",
    "load",
    "media_type",
    "open_image",
    "read_bytes",
    "thumbnail",
]
