"""The checker of array shapes that `jaxtyping.install_import_hook` applies to each function."""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let beartype check arrays only: mypy checks the rest, and beartype refuses `Self` outside a class."""
    arrays = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    if not arrays:
        return function
    function.__annotations__ = arrays
    return beartype(function)


def _has_shape(hint: object) -> bool:
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(_has_shape, get_args(hint)))
