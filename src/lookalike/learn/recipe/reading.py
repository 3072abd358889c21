"""Read recipes from YAML, and override single values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lookalike.errors import NotFoundError, RecipeError
from lookalike.learn.recipe.recipe import Recipe


def read(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a YAML file, with overrides of single values.

    Args:
        path: the file.
        overrides: ``"train.epochs=5"``, ``"stages.1.train.epochs=5"``, ``"data.sources.0.path=data/train"``; values are
            YAML.

    Raises:
        NotFoundError: the file does not exist.
        RecipeError: it is not YAML, or the recipe is invalid, or an override does not fit.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise NotFoundError(f"The recipe {path} cannot be read: {e.strerror}.") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path} is not valid YAML: {e}") from e
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} should hold a mapping with the keys {', '.join(Recipe.model_fields)}.")
    return parse(tree, overrides, str(path))


def parse(tree: dict[str, Any], overrides: Sequence[str] = (), source: str = "The recipe") -> Recipe:
    """Make a recipe of plain values.

    Args:
        tree: keys and values; overrides change it.
        overrides: as for `read`.
        source: what to call it in errors.

    Raises:
        RecipeError: the recipe is invalid, or an override does not fit.
    """
    for change in overrides:
        override(tree, change)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as e:
        lines = "\n".join(f"  {_place(err['loc'], tree)}: {err['msg']}" for err in e.errors())
        raise RecipeError(f"{source} is invalid:\n{lines}") from e


def _place(location: tuple[int | str, ...], tree: dict[str, Any]) -> str:
    """Name a key as the file has it: errors of the flat form lie in its one stage."""
    if "stages" not in tree and location[:1] == ("stages",):
        location = location[2:]
    return ".".join(map(str, location)) or "recipe"


def override(tree: Any, change: str) -> None:  # noqa: ANN401 -- a YAML tree has any shape
    """Set one value of a tree.

    Args:
        tree: mappings and lists, as read from YAML.
        change: the key and the value: ``"train.epochs=5"``.

    Raises:
        RecipeError: there is no such place, or the value is not YAML.
    """
    where, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"“{change}” is not an override; write key=value, as in train.epochs=5.")
    try:
        new = yaml.safe_load(value)
    except yaml.YAMLError as e:
        raise RecipeError(f"The value “{value}” for {where} is not valid YAML.") from e
    *parents, last = where.split(".")
    for key in parents:
        step = _step(tree, key, where)
        tree = tree[step] if isinstance(tree, list) else tree.setdefault(step, {})
    tree[_step(tree, last, where)] = new


def _step(node: Any, key: str, where: str) -> Any:  # noqa: ANN401 -- an index into a list, a name into a mapping
    if isinstance(node, dict):
        return key
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return int(key)
    raise RecipeError(f"The override “{where}” does not fit the recipe: there is no “{key}”.")
