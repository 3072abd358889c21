"""Array shapes in annotations, such as ``Float32[np.ndarray, "n d"]``, in the syntax of jaxtyping.

Type checkers and tests use jaxtyping itself. Otherwise an annotation is only the array's type: importing jaxtyping and
making a class for each annotation would take a quarter of a search's time.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Float16, Float32, Float64, Int32, Int64, Shaped, UInt8, UInt32
else:

    class _Array:
        def __class_getitem__(cls, type_and_shape: tuple[Any, str]) -> Any:  # noqa: ANN401 -- the array's type
            """Return the type of the array without its shape."""
            return type_and_shape[0]

    Bool = Float = Float16 = Float32 = Float64 = Int32 = Int64 = Shaped = UInt8 = UInt32 = _Array

__all__ = ["Bool", "Float", "Float16", "Float32", "Float64", "Int32", "Int64", "Shaped", "UInt8", "UInt32"]
