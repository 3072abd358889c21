"""Override single values of a recipe or a study: ``-o train.epochs=5``."""

from copy import deepcopy
from typing import Any

from lookalike.errors import RecipeError
from lookalike.untrusted import parsing


def override(tree: Any, change: str) -> None:  # noqa: ANN401 -- a YAML tree has any shape
    """Set one value of a tree.

    Args:
        tree: mappings and lists, as read from YAML.
        change: the key and the value: ``"train.epochs=5"``.

    Raises:
        RecipeError: the tree has no such key, or the value is not YAML.
    """
    where, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"“{change}” is not an override; write key=value, as in train.epochs=5.")
    try:
        new = parsing.parse_yaml(value)
    except parsing.ParseError as e:
        raise RecipeError(f"The value “{value[:100]}” for {where} is not valid YAML: {e}.") from e
    *parents, last = where.split(".")
    match parents:
        case ["stages", index, key, *_] if index.isdigit():
            _copy_default(tree, int(index), key)
    for key in parents:
        step = _step(tree, key, where)
        tree = tree[step] if isinstance(tree, list) else tree.setdefault(step, {})
    tree[_step(tree, last, where)] = new


def _copy_default(tree: Any, index: int, key: str) -> None:  # noqa: ANN401 -- a YAML tree has any shape
    """Give a stage its own copy of a default, of which one value is to change; a stage's own key would replace the whole."""
    stages = tree.get("stages")
    stage = stages[index] if isinstance(stages, list) and index < len(stages) else None
    if isinstance(stage, dict) and key not in stage and key in tree:
        stage[key] = deepcopy(tree[key])


def _step(node: Any, key: str, where: str) -> Any:  # noqa: ANN401 -- an index into a list, a name into a mapping
    if isinstance(node, dict):
        return key
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return int(key)
    raise RecipeError(f"The override “{where}” does not fit the recipe: there is no “{key}”.")
