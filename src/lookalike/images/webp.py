"""WebP: its header without a decoder, and its first frame without the others (RFC 9649).

Pillow decodes still images, too, with libwebp's decoder of animations. That allocates two canvases when a file is opened,
before its size is known: a file of 156 bytes takes gigabytes.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from typing import IO, Any

from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

_ANIMATION, _ALPHA = 0x02, 0x10  # flags of the chunk VP8X
_LOSSLESS_MARK = 0x2F
_MAX_CHUNKS = 250_000


class _Frame(WebPImageFile):
    def _get_next(self) -> tuple[bytes, int, int]:
        frame = super()._get_next()
        self._decoder = None  # frees both canvases before Pillow makes its own
        return frame


class WebPFile(WebPImageFile):
    """The first frame of a WebP file."""

    def _open(self) -> None:
        file = self._stream()
        self._size, flags = _read_header(file.read(30))
        self._mode = "RGBA" if flags & _ALPHA else "RGB"
        self._animation, self._alpha = bool(flags & _ANIMATION), flags & _ALPHA
        self.n_frames = 0
        self._chunks: dict[bytes, tuple[int, int]] = {}
        for kind, start, size in _chunks(file):
            self.n_frames += kind == b"ANMF"
            self._chunks.setdefault(kind, (start, size))
            if kind in {b"EXIF", b"XMP "}:
                file.seek(start)
                self.info[kind.strip().lower().decode()] = file.read(size)
        self.is_animated = self.n_frames > 1

    def load(self) -> Any:  # noqa: ANN401 -- Pillow's type exists only for type checkers
        """Decode the first frame."""
        if self._im is None:
            frame, corner = self._first_frame() if self._animation else (self._still(), (0, 0))
            frame.load()
            self._mode = frame.mode
            if frame.size == self.size:
                self.im = frame.im
            else:
                canvas = Image.new(frame.mode, self.size)  # all zero, as libwebp's
                canvas.paste(frame, corner)
                self.im = canvas.im
        return Image.Image.load(self)

    def _still(self) -> _Frame:
        file = self._stream()
        file.seek(0)
        data = file.read()
        if int.from_bytes(data[4:8], "little") + 8 <= len(data):
            return _Frame(io.BytesIO(data))
        # The file is cut off. All pixels are there if the chunks of the image are whole.
        chunks = [(kind, self._read(kind)) for kind in (b"ALPH", b"VP8 ", b"VP8L") if kind in self._chunks]
        return _Frame(io.BytesIO(_pack(self.size, self._alpha, chunks)))

    def _first_frame(self) -> tuple[_Frame, tuple[int, int]]:
        content = self._read(b"ANMF")
        x, y, width, height = (int.from_bytes(content[i : i + 3], "little") for i in range(0, 12, 3))
        corner, size = (2 * x, 2 * y), (width + 1, height + 1)
        if corner[0] + size[0] > self.width or corner[1] + size[1] > self.height:
            raise OSError("its first frame is larger than its canvas")
        chunks = [(b"ANIM", bytes(6)), (b"ANMF", bytes(6) + content[6:])]
        return _Frame(io.BytesIO(_pack(size, self._alpha | _ANIMATION, chunks))), corner

    def _read(self, kind: bytes) -> bytes:
        start, size = self._chunks[kind]
        file = self._stream()
        file.seek(start)
        content = file.read(size)
        if len(content) < size:
            raise OSError("image file is truncated")
        return content

    def _stream(self) -> IO[bytes]:
        if self.fp is None:
            raise ValueError("the file is closed")
        return self.fp


def _read_header(head: bytes) -> tuple[tuple[int, int], int]:
    """Read the size of the canvas, and the flags, from the first 30 bytes."""
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (24, 27))
        return (width, height), head[20]
    if kind == b"VP8L" and head[20] == _LOSSLESS_MARK:
        bits = int.from_bytes(head[21:25], "little")
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), _ALPHA if bits >> 28 & 1 else 0
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", head[26:30])
        return (width & 0x3FFF, height & 0x3FFF), 0
    raise SyntaxError("its header is damaged")


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and size of each chunk at the top level."""
    start = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(start)
        header = file.read(8)
        if len(header) < 8:  # noqa: PLR2004 -- kind and size, 4 bytes each
            return
        size = int.from_bytes(header[4:], "little")
        yield header[:4], start + 8, size
        start += 8 + size + size % 2
    raise OSError("it has more parts than any image needs")


def _pack(size: tuple[int, int], flags: int, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Make a WebP file of a canvas and chunks."""
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in size)
    body = b"".join(
        kind + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)
        for kind, content in [(b"VP8X", bytes([flags, 0, 0, 0]) + canvas), *chunks]
    )
    return b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body
