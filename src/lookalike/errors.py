"""The errors of lookalike, as a tree.

Each message says what is wrong with the given value, then what to do next. The command line prints it and exits with
``exit_code``; the server answers with ``http_status`` and RFC 9457 problem details.

::

    LookalikeError
    ├── UsageError               a request is invalid: k < 1, an unknown metric, a wrong dimension
    │   └── MissingExtraError    a part of lookalike is not installed
    ├── ImageError               an image cannot be used
    │   ├── UnreadableImageError     it is not an image, or it is damaged
    │   └── ImageTooLargeError       it exceeds a limit in bytes, pixels or frames
    ├── NotFoundError            a collection, item, encoder or file does not exist
    ├── AlreadyExistsError       a file or folder already exists and would be overwritten
    ├── MismatchError            two things are incompatible: encoder and collection, format and version
    ├── BusyError                another process is writing
    ├── StorageError             the disk is full, read-only or damaged
    ├── EncoderError             an encoder cannot be loaded or run
    ├── DataError                labelled images are unusable for training, evaluation or classification
    └── RecipeError              a training recipe is invalid
"""

import re
from typing import ClassVar

_PLAIN_REASONS = (
    (r"(Value error|Assertion failed), ", ""),
    (r"Extra inputs are not permitted", "unknown; correct the name, or leave it out"),
    (r"Field required", "missing"),
    (r"Unable to extract tag using discriminator ('\w+')", r"needs \1"),
    (
        r"Input tag ('.*?') found using ('\w+') does not match any of the expected tags: (.*)",
        r"\2 must be one of \3, not \1",
    ),
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"Input should be a valid dictionary.*", "must be a mapping of keys to values"),
    (r"Input should be greater than or equal to ", "must be at least "),
    (r"Input should be less than or equal to ", "must be at most "),
    (r"Input should be ", "must be "),
    (r"\w+ should have at least 1 item after validation, not 0", "must not be empty"),
    (r"\w+ should have (at least|at most) (\d+) items? after validation, not (\d+)", r"must have \1 \2 values, not \3"),
    (r"String should ", "must "),
)


def plain_reason(message: str) -> str:
    """Replace the phrases of a validator, such as “Input should be a valid integer”, by plain English.

    Example:
        >>> from lookalike.errors import plain_reason
        >>> plain_reason("Input should be greater than or equal to 1")
        'must be at least 1'
    """
    for pattern, plain in _PLAIN_REASONS:
        message = re.sub(pattern, plain, message)
    return message


def reason_of(error: Exception) -> str:
    """Return why a file cannot be used, without the number and the path in the text of an `OSError`.

    Example:
        >>> from lookalike.errors import reason_of
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "mug.jpg"))
        'No such file or directory'
    """
    return getattr(error, "strerror", None) or str(error)


class LookalikeError(Exception):
    """Base class of all errors that lookalike raises.

    Attributes:
        message: what is wrong, then what to do.
        owner_hint: what else the owner of the machine can do, with a command or a setting. A server does not send it to its
            clients; the text of the error ends with it.

    Example:
        >>> try:
        ...     la.open("nowhere")
        ... except la.LookalikeError as error:
        ...     print(type(error).__name__)
        NotFoundError
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, owner_hint: str = "") -> None:
        super().__init__(*filter(None, (message, owner_hint)))
        self.message, self.owner_hint = message, owner_hint

    def __str__(self) -> str:
        """Return the message and the hint."""
        return " ".join(self.args)


class UsageError(LookalikeError):
    """A request is invalid.

    Example:
        >>> la.open("shop").search("mug.jpg", within="3..2")
        Traceback (most recent call last):
        lookalike.errors.UsageError: The distance range 3..2 is empty: the lower bound must come first.
    """

    exit_code = 2
    http_status = 422


def describe_extra(extra: str) -> str:
    """Name an extra, and the commands that install it."""
    return f"the extra “{extra}”: pip install 'lookalike[{extra}]' — from a clone: pip install '.[{extra}]'"


class MissingExtraError(UsageError):
    """A part of lookalike is not installed.

    Example:
        >>> raise la.MissingExtraError("learn", "Training")
        Traceback (most recent call last):
        lookalike.errors.MissingExtraError: Training needs the extra “learn”: pip install 'lookalike[learn]' — from a clone: ...
    """

    exit_code = 1
    http_status = 501

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {describe_extra(extra)}.")


class ImageError(LookalikeError):
    """An image cannot be used.

    Example:
        >>> try:
        ...     la.embed(b"not an image")
        ... except la.ImageError as error:
        ...     print(type(error).__name__)
        UnreadableImageError
    """

    http_status = 422


class UnreadableImageError(ImageError):
    """A file is not an image, or it is damaged.

    Example:
        >>> la.embed(b"not an image")
        Traceback (most recent call last):
        lookalike.errors.UnreadableImageError: ...
    """


class ImageTooLargeError(ImageError):
    """An image exceeds a limit in bytes, pixels or frames.

    Example:
        >>> la.embed(Image.new("1", (20_000, 20_000)))
        Traceback (most recent call last):
        lookalike.errors.ImageTooLargeError: ...
    """

    http_status = 413


class NotFoundError(LookalikeError):
    """A collection, item, encoder or file does not exist.

    Example:
        >>> la.open("nowhere")
        Traceback (most recent call last):
        lookalike.errors.NotFoundError: There is no collection at nowhere.lookalike. ...
    """

    http_status = 404


class AlreadyExistsError(LookalikeError):
    """A file or folder already exists and would be overwritten.

    Example:
        >>> la.Collection.create("shop", "toyshop")
        Traceback (most recent call last):
        lookalike.errors.AlreadyExistsError: shop.lookalike already exists. Open it, or choose another name.
    """

    http_status = 409


class MismatchError(LookalikeError):
    """Two things are incompatible, such as an encoder and a collection, or a format and a version.

    Example:
        >>> la.open("shop", encoder="copies")
        Traceback (most recent call last):
        lookalike.errors.MismatchError: shop.lookalike was made with the encoder “toyshop”, not with “copies”. ...
    """

    http_status = 409


class BusyError(LookalikeError):
    """Another process is writing, and did not finish in time.

    Example:
        >>> try:
        ...     added = la.open("shop").add("photos")
        ... except la.BusyError:
        ...     print("try again later")
    """

    http_status = 503


class StorageError(LookalikeError):
    """The disk is full, read-only or damaged.

    Example:
        >>> Path("broken.lookalike").mkdir()
        >>> _ = Path("broken.lookalike/manifest.json").write_text("{")
        >>> la.open("broken")
        Traceback (most recent call last):
        lookalike.errors.StorageError: broken.lookalike/manifest.json cannot be read: ...
    """

    http_status = 507


class EncoderError(LookalikeError):
    """An encoder cannot be loaded or run.

    Example:
        >>> Path("mine").mkdir()
        >>> _ = Path("mine/encoder.json").write_text("{}")
        >>> la.load_encoder("mine")
        Traceback (most recent call last):
        lookalike.errors.EncoderError: ...
    """


class DataError(LookalikeError):
    """Labelled images are unusable for training, evaluation or classification.

    Example:
        >>> la.classify("mug.jpg", {"mug": []})
        Traceback (most recent call last):
        lookalike.errors.DataError: The class “mug” has no usable image; each class needs at least one.
    """


class RecipeError(LookalikeError):
    """A training recipe is invalid.

    Example:
        >>> _ = Path("recipe.yaml").write_text("name: mine")
        >>> la.train("recipe.yaml", to="runs/mine")
        Traceback (most recent call last):
        lookalike.errors.RecipeError: ...
    """

    exit_code = 2
