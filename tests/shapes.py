"""The check of array shapes in annotations, by jaxtyping and beartype."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray


def check(modules: Sequence[str]) -> None:
    """Check the arrays that functions and data classes of these modules take and return; no module may be imported yet.

    jaxtyping would wrap every function. Most have no arrays, and a wrapper that checks nothing takes longer than many of them.
    """
    wrap = jaxtyping.jaxtyped

    def wrap_with_arrays(*, typechecker: object) -> Callable[[Any], Any]:
        def decorate(part: Any) -> Any:  # noqa: ANN401 -- a function or a class
            hints = getattr(vars(part).get("__init__") if isinstance(part, type) else part, "__annotations__", {})
            return wrap(part, typechecker=typechecker) if any(map(_has_shape, hints.values())) else part

        return decorate

    vars(jaxtyping)["jaxtyped"] = wrap_with_arrays
    jaxtyping.install_import_hook(modules, "shapes.checked")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let beartype check arrays only: mypy checks the rest, and beartype refuses `Self` outside a class."""
    arrays = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    if not arrays:
        return function
    function.__annotations__ = arrays
    return beartype(function)


def _has_shape(hint: object) -> bool:
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(_has_shape, get_args(hint)))
