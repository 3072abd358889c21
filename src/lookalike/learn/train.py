"""A training run, from recipe to encoder.

On several devices or hosts each process reads all the data, embeds its share of every batch, and the losses see the whole
batch: embeddings are gathered with their gradients. What processes do not share are the statistics of batch normalisation,
which are those of each one's share. The first process alone measures, writes and speaks; a mistake that another one meets
is said by it too.
"""

import hashlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int64
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from lookalike import datasets
from lookalike.datasets import LabelledImages
from lookalike.errors import (
    AlreadyExistsError,
    DataError,
    LookalikeError,
    MismatchError,
    NotFoundError,
    RecipeError,
    StorageError,
)
from lookalike.learn import augment, checkpoint, pixels, schedules, state, validating
from lookalike.learn import recipe as recipes
from lookalike.learn.result import write
from lookalike.learn.sampling import Batches, batches
from lookalike.learn.state import State

CHECKPOINT = "checkpoint.safetensors"
RECIPE = "recipe.yaml"
_LOG = "metrics.jsonl"

T = TypeVar("T")


def start(recipe: recipes.Recipe, folder: Path, console: Console, *, devices: int = 1, nodes: int = 1) -> Path:
    """Train by a recipe into a folder that does not exist yet, or is empty.

    The folder gets ``recipe.yaml``, ``metrics.jsonl`` (a line an epoch), a checkpoint after every epoch, and in the end
    ``encoder/``, the artefact, and a report.

    Args:
        recipe: the run.
        folder: where to.
        console: what is said on the way.
        devices: GPUs, or processes where there are none, on each of
        nodes: so many hosts. Every host starts the same command, with torchrun or Fabric's variables around it. Where
            devices are more than one, the other processes are this program, started again.

    Returns:
        The artefact's folder. Processes other than the first do not wait until it is there.

    Raises:
        AlreadyExistsError: there is a run already.
        DataError: the data cannot be learned from.
        RecipeError: the recipe asks for what the data does not have, or the run diverges.
        StorageError: the folder cannot be written.
    """
    # Before the other processes are started: they find the folder that this one makes.
    if leads() and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise AlreadyExistsError(
            f"{folder} is there already. If it is a run, continue it with: lookalike train {folder}; or name another folder."
        )
    recipe = recipe.model_copy(update={"data": recipe.data.absolute()})
    with _one_voice():
        run = _prepare(recipe, console, devices, nodes)  # what cannot be learned from leaves no folder behind
        with _writing(folder):
            _alone(run, lambda: _begin(run, folder))
            return _train(run, folder)


def resume(folder: Path, console: Console, *, devices: int = 1, nodes: int = 1) -> Path:
    """Continue a run after its last whole epoch; a finished one is exported again.

    Raises:
        NotFoundError: there is no run in the folder.
        MismatchError: its checkpoint is of another recipe or of other pictures, or damaged.
    """
    if not (folder / RECIPE).is_file():
        raise NotFoundError(f"There is no run in {folder}: it has no {RECIPE}.")
    with _one_voice():
        run = _prepare(recipes.read(folder / RECIPE), console, devices, nodes)
        with _writing(folder):
            if _alone(run, (folder / CHECKPOINT).is_file):
                with _agreed(run.fabric):
                    run.restore(folder / CHECKPOINT)
                _alone(run, lambda: _log(folder, run.state.history))
                run.console.print(f"continuing after epoch {run.state.epoch}")
            return _train(run, folder)


def leads() -> bool:
    """Whether this process is the first of those that train together: the one that writes and speaks."""
    return getattr(rank_zero_only, "rank", 0) == 0


@dataclass
class _Run:
    """A recipe with all that it takes."""

    recipe: recipes.Recipe
    fabric: Fabric
    training: LabelledImages
    validation: LabelledImages
    batches: Batches
    state: State
    console: Console

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
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces each process that it starts
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if several else "auto",
        precision=recipe.train.precision,
    )
    fabric.launch()
    if not leads():
        console = Console(quiet=True)
    torch.manual_seed(recipe.seed)
    data = recipe.data
    with _agreed(fabric):
        holdout = datasets.Holdout(data.validation, data.held_out, recipe.seed, data.each_picture)
        training, validation = datasets.split_for_training(
            data.sources, holdout, data.size, data.fit, _ConsoleNotes(console)
        )
        if data.quarter_turns:
            training = _turned(training)
        if data.each_picture:
            # Two views of each stand for the pairs of a class.
            validation = augment.views(validation, recipe.augment, 2, recipe.seed)
        drawn = batches(training, recipe.sampler, recipe.seed)
    told = "each a class of its own" if data.each_picture else f"{len(training.classes)} classes"
    console.print(f"{len(training):,} pictures to train on, {len(validation):,} to validate, {told}")
    return _Run(recipe, fabric, training, validation, drawn, state.fresh(recipe, training, fabric), console)


class _ConsoleNotes:
    """A `lookalike.progress.Progress` that prints its notes alone."""

    def __init__(self, console: Console) -> None:
        self.note = console.print

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show nothing."""


def _turned(samples: LabelledImages) -> LabelledImages:
    """Each class four times: as it is, and turned by a quarter, a half and three quarters."""
    turns = range(4)
    return LabelledImages(
        images=np.concatenate([np.rot90(samples.images, turn, axes=(1, 2)) for turn in turns]),
        labels=np.concatenate([samples.labels + turn * len(samples.classes) for turn in turns]),
        items=np.concatenate([samples.items + turn * (samples.items.max() + 1) for turn in turns]),
        sketch=np.tile(samples.sketch, 4),
        classes=tuple(f"{name} turned by {90 * turn}°" if turn else name for turn in turns for name in samples.classes),
    )


def _begin(run: _Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE).write_text(run.recipe.to_yaml(), encoding="utf-8")


def _train(run: _Run, folder: Path) -> Path:
    recipe, now = run.recipe, run.state
    with _progress(run.console) as bars:
        while not _is_over(recipe, now):
            _epoch(run, bars)
            now.history[-1].update(_alone(run, lambda: _validate(run)))
            if (stopping := recipe.train.early_stopping) and _best(now.history, stopping) == now.epoch:
                now.keep()
            _alone(run, lambda: _save(run, folder))
            run.console.print("  ".join(f"{k} {v:.4g}" for k, v in now.history[-1].items()))
    # The other processes do not wait for this: it can take longer than their patience.
    if leads():
        _finish(run, folder)
    return folder / "encoder"


def _validate(run: _Run) -> dict[str, float]:
    """What the held-out pictures say after an epoch."""
    embeddings = validating.embed(run.state.result, run.validation, run.recipe)
    # Batch normalisation can keep the loss finite while the weights, and the statistics it goes by outside training,
    # leave all bounds.
    if not np.isfinite(embeddings).all():
        raise RecipeError(
            f"The network gives {embeddings[~np.isfinite(embeddings)][0]} for held-out pictures after epoch "
            f"{run.state.epoch}. Lower optimiser.learning_rate."
        )
    return validating.figures(run.recipe, run.state.loss, run.validation, embeddings)


def _save(run: _Run, folder: Path) -> None:
    run.save(folder / CHECKPOINT)
    _log(folder, run.state.history)


def _finish(run: _Run, folder: Path) -> None:
    """Export the last epoch, or the best one where the run stops early."""
    recipe, now = run.recipe, run.state
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
def _one_voice() -> Iterator[None]:
    """Of processes that train together the first says what goes wrong; the others end in silence."""
    try:
        yield
    except (LookalikeError, KeyboardInterrupt):
        if leads():
            raise
        # As if all were well: Fabric kills the first where another failed, which may be before it has spoken. Unless
        # the two have not met yet, when the first would wait for ever.
        sys.exit(0 if torch.distributed.is_initialized() else 1)


@contextmanager
def _agreed(fabric: Fabric) -> Iterator[None]:
    """What is wrong for one process is wrong for all, so that none waits for one that is gone.

    One may lack what another has: hosts have disks of their own.
    """
    mine: LookalikeError | None = None
    try:
        yield
    except LookalikeError as e:
        mine = e
    said = [fabric.broadcast(str(mine or ""), src=process) for process in range(fabric.world_size)]
    if mine:
        raise mine
    for process, wrong in enumerate(said):
        if wrong:
            raise DataError(f"Process {process} of {fabric.world_size}: {wrong}")


def _alone(run: _Run, work: Callable[[], T]) -> T:
    """Have the first process do something while the others wait for what comes of it; if it goes wrong, they end."""
    came: list[T] = []
    try:
        if leads():
            came.append(work())
    finally:
        came = run.fabric.broadcast(came)
    if not came:
        sys.exit(0)  # as `_one_voice`
    return came[0]


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
    drawn = run.batches
    change = augment.pipeline(recipe.augment, recipe.data.size)
    now.wrapped.train()
    began, total, parts = time.monotonic(), 0.0, np.zeros(len(recipe.losses))
    bar = bars.add_task(f"epoch {now.epoch + 1}/{recipe.train.epochs}", total=len(drawn))
    for i, batch in enumerate(drawn.epoch(now.epoch)):
        for group in now.optimiser.param_groups:
            group["lr"] = recipe.optimiser.learning_rate * schedules.factor(recipe, now.epoch + i / len(drawn))
        deal = _deal(training.sketch[batch.rows], fabric.world_size)
        mine = batch.rows[deal[fabric.global_rank]]
        x = pixels.normalise(change(pixels.tensor(training.images[mine], fabric.device)), recipe.data)
        embeddings = now.wrapped(x, torch.from_numpy(training.sketch[mine]).to(fabric.device))
        whole = _gather(embeddings, deal, fabric)
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


def _deal(sketch: Bool[np.ndarray, " b"], processes: int) -> Int64[np.ndarray, "p m"]:
    """The positions in a batch that each process embeds.

    Each has as many photos and as many sketches as every other, two at least, which batch normalisation needs; some
    stand twice where it does not come out even.
    """
    if processes == 1:
        return np.arange(len(sketch))[None]
    kinds = [rows for kind in (False, True) if len(rows := np.flatnonzero(sketch == kind))]
    return np.concatenate([np.resize(rows, (processes, max(2, -(-len(rows) // processes)))) for rows in kinds], axis=1)


def _gather(embeddings: Tensor, deal: Int64[np.ndarray, "p m"], fabric: Fabric) -> Tensor:
    """Every process's embeddings, in the batch's order; gradients flow back to the process that they came from.

    Each process computes the loss of the whole batch. Gathering sums the gradients of all of them and the strategy then
    takes the mean over processes, so that what arrives is the gradient of the one loss.
    """
    if fabric.world_size == 1:
        return embeddings
    with warnings.catch_warnings():
        # Fabric gathers by a function that torch deprecates.
        warnings.filterwarnings("ignore", ".*all_gather is deprecated", FutureWarning)
        gathered = fabric.all_gather(embeddings, sync_grads=True)
    assert isinstance(gathered, Tensor)  # noqa: S101 -- as it is given one
    _, first = np.unique(deal, return_index=True)
    return gathered.flatten(0, 1)[torch.from_numpy(first).to(gathered.device)]


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
