"""JPEG: its markers, and files that lack their end marker (ITU-T T.81)."""

import contextlib
import hashlib
import io
import itertools
import math
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from PIL.JpegImagePlugin import JpegImageFile

from lookalike.images.limits import count_pixels

_END = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # neither a stuffed 0xFF of image data, nor a restart
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_SCAN, _RESTART_INTERVAL = 0xDA, 0xDD
_ALONE = frozenset({0x01, 0xD8, 0xD9})  # markers without a segment
_COEFFICIENTS = 64
_PIXELS_PER_BYTE = 64 * 4  # a block of 64 takes at least 2 bits
_DAMAGE = (ValueError, IndexError, KeyError, ZeroDivisionError, struct.error)
_PADDING = 8  # zeros; fewer may be image data
_NOISE = b"\x55\xaa\x33\xcc" * 16
_ROWS = 256


class JpegFile(JpegImageFile):
    """A JPEG image."""

    def _read_dpi_from_exif(self) -> None:
        """Skip the resolution: Pillow would warn about damaged EXIF, and users may turn warnings into errors."""


@dataclass(frozen=True)
class _Scan:
    components: tuple[int, ...]
    coefficients: range
    low_bit: int  # the lowest bit that it carries
    interval: int  # units between restart markers; 0: there are none
    restarts: int


@dataclass(frozen=True)
class _Frame:
    progressive: bool
    size: tuple[int, int]
    sampling: dict[int, tuple[int, int]]  # component → horizontal and vertical factor


@dataclass(frozen=True)
class _End:
    """The end marker."""


def is_streamed(data: bytes) -> bool:
    """Return whether a decoder keeps only a few rows: the image is not progressive, and one scan has all components.

    Otherwise it keeps the coefficients of the whole image, even to decode at reduced size. A file that is too small for
    the blocks of its image does not count, since it would cost time for nothing.
    """
    try:
        frame, scan = itertools.islice(_parse(data), 2)
    except _DAMAGE:
        return False
    return (
        isinstance(frame, _Frame)
        and isinstance(scan, _Scan)
        and not frame.progressive
        and len(scan.components) == len(frame.sampling)
        and count_pixels(frame.size) <= len(data) * _PIXELS_PER_BYTE
    )


def lacks_end(data: bytes) -> bool:
    """Return whether no end marker follows the scans of the first image."""
    if data.endswith(_END) or data.rfind(_END) > data.rfind(b"\xff\xda"):
        return False
    # The files of some phones have a video behind the image, with any bytes.
    with contextlib.suppress(*_DAMAGE):
        return not any(isinstance(part, _End) for part in _parse(data))
    return False


def add_end(data: bytes, reduce: int = 1) -> bytes | None:
    """Add the end marker that a file lacks, if all its pixels are there; None if the file is truncated.

    A decoder invents pixels that are not there. So they are there if other bytes after the end change none of them.

    Args:
        data: the content of the file.
        reduce: compare the pixels at this fraction of the size: 1, 2, 4 or 8.
    """
    try:
        frame, *scans = _parse(data)
        if not isinstance(frame, _Frame) or not _is_complete(
            frame, [scan for scan in scans if isinstance(scan, _Scan)]
        ):
            return None
    except _DAMAGE:
        return None
    if not frame.progressive and count_pixels(frame.size) > len(data) * _PIXELS_PER_BYTE:
        return None
    body = data.rstrip(b"\xff")
    unpadded = body.rstrip(b"\0").rstrip(b"\xff")
    if len(body) - len(unpadded) < _PADDING:
        return body + _END if _has_all_pixels(body, reduce) else None
    # A decoder takes zeros for image data, and those of a broken download are more than the image needs.
    if _has_all_pixels(unpadded, reduce):
        return unpadded + _END
    ends_with_zeros = _has_all_pixels(body, reduce) and not _has_all_pixels(body[:-2], reduce)
    return body + _END if ends_with_zeros else None


def _has_all_pixels(body: bytes, reduce: int) -> bool:
    try:
        return _digest(body + _END, reduce) == _digest(body + _NOISE + _END, reduce)
    except OSError:
        return False


def _parse(data: bytes) -> Iterator[_Frame | _Scan | _End]:
    """Yield the frame of the first image of a file, its scans, and its end if there is one."""
    at, interval, seen = 0, 0, False
    while marker := _MARKER.search(data, at):
        kind, at = marker[1][0], marker.end()
        if kind in _ALONE:
            if seen and kind == _END[1]:
                yield _End()
                return
            continue
        length = int.from_bytes(data[at : at + 2])
        segment = data[at + 2 : at + length]
        at += length
        if kind in _FRAMES:
            height, width, count = struct.unpack_from(">xHHB", segment)
            parts = (segment[6 + 3 * i : 9 + 3 * i] for i in range(count))
            seen = True
            yield _Frame(
                kind in _PROGRESSIVE, (width, height), {part[0]: (part[1] >> 4, part[1] & 15) for part in parts}
            )
        elif kind == _RESTART_INTERVAL:
            interval = int.from_bytes(segment[:2])
        elif kind == _START_OF_SCAN:
            names = tuple(segment[1 : 1 + 2 * segment[0] : 2])
            first, last, bits = segment[1 + 2 * segment[0] :][:3]
            end = found.start() if (found := _MARKER.search(data, at)) else len(data)
            restarts = sum(1 for _ in _RESTART.finditer(data, at, end)) if interval else 0
            yield _Scan(names, range(first, last + 1), bits & 15, interval, restarts)


def _is_complete(frame: _Frame, scans: list[_Scan]) -> bool:
    """Return whether the scans have all bits of all coefficients of all components, and all restart markers."""
    needed = {(name, at) for name in frame.sampling for at in range(_COEFFICIENTS)}
    for scan in scans:
        if frame.progressive:
            done: Iterable[int] = scan.coefficients if scan.low_bit == 0 else ()
        else:
            done = range(_COEFFICIENTS)
        needed -= {(name, at) for name in scan.components for at in done}
        if scan.interval and scan.restarts < math.ceil(_units(frame, scan) / scan.interval) - 1:
            return False
    return not needed


def _units(frame: _Frame, scan: _Scan) -> int:
    """Count the units that a scan codes: blocks of one component, or groups of blocks of several."""
    across, down = (max(factors[i] for factors in frame.sampling.values()) for i in (0, 1))
    (width, height), block = frame.size, 8
    if len(scan.components) > 1:
        return math.ceil(width / (block * across)) * math.ceil(height / (block * down))
    horizontal, vertical = frame.sampling[scan.components[0]]
    columns, rows = math.ceil(width * horizontal / across), math.ceil(height * vertical / down)
    return math.ceil(columns / block) * math.ceil(rows / block)


def _digest(data: bytes, reduce: int) -> bytes:
    """Compute a digest of all pixels."""
    pixels = hashlib.sha256()
    with JpegFile(io.BytesIO(data)) as image:
        if reduce > 1:
            image.draft(None, (image.width // reduce, image.height // reduce))
        image.load()
        for top in range(0, image.height, _ROWS):
            pixels.update(image.crop((0, top, image.width, min(top + _ROWS, image.height))).tobytes())
    return pixels.digest()
