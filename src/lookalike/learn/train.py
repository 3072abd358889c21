"""A training run, from recipe to encoder."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lookalike import datasets
from lookalike.datasets import Samples
from lookalike.errors import AlreadyExistsError, MismatchError, NotFoundError, RecipeError, StorageError
from lookalike.evaluation import retrieval
from lookalike.learn import augment, checkpoint, export
from lookalike.learn import recipe as recipes
from lookalike.learn.losses import Loss, Targets
from lookalike.learn.networks import FastNet, Siamese
from lookalike.learn.sampling import Batch, batches
from lookalike.metric import Metric

CHECKPOINT = "checkpoint.safetensors"
RECIPE = "recipe.yaml"

# Pictures that are embedded at once for validation and export.
_CHUNK = 500


@dataclass
class _State:
    """All that changes while training, and that a checkpoint holds."""

    network: Siamese
    wrapped: nn.Module  # the network under Fabric: what is called in training
    loss: Loss
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def tree(self) -> dict[str, Any]:
        """All of it as a tree of tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "loss": self.loss.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict() if self.average else None,
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
        self.epoch, self.seconds, self.history = saved["epoch"], saved["seconds"], saved["history"]

    @property
    def result(self) -> Siamese:
        """The network to judge and to export."""
        if self.average is None:
            return self.network
        assert isinstance(self.average.module, Siamese)  # noqa: S101 -- it was made of one
        return self.average.module


def start(recipe: recipes.Recipe, folder: Path, console: Console) -> Path:
    """Train by a recipe into a folder that does not exist yet, or is empty.

    The folder gets ``recipe.yaml``, ``metrics.jsonl`` (a line an epoch), a checkpoint after every epoch, and in the end
    ``encoder/``, the artefact.

    Returns:
        The artefact's folder.

    Raises:
        AlreadyExistsError: there is a run already.
        DataError: the data cannot be learned from.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise AlreadyExistsError(
            f"{folder} is there already. If it is a run, continue it with: lookalike train {folder}; or name another folder."
        )
    recipe = recipe.model_copy(update={"data": recipe.data.absolute()})
    run = _prepare(recipe, console)  # what cannot be learned from leaves no folder behind
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        return _train(run, folder, console)


def resume(folder: Path, console: Console) -> Path:
    """Continue a run after its last whole epoch; a finished one is exported again.

    Raises:
        NotFoundError: there is no run in the folder.
        MismatchError: its checkpoint is of another recipe or of other pictures, or damaged.
    """
    if not (folder / RECIPE).is_file():
        raise NotFoundError(f"There is no run in {folder}: it has no {RECIPE}.")
    run = _prepare(recipes.read(folder / RECIPE), console)
    with _writing(folder):
        if (folder / CHECKPOINT).is_file():
            run.restore(folder / CHECKPOINT)
            _log(folder, run.state.history)
            console.print(f"continuing after epoch {run.state.epoch}")
        return _train(run, folder, console)


@dataclass
class _Run:
    """A recipe with all that it takes."""

    recipe: recipes.Recipe
    fabric: Fabric
    training: Samples
    validation: Samples
    state: _State

    @cached_property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must have in common with the run that takes it up: recipe and pictures."""
        digest = hashlib.sha256()
        for part in (self.training, self.validation):
            for array in (part.images, part.labels, part.items):
                digest.update(array.data)
        return {"recipe": self.recipe.model_dump_json(), "pictures": digest.hexdigest()}

    def save(self, path: Path) -> None:
        checkpoint.save(path, {"identity": self.identity, "state": self.state.tree()})

    def restore(self, path: Path) -> None:
        saved = checkpoint.load(path)
        for what, mine in self.identity.items():
            if saved.get("identity", {}).get(what) != mine:
                raise MismatchError(f"{path} does not fit: the {what} changed since the run began. Begin another run.")
        self.state.restore(saved["state"])


def _prepare(recipe: recipes.Recipe, console: Console) -> _Run:
    fabric = Fabric(accelerator="auto", devices=1, precision=recipe.train.precision)
    fabric.launch()
    torch.manual_seed(recipe.seed)
    data = recipe.data
    training, validation = datasets.divide(
        data.sources,
        size=data.size,
        fit=data.fit,
        share=data.validation,
        by=data.validation_by,
        seed=recipe.seed,
        report=console.print,
    )
    console.print(
        f"{len(training):,} pictures to train on, {len(validation):,} to validate, {len(training.classes)} classes"
    )
    return _Run(recipe, fabric, training, validation, _fresh(recipe, training, fabric))


def _train(run: _Run, folder: Path, console: Console) -> Path:
    recipe, state = run.recipe, run.state
    with _progress(console) as bars:
        while state.epoch < recipe.train.epochs:
            _epoch(recipe, state, run.training, run.fabric, bars)
            state.history[-1].update(_validate(recipe, state.result, run.validation))
            run.save(folder / CHECKPOINT)
            _log(folder, state.history)
            console.print("  ".join(f"{k} {v:.4g}" for k, v in state.history[-1].items()))
    return export.write(
        recipe,
        state.result,
        folder / "encoder",
        samples=run.validation,
        pictures=len(run.training),
        minutes=state.seconds / 60,
        figures={k: v for k, v in state.history[-1].items() if k.startswith("validation")},
    )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise StorageError(f"The run in {folder} cannot be written: {e}. What was written stays.") from e


def _fresh(recipe: recipes.Recipe, training: Samples, fabric: Fabric) -> _State:
    network = Siamese(recipe.network, recipe.branches)
    for name in recipe.branches:
        body = network.branch(name).body
        if isinstance(body, FastNet):
            rows = np.flatnonzero(training.sketch == (name == "sketch"))
            rows = np.random.default_rng(recipe.seed).choice(rows, min(len(rows), 1000), replace=False)
            body.fit_whitening(_normalise(_tensor(training.images[rows], torch.device("cpu")), recipe.data))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out of its types
    loss = Loss(recipe.losses, recipe.network.dimension, len(training.classes))
    # One-dimensional weights are biases and the scales of normalisations, which decay does no good.
    weights = [p for p in (*network.parameters(), *loss.parameters()) if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": recipe.optimiser.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.SGD(
        groups,
        lr=recipe.optimiser.learning_rate,
        momentum=recipe.optimiser.momentum,
        nesterov=recipe.optimiser.nesterov,
    )
    average = None
    if recipe.train.average:
        average = AveragedModel(
            network,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.train.average),  # type: ignore[no-untyped-call]
            use_buffers=True,
        ).to(fabric.device)
    wrapped, optimiser = fabric.setup(network, optimiser)
    return _State(network, wrapped, loss.to(fabric.device), optimiser, average)


def _epoch(recipe: recipes.Recipe, state: _State, training: Samples, fabric: Fabric, bars: Progress) -> None:
    """One pass over the data; all chance in it comes from (seed, epoch), so a resumed run is the same run."""
    torch.manual_seed(recipe.seed * 100_003 + state.epoch)
    drawn = batches(training, recipe.sampler, recipe.seed)
    change = augment.pipeline(recipe.augment, recipe.data.size)
    state.wrapped.train()
    began, total, parts = time.monotonic(), 0.0, np.zeros(len(recipe.losses))
    bar = bars.add_task(f"epoch {state.epoch + 1}/{recipe.train.epochs}", total=len(drawn))
    for i, batch in enumerate(drawn.epoch(state.epoch)):
        for group in state.optimiser.param_groups:
            group["lr"] = recipe.optimiser.learning_rate * rate(recipe, state.epoch + i / len(drawn))
        x = _normalise(change(_tensor(training.images[batch.rows], fabric.device)), recipe.data)
        targets = _targets(training, batch, fabric.device)
        loss, values = state.loss(state.wrapped(x, targets.sketch), targets)
        if not torch.isfinite(loss):
            raise RecipeError(
                f"The loss is {float(loss.detach())} in epoch {state.epoch + 1}. Lower optimiser.learning_rate."
            )
        state.optimiser.zero_grad()
        fabric.backward(loss)
        state.optimiser.step()
        if state.average:
            state.average.update_parameters(state.network)
        total += float(loss.detach())
        parts += values
        bars.advance(bar)
    bars.remove_task(bar)
    state.epoch += 1
    state.seconds += time.monotonic() - began
    line = {"epoch": float(state.epoch), "minutes": state.seconds / 60, "loss": total / len(drawn)}
    line |= {f"loss.{t.kind}.{i}": v / len(drawn) for i, (t, v) in enumerate(zip(recipe.losses, parts, strict=True))}
    state.history.append(line)


def _targets(samples: Samples, batch: Batch, device: torch.device) -> Targets:
    labels, items, sketch = (
        torch.from_numpy(a[batch.rows]).to(device) for a in (samples.labels, samples.items, samples.sketch)
    )
    return Targets(labels, items, sketch, None if batch.tuples is None else torch.from_numpy(batch.tuples).to(device))


def rate(recipe: recipes.Recipe, epoch: float) -> float:
    """The factor of the learning rate at a moment, in epochs since the start."""
    schedule = recipe.schedule
    if isinstance(schedule, recipes.StepSchedule):
        return schedule.gamma ** int(epoch / schedule.every)
    done = epoch / recipe.train.epochs
    if done < schedule.warmup:
        return done / schedule.warmup
    return 1 - (1 - schedule.final) * (done - schedule.warmup) / (1 - schedule.warmup)


def _validate(recipe: recipes.Recipe, network: nn.Module, samples: Samples) -> dict[str, float]:
    """Top-1 among the held-out photos; with sketches, how many find their class and their photo there."""
    embeddings = _embed(network, samples, recipe)
    photos = ~samples.sketch
    gallery, labels = embeddings[photos], samples.labels[photos]
    figures = {"validation.top_1": retrieval.top_1(gallery, labels, Metric.EUCLIDEAN)}
    if samples.sketch.any():
        drawn = embeddings[samples.sketch]
        same_class = samples.labels[samples.sketch][:, None] == labels
        same_item = samples.items[samples.sketch][:, None] == samples.items[photos]
        for name, relevant in (("class", same_class), ("item", same_item)):
            for k, v in retrieval.hit_rates(drawn, gallery, relevant, (1, 10), Metric.EUCLIDEAN).items():
                figures[f"validation.sketch_{name}_at_{k}"] = v
    return figures


@torch.inference_mode()
def _embed(network: nn.Module, samples: Samples, recipe: recipes.Recipe) -> Float32[np.ndarray, "n d"]:
    """Embeddings of samples by a network in training, in the recipe's precision."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for start in range(0, len(samples), _CHUNK):
        rows = slice(start, start + _CHUNK)
        x = _normalise(_tensor(samples.images[rows], device), recipe.data)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.train.precision == "bf16-mixed"):
            parts.append(network(x, torch.from_numpy(samples.sketch[rows]).to(device)).float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(parts)


def _tensor(pictures: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (n, s, s, 3) → float (n, 3, s, s) in 0…1."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float().div_(255)


def _normalise(x: Tensor, config: recipes.Data) -> Tensor:
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (config.mean, config.std))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def _log(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write ``metrics.jsonl`` whole, so that a resumed run has one line an epoch."""
    new = folder / "metrics.jsonl.new"
    new.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
    new.replace(folder / "metrics.jsonl")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
