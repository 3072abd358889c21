"""Image file formats: their signatures, their decoders, and checks against hostile files."""

import contextlib
import io
import re
import struct
from collections.abc import Iterator

from PIL import ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from lookalike.errors import ImageTooLargeError, UnreadableImageError
from lookalike.images.jpeg import JpegFile
from lookalike.images.webp import WebPFile

_NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

_MAX_SCANS = 100
_MAX_READS = 250_000
# Start of scan: marker, length, number of components. A progressive JPEG has a dozen; MPO holds a few images.
_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


class Reader(io.BytesIO):
    """Bytes with a limited number of reads, since a file of a million empty chunks would take a server too long."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.BytesIO` does, up to the limit on the number of reads."""
        self.reads += 1
        if self.reads > _MAX_READS:
            raise OSError("it has more parts than any image needs")
        return super().read(size)


# Pillow's classes instead of `Image.open`: its limit on pixels is global to the process, so a change would affect other
# users of Pillow. And so installed plugins cannot add formats.
DECODERS: dict[str, type[ImageFile.ImageFile]] = {
    "image/jpeg": JpegFile,
    "image/png": PngImageFile,
    "image/webp": WebPFile,
    "image/gif": GifImageFile,
    "image/bmp": BmpImageFile,
    "image/tiff": TiffImageFile,
    "image/avif": AvifImageFile,
}

_SIGNATURES: dict[str, bytes | tuple[bytes, ...]] = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/bmp": b"BM",
    "image/tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}


def media_type(data: bytes, *, name: str = "The image") -> str:
    """Detect the format from the first bytes of a file, such as ``"image/jpeg"``.

    Raises:
        UnreadableImageError: the format is not supported.
    """
    for media, starts in _SIGNATURES.items():
        if data.startswith(starts):
            return media
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        # Any of the compatible brands may be AVIF's; the first one is often "mif1", which HEIC has, too.
        brands = data[8 : min(int.from_bytes(data[:4]), 256)]
        if any(brands[i : i + 4] in {b"avif", b"avis"} for i in range(0, len(brands), 4)):
            return "image/avif"
    raise UnreadableImageError(f"{name} is not an image of a supported format. Save it as {_NAMES}.")


def check_cost(data: bytes, media: str, name: str) -> None:
    """Refuse a small file that would take hours or gigabytes to decode.

    Raises:
        ImageTooLargeError: a JPEG with too many scans, or a TIFF with too many strips.
    """
    if media == "image/jpeg":
        _check_scans(data, name)
    elif media == "image/tiff":
        _check_strips(data, name)


def _check_scans(data: bytes, name: str) -> None:
    # Each scan passes over all pixels and takes as few as 42 bytes, so a small file could take hours.
    if sum(1 for _ in _SCAN.finditer(data)) > _MAX_SCANS:
        raise ImageTooLargeError(f"{name} has more than {_MAX_SCANS} JPEG scans. Save it as a baseline JPEG.")


def _check_strips(data: bytes, name: str) -> None:
    # Pillow makes a Python object of each strip: 4 bytes in the file take 300 in memory. It keeps bytes and text (types
    # 1, 2, 6 and 7) in one object.
    with contextlib.suppress(struct.error, OverflowError):  # decoding reports a damaged directory
        if any(count > _MAX_READS and kind not in {1, 2, 6, 7} for _tag, kind, count, _value in tiff_entries(data)):
            raise ImageTooLargeError(f"{name} has more than {_MAX_READS:,} strips. Save it with fewer.")


def tiff_entries(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, type, count and the value's first 16 bits of each entry of a TIFF's first directory; EXIF is a TIFF.

    Raises:
        struct.error, OverflowError: the directory is damaged.
    """
    order = "<" if tiff.startswith(b"II") else ">"
    big = tiff[2:4] in {b"+\0", b"\0+"}  # BigTIFF: offsets and counts of 64 bits
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, start)
    entry = struct.Struct(order + ("HHQH6x" if big else "HHIH2x"))
    start += 8 if big else 2
    for at in range(start, start + entry.size * entries, entry.size):
        yield entry.unpack_from(tiff, at)
