"""What can go wrong, as a tree.

Every message is one sentence or two: what was wrong with this very input, and what to do next. The command line prints
it and exits with ``exit_code``; the server answers with ``http_status`` and RFC 9457 problem details.

::

    LookalikeError
    ├── UsageError               the question itself makes no sense: k < 1, an unknown metric, a wrong dimension
    │   └── MissingExtraError    a part of lookalike that is not installed
    ├── ImageError               one picture cannot be used
    │   ├── UnreadableImageError     no image, or a damaged one
    │   └── ImageTooLargeError       over the limit in bytes, pixels or frames
    ├── NotFoundError            no such collection, item, encoder or file
    ├── AlreadyExistsError       it would overwrite something
    ├── MismatchError            two things that do not go together: encoder and collection, format and version
    ├── BusyError                another process is writing
    ├── StorageError             the disk is full, read-only or damaged
    ├── EncoderError             an encoder artefact that cannot be loaded or run
    ├── DataError                training data that cannot be learned from
    └── RecipeError              a training recipe that does not hold together
"""

from typing import ClassVar


class LookalikeError(Exception):
    """Anything that lookalike refuses or fails to do, with a message for the person who asked."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500


class UsageError(LookalikeError):
    """The question itself makes no sense."""

    exit_code = 2
    http_status = 422


class MissingExtraError(UsageError):
    """A part of lookalike that is not installed."""

    exit_code = 1
    http_status = 501

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the extra “{extra}”: pip install 'lookalike[{extra}]'.")


class ImageError(LookalikeError):
    """One picture cannot be used."""

    http_status = 422


class UnreadableImageError(ImageError):
    """No image, or a damaged one."""


class ImageTooLargeError(ImageError):
    """Over the limit in bytes, pixels or frames."""

    http_status = 413


class NotFoundError(LookalikeError):
    """No such collection, item, encoder or file."""

    http_status = 404


class AlreadyExistsError(LookalikeError):
    """It would overwrite something."""

    http_status = 409


class MismatchError(LookalikeError):
    """Two things that do not go together."""

    http_status = 409


class BusyError(LookalikeError):
    """Another process is writing."""

    http_status = 503


class StorageError(LookalikeError):
    """The disk is full, read-only or damaged."""

    http_status = 507


class EncoderError(LookalikeError):
    """An encoder artefact that cannot be loaded or run."""


class DataError(LookalikeError):
    """Training data that cannot be learned from."""


class RecipeError(LookalikeError):
    """A training recipe that does not hold together."""

    exit_code = 2
