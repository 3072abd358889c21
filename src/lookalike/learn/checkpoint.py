"""Checkpoints: a tree of tensors and plain values as safetensors and JSON, never pickle."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lookalike.atomic import atomic_write
from lookalike.errors import MismatchError, StorageError
from lookalike.untrusted import parsing

_MAX_TREE = 1 << 28
"""The limit of the plain values of a checkpoint, in bytes; a run of 1,000 epochs has 1 MB."""


def save(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree of dicts, lists, tensors and plain values; an earlier file stays until the new one is complete.

    Raises:
        StorageError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    plain = _take_tensors(tree, "", tensors)
    try:
        with atomic_write(path) as part:
            save_file(tensors, part, metadata={"tree": json.dumps(plain)})
    except (OSError, SafetensorError) as e:
        raise StorageError(f"The checkpoint {path} cannot be written: {e}.") from e


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote.

    Raises:
        MismatchError: the file is not a checkpoint of lookalike.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = parsing.parse_json(file.metadata()["tree"], _MAX_TREE)
            root = _put_tensors(tree, file)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise MismatchError(f"{path} is not a checkpoint of lookalike, or is damaged: {e}") from e
    if not isinstance(root, dict):
        raise MismatchError(f"{path} is not a checkpoint of lookalike: it holds a {type(root).__name__}.")
    return root


def tensors_of(node: object, path: Path) -> dict[str, Tensor]:
    """Return a part of a checkpoint that holds tensors by name.

    Raises:
        MismatchError: it is something else.
    """
    if isinstance(node, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in node.items()):
        return node
    raise MismatchError(f"{path} does not hold the weights of a run.")


# In the JSON a tensor is {"tensor": name}, and a dict a list of pairs, because the keys of optimisers are numbers.
def _take_tensors(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 -- a tree has any shape
    if isinstance(node, Tensor):
        # Branches share layers, and safetensors refuses two names for the same memory.
        tensors[name] = node.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(node, dict):
        return {"pairs": [[k, _take_tensors(v, f"{name}/{k}", tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return [_take_tensors(v, f"{name}/{i}", tensors) for i, v in enumerate(node)]
    return node


def _put_tensors(node: Any, file: Any) -> Any:  # noqa: ANN401 -- as `_take_tensors`
    if isinstance(node, list):
        return [_put_tensors(v, file) for v in node]
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        return file.get_tensor(node["tensor"])
    return {k: _put_tensors(v, file) for k, v in node["pairs"]}
