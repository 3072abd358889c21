"""Thumbnails: small JPEG files for pages and lists."""

import io

from lookalike.images.decoding import open_image
from lookalike.images.fitting import check_size, resize, size_within
from lookalike.images.limits import DEFAULT_LIMITS, Limits
from lookalike.images.sources import ImageSource


def thumbnail(
    source: ImageSource, size: int = 256, *, name: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> bytes:
    """Shrink an image to fit into a square, as the content of a JPEG file without metadata.

    It keeps the aspect ratio, and does not enlarge a smaller image.

    Args:
        source: the image.
        size: side of the square, in pixels.
        name: its name in messages; by default its quoted path, or “The image”.
        limits: maximum bytes and pixels.

    Raises:
        NotFoundError: the file does not exist.
        UnreadableImageError: the source is not an image, or it is damaged.
        ImageTooLargeError: the image exceeds a limit.
        UsageError: ``source`` has a wrong type or shape, or ``size`` is below 1.
    """
    check_size(size)
    image = open_image(source, name=name, at_least=size, limits=limits)
    small = resize(image, size_within(image.size, min(size, max(image.size))))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()
