"""Decoding of image sources to upright RGB, and size and animation from their headers."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from PIL import Image

from lookalike.errors import ImageError, ImageTooLargeError, NotFoundError, UnreadableImageError, UsageError
from lookalike.images import raw
from lookalike.images.colours import to_rgb
from lookalike.images.content import Content
from lookalike.images.formats import PSD, RAW, TIFF, FileReader, Reader, check_readable, media_type, open_file
from lookalike.images.kinds import HEAD_BYTES
from lookalike.images.limits import DEFAULT_LIMITS, Limits, check_pixels, count_pixels
from lookalike.images.orientation import read_orientation, turn_upright, upright_size
from lookalike.images.sources import ImageSource, check_regular, check_source, name_source, read_file, to_png
from lookalike.images.strokes import SIDE, is_drawing, open_strokes, read_strokes


def open_image(
    source: ImageSource,
    *,
    name: str | None = None,
    at_least: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Image.Image:
    """Open an image as upright RGB, transparency on white, or on black if the image is nearly white.

    A JPEG file without its end marker is accepted, with a warning in the log, if all its pixels are there. A Pillow image is
    treated like its file: EXIF orientation and limits apply. It is not changed. The JSON of a drawing is drawn; see
    `lookalike.images.strokes`.

    Args:
        source: the image.
        name: its name in messages; by default its quoted path, or “The image”.
        at_least: side in pixels of the square that the image will be fitted to. A JPEG file may then be decoded at 1/2,
            1/4 or 1/8 of its size, if its shorter side stays at least twice this, which suits every `Fit`. A factor of
            1.7 at 224 pixels would save another quarter of the time, but double the mean difference to a full decode,
            from 0.27 to 0.57 of 255 grey levels (``benchmarks/decode.py``).
        limits: maximum bytes and pixels.

    Returns:
        A new image of mode RGB, without metadata.

    Raises:
        NotFoundError: the file does not exist.
        UnreadableImageError: the source is not an image, or it is damaged.
        ImageTooLargeError: the image exceeds a limit or the memory.
        UsageError: ``source`` has a wrong type or shape, or ``at_least`` is below 1.
    """
    if at_least is not None and at_least < 1:
        raise UsageError(f"at_least is {at_least}; a side has at least 1 pixel.")
    name = name or name_source(source)
    checked = check_source(source)
    if isinstance(checked, Image.Image):
        check_pixels(checked.size, name, limits)
        if 0 in checked.size:
            raise UsageError(f"{name} has no pixels.")
        with _errors_translated(name):
            checked.load()
            return _convert(checked.copy())
    data = read_file(checked, limits)
    if is_drawing(data):
        return open_strokes(read_strokes(data, name), at_least)
    media = media_type(data, name=name)
    with _errors_translated(name):
        return _convert(Content(data, media, name, limits).decode(at_least))


def claimed_pixels(source: ImageSource, at_least: int | None = None) -> int:
    """Return the pixels that decoding will allocate, from the header alone; no limit applies.

    Decoding takes at most 16 bytes a pixel, and four times the file. A server can add up the pixels of the images
    that it decodes at once.

    Args:
        source: the image.
        at_least: as for `open_image`; a JPEG may then be decoded at reduced size.

    Raises:
        NotFoundError, UnreadableImageError, UsageError: as `dimensions`.
    """
    checked, name = check_source(source), name_source(source)
    if isinstance(checked, Image.Image):
        return count_pixels(checked.size)
    data = read_file(checked)
    if is_drawing(data):
        return SIDE**2
    media = media_type(data, name=name)
    with _errors_translated(name):
        return Content(data, media, name, DEFAULT_LIMITS).claimed_pixels(at_least)


def _convert(image: Image.Image) -> Image.Image:
    return turn_upright(to_rgb(image), read_orientation(image.info))


@contextlib.contextmanager
def _errors_translated(name: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageTooLargeError(f"{name} needs more memory than is available. Scale it down.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"{name} has too many pixels. Scale it down.") from error
    # On hostile bytes Pillow raises many types: OSError, SyntaxError, ValueError, struct.error, KeyError, …
    except Exception as error:
        reason = _reason(error)
        raise UnreadableImageError(f"{name} is damaged or incomplete ({reason}). Export or upload it again.") from error


def _reason(error: Exception) -> str:
    """Return the message of an error, which LibRaw has in bytes; else its type."""
    if error.args and isinstance(error.args[0], bytes):
        return error.args[0].decode(errors="replace")
    return str(error) or type(error).__name__


def read_bytes(source: ImageSource, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read an image as the content of a file: files and bytes unchanged, Pillow images and arrays as upright RGB PNG.

    Raises:
        NotFoundError: the file does not exist.
        UnreadableImageError: it is a folder, a pipe, a device or empty, or its permissions forbid reading.
        ImageTooLargeError: the image exceeds a limit; a file's size is checked before reading.
        UsageError: ``source`` has a wrong type or shape.
    """
    checked = check_source(source)
    if isinstance(checked, Image.Image):
        return to_png(open_image(checked, limits=limits))
    return read_file(checked, limits)


def dimensions(source: ImageSource) -> tuple[int, int]:
    """Read the width and height of an upright image in pixels, from its header alone if the format allows it.

    Raises:
        NotFoundError: the file does not exist.
        UnreadableImageError: the source is not an image, or its header is damaged.
        UsageError: ``source`` has a wrong type or shape.
    """
    return _read_header(source).size


def is_animated(source: ImageSource) -> bool:
    """Return whether more frames or pages follow the first one; `open_image` decodes only the first.

    A second image that a camera appends to a JPEG, such as a preview, does not count.

    Raises:
        NotFoundError, UnreadableImageError, UsageError: as `dimensions`.
    """
    return _read_header(source).is_animated


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]  # upright
    is_animated: bool


def _read_header(source: ImageSource) -> _Header:
    name, checked = name_source(source), check_source(source)
    if isinstance(checked, Image.Image):
        return _describe(checked)
    try:
        if isinstance(checked, Path):
            check_regular(checked.stat(), name)
        with Reader(checked) if isinstance(checked, bytes) else FileReader(io.FileIO(checked)) as file:
            return _read_header_of_file(file, name)
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file {name}. Check the path.") from error
    except Exception as error:  # as in `open_image`
        raise UnreadableImageError(f"{name} cannot be read ({_reason(error)}).") from error


def _read_header_of_file(file: IO[bytes], name: str) -> _Header:
    media = media_type(head := file.read(HEAD_BYTES), name=name)
    if media in {RAW, TIFF}:  # many RAW images are TIFFs with the values of a sensor
        data = head + file.read()
        media = media_type(data, name=name)
    check_readable(media, name)
    if media == RAW:
        return _Header(raw.read_size(data), is_animated=False)
    file.seek(0)
    with open_file(file, media) as image:
        header = _describe(image)
        return replace(header, is_animated=False) if media == PSD else header  # the layers of a PSD are not frames


def _describe(image: Image.Image) -> _Header:
    # The size of a TIFF is upright already.
    return _Header(upright_size(image.size, read_orientation(image.info)), bool(getattr(image, "is_animated", False)))
