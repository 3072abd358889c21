"""A training run written down: YAML read into frozen models that refuse what they do not know."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lookalike.encoders.card import Branch
from lookalike.errors import NotFoundError, RecipeError
from lookalike.images import Fit

# The fast network halves its map three times.
_FAST_SMALLEST = 8


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]


class FolderSource(_Part):
    """A folder per class. With ``sketches``, a second such folder whose files are sketches of the first one's.

    A sketch belongs to the photo whose stem its own stem equals, or begins with when a ``-`` follows (``cup-7.jpg`` is
    drawn by ``cup-7.png`` and ``cup-7-2.png``). Sketches of photos that are not there count for their class alone.
    """

    kind: Literal["folder"] = "folder"
    path: Path
    sketches: Path | None = None


class ToyShopSource(_Part):
    """Items of the generated toy shop; ``sketches`` drawn variants of each."""

    kind: Literal["toyshop"]
    count: int = Field(gt=0)
    seed: int = Field(ge=0)
    sketches: int = Field(0, ge=0)


Source = Annotated[FolderSource | ToyShopSource, Field(discriminator="kind")]


class Data(_Part):
    """What is learned from, and how a picture becomes the network's input."""

    sources: tuple[Source, ...] = Field(min_length=1)
    validation: float = Field(0.1, gt=0, lt=1, description="share of each class's items held out of training")
    size: int = Field(ge=8, le=4096, description="pixels a side")
    fit: Fit = "squash"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[_Positive, _Positive, _Positive] = (0.5, 0.5, 0.5)


class _Network(_Part):
    dimension: int = Field(128, gt=0)
    mirror: bool = Field(
        False, description="embed a picture as the mean of itself and its mirror image: better, at twice the work"
    )


class FastNetwork(_Network):
    """The small network for two CPU cores; see ``networks.FastNet``."""

    backbone: Literal["fast"]
    widths: tuple[_Count, _Count, _Count] = (64, 256, 256)
    patch: int = Field(2, gt=0, description="pixels a side that the first, whitening layer sees")
    stride: int = Field(1, gt=0)


class ResNetwork(_Network):
    """ResNet with torchvision's parameter names (He et al. 2016)."""

    backbone: Literal["resnet18", "resnet34", "resnet50"]
    stem: Literal["imagenet", "small"] = "imagenet"


Network = Annotated[FastNetwork | ResNetwork, Field(discriminator="backbone")]


class TripletTerm(_Part):
    """Triplet loss on unit embeddings: max(0, d(a,p) - d(a,n) + margin), d squared as in R1 or true.

    ``target`` says what makes a pair positive: the same class, or the same item. With ``across``, anchors are sketches
    and positives and negatives are photos.
    """

    kind: Literal["triplet"]
    weight: float = Field(1.0, gt=0)
    margin: float = Field(gt=0)
    squared: bool = True
    miner: Literal["all", "semihard", "hard"] = "semihard"
    target: Literal["class", "item"] = "class"
    across: bool = False


class CrossEntropyTerm(_Part):
    """Cross-entropy of a cosine classifier over the training classes, thrown away after training."""

    kind: Literal["cross_entropy"]
    weight: float = Field(1.0, gt=0)
    smoothing: float = Field(0.0, ge=0, lt=1)
    scale: float = Field(16.0, gt=0, description="what the cosines are multiplied by before the softmax")


LossTerm = Annotated[TripletTerm | CrossEntropyTerm, Field(discriminator="kind")]


class PKSampler(_Part):
    """Batches of P classes with K items each (Hermans et al. 2017)."""

    classes: int = Field(gt=0, description="P")
    items: int = Field(gt=1, description="K")


class Augment(_Part):
    """Random changes to training pictures, photos and sketches alike; each is off at 0."""

    flip: bool = True
    shift: int = Field(0, ge=0, description="pixels, each way, the border mirrored")
    erase: float = Field(0.0, ge=0, le=1, description="probability that a rectangle is blanked")
    colour: float = Field(
        0.0, ge=0, le=1, description="jitter of brightness, contrast, saturation; a tenth of it of hue"
    )
    rotate: float = Field(0.0, ge=0, le=180, description="degrees, each way")
    zoom: float = Field(0.0, ge=0, lt=1, description="scale is drawn from 1 - zoom to 1 + zoom")


class Optimiser(_Part):
    """Stochastic gradient descent with momentum."""

    learning_rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)


class OneCycle(_Part):
    """Linear warm-up over a share of the run, then linear decay to ``final`` of the peak (Smith 2018)."""

    kind: Literal["one_cycle"]
    warmup: float = Field(0.2, ge=0, lt=1)
    final: float = Field(0.01, ge=0, le=1)


class StepSchedule(_Part):
    """Times ``gamma`` every ``every`` epochs, as R1 does."""

    kind: Literal["step"]
    every: int = Field(10, gt=0)
    gamma: float = Field(0.1, gt=0, le=1)


Schedule = Annotated[OneCycle | StepSchedule, Field(discriminator="kind")]


class Train(_Part):
    """How long, and in what precision."""

    epochs: int = Field(gt=0)
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    average: float = Field(0.0, ge=0, lt=1, description="decay of the exponential average of weights; 0 is none")


class Recipe(_Part):
    """A training run written down."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="the encoder's name")
    description: str = ""
    licence: str = "Apache-2.0"
    seed: int = Field(0, ge=0, lt=2**32)
    data: Data
    network: Network
    losses: tuple[LossTerm, ...] = Field(min_length=1)
    sampler: PKSampler
    augment: Augment = Augment()
    optimiser: Optimiser
    schedule: Schedule
    train: Train

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        drawn = any(s.sketches for s in self.data.sources)
        if any(isinstance(t, TripletTerm) and t.across for t in self.losses) and not drawn:
            msg = "a loss goes across sketches and photos, but no source has sketches"
            raise ValueError(msg)
        if self.optimiser.nesterov and not self.optimiser.momentum:
            msg = "optimiser.nesterov needs a momentum above 0"
            raise ValueError(msg)
        if self.augment.shift >= self.data.size:
            msg = "augment.shift must be smaller than data.size"
            raise ValueError(msg)
        net = self.network
        if isinstance(net, FastNetwork) and (self.data.size - net.patch) // net.stride + 1 < _FAST_SMALLEST:
            msg = f"pictures of {self.data.size} pixels are too small for this network's patch and stride"
            raise ValueError(msg)
        return self

    @property
    def branches(self) -> tuple[Branch, ...]:
        """``("photo",)``, or ``("photo", "sketch")`` where a source has sketches."""
        return ("photo", "sketch") if any(s.sketches for s in self.data.sources) else ("photo",)

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
    for override in overrides:
        _override(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as e:
        lines = (f"  {'.'.join(map(str, err['loc'])) or 'recipe'}: {err['msg']}" for err in e.errors())
        raise RecipeError(f"{path} does not hold together:\n" + "\n".join(lines)) from e


def _override(tree: Any, override: str) -> None:  # noqa: ANN401 -- a YAML tree has any shape
    where, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"“{override}” is no override; write key=value, as in train.epochs=5.")
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
