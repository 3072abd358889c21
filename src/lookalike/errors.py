"""The error tree.

Every message is one or two sentences: what is wrong with this input, and what to do next. The command line prints it and
exits with ``exit_code``; the server answers with ``http_status`` and RFC 9457 problem details.

::

    LookalikeError
    ├── UsageError               the request is invalid: k < 1, an unknown metric, a wrong dimension
    │   └── MissingExtraError    a part of lookalike is not installed
    ├── ImageError               an image cannot be used
    │   ├── UnreadableImageError     not an image, or damaged
    │   └── ImageTooLargeError       over the limit in bytes or pixels
    ├── NotFoundError            the collection, item, encoder or file does not exist
    ├── AlreadyExistsError       something would be overwritten
    ├── MismatchError            two things do not fit together: encoder and collection, format and version
    ├── BusyError                another process is writing
    ├── StorageError             the disk is full, read-only or damaged
    ├── EncoderError             an encoder artefact cannot be loaded or run
    ├── DataError                training data is unusable
    └── RecipeError              a training recipe is invalid
"""

from typing import ClassVar


class LookalikeError(Exception):
    """Any failure or refusal of lookalike, with a message for the user."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500


class UsageError(LookalikeError):
    """The request is invalid."""

    exit_code = 2
    http_status = 422


class MissingExtraError(UsageError):
    """A part of lookalike is not installed."""

    exit_code = 1
    http_status = 501

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the extra “{extra}”: pip install 'lookalike[{extra}]'.")


class ImageError(LookalikeError):
    """An image cannot be used."""

    http_status = 422


class UnreadableImageError(ImageError):
    """The file or the bytes are not an image, or damaged."""


class ImageTooLargeError(ImageError):
    """The image is over the limit in bytes or pixels."""

    http_status = 413


class NotFoundError(LookalikeError):
    """The collection, item, encoder or file does not exist."""

    http_status = 404


class AlreadyExistsError(LookalikeError):
    """Something would be overwritten."""

    http_status = 409


class MismatchError(LookalikeError):
    """Two things do not fit together."""

    http_status = 409


class BusyError(LookalikeError):
    """Another process is writing."""

    http_status = 503


class StorageError(LookalikeError):
    """The disk is full, read-only or damaged."""

    http_status = 507


class EncoderError(LookalikeError):
    """An encoder artefact cannot be loaded or run."""


class DataError(LookalikeError):
    """Training data is unusable."""


class RecipeError(LookalikeError):
    """A training recipe is invalid."""

    exit_code = 2
