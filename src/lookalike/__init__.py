"""lookalike finds images that look alike.

::

    import lookalike as la

    shop = la.open("shop", encoder="toyshop")
    shop.add("photos", labels="folder")
    hits = shop.search("mug.jpg", k=10)

Names are loaded when they are first used, so the import costs next to nothing.
"""

from importlib import import_module

from lookalike.version import __version__ as __version__

TYPE_CHECKING = False  # as type checkers take it for true, without the import of typing
if TYPE_CHECKING:
    from lookalike.api import (
        calibrate,
        classify,
        embed,
        evaluate,
        fetch_encoder,
        join,
        load_encoder,
        train,
        train_sketches,
        verify,
    )
    from lookalike.collection import Collection
    from lookalike.collection import open_collection as open  # noqa: A004 -- as in `la.open`
    from lookalike.errors import (
        AlreadyExistsError,
        BusyError,
        DataError,
        EncoderError,
        ImageError,
        ImageTooLargeError,
        LookalikeError,
        MismatchError,
        MissingExtraError,
        NotFoundError,
        RecipeError,
        StorageError,
        UnreadableImageError,
        UsageError,
    )

__all__ = [
    "AlreadyExistsError",
    "BusyError",
    "Collection",
    "DataError",
    "EncoderError",
    "ImageError",
    "ImageTooLargeError",
    "LookalikeError",
    "MismatchError",
    "MissingExtraError",
    "NotFoundError",
    "RecipeError",
    "StorageError",
    "UnreadableImageError",
    "UsageError",
    "calibrate",
    "classify",
    "embed",
    "evaluate",
    "fetch_encoder",
    "join",
    "load_encoder",
    "open",
    "train",
    "train_sketches",
    "verify",
]

_ELSEWHERE = {"Collection": ("collection", "Collection"), "open": ("collection", "open_collection")}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _ELSEWHERE.get(name, ("errors" if name.endswith("Error") else "api", name))
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, for completion."""
    return sorted({*globals(), *__all__})
