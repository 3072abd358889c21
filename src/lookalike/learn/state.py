"""The state of a stage in training: everything that changes, and that a checkpoint holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lookalike.learn import recipe
from lookalike.learn.losses.total import Loss
from lookalike.learn.networks import Siamese


@dataclass
class State:
    """The state of a stage in training.

    Attributes:
        network: the weights in training.
        wrapped: the same network under Fabric, which is called in training.
        loss: the loss, with its learned parameters.
        optimiser: of both.
        average: the exponential average of the weights; None if the recipe has none.
        history: the figures of the stage's epochs so far.
        earlier: the lines of ``metrics.jsonl`` of earlier stages.
        seconds: of training, earlier stages included.
        best: the weights of the best epoch so far; None without early stopping.
        precision: that the network computes in; None before the first epoch.
    """

    network: Siamese
    wrapped: nn.Module
    loss: Loss
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    history: list[dict[str, float]] = field(default_factory=list)
    earlier: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    best: dict[str, Tensor] | None = None
    precision: recipe.Precision | None = None

    @property
    def epoch(self) -> int:
        """The number of finished epochs of the stage."""
        return len(self.history)

    @property
    def result(self) -> Siamese:
        """The network to validate and to export: the average if there is one."""
        if self.average is None:
            return self.network
        assert isinstance(self.average.module, Siamese)  # noqa: S101 -- it averages one
        return self.average.module

    def result_weights(self) -> dict[str, Tensor]:
        """Return the weights that the stage results in: those of the best epoch, or of the last one."""
        return self.best or self.result.state_dict()

    def keep_best(self) -> None:
        """Remember the result's weights as the best so far."""
        self.best = {name: value.detach().clone() for name, value in self.result.state_dict().items()}

    def tree(self) -> dict[str, Any]:
        """Return the state as a tree of tensors and plain values, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "loss": self.loss.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "best": self.best,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": self.history,
            "earlier": self.earlier,
            "precision": self.precision,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore what `tree` returned; those of early releases lack ``earlier`` and ``precision``.

        Raises:
            Exception: of any kind, if the checkpoint holds something else.
        """
        self.network.load_state_dict(saved["network"])
        # Earlier releases wrapped the library's losses, so the names of parameters were longer.
        self.loss.load_state_dict({name.replace("._loss.", "."): value for name, value in saved["loss"].items()})
        # The settings follow from the recipe; only the moments are the checkpoint's.
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": saved["optimiser"]["state"]})
        for parameter, moments in self.optimiser.state.items():
            if any(isinstance(m, Tensor) and m.ndim and m.shape != parameter.shape for m in moments.values()):
                msg = "a moment has another shape than its weight"
                raise ValueError(msg)
        if self.average:
            self.average.load_state_dict(saved["average"])
        if saved["best"] is not None and _shapes(saved["best"]) != _shapes(self.result.state_dict()):
            msg = "the best weights are of another network"
            raise ValueError(msg)
        self.best = saved["best"]
        self.seconds = TypeAdapter(float).validate_python(saved["seconds"])
        self.history = TypeAdapter(list[dict[str, float]]).validate_python(saved["history"])
        self.earlier = TypeAdapter(list[dict[str, float | str]]).validate_python(saved.get("earlier", []))
        self.precision = TypeAdapter(recipe.Precision | None).validate_python(saved.get("precision"))


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


def saved_result(saved: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights that a stage results in, from what `State.tree` returned."""
    if saved["best"]:
        return dict(saved["best"])
    if saved["average"]:
        prefix = "module."
        return {n.removeprefix(prefix): v for n, v in saved["average"].items() if n.startswith(prefix)}
    return dict(saved["network"])


def make_optimiser(config: recipe.Optimiser, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimiser of a recipe, for the parameters that are not frozen."""
    # One-dimensional weights are biases and the scales of normalisations; decay does not help them.
    weights = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if isinstance(config, recipe.SGD):
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas)


def make_average(config: recipe.Train, network: Siamese, device: torch.device) -> AveragedModel | None:
    """Make the exponential average of a network's weights; None if the recipe has none."""
    if not config.average:
        return None
    average = get_ema_multi_avg_fn(config.average)  # type: ignore[no-untyped-call]  # torch leaves out its types
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True).to(device)
