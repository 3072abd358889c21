"""From a file's bytes to upright RGB."""

import binascii
import contextlib
import hashlib
import io
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lookalike.errors import (
    ImageError,
    ImageTooLargeError,
    NotFoundError,
    UnreadableImageError,
    UsageError,
)


@dataclass(frozen=True)
class Limits:
    """What one picture may cost.

    Attributes:
        file_bytes: Size of the file, compressed.
        pixels: Width times height, as its header states them.
    """

    file_bytes: int = 64 * 2**20
    pixels: int = 100_000_000


DEFAULT_LIMITS = Limits()

_FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
THE_UPLOAD = "The upload"

_MOST_SCANS = 100
_MOST_READS = 250_000
# Start of scan: marker, length, number of components. A progressive JPEG has a dozen; MPO carries a few pictures.
_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


class _Reader(io.BytesIO):
    """Bytes that can be read so many times: a file of a million empty chunks is there to waste a server's time."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise OSError("it has more parts than any image needs")
        return super().read(size)


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Skip what nobody asks for: Pillow would warn about damaged EXIF, and a warning can be an error."""


# Pillow's classes, not `Image.open`: that holds pictures against a limit which is global to the process, so that to
# change it would reach every other user of Pillow. And no other format can be opened, whatever plugins are installed.
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "image/jpeg": _Jpeg,
    "image/png": PngImageFile,
    "image/webp": WebPImageFile,
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

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes it upright (EXIF 2.32, 4.6.4 A)."""

_SIDEWAYS = frozenset({5, 6, 7, 8})  # those that exchange width and height


ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""An image: the path of a file, the content of a file, a Pillow image, or a uint8 array ``(h, w)``, ``(h, w, 3)`` or ``(h, w, 4)``."""


def read_bytes(source: Path | bytes, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read a picture's file whole; bytes pass through if they are not too many.

    Raises:
        NotFoundError: There is no such file.
        UnreadableImageError: It is a folder, a pipe, a device or empty, or may not be read.
        ImageTooLargeError: More than `limits.file_bytes`; found out before reading.
    """
    if isinstance(source, bytes):
        _check_bytes(len(source), THE_UPLOAD, limits)
        return source
    name = quote(source)
    try:
        status = source.stat()
        _check_file(status, name)
        _check_bytes(status.st_size, name, limits)
        with source.open("rb", buffering=0) as stream:
            return stream.read(status.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file {name}. Check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnreadableImageError(f"{name} cannot be read: {reason}. Check the path and its permissions.") from error


def _check_file(status: os.stat_result, name: str) -> None:
    # Before opening: to open a pipe is to wait for someone to write to it.
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImageError(f"{name} is a folder or a device, not an image file. Give a file.")


def _check_bytes(count: int, name: str, limits: Limits) -> None:
    if count > limits.file_bytes:
        raise ImageTooLargeError(
            f"{name} has {count:,} bytes; at most {limits.file_bytes:,} are accepted. Save it smaller.",
        )
    if count == 0:
        raise UnreadableImageError(f"{name} is empty. Export or upload the image again.")


def from_base64(text: str | bytes, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Decode Base64: plain or as a data URL, standard or URL-safe alphabet, with or without padding and white space.

    Raises:
        UnreadableImageError: It is no Base64, or nothing.
        ImageTooLargeError: More than `limits.file_bytes` once decoded; found out before decoding.
    """
    try:
        body = text.encode("ascii") if isinstance(text, str) else text
        body = body.translate(bytes.maketrans(b"-_", b"+/"), b" \t\r\n\f\v")
        # The comma is in no alphabet. That a header such as "data:image/png;base64" had its "-" replaced does no harm.
        header, comma, rest = body.partition(b",")
        if comma:
            if not (header[:5].lower() == b"data:" and header[-7:].lower() == b";base64"):
                raise UnreadableImageError("The data URL is not Base64. Begin it with 'data:image/png;base64,'.")
            body = rest
        body = body.rstrip(b"=")
        _check_bytes(len(body) * 3 // 4, THE_UPLOAD, limits)
        return binascii.a2b_base64(body + b"=" * (-len(body) % 4), strict_mode=True)
    except ValueError as error:
        raise UnreadableImageError(
            "The upload is not valid Base64. Encode the whole image file, as `base64 FILE` does.",
        ) from error


def fingerprint(data: bytes) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def media_type(data: bytes, *, name: str = "The image") -> str:
    """Tell the format from the first bytes of a file, such as "image/jpeg".

    Raises:
        UnreadableImageError: None of the formats that `decode` opens.
    """
    for media, starts in _SIGNATURES.items():
        if data.startswith(starts):
            return media
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        # Any of the compatible brands may say AVIF; the first one is often "mif1", which HEIC shares.
        brands = data[8 : min(int.from_bytes(data[:4]), 256)]
        if any(brands[i : i + 4] in {b"avif", b"avis"} for i in range(0, len(brands), 4)):
            return "image/avif"
    raise UnreadableImageError(f"{name} is not an image that can be opened. Save it as {_FORMATS}.")


def decode(
    data: bytes,
    *,
    name: str = "The image",
    at_least: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Decode a picture to upright RGB, transparency on white.

    Grey and colour of 16 bits keep their high 8. Whole numbers of 32 bits and floats have no agreed white: the smallest
    of 0…1 (floats), 0…255 and 0…65535 that holds all values is taken for their range, failing that their own extremes.

    Args:
        data: A file's content.
        name: What to call it in messages.
        at_least: The side of the square it will be fitted to, in pixels. A JPEG may then be decoded at a half, a
            quarter or an eighth of its size, as long as its shorter side stays twice this (which serves every `Fit`).
            Twice: at 224 pixels, 1.7 times would save another quarter of the time, and double the mean difference to a
            full decode, from 0.27 to 0.57 of 255 grey levels (`benchmarks/decode.py`).
        limits: What it may cost.

    Returns:
        An image of mode RGB, without metadata.

    Raises:
        UnreadableImageError: No image, or a damaged one.
        ImageTooLargeError: Over a limit, or too large for the memory there is.
        UsageError: `at_least` is below 1.
    """
    if at_least is not None and at_least < 1:
        raise UsageError(f"at_least is {at_least}; a side has at least 1 pixel.")
    _check_bytes(len(data), name, limits)
    media = media_type(data, name=name)
    if media == "image/jpeg":
        _check_passes(data, name)
    elif media == "image/tiff":
        _check_directory(data, name)
    try:
        with _OPENERS[media](_Reader(data)) as image:
            _check_pixels(image.size, name, limits)
            if at_least is not None:
                image.draft(None, (2 * at_least, 2 * at_least))
            image.load()
            return _upright(to_rgb(image), _orientation(image.info))
    except ImageError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"{name} needs more memory than there is. Scale it down.") from error
    # On bytes that lie, Pillow raises nearly anything: OSError, SyntaxError, ValueError, struct.error, KeyError, …
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UnreadableImageError(f"{name} is damaged or incomplete ({reason}). Export or upload it again.") from error


def dimensions(path: Path) -> tuple[int, int]:
    """Width and height of a picture as one sees it, upright; its header alone is read where the format allows it.

    Raises:
        NotFoundError: There is no such file.
        UnreadableImageError: It is no image, or its header is damaged.
    """
    with _opened(path) as image:
        width, height = image.size  # of a TIFF upright already
        return (height, width) if _orientation(image.info) in _SIDEWAYS else (width, height)


def animated(path: Path) -> bool:
    """Whether other frames, or pages, follow the first one, which is all that `decode` sees.

    What a camera hides behind a JPEG, such as a preview, does not count.

    Raises:
        NotFoundError, UnreadableImageError: As `dimensions`.
    """
    with _opened(path) as image:
        return bool(getattr(image, "is_animated", False))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """A picture that is not decoded yet, and what Pillow raises meanwhile as ours."""
    name = quote(path)
    try:
        _check_file(path.stat(), name)
        with path.open("rb") as file:
            media = media_type(file.read(256), name=name)
            file.seek(0)
            with _OPENERS[media](file) as image:
                yield image
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file {name}. Check the path.") from error
    except Exception as error:  # as in `decode`
        raise UnreadableImageError(f"{name} cannot be read ({str(error) or type(error).__name__}).") from error


def _check_pixels(size: tuple[int, int], name: str, limits: Limits) -> None:
    width, height = size
    if width * height > limits.pixels:
        raise ImageTooLargeError(
            f"{name} is {width:,} by {height:,} pixels; at most {limits.pixels:,} pixels are accepted. Scale it down.",
        )


def _check_passes(data: bytes, name: str) -> None:
    # Each scan passes over all pixels, in 42 bytes if it likes: without this a small file takes hours.
    if sum(1 for _ in _SCAN.finditer(data)) > _MOST_SCANS:
        raise ImageTooLargeError(f"{name} is drawn in more than {_MOST_SCANS} passes. Save it as a plain JPEG.")


def _check_directory(data: bytes, name: str) -> None:
    # Pillow makes a Python object of each strip: 4 bytes in the file take 300 in memory. Bytes and text (kinds 1, 2, 6
    # and 7) it keeps whole.
    with contextlib.suppress(struct.error, OverflowError):  # a damaged directory: decoding will say so
        if any(count > _MOST_READS and kind not in {1, 2, 6, 7} for _tag, kind, count, _value in _directory(data)):
            raise ImageTooLargeError(f"{name} is cut into more than {_MOST_READS:,} strips. Save it with fewer.")


def _directory(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, kind, count and the first 16 bits of the value, for all entries of a TIFF's first directory; EXIF is one."""
    order = "<" if tiff.startswith(b"II") else ">"
    big = tiff[2:4] in {b"+\0", b"\0+"}  # BigTIFF: offsets and counts of 64 bits
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, start)
    entry = struct.Struct(order + ("HHQH6x" if big else "HHIH2x"))
    start += 8 if big else 2
    for at in range(start, start + entry.size * entries, entry.size):
        yield entry.unpack_from(tiff, at)


def _orientation(info: dict[str | tuple[int, int], Any]) -> int:
    """EXIF orientation, 1 if there is none. Not by `getexif`, which warns about damage in tags that nobody asks for.

    TIFF files have none left: Pillow turns them while loading.
    """
    # Damaged metadata spoils no picture; and in a PNG, anyone may call a line of text "exif".
    with contextlib.suppress(AttributeError, KeyError, OverflowError, TypeError, ValueError, struct.error):
        exif = info.get("exif") or bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
        for tag, _kind, _count, value in _directory(exif.removeprefix(b"Exif\0\0")):
            if tag == _ORIENTATION:
                return value
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    found = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp) if isinstance(xmp, bytes) else None
    return int(found[1]) if found else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """A plain copy in RGB: no file behind it, no metadata."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.has_transparency_data:
        # Premultiplied alpha ("RGBa", "La") converts to its straight form only.
        image = image.convert({"RGBa": "RGBA", "La": "LA"}.get(image.mode, "RGBA")).convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(image, mask=image)
        return rgb
    rgb = image.convert("RGB")
    rgb.info = {}
    return rgb


def _eight_bits(values: np.ndarray, mode: str) -> UInt8[np.ndarray, "h w"]:
    if mode.startswith("I;16"):
        return (values >> 8).astype(np.uint8)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    if low >= 0 and high <= tops[-1]:
        low, high = 0.0, next(top for top in tops if high <= top)
    grey = np.empty(values.size, np.uint8)
    # A million at a time: in 64-bit floats, the largest picture would take gigabytes.
    for part, out in zip(_parts(values.reshape(-1)), _parts(grey), strict=True):
        clean = np.nan_to_num(part.astype(np.float64), nan=low, posinf=high, neginf=low)
        out[:] = np.rint((clean - low) * (255 / ((high - low) or 1)))
    return grey.reshape(values.shape)


def _parts(flat: np.ndarray) -> Iterator[np.ndarray]:
    return (flat[at : at + 2**20] for at in range(0, len(flat), 2**20))


def quote(path: Path) -> str:
    """A path as messages show it."""
    # `repr` keeps a message on one line and printable, whatever bytes a file system allows in a name.
    return repr(str(path))
