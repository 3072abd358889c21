"""A training run, from recipe to encoder.

On several devices or hosts each process reads all the data, embeds its share of every batch, and the losses see the whole
batch: embeddings are gathered with their gradients. What processes do not share are the statistics of batch normalisation,
which are those of each one's share.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from lookalike import datasets
from lookalike.datasets import Samples
from lookalike.errors import AlreadyExistsError, MismatchError, NotFoundError, RecipeError, StorageError
from lookalike.learn import augment, checkpoint, pixels, schedules, state, validating
from lookalike.learn import recipe as recipes
from lookalike.learn.result import write
from lookalike.learn.sampling import batches
from lookalike.learn.state import State

CHECKPOINT = "checkpoint.safetensors"
RECIPE = "recipe.yaml"
_LOG = "metrics.jsonl"


def start(recipe: recipes.Recipe, folder: Path, console: Console, *, devices: int = 1, nodes: int = 1) -> Path:
    """Train by a recipe into a folder that does not exist yet, or is empty.

    The folder gets ``recipe.yaml``, ``metrics.jsonl`` (a line an epoch), a checkpoint after every epoch, and in the end
    ``encoder/``, the artefact, and a report.

    Args:
        recipe: the run.
        folder: where to.
        console: what is said on the way.
        devices: GPUs, or processes where there are none, on each of
        nodes: so many hosts. Every host starts the same command, with torchrun or Fabric's variables around it.

    Returns:
        The artefact's folder.

    Raises:
        AlreadyExistsError: there is a run already.
        DataError: the data cannot be learned from.
    """
    # Before the other processes are started: they find the folder that this one makes.
    first = getattr(rank_zero_only, "rank", 0) == 0
    if first and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise AlreadyExistsError(
            f"{folder} is there already. If it is a run, continue it with: lookalike train {folder}; or name another folder."
        )
    recipe = recipe.model_copy(update={"data": recipe.data.absolute()})
    run = _prepare(recipe, console, devices, nodes)  # what cannot be learned from leaves no folder behind
    with _writing(folder):
        if run.leads:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        return _train(run, folder)


def resume(folder: Path, console: Console, *, devices: int = 1, nodes: int = 1) -> Path:
    """Continue a run after its last whole epoch; a finished one is exported again.

    Raises:
        NotFoundError: there is no run in the folder.
        MismatchError: its checkpoint is of another recipe or of other pictures, or damaged.
    """
    if not (folder / RECIPE).is_file():
        raise NotFoundError(f"There is no run in {folder}: it has no {RECIPE}.")
    run = _prepare(recipes.read(folder / RECIPE), console, devices, nodes)
    with _writing(folder):
        if (folder / CHECKPOINT).is_file():
            run.restore(folder / CHECKPOINT)
            if run.leads:
                _log(folder, run.state.history)
            run.console.print(f"continuing after epoch {run.state.epoch}")
        return _train(run, folder)


@dataclass
class _Run:
    """A recipe with all that it takes."""

    recipe: recipes.Recipe
    fabric: Fabric
    training: Samples
    validation: Samples
    state: State
    console: Console

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.fabric.is_global_zero

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


def _prepare(recipe: recipes.Recipe, console: Console, devices: int, nodes: int) -> _Run:
    several = devices * nodes > 1
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        precision=recipe.train.precision,
    )
    fabric.launch()
    if not fabric.is_global_zero:
        console = Console(quiet=True)
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
    if data.quarter_turns:
        training = _turned(training)
    console.print(
        f"{len(training):,} pictures to train on, {len(validation):,} to validate, {len(training.classes)} classes"
    )
    return _Run(recipe, fabric, training, validation, state.fresh(recipe, training, fabric), console)


def _turned(samples: Samples) -> Samples:
    """Each class four times: as it is, and turned by a quarter, a half and three quarters."""
    turns = range(4)
    return Samples(
        images=np.concatenate([np.rot90(samples.images, turn, axes=(1, 2)) for turn in turns]),
        labels=np.concatenate([samples.labels + turn * len(samples.classes) for turn in turns]),
        items=np.concatenate([samples.items + turn * (samples.items.max() + 1) for turn in turns]),
        sketch=np.tile(samples.sketch, 4),
        classes=tuple(f"{name} turned by {90 * turn}°" if turn else name for turn in turns for name in samples.classes),
    )


def _train(run: _Run, folder: Path) -> Path:
    recipe, now = run.recipe, run.state
    with _progress(run.console) as bars:
        while not _is_over(recipe, now):
            _epoch(run, bars)
            figures: dict[str, float] = {}
            if run.leads:
                embeddings = validating.embed(now.result, run.validation, recipe)
                figures = validating.figures(recipe, now.loss, run.validation, embeddings)
            now.history[-1].update(run.fabric.broadcast(figures))
            if (stopping := recipe.train.early_stopping) and _best(now.history, stopping) == now.epoch:
                now.keep()
            if run.leads:
                run.save(folder / CHECKPOINT)
                _log(folder, now.history)
            run.console.print("  ".join(f"{k} {v:.4g}" for k, v in now.history[-1].items()))
    if run.leads:
        line = now.history[-1]
        if now.best is not None and recipe.train.early_stopping:
            now.result.load_state_dict(now.best)
            line = now.history[_best(now.history, recipe.train.early_stopping) - 1]
        write(
            recipe,
            now.result,
            folder,
            training=run.training,
            validation=run.validation,
            history=now.history,
            line=line,
            console=run.console,
        )
    run.fabric.barrier()
    return folder / "encoder"


def _is_over(recipe: recipes.Recipe, now: State) -> bool:
    stopping = recipe.train.early_stopping
    waited = now.epoch - _best(now.history, stopping) if stopping else 0
    return now.epoch >= recipe.train.epochs or (stopping is not None and waited >= stopping.patience)


def _best(history: list[dict[str, float]], stopping: recipes.EarlyStopping) -> int:
    """The epoch, from 1, in which the figure was best; the first of equals; 0 before the first."""
    best = 0
    for i, line in enumerate(history, start=1):
        new = line.get(f"validation.{stopping.figure}")
        if new is None:
            raise RecipeError(
                f"train.early_stopping waits for validation.{stopping.figure}, which this run does not have; "
                f"it has {', '.join(k for k in line if k.startswith('validation'))}."
            )
        if not best or validating.is_better(stopping.figure, new, history[best - 1][f"validation.{stopping.figure}"]):
            best = i
    return best


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise StorageError(f"The run in {folder} cannot be written: {e}. What was written stays.") from e


def _epoch(run: _Run, bars: Progress) -> None:
    """One pass over the data; all chance in it comes from (seed, epoch), so a resumed run is the same run."""
    recipe, now, fabric, training = run.recipe, run.state, run.fabric, run.training
    torch.manual_seed(recipe.seed * 100_003 + now.epoch + 1_000_003 * fabric.global_rank)
    drawn = batches(training, recipe.sampler, recipe.seed)
    change = augment.pipeline(recipe.augment, recipe.data.size)
    now.wrapped.train()
    began, total, parts = time.monotonic(), 0.0, np.zeros(len(recipe.losses))
    bar = bars.add_task(f"epoch {now.epoch + 1}/{recipe.train.epochs}", total=len(drawn))
    for i, batch in enumerate(drawn.epoch(now.epoch)):
        for group in now.optimiser.param_groups:
            group["lr"] = recipe.optimiser.learning_rate * schedules.factor(recipe, now.epoch + i / len(drawn))
        mine = _share(batch.rows, fabric)
        x = pixels.normalise(change(pixels.tensor(training.images[mine], fabric.device)), recipe.data)
        embeddings = now.wrapped(x, torch.from_numpy(training.sketch[mine]).to(fabric.device))
        whole = _gather(embeddings, fabric)[: len(batch.rows)]
        loss, values = now.loss(whole, validating.targets(training, batch, fabric.device))
        if not torch.isfinite(loss):
            raise RecipeError(
                f"The loss is {float(loss.detach())} in epoch {now.epoch + 1}. Lower optimiser.learning_rate."
            )
        now.optimiser.zero_grad()
        fabric.backward(loss)
        now.optimiser.step()
        if now.average:
            now.average.update_parameters(now.network)
        total += float(loss.detach())
        parts += values
        bars.advance(bar)
    bars.remove_task(bar)
    now.epoch += 1
    now.seconds += time.monotonic() - began
    line = {"epoch": float(now.epoch), "minutes": now.seconds / 60, "loss": total / len(drawn)}
    line |= {f"loss.{t.kind}.{i}": v / len(drawn) for i, (t, v) in enumerate(zip(recipe.losses, parts, strict=True))}
    now.history.append(line)


def _share(rows: Int64[np.ndarray, " b"], fabric: Fabric) -> Int64[np.ndarray, " m"]:
    """This process's rows of a batch: as many as every other's, the first ones again where it does not come out even.

    They stand side by side, as in the batch, so that each share has its photos and its sketches.
    """
    each = -(-len(rows) // fabric.world_size)
    return np.resize(rows, each * fabric.world_size)[fabric.global_rank * each :][:each]


def _gather(embeddings: Tensor, fabric: Fabric) -> Tensor:
    """Every process's embeddings, in the batch's order; gradients flow back to the process that they came from.

    Each process computes the loss of the whole batch. Gathering sums the gradients of all of them and the strategy then
    takes the mean over processes, so that what arrives is the gradient of the one loss.
    """
    if fabric.world_size == 1:
        return embeddings
    gathered = fabric.all_gather(embeddings, sync_grads=True)
    assert isinstance(gathered, Tensor)  # noqa: S101 -- as it is given one
    return gathered.flatten(0, 1)


def read_log(folder: Path) -> list[dict[str, float]]:
    """What was measured after each epoch of a run; nothing where there is none yet."""
    try:
        return [json.loads(line) for line in (folder / _LOG).read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


def _log(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write ``metrics.jsonl`` whole, so that a resumed run has one line an epoch."""
    new = folder / f"{_LOG}.new"
    new.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
    new.replace(folder / _LOG)


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
