"""All that changes while training, and what it starts from."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lookalike.datasets import LabelledImages
from lookalike.learn import pixels
from lookalike.learn import recipe as recipes
from lookalike.learn.losses import Loss
from lookalike.learn.networks import FastNet, Siamese


@dataclass
class State:
    """All that changes while training, and that a checkpoint holds.

    ``wrapped`` is the network under Fabric: what is called in training. ``best`` is the weights of the best epoch so far,
    where the recipe asks for early stopping.
    """

    network: Siamese
    wrapped: nn.Module
    loss: Loss
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None

    def tree(self) -> dict[str, Any]:
        """All of it as a tree of tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "loss": self.loss.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "best": self.best,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Take up what `tree` gave."""
        self.network.load_state_dict(saved["network"])
        self.loss.load_state_dict(saved["loss"])
        self.optimiser.load_state_dict(saved["optimiser"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.best = saved["best"]
        self.epoch, self.seconds, self.history = saved["epoch"], saved["seconds"], saved["history"]

    @property
    def result(self) -> Siamese:
        """The network to judge and to export: the average where there is one."""
        if self.average is None:
            return self.network
        assert isinstance(self.average.module, Siamese)  # noqa: S101 -- it was made of one
        return self.average.module

    def keep(self) -> None:
        """Note the result's weights as the best so far."""
        self.best = {name: value.detach().clone() for name, value in self.result.state_dict().items()}


def fresh(recipe: recipes.Recipe, training: LabelledImages, fabric: Fabric) -> State:
    """What a run starts from. All chance in it comes from torch's generator, which the caller seeds."""
    network = Siamese(recipe.network, recipe.branches)
    for name in recipe.branches:
        body = network.branch(name).body
        if isinstance(body, FastNet):
            rows = np.flatnonzero(training.sketch == (name == "sketch"))
            rows = np.random.default_rng(recipe.seed).choice(rows, min(len(rows), 1000), replace=False)
            body.fit_whitening(pixels.normalise(pixels.tensor(training.images[rows]), recipe.data))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out of its types
    loss = Loss(recipe.losses, recipe.network.dimension, len(training.classes))
    optimiser = _optimiser(recipe.optimiser, (*network.parameters(), *loss.parameters()))
    average = None
    if recipe.train.average:
        average = AveragedModel(
            network,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.train.average),  # type: ignore[no-untyped-call]
            use_buffers=True,
        ).to(fabric.device)
    wrapped, optimiser = fabric.setup(network, optimiser)
    return State(network, wrapped, loss.to(fabric.device), optimiser, average)


def _optimiser(config: recipes.Optimiser, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    # One-dimensional weights are biases and the scales of normalisations, which decay does no good.
    weights = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if isinstance(config, recipes.SGD):
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas)
