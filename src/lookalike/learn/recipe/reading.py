"""Read recipes from YAML."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lookalike.errors import NotFoundError, RecipeError, plain_reason
from lookalike.learn.recipe.head_recipe import HeadRecipe
from lookalike.learn.recipe.overrides import override
from lookalike.learn.recipe.recipe import Recipe
from lookalike.learn.recipe.sketch_recipe import SketchRecipe
from lookalike.untrusted import parsing

_Flat = TypeVar("_Flat", HeadRecipe, SketchRecipe)

HEAD_KEY = "from"
"""The key by which a recipe of a head differs from one of a network."""

SKETCH_KEY = "sketches_for"
"""The key by which a recipe of a sketch branch for a collection differs from others."""

# Beginnings of what pydantic adds to the place of an error in a value that may be a word or a mapping.
_WORD = "literal["
_ALTERNATIVES = (_WORD, "tagged-union[")


def read(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a YAML file, with overrides of single values.

    Args:
        path: the file.
        overrides: ``"train.epochs=5"``, ``"stages.1.train.epochs=5"``, ``"data.sources.0.path=data/train"``; values are
            YAML.

    Raises:
        NotFoundError: the file does not exist.
        RecipeError: the file is not YAML, the recipe is invalid, or an override does not fit.
    """
    return parse(read_mapping(path, "recipe", ("name", "network", "data")), overrides, str(path))


def parse(tree: dict[str, Any], overrides: Sequence[str] = (), source: str = "The recipe") -> Recipe:
    """Make a recipe of plain values.

    Args:
        tree: keys and values; overrides change it.
        overrides: as for `read`.
        source: the name of the recipe in errors.

    Raises:
        RecipeError: the recipe is invalid, or an override does not fit.
    """
    for change in sorted(overrides, key=lambda change: change.startswith("stages.")):  # defaults first
        override(tree, change)
    if HEAD_KEY in tree:
        raise RecipeError(
            f"{source} fits a head to an encoder (it has “{HEAD_KEY}”), in seconds and without epochs, so it is neither resumed nor"
            " part of a study. Run it as a new run: lookalike train RECIPE --to DIR"
        )
    if SKETCH_KEY in tree:
        raise RecipeError(
            f"{source} fits a sketch branch to a collection (it has “{SKETCH_KEY}”), without epochs, so it is not part of a study. Run"
            " it: lookalike train RECIPE --to DIR"
        )
    try:
        return Recipe.model_validate(tree)
    except ValidationError as e:
        # Errors of the flat form are located in its one stage, which the file does not show.
        hidden = () if "stages" in tree else ("stages", 0)
        raise RecipeError(f"{source} is invalid:\n{describe_errors(e, 'recipe', hidden)}") from e


def read_any(path: Path, overrides: Sequence[str] = ()) -> Recipe | HeadRecipe | SketchRecipe:
    """Read a recipe that trains a network, or fits a head or a sketch branch; arguments and errors as for `read`."""
    tree = read_mapping(path, "recipe", ("name", "network", "data"))
    if SKETCH_KEY in tree:
        return parse_sketches(tree, overrides, str(path))
    return (parse_head if HEAD_KEY in tree else parse)(tree, overrides, str(path))


def parse_head(tree: dict[str, Any], overrides: Sequence[str] = (), source: str = "The recipe") -> HeadRecipe:
    """Make a recipe of a head of plain values; arguments and errors as for `parse`."""
    return _parse_flat(HeadRecipe, tree, overrides, source)


def parse_sketches(tree: dict[str, Any], overrides: Sequence[str] = (), source: str = "The recipe") -> SketchRecipe:
    """Parse the recipe of a collection's sketch branch from plain values; arguments and errors as for `parse`."""
    return _parse_flat(SketchRecipe, tree, overrides, source)


def _parse_flat(kind: type[_Flat], tree: dict[str, Any], overrides: Sequence[str], source: str) -> _Flat:
    """Make a recipe without stages of plain values."""
    for change in overrides:
        override(tree, change)
    try:
        return kind.model_validate(tree)
    except ValidationError as e:
        raise RecipeError(f"{source} is invalid:\n{describe_errors(e, 'recipe')}") from e


def to_recipe_name(text: str, default: str) -> str:
    """Make the name of a recipe, and so of an encoder, from a text such as the name of a folder."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:80].strip("-") or default


def read_mapping(path: Path, kind: str, keys: Sequence[str]) -> dict[str, Any]:
    """Read the mapping that a YAML file holds.

    Args:
        path: the file.
        kind: the name of such a file in errors: ``recipe`` or ``study``.
        keys: examples of its keys, for errors.

    Raises:
        NotFoundError: the file cannot be read.
        RecipeError: the file is not YAML, or holds something other than a mapping.
    """
    try:
        tree = parsing.read_yaml(path)
    except OSError as e:
        raise NotFoundError(f"The {kind} {path} cannot be read: {e.strerror}.") from e
    except parsing.ParseError as e:
        raise RecipeError(f"{path} is not valid YAML: {e}.") from e
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} is not a {kind}: it must be a YAML mapping with keys such as {', '.join(keys)}.")
    return tree


def describe_errors(error: ValidationError, root: str, hidden: tuple[int | str, ...] = ()) -> str:
    """List the errors of a file, a line each.

    Args:
        error: what pydantic found.
        root: the name of the whole file.
        hidden: a location whose keys the file has at its root.
    """
    errors = error.errors()
    lines = []
    for e in errors:
        place = e["loc"]
        # pydantic leaves invalid entries out of a list, and then also reports that the list is too short.
        if e["type"] == "too_short" and any(o["loc"][: len(place)] == place and o is not e for o in errors):
            continue
        if place and str(place[-1]).startswith(_WORD) and isinstance(e["input"], dict):
            continue  # a mapping is not meant as a word, and its own errors are here, too
        if hidden and place[: len(hidden)] == hidden:
            place = place[len(hidden) :]
        keys = [str(key) for key in place if not str(key).startswith(_ALTERNATIVES)]
        lines.append(f"  {'.'.join(keys) or root}: {plain_reason(e['msg'])}")
    return "\n".join(lines)
