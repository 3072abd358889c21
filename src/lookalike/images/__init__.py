"""Pictures: find, open, check, orient, fit, fingerprint and shrink them. All decoding happens here.

Every picture that comes in, from a disk or from a stranger, passes through `decode`: content decides the format, only
the formats listed here are ever opened, the size is checked before a pixel is decoded, and whatever Pillow raises comes
out as an `ImageError`. What comes out is upright RGB, transparency on white.

Animated pictures are their first frame. How many frames follow is never asked, only whether any do where it matters, so a
thousand of them cost nothing.
Colour profiles are ignored: encoders are trained on pictures opened the same way, and a wrong profile does no harm.
"""

from lookalike.images.finding import SUFFIXES, find
from lookalike.images.fitting import Fit, fit, load, thumbnail
from lookalike.images.opening import (
    DEFAULT_LIMITS,
    ImageSource,
    Limits,
    animated,
    decode,
    dimensions,
    fingerprint,
    from_base64,
    media_type,
    read_bytes,
)

__all__ = [
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "Fit",
    "ImageSource",
    "Limits",
    "animated",
    "decode",
    "dimensions",
    "find",
    "fingerprint",
    "fit",
    "from_base64",
    "load",
    "media_type",
    "read_bytes",
    "thumbnail",
]
