"""Decoding of the content of an image file, within limits."""

import logging
from dataclasses import dataclass, replace

from PIL import Image, ImageFile

from lookalike.images import depth, jpeg
from lookalike.images.formats import DECODERS, Reader
from lookalike.images.limits import Limits, check_pixels, count_pixels

log = logging.getLogger(__name__)

_JPEG = "image/jpeg"


@dataclass(frozen=True)
class Content:
    """The content of an image file.

    Attributes:
        data: the file.
        media: its format, as `media_type` detects it.
        name: the image's name in messages.
        limits: maximum bytes and pixels.
    """

    data: bytes
    media: str
    name: str
    limits: Limits

    def open(self, at_least: int | None = None) -> ImageFile.ImageFile:
        """Open the image without decoding it or checking its size; a JPEG at the scale that suits ``at_least``."""
        image = DECODERS[self.media](Reader(self.data))
        if self.media == _JPEG and at_least is not None and (self._is_small(image) or jpeg.is_streamed(self.data)):
            image.draft(None, (2 * at_least, 2 * at_least))
        return image

    def claimed_pixels(self, at_least: int | None) -> int:
        """Return the pixels that decoding allocates memory for."""
        is_streamed = self.media != _JPEG or jpeg.is_streamed(self.data)
        with self.open(at_least if is_streamed else None) as image:
            return count_pixels(image.size)

    def decode(self, at_least: int | None) -> Image.Image:
        """Decode the image.

        Raises:
            ImageTooLargeError: the image has too many pixels.
            Exception: any that Pillow raises on hostile bytes.
        """
        if self.media == _JPEG and jpeg.lacks_end(self.data):
            return replace(self, data=self._add_end()).decode(at_least)
        with self.open(at_least) as image:
            check_pixels(image.size, self.name, self.limits)
            is_deep = depth.has_low_bytes(image)
            image.load()
            if not (is_deep and depth.is_unscaled(image)):
                return image
        with self.open() as low:
            depth.select_low_bytes(low)
            low.load()
            return depth.scale(image, low)

    def _add_end(self) -> bytes:
        with self.open(1) as image:
            check_pixels(image.size, self.name, self.limits)
        whole = jpeg.add_end(self.data, 1 if self._is_small(image) else 8)
        if whole is None:
            raise OSError("image file is truncated")
        log.warning("%s has no end marker, but all its pixels.", self.name)
        return whole

    def _is_small(self, image: Image.Image) -> bool:
        return count_pixels(image.size) <= self.limits.pixels
