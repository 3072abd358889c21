"""Decoding of the content of an image file, within limits."""

import logging
from dataclasses import dataclass, replace

from PIL import Image, ImageFile

from lookalike.images import depth, jpeg, raw
from lookalike.images.formats import JPEG_2000, RAW, Reader, check_cost, check_readable, open_file
from lookalike.images.limits import Limits, check_pixels, count_pixels
from lookalike.images.orientation import read_orientation, write_orientation

log = logging.getLogger(__name__)

_JPEG = "image/jpeg"
_END = b"\xff\xd9"


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
        image = open_file(Reader(self.data), self.media)
        if self.media == _JPEG and at_least is not None and (self._is_small(image) or jpeg.is_streamed(self.data)):
            image.draft(None, (2 * at_least, 2 * at_least))
        return image

    def claimed_pixels(self, at_least: int | None) -> int:
        """Return the pixels that decoding allocates memory for."""
        check_readable(self.media, self.name)
        if self.media == RAW:
            return raw.count_allocated(self.data)
        is_streamed = self.media != _JPEG or jpeg.is_streamed(self.data)
        with self.open(at_least if is_streamed else None) as image:
            return self._weight * count_pixels(image.size)

    def decode(self, at_least: int | None) -> Image.Image:
        """Decode the image.

        Raises:
            ImageTooLargeError: the image has too many pixels.
            Exception: any that Pillow raises on hostile bytes.
        """
        check_readable(self.media, self.name)
        check_cost(self.data, self.media, self.name)
        if self.media == RAW:
            return self._decode_raw(at_least)
        if self.media == JPEG_2000 and _is_cut(self.data):
            raise OSError("image file is truncated")
        if self.media == _JPEG and jpeg.lacks_end(self.data):
            return replace(self, data=self._add_end()).decode(at_least)
        with self.open(at_least) as image:
            check_pixels(image.size, self.name, replace(self.limits, pixels=self.limits.pixels // self._weight))
            is_deep = depth.has_low_bytes(image)
            image.load()
            if not (is_deep and depth.is_unscaled(image)):
                return image
        with self.open() as low:
            depth.select_low_bytes(low)
            low.load()
            return depth.scale(image, low)

    def _decode_raw(self, at_least: int | None) -> Image.Image:
        preview = raw.read_preview(self.data, self.name, self.limits)
        if preview.pixels is not None:
            return preview.pixels
        image = replace(self, data=preview.jpeg, media=_JPEG).decode(at_least)
        if read_orientation(image.info) == 1:
            image.info["exif"] = write_orientation(preview.orientation)
        return image

    def _add_end(self) -> bytes:
        with self.open(1) as image:
            check_pixels(image.size, self.name, self.limits)
        whole = jpeg.add_end(self.data, 1 if self._is_small(image) else 8)
        if whole is None:
            raise OSError("image file is truncated")
        log.warning("%s has no end marker, but all its pixels.", self.name)
        return whole

    @property
    def _weight(self) -> int:
        """The factor by which pixels count: OpenJPEG takes 24 bytes a pixel."""
        return 2 if self.media == JPEG_2000 else 1

    def _is_small(self, image: Image.Image) -> bool:
        return count_pixels(image.size) <= self.limits.pixels


def _is_cut(jpeg_2000: bytes) -> bool:
    """Return whether a JPEG 2000 lacks data of its last tile, which OpenJPEG would leave grey."""
    start = jpeg_2000.rfind(b"\xff\x90\0\x0a")  # start of tile: marker, length, tile, size
    size = int.from_bytes(jpeg_2000[start + 6 : start + 10])
    return start + size > len(jpeg_2000) if size else jpeg_2000.rfind(_END) < start
