"""A training run written down: YAML read into frozen models that refuse what they do not know."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from lookalike.errors import NotFoundError, RecipeError
from lookalike.learn.recipe.data import Data
from lookalike.learn.recipe.loss import Comparison, LossTerm, TripletTerm
from lookalike.learn.recipe.network import Network
from lookalike.learn.recipe.part import Part
from lookalike.learn.recipe.run import SGD, Optimiser, Schedule, Train
from lookalike.learn.recipe.sampling import Augment, Sampler, check_suits
from lookalike.query import Branch


class Recipe(Part):
    """A training run written down."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="the encoder's name")
    description: str = ""
    licence: str = "Apache-2.0"
    seed: int = Field(0, ge=0, lt=2**32)
    data: Data
    network: Network
    losses: tuple[LossTerm, ...] = Field(min_length=1)
    sampler: Sampler
    augment: Augment = Augment()
    optimiser: Optimiser
    schedule: Schedule
    train: Train

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        drawn = self.data.has_sketches
        if any(isinstance(t, Comparison) and t.across for t in self.losses) and not drawn:
            msg = "a loss goes across sketches and photos, but no source has sketches"
            raise ValueError(msg)
        if any(isinstance(t, TripletTerm) and t.miner == "distance" for t in self.losses) and not self.network.unit:
            msg = "the miner distance is for embeddings on the unit sphere; leave network.unit true, or use another"
            raise ValueError(msg)
        if drawn and self.data.each_picture:
            msg = "a sketch and its photo are one thing, and data.classes: picture makes two of them; leave one out"
            raise ValueError(msg)
        check_suits(self.sampler, self.losses, each_picture=self.data.each_picture)
        if isinstance(self.optimiser, SGD) and self.optimiser.nesterov and not self.optimiser.momentum:
            msg = "optimiser.nesterov needs a momentum above 0"
            raise ValueError(msg)
        if self.augment.shift >= self.data.size:
            msg = "augment.shift must be smaller than data.size"
            raise ValueError(msg)
        net = self.network
        if not net.smallest <= self.data.size <= (net.largest or self.data.size):
            fits = f"at least {net.smallest}" if net.largest is None else f"between {net.smallest} and {net.largest}"
            msg = f"the {net.backbone} network of this recipe takes pictures of {fits} pixels, not of {self.data.size}"
            raise ValueError(msg)
        return self

    @property
    def branches(self) -> tuple[Branch, ...]:
        """``("photo",)``, or ``("photo", "sketch")`` where a source has sketches."""
        return ("photo", "sketch") if self.data.has_sketches else ("photo",)

    def to_yaml(self) -> str:
        """The recipe with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and override single values.

    Args:
        path: a YAML file.
        overrides: ``"train.epochs=5"``, ``"data.sources.0.path=data/train"``; values are YAML.

    Raises:
        NotFoundError: there is no such file.
        RecipeError: not YAML, an unknown key, a value out of range, an override that leads nowhere.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise NotFoundError(f"The recipe {path} cannot be read: {e.strerror}.") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise RecipeError(f"{path} is no YAML: {e}") from e
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} should hold a mapping with the keys {', '.join(Recipe.model_fields)}.")
    for one in overrides:
        override(tree, one)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as e:
        lines = (f"  {'.'.join(map(str, err['loc'])) or 'recipe'}: {err['msg']}" for err in e.errors())
        raise RecipeError(f"{path} does not hold together:\n" + "\n".join(lines)) from e


def override(tree: Any, change: str) -> None:  # noqa: ANN401 -- a YAML tree has any shape
    """Set one value of a tree.

    Args:
        tree: what was read from YAML.
        change: where, and what: ``"train.epochs=5"``.

    Raises:
        RecipeError: it leads nowhere, or is no YAML.
    """
    where, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"“{change}” is no override; write key=value, as in train.epochs=5.")
    try:
        new = yaml.safe_load(value)
    except yaml.YAMLError as e:
        raise RecipeError(f"“{value}”, given for {where}, is no YAML.") from e
    *parents, last = where.split(".")
    for key in parents:
        step = _step(tree, key, where)
        tree = tree[step] if isinstance(tree, list) else tree.setdefault(step, {})
    tree[_step(tree, last, where)] = new


def _step(node: Any, key: str, where: str) -> Any:  # noqa: ANN401 -- a number into a list, a name into a mapping
    if isinstance(node, dict):
        return key
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return int(key)
    raise RecipeError(f"“{where}” leads nowhere at “{key}”.")
