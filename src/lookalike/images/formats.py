"""Image file formats: their signatures, their decoders, and checks against hostile files."""

import contextlib
import functools
import importlib.util
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.PsdImagePlugin import PsdImageFile
from PIL.TgaImagePlugin import TgaImageFile
from PIL.TiffImagePlugin import TiffImageFile

from lookalike.errors import ImageTooLargeError, MissingExtraError, UnreadableImageError
from lookalike.images import kinds, raw
from lookalike.images.jpeg import JpegFile
from lookalike.images.limits import count_pixels
from lookalike.images.strokes import is_drawing
from lookalike.images.webp import WebPFile

_NAMES = "JPEG or PNG"


@functools.cache
def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


@dataclass(frozen=True)
class Format:
    """An image file format.

    Attributes:
        name: its name in messages.
        suffixes: lower-case suffixes of its files.
        extra: the extra of lookalike that reads it, if the core does not.
        package: the package of that extra.
    """

    name: str
    suffixes: tuple[str, ...]
    extra: str | None = None
    package: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether the package that reads the format is installed."""
        return self.extra is None or is_installed(self.package)


RAW, HEIC, TIFF, JPEG_2000 = "image/x-raw", "image/heic", "image/tiff", "image/jp2"
PSD, TGA, PNM = "image/vnd.adobe.photoshop", "image/x-tga", "image/x-portable-anymap"

FORMATS: dict[str, Format] = {
    "image/jpeg": Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif")),
    "image/png": Format("PNG", (".png", ".apng")),
    "image/webp": Format("WebP", (".webp",)),
    "image/gif": Format("GIF", (".gif",)),
    "image/bmp": Format("BMP", (".bmp", ".dib")),
    TIFF: Format("TIFF", (".tif", ".tiff")),
    "image/avif": Format("AVIF", (".avif", ".avifs")),
    JPEG_2000: Format("JPEG 2000", (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx")),
    PSD: Format("PSD", (".psd",)),
    TGA: Format("TGA", (".tga", ".icb", ".vda", ".vst")),
    PNM: Format("PNM", (".pbm", ".pgm", ".pnm", ".ppm")),
    HEIC: Format("HEIC", (".heic", ".heics", ".heif", ".heifs", ".hif"), "heif", "pillow_heif"),
    RAW: Format("RAW", raw.SUFFIXES, "raw", "rawpy"),
}
"""Media type → format."""

_MAX_SCANS = 100

# Tiles of a JPEG 2000; one of the largest accepted size has 1,600 of 256 pixels a side.
_MAX_TILES = 4096

# The beginning of a JPEG 2000 codestream: the sizes of image and tiles, and their offsets.
_IMAGE_AND_TILE_SIZE = re.compile(rb"\xff\x4f\xff\x51.{4}(.{32})", re.DOTALL)
_MAX_READS = 250_000
_TOO_MANY_PARTS = "it has more parts than any image needs"
_MAX_SLOW_PIXELS = 2_000_000  # that Pillow decodes in Python
# Start of scan: marker, length, number of components. A progressive JPEG has a dozen; MPO holds a few images.
_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


class _LimitedReads(io.BufferedIOBase):
    """A limit on the number of reads, since a file of a million empty chunks would take a server too long."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as the file does, up to the limit on the number of reads."""
        self.reads += 1
        if self.reads > _MAX_READS:
            raise OSError(_TOO_MANY_PARTS)
        return super().read(size)


class Reader(_LimitedReads, io.BytesIO):
    """Bytes with a limited number of reads."""


class FileReader(_LimitedReads, io.BufferedReader):
    """A file with a limited number of reads."""


class _TiffFile(TiffImageFile):
    def load_prepare(self) -> None:
        """Allocate the image without Pillow's check of its size, whose limit is global."""
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()


# Pillow's classes instead of `Image.open`: its limit on pixels is global to the process, so a change would affect other
# users of Pillow. And so installed plugins cannot add formats.
DECODERS: dict[str, type[ImageFile.ImageFile]] = {
    "image/jpeg": JpegFile,
    "image/png": PngImageFile,
    "image/webp": WebPFile,
    "image/gif": GifImageFile,
    "image/bmp": BmpImageFile,
    TIFF: _TiffFile,
    "image/avif": AvifImageFile,
    JPEG_2000: Jpeg2KImageFile,
    PSD: PsdImageFile,
    TGA: TgaImageFile,
    PNM: PpmImageFile,
}

_SIGNATURES: dict[str, bytes | tuple[bytes, ...]] = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": (b"GIF87a", b"GIF89a"),
    JPEG_2000: (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    PSD: b"8BPS\0\1",
    TIFF: (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}


# Two bytes are too few to know a BMP or PNM: a text may begin with them.
_BMP = re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)
_PNM = re.compile(rb"P[1-6]\s+(?:#[^\r\n]*\s+)*\d+\s")
# TGA has no signature: no or one colour map, six types of images, a colour map's size only if there is one, four depths.
_TGA = re.compile(
    rb".(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x02\x09\x0a].{4}[\x0f\x10\x18\x20]).{4}(?!\0\0)..(?!\0\0)..[\x08\x10\x18\x20][\0-\x3f]",
    re.DOTALL,
)
_PATTERNS = {"image/bmp": _BMP, PNM: _PNM, TGA: _TGA}

_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def media_type(data: bytes, *, name: str = "The image") -> str:
    """Detect the format from the content of a file, such as ``"image/jpeg"``; the first bytes suffice, except for RAW images.

    Raises:
        UnreadableImageError: the format is not supported.
    """
    media = _by_signature(data)
    if media is None:
        kind = "drawing" if is_drawing(data) else kinds.kind_of_content(data[: kinds.HEAD_BYTES])
        about = f" ({kind})" if kind else ""
        raise UnreadableImageError(f"{name} is not an image of a supported format{about}. Save it as {_NAMES}.")
    return media


def _by_signature(data: bytes) -> str | None:
    for media, starts in _SIGNATURES.items():
        if data.startswith(starts):
            return RAW if media == TIFF and raw.is_raw(data) else media
    if raw.is_raw(data):
        return RAW
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        # Any of the compatible brands may be AVIF's; the first one is often "mif1", which HEIC has, too.
        brands = data[8 : min(int.from_bytes(data[:4]), 256)]
        found = {brands[i : i + 4] for i in range(0, len(brands), 4)}
        return "image/avif" if found & _AVIF_BRANDS else HEIC if found & kinds.HEIC_BRANDS else None
    return next((media for media, pattern in _PATTERNS.items() if pattern.match(data)), None)


def check_readable(media: str, name: str) -> None:
    """Check that the package that reads a format is installed.

    Raises:
        UnreadableImageError: it is not.
    """
    form = FORMATS[media]
    if form.extra and not form.is_readable:
        raise UnreadableImageError(str(MissingExtraError(form.extra, f"{name} is a {form.name} image, which")))


def open_file(file: IO[bytes], media: str) -> ImageFile.ImageFile:
    """Open an image file of a format, other than RAW, without decoding it."""
    if media == HEIC:
        from pillow_heif import HeifImageFile  # noqa: PLC0415 -- an extra, and slow to import

        return HeifImageFile(file)  # type: ignore[no-untyped-call]
    image = DECODERS[media](file)
    if media == PNM and image.tile[0].codec_name != "raw" and count_pixels(image.size) > _MAX_SLOW_PIXELS:
        raise OSError("it has too many pixels for a PNM that is text, or whose white is neither 255 nor 65535")
    return image


def check_cost(data: bytes, media: str, name: str) -> None:
    """Refuse a small file that would take hours or gigabytes to decode.

    Raises:
        ImageTooLargeError: a JPEG with too many scans, a TIFF with too many strips, or a JPEG 2000 with too many tiles.
    """
    if media == "image/jpeg":
        _check_scans(data, name)
    elif media == TIFF:
        _check_strips(data, name)
    elif media == JPEG_2000:
        _check_tiles(data, name)


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


def _check_tiles(data: bytes, name: str) -> None:
    # OpenJPEG takes about 12 kB for a tile, which may have a single pixel and no byte in the file.
    for match in _IMAGE_AND_TILE_SIZE.finditer(data):
        width, height, _, _, tile_width, tile_height, left, top = struct.unpack(">8I", match[1])
        tiles = -(-(width - left) // max(tile_width, 1)) * -(-(height - top) // max(tile_height, 1))
        if tiles > _MAX_TILES:
            raise ImageTooLargeError(f"{name} has more than {_MAX_TILES:,} JPEG 2000 tiles. Save it with fewer.")


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
