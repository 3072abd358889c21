"""RAW images of cameras: their detection, and the preview in them, through LibRaw."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from lookalike.images.jpeg import JpegFile
from lookalike.images.limits import Limits, check_pixels, count_pixels

if TYPE_CHECKING:
    import rawpy

_ENDINGS = (
    "3fr arw bay cap cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf ori pef ptx raf raw rw2 rwl sr2 srf"
    " srw x3f"
)
SUFFIXES = tuple(f".{ending}" for ending in _ENDINGS.split())

_MARKS = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_SUB_DIRECTORIES, _PHOTOMETRIC, _DNG_VERSION = 330, 262, 50706
_SENSOR = frozenset({32803, 34892})  # photometric interpretations: colour filter array, linear RAW
_MAX_DIRECTORIES = 32
_MAX_ENTRIES = 4096

# EXIF orientation by LibRaw's number of right angles.
_ORIENTATION = {3: 3, 5: 8, 6: 6}

# The longer side of a preview that is large enough to stand for the image.
_PREVIEW = 640


@dataclass(frozen=True)
class Preview:
    """The image that a RAW file shows.

    Attributes:
        jpeg: the embedded JPEG, or empty.
        pixels: the image, if there is no JPEG.
        orientation: the EXIF orientation that the image needs if it does not state its own.
    """

    jpeg: bytes
    pixels: Image.Image | None
    orientation: int


def is_raw(data: bytes) -> bool:
    """Return whether a file is a RAW image: a format of its own, or a TIFF with values of a sensor."""
    if data.startswith(_MARKS) or data[4:12] == b"ftypcrx ":
        return True
    if data[:4] not in {b"II*\0", b"MM\0*"}:
        return False
    try:
        return data[8:10] == b"CR" or any(
            tag == _DNG_VERSION or (tag == _PHOTOMETRIC and value in _SENSOR) for tag, value in _tags(data)
        )
    except struct.error:
        return False


def _tags(tiff: bytes) -> Iterator[tuple[int, int]]:
    """Yield tag and first value of the entries of all directories of a TIFF, and of their sub-directories."""
    order = "<" if tiff.startswith(b"II") else ">"
    pending, seen = [*struct.unpack_from(order + "I", tiff, 4)], set[int]()
    while pending and len(seen) < _MAX_DIRECTORIES:
        start = pending.pop(0)
        if start == 0 or start in seen:
            continue
        seen.add(start)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * min(entries, _MAX_ENTRIES), 12):
            tag, kind, length = struct.unpack_from(order + "HHI", tiff, at)
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, at + 8)  # noqa: PLR2004 -- SHORT
            yield tag, value
            if tag == _SUB_DIRECTORIES:
                length = min(length, _MAX_DIRECTORIES)
                pending += [value] if length == 1 else struct.unpack_from(f"{order}{length}I", tiff, value)
        pending += struct.unpack_from(order + "I", tiff, start + 2 + 12 * entries)


def read_size(data: bytes) -> tuple[int, int]:
    """Read the width and height of the upright image, as its sensor has it."""
    with _open(data) as raw:
        sizes = raw.sizes
        size = (sizes.width, sizes.height)
        return size[::-1] if _ORIENTATION.get(sizes.flip, 1) > 4 else size  # noqa: PLR2004 -- those that swap the sides


def read_preview(data: bytes, name: str, limits: Limits) -> Preview:
    """Read the largest preview, or develop the image at half its size if that is small.

    Raises:
        ImageTooLargeError: the image has too many pixels.
        Exception: any that LibRaw raises on hostile bytes.
    """
    with _open(data) as raw:
        sizes = raw.sizes
        jpeg = _extract_jpeg(raw)
        if jpeg:
            with JpegFile(BytesIO(jpeg)) as image:
                width, height = image.size
            if max(width, height) >= _PREVIEW:
                # Some cameras turn the preview upright, but not the sensor's values.
                is_turned = (width < height) != (sizes.width < sizes.height)
                return Preview(jpeg, None, 1 if is_turned else _ORIENTATION.get(sizes.flip, 1))
        check_pixels((sizes.raw_width, sizes.raw_height), name, limits)
        return Preview(b"", Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True)), 1)


def count_allocated(data: bytes) -> int:
    """Return the pixels that the preview or the sensor may need memory for."""
    with _open(data) as raw:
        sensor = count_pixels((raw.sizes.raw_width, raw.sizes.raw_height))
        jpeg = _extract_jpeg(raw)
    if not jpeg:
        return sensor
    with JpegFile(BytesIO(jpeg)) as image:
        return max(sensor, count_pixels(image.size))


def _open(data: bytes) -> "rawpy.RawPy":
    from rawpy import RawPy  # noqa: PLC0415 -- an extra

    raw = RawPy()
    raw.open_buffer(BytesIO(data))
    return raw


def _extract_jpeg(raw: "rawpy.RawPy") -> bytes | None:
    from rawpy import LibRawError  # noqa: PLC0415 -- an extra

    try:
        preview = raw.extract_thumb()
    except LibRawError:
        return None
    return preview.data if isinstance(preview.data, bytes) else None
