"""A run's state on disk: safetensors and JSON, never pickle, and always whole."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lookalike.errors import MismatchError, StorageError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a tree of dicts, lists, tensors and plain values; an earlier file stays until this one is whole.

    Raises:
        StorageError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = _lift(state, "", tensors)
    new = path.with_suffix(".new")
    try:
        save_file(tensors, new, metadata={"tree": json.dumps(tree)})
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except (OSError, SafetensorError) as e:
        new.unlink(missing_ok=True)
        raise StorageError(f"The checkpoint {path} cannot be written: {e}.") from e


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote.

    Raises:
        MismatchError: it is no checkpoint of lookalike.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads(file.metadata()["tree"])
            return _lower(tree, file)  # type: ignore[no-any-return]  # a tree of dicts comes back as it went
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise MismatchError(f"{path} is no checkpoint of lookalike: {e}") from e


# Tensors leave the tree as {"tensor": name}; dicts as lists of pairs, as optimisers have numbers for keys.
def _lift(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 -- a state tree has any shape
    if isinstance(node, Tensor):
        # Branches share layers, and safetensors refuses two names for one memory.
        tensors[name] = node.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(node, dict):
        return {"pairs": [[k, _lift(v, f"{name}/{k}", tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return [_lift(v, f"{name}/{i}", tensors) for i, v in enumerate(node)]
    return node


def _lower(node: Any, file: Any) -> Any:  # noqa: ANN401 -- as `_lift`
    if isinstance(node, list):
        return [_lower(v, file) for v in node]
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        return file.get_tensor(node["tensor"])
    return {k: _lower(v, file) for k, v in node["pairs"]}
