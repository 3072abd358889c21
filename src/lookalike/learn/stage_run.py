"""A stage in training: its settings, its images, and its network with the initial weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from lookalike.learn import data, photo_branch, pixels
from lookalike.learn.data import StageData
from lookalike.learn.distributed import fail_together
from lookalike.learn.losses.total import Loss
from lookalike.learn.networks import FastNet, Siamese, branches_of, check_weights
from lookalike.learn.photo_branch import PhotoBranch
from lookalike.learn.recipe import PublicNetwork, Recipe, Stage
from lookalike.learn.state import State, make_average, make_optimiser
from lookalike.progress import Progress

# Largest number of images that the whitening of a branch is fitted to.
_WHITENED = 1000


@dataclass(frozen=True)
class StageRun:
    """A stage in training, with everything that the loop needs."""

    recipe: Recipe
    index: int
    fabric: Fabric
    progress: Progress
    data: StageData
    state: State
    photos: PhotoBranch | None = None

    @property
    def stage(self) -> Stage:
        """The stage's settings."""
        return self.recipe.stages[self.index]

    @property
    def seed(self) -> int:
        """The seed of the stage's random choices."""
        return self.recipe.stage_seed(self.index)

    def log(self) -> list[dict[str, float | str]]:
        """Return the lines of ``metrics.jsonl``: the figures of each epoch, and the stage if there are several."""
        name = {"stage": self.stage.name} if len(self.recipe.stages) > 1 else {}
        return [*self.state.earlier, *({**name, **line} for line in self.state.history)]


def prepare(
    recipe: Recipe, index: int, fabric: Fabric, progress: Progress, weights: Mapping[str, Tensor] | None = None
) -> StageRun:
    """Read the images of a stage, and build its network, loss and optimiser.

    Args:
        recipe: the run.
        index: of the stage.
        fabric: connects the processes that train together.
        progress: receives the reading of the images.
        weights: initial weights; by default random ones, or the public ones that the recipe names.

    Raises:
        DataError: the images cannot be trained on.
        RecipeError: they have fewer classes than the sampler needs, or a frozen part does not exist.
        MismatchError: the weights do not fit the network.
    """
    with fail_together(fabric):
        encoder = photo_branch.load(recipe)
        images = data.load(recipe, index, progress)
        torch.manual_seed(recipe.stage_seed(index))
        network = build(recipe, index, weights)
        photos = photo_branch.make(recipe, index, encoder, images, progress) if encoder else None
        if weights is None:
            _fit_whitening(network, images, recipe)
            if photos:
                photo_branch.fit_projection(network, recipe, index, images, photos)
    stage = recipe.stages[index]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out of its types
    loss = Loss(stage.losses, network.dimension, len(images.training.classes))
    optimiser = make_optimiser(stage.optimiser, (*network.parameters(), *loss.parameters()))
    average = make_average(stage.train, network, fabric.device)
    wrapped, optimiser = fabric.setup(network, optimiser)
    state = State(network, wrapped, loss.to(fabric.device), optimiser, average)
    return StageRun(recipe, index, fabric, progress, images, state, photos)


def build(recipe: Recipe, index: int, weights: Mapping[str, Tensor] | None = None) -> Siamese:
    """Build the network of a stage, with its shared and frozen layers.

    Raises:
        MismatchError: the weights do not fit the network.
        RecipeError: a frozen part does not exist, or nothing is left to train.
    """
    stage, config, branches = recipe.stages[index], recipe.network, recipe.branches_until(index)
    if weights is not None:
        branches = max(branches, branches_of(weights), key=len)
        if isinstance(config, PublicNetwork):
            config = config.model_copy(update={"weights": None})
    network = Siamese(config, branches, stage.shared, features=recipe.head is not None)
    if weights is not None:
        network.load_weights(weights, f"the stage {recipe.stages[index - 1].name}" if index else f"{recipe.start}")
    network.freeze(stage.frozen, branches if recipe.photos else stage.branches)
    if stage.train.statistics == "kept":
        network.freeze_statistics()
    return network


def check(recipe: Recipe) -> None:
    """Check the public weights, and the images and frozen layers of later stages; call it before the first stage.

    Reading its images can take minutes, and training it hours.

    Raises:
        LookalikeError: the public weights cannot be used; as for `networks.check_weights`.
        DataError: a source cannot be read or is empty.
        RecipeError: a frozen part does not exist, or nothing is left to train.
    """
    if recipe.start is None:
        check_weights(recipe.network)
    photo_branch.load(recipe)
    data.check_sources(recipe)
    if len(recipe.stages) > 1:
        bare = recipe.network
        if isinstance(bare, PublicNetwork):
            bare = bare.model_copy(update={"weights": None})
        with torch.device("meta"):  # without memory, since only names are needed
            for index in range(1, len(recipe.stages)):
                build(recipe.model_copy(update={"network": bare}), index)


def _fit_whitening(network: Siamese, images: StageData, recipe: Recipe) -> None:
    """Fit the first layer of the fast network: for each branch to its images, or to all images if the branches share it."""
    training = images.training
    for name in ("photo", "sketch"):
        if name not in network.branches or not isinstance(body := network.branch(name).body, FastNet):
            continue
        own = training.sketch == (name == "sketch")
        rows = np.flatnonzero(own | ("whiten" in network.shared))
        rows = np.random.default_rng(recipe.seed).choice(rows, min(len(rows), _WHITENED), replace=False)
        body.fit_whitening(pixels.normalise(pixels.to_tensor(training.images[rows]), recipe.stages[0].data))
