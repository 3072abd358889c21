"""Image sources: files, bytes, Base64, Pillow images and arrays."""

import binascii
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.errors import NotFoundError, UnreadableImageError, UsageError, reason_of
from lookalike.images.limits import DEFAULT_LIMITS, Limits, check_bytes

ImageInMemory = bytes | Image.Image | np.ndarray
"""An image without a file: a file's content, a Pillow image, or a uint8 array."""

ImageSource = str | os.PathLike[str] | ImageInMemory
"""An image: the path of a file, the content of a file, a Pillow image, or a uint8 array ``(h, w)``, ``(h, w, 3)`` or ``(h, w, 4)``.

A path is used unchanged: the shell, not lookalike, expands ``~`` and wildcards. An array is grey, RGB or RGBA.
"""

_CHANNELS = frozenset({3, 4})
_MAX_QUOTE = 300

_PART = 2**20  # characters; a multiple of 4, so that each part can be decoded by itself


def check_source(source: ImageSource) -> Path | bytes | Image.Image:
    """Convert an image source to a path, bytes or a Pillow image.

    Raises:
        UsageError: the value has another type, or is an empty path or an array of another type or shape.
    """
    match source:
        case bytes() | Image.Image():
            return source
        case np.ndarray():
            return _from_array(source)
        case str() | os.PathLike():
            path = os.fsdecode(source)
            if not path:
                raise UsageError("The path of the image is empty. Give the path of a file.")
            return Path(path)
        case _:
            hint = " Give several images one by one." if isinstance(source, list | tuple | set) else ""
            raise UsageError(
                "An image is a path, the content of a file as bytes, a Pillow image or a uint8 array, not"
                f" {'None' if source is None else f'{type(source).__name__}'}.{hint}"
            )


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise UsageError(
            f"An image array has the type uint8 with values in 0…255, not {array.dtype}. Scale and convert it first."
        )
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)):  # noqa: PLR2004 -- h, w[, channels]
        raise UsageError(
            f"An image array has the shape (height, width), (height, width, 3) or (height, width, 4), not {array.shape}."
        )
    if not array.size:
        raise UsageError(f"The image array of shape {array.shape} has no pixels.")
    return Image.fromarray(array)


def name_source(source: ImageSource) -> str:
    """Return the name of an image in messages: its quoted path, or “The image”."""
    return quote(source) if isinstance(source, str | os.PathLike) else "The image"


def quote(path: str | os.PathLike[str]) -> str:
    """Quote a path for messages as one printable line, for any bytes in its name."""
    text = repr(os.fsdecode(path))
    return text if len(text) <= _MAX_QUOTE else f"{text[: _MAX_QUOTE - 1]}…'"


def check_regular(status: os.stat_result, name: str) -> None:
    """Check that a path is a regular file, before it is opened: opening a pipe would wait for a writer.

    Raises:
        UnreadableImageError: it is a folder, a pipe or a device.
    """
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImageError(f"{name} is a folder or a device, not an image file. Give a file.")


def read_file(source: str | os.PathLike[str] | bytes, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read an image file's content; bytes are returned unchanged.

    Raises:
        NotFoundError: the file does not exist.
        UnreadableImageError: it is a folder, a pipe, a device or empty, or its permissions forbid reading.
        ImageTooLargeError: it has more than ``limits.file_bytes``, which is checked before reading.
        UsageError: the source is neither a path nor bytes.
    """
    name = name_source(source)
    path = check_source(source)
    if isinstance(path, bytes):
        check_bytes(len(path), name, limits)
        return path
    if isinstance(path, Image.Image):
        raise UsageError("A Pillow image or an array has no file to read. Use open_image.")
    try:
        status = path.stat()
        check_regular(status, name)
        check_bytes(status.st_size, name, limits)
        with path.open("rb", buffering=0) as stream:
            return stream.read(status.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file {name}. Check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UnreadableImageError(
            f"{name} cannot be read: {reason_of(error)}. Check the path and its permissions."
        ) from error


def from_base64(text: str | bytes, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Decode Base64: plain or as a data URL, standard or URL-safe alphabet, with or without padding and white space.

    Raises:
        UnreadableImageError: the text is not Base64, or empty.
        ImageTooLargeError: the content has more than ``limits.file_bytes``, which is checked before decoding.
    """
    try:
        body = text.encode("ascii") if isinstance(text, str) else text
        table = bytes.maketrans(b"-_", b"+/")
        body = b"".join(part.translate(table, b" \t\r\n\f\v") for part in _in_parts(body))
        # Only a data URL has a comma. `translate` replaced any “-” in its header, which the check below ignores.
        header, comma, rest = body.partition(b",")
        if comma:
            if not (header[:5].lower() == b"data:" and header[-7:].lower() == b";base64"):
                raise UnreadableImageError("The data URL is not Base64. Begin it with 'data:image/png;base64,'.")
            body = rest
        body = body.rstrip(b"=")
        check_bytes(len(body) * 3 // 4, "The image", limits)
        if b"=" in body:
            raise UnreadableImageError(
                "The image is not valid Base64: it goes on after its padding. Encode the whole file."
            )
        parts = _in_parts(body + b"=" * (-len(body) % 4))
        return b"".join(binascii.a2b_base64(part, strict_mode=True) for part in parts)
    except ValueError as error:
        raise UnreadableImageError(
            "The image is not valid Base64. Encode the whole image file, as `base64 FILE` does.",
        ) from error


def _in_parts(body: bytes) -> Iterator[bytes]:
    """Split Base64 into parts that are decoded in a few milliseconds each, since decoding holds the GIL."""
    return (body[start : start + _PART] for start in range(0, len(body), _PART))


def fingerprint(data: bytes) -> str:
    """Compute the SHA-256 of a file's content, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def to_png(image: Image.Image) -> bytes:
    """Encode an RGB image as PNG, without metadata."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)  # a third of the default's time, a few per cent larger
    return file.getvalue()
