"""Checks the shapes in annotations: what `jaxtyping.install_import_hook` calls for each function."""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have beartype look at arrays alone: mypy sees to the rest, and beartype takes no `Self` outside a class."""
    arrays = {name: hint for name, hint in function.__annotations__.items() if _tells_a_shape(hint)}
    if not arrays:
        return function
    function.__annotations__ = arrays
    return beartype(function)


def _tells_a_shape(hint: object) -> bool:
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(_tells_a_shape, get_args(hint)))
