"""A recipe: the settings of a training run."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from pydantic import Field, model_validator

from lookalike.encoders.card import MAX_SIZE, Line, Scope, Text
from lookalike.errors import RecipeError
from lookalike.learn.losses import (
    DSHTerm,
    DTSHTerm,
    RelationalDistillationTerm,
    SelfDistillationTerm,
    SoftLabelsTerm,
    TripletTerm,
)
from lookalike.learn.part import Part
from lookalike.learn.recipe.head import ClosedForm, NetworkPrototypes
from lookalike.learn.recipe.network import IMAGENET, Network, PublicNetwork, imagenet_input
from lookalike.learn.recipe.stage import Stage
from lookalike.query import Branch

# Keys of a stage that a recipe may also have beside `stages`, as defaults.
_STAGE_KEYS = tuple(name for name in Stage.model_fields if name != "name")


def _with_input(stage: Any, defaults: dict[str, Any]) -> Any:  # noqa: ANN401 -- a YAML value has any type
    """Fill in the ``data`` settings that a stage leaves out."""
    if not defaults or not isinstance(stage, dict) or not isinstance(data := stage.get("data"), dict):
        return stage
    return stage | {"data": defaults | data}


class Recipe(Part):
    """The settings of a training run: a network, and the stages that train it.

    Keys of a stage beside ``stages`` are defaults for all stages. A recipe without ``stages`` is in the flat form: its keys
    make one stage.
    """

    name: str = Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9-]*$", description="the encoder's name")
    description: Text = ""
    scope: Scope | None = Field(None, description="for the card: what the encoder was trained on, in one line")
    licence: Line = "Apache-2.0"
    seed: int = Field(0, ge=0, lt=2**32)
    network: Network
    start: Path | None = Field(
        None, description="weights to start from: a run's folder, or a file in its stages/; by default none"
    )
    photos: str | None = Field(
        None,
        min_length=1,
        description="an encoder whose photo branch stays as it is; the run trains only a sketch branch, towards its vectors",
    )
    shaded: int | None = Field(
        None,
        ge=8,
        le=MAX_SIZE,
        description="the network of photos embeds a drawing too, shaded as a solid thing, at these pixels per side; the sum finds more",
    )
    head: ClosedForm | None = Field(
        None, description="fitted in closed form to the features after the last stage; by default a layer is trained"
    )
    int8: bool = Field(False, description="export the network, but for its head, in int8 instead of float16")
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _fill_stages(cls, tree: Any) -> Any:  # noqa: ANN401 -- a YAML value has any type
        if not isinstance(tree, dict) or not isinstance(stages := tree.get("stages", [{}]), list | tuple):
            return tree
        defaults = {key: tree[key] for key in _STAGE_KEYS if key in tree}
        rest = {key: value for key, value in tree.items() if key not in _STAGE_KEYS}
        filled = [defaults | stage if isinstance(stage, dict) else stage for stage in stages]
        expected = imagenet_input(tree.get("network"))
        return rest | {"stages": [_with_input(stage, expected) for stage in filled]}

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(names) > 1 and ("" in names or len(set(names)) < len(names)):
            msg = "each of several stages needs a unique name"
            raise ValueError(msg)
        self._check_head()
        self._check_photos()
        for stage in self.stages:
            self._check_network(stage)
        return self

    def _check_head(self) -> None:
        net, public = self.network, getattr(self.network, "weights", None) == IMAGENET
        if self.head and not (net.unit and net.neck and not net.mirror):
            msg = "head gives embeddings of length 1; leave out network.unit, network.neck and network.mirror"
            raise ValueError(msg)
        if isinstance(self.head, NetworkPrototypes) and not public:
            msg = f"the head prototypes needs the classifier of network.weights: {IMAGENET}"
            raise ValueError(msg)
        distils = any(isinstance(t, SelfDistillationTerm) for stage in self.stages for t in stage.losses)
        if distils and not (public and self.head):
            msg = f"the loss self_distillation needs network.weights: {IMAGENET}, and a head"
            raise ValueError(msg)

    def _check_photos(self) -> None:
        if self.photos is None:
            if self.shaded:
                msg = "shaded shows drawings to the photo network of an encoder; name it by photos: ENCODER, or leave shaded out"
                raise ValueError(msg)
            following = (RelationalDistillationTerm, SoftLabelsTerm)
            kinds = [t.kind for stage in self.stages for t in stage.losses if isinstance(t, following)]
            if kinds:
                msg = f"the loss {kinds[0]} follows the photos of an encoder; name it by photos: ENCODER, or leave the loss out"
                raise ValueError(msg)
            return
        for stage in self.stages:
            if not stage.data.has_sketches or stage.data.quarter_turns:
                msg = "photos trains a sketch branch; add sketches or data.pseudo_sketches, and leave out data.quarter_turns"
                raise ValueError(msg)

    def _check_network(self, stage: Stage) -> None:
        net, size = self.network, stage.data.size
        if any(isinstance(t, TripletTerm) and t.miner == "distance" for t in stage.losses) and not net.unit:
            msg = "the miner “distance” needs embeddings of length 1; set network.unit: true, or use another miner"
            raise ValueError(msg)
        bits = [t.kind for t in stage.losses if isinstance(t, DSHTerm | DTSHTerm)]
        if bits and net.unit:
            msg = f"the loss {bits[0]} needs numbers near -1 and 1, not embeddings of length 1; set network.unit: false"
            raise ValueError(msg)
        if not net.min_size <= size <= (net.max_size or size):
            fits = f"at least {net.min_size}" if net.max_size is None else f"between {net.min_size} and {net.max_size}"
            msg = f"the {net.backbone} network of this recipe takes images of {fits} pixels, not of {size}"
            raise ValueError(msg)
        choices = (*net.layers, "head", "none")
        if stage.shared is not None and stage.shared not in choices:
            msg = f"shared: {stage.shared} is not a layer of {net.backbone}; use one of {', '.join(choices)}"
            raise ValueError(msg)

    def branches_until(self, index: int) -> tuple[Branch, ...]:
        """Return the branches to train in the stages up to this one: ``photo``, ``sketch`` or both."""
        if self.photos is not None:
            return ("sketch",)
        return max((stage.branches for stage in self.stages[: index + 1]), key=len)

    def stage_seed(self, index: int) -> int:
        """Return the seed of a stage's random choices.

        It depends on the recipe's seed and the stage's name, so a stage makes the same choices alone as among others.
        """
        name = self.stages[index].name
        return int(np.random.SeedSequence([self.seed, *name.encode()]).generate_state(1)[0]) if name else self.seed

    def select(self, names: tuple[str, ...]) -> Self:
        """Return a recipe of only the stages with these names, in the recipe's order.

        Raises:
            RecipeError: there is no such stage.
        """
        known = [stage.name for stage in self.stages]
        if missing := [name for name in names if name not in known]:
            raise RecipeError(
                f"The recipe has no stage “{missing[0]}”; its stages are {', '.join(known) or 'unnamed'}."
            )
        return self.model_copy(update={"stages": tuple(stage for stage in self.stages if stage.name in names)})

    def absolute(self) -> Self:
        """Return a copy with absolute paths, so that a run can be resumed from another working directory."""
        stages = tuple(stage.model_copy(update={"data": stage.data.absolute()}) for stage in self.stages)
        start = self.start.absolute() if self.start else None
        network = self.network.absolute() if isinstance(self.network, PublicNetwork) else self.network
        return self.model_copy(update={"stages": stages, "start": start, "network": network})

    def to_tree(self) -> dict[str, Any]:
        """Return the recipe as plain values with every default; one stage without a name in the flat form."""
        tree = self.model_dump(mode="json")
        if len(self.stages) == 1 and not self.stages[0].name:
            (stage,) = tree.pop("stages")
            del stage["name"]
            tree |= stage
        return tree

    def to_yaml(self) -> str:
        """Return the recipe as YAML with every default."""
        return yaml.safe_dump(self.to_tree(), sort_keys=False, allow_unicode=True)
