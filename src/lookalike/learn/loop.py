"""The training loop of a stage."""

import time
from collections.abc import Callable

import numpy as np
import torch

from lookalike.errors import RecipeError
from lookalike.learn import augment, pace, pixels, schedules, stopping, teaching, validating
from lookalike.learn.distributed import gather, on_first, split_batch
from lookalike.learn.sampling import Batch
from lookalike.learn.stage_run import StageRun
from lookalike.learn.teaching import Lessons
from lookalike.shapes import Float, Float32, Int64
from lookalike.tables import plural

# A loss that is 0 in this many first epochs stays 0.
_IDLE_EPOCHS = 3


def train_stage(run: StageRun, save: Callable[[], None]) -> None:
    """Train a stage to its end, from the epoch that its state has reached.

    Args:
        run: the stage; its state changes.
        save: writes the state after every epoch, in the first process.

    Raises:
        RecipeError: the loss is always 0, the loss or the weights diverge, or early stopping needs a figure that the run
            does not measure.
    """
    state, config = run.state, run.stage.train
    lessons = Lessons()
    if not stopping.is_over(config, state.history):
        lessons = teaching.make(run)
        pace.measure(run)
        if not state.history and (run.index or run.recipe.start or getattr(run.recipe.network, "weights", None)):
            on_first(run.fabric, lambda: _note_beginning(run))
    while not stopping.is_over(config, state.history):
        figures = train_epoch(run, lessons)
        figures |= on_first(run.fabric, lambda: validate(run))
        state.history.append(figures)
        _check_learning(run)
        if config.early_stopping and stopping.best_epoch(state.history, config.early_stopping) == state.epoch:
            state.keep_best()
        on_first(run.fabric, save)
        run.progress.note("  ".join(f"{k} {v if isinstance(v, str) else f'{v:.4g}'}" for k, v in run.log()[-1].items()))


def _note_beginning(run: StageRun) -> None:
    """Note the figures of the weights that training begins from: those of the epochs should be better."""
    figures = validating.figures(run.data.validation, _embed_held_out(run), run.recipe.seed)
    run.progress.note("  ".join(["before training", *(f"{name} {value:.4g}" for name, value in figures.items())]))


def _check_learning(run: StageRun) -> None:
    """Check that the loss is not always 0, and note terms that are 0 from now on.

    Raises:
        RecipeError: the loss was 0 in every batch of the stage's first epochs.
    """
    history, terms = run.state.history, [f"loss.{term.kind}.{i}" for i, term in enumerate(run.stage.losses)]
    if len(history) >= min(_IDLE_EPOCHS, run.stage.train.epochs) and not any(line.get("loss", 1) for line in history):
        raise RecipeError(
            f"The loss is 0 in all batches of {plural(len(history), 'epoch')}, so nothing is trained: no pair or triplet violates its"
            " margin, or the miner chooses none. Raise the margin, choose another miner or loss, or check the images and"
            " labels."
        )
    for name in terms:
        if history[-1][name] == 0 and (len(history) == 1 or history[-2].get(name) != 0):
            run.progress.note(f"{name} is 0 in all batches of epoch {len(history)}: it trains nothing there.")


def train_epoch(run: StageRun, lessons: Lessons) -> dict[str, float]:
    """Train for one epoch, and return its figures.

    All random choices follow from the seed and the epoch, so a resumed run repeats them.
    """
    stage, state, batches = run.stage, run.state, run.data.batches
    torch.manual_seed(run.seed * 100_003 + state.epoch + 1_000_003 * run.fabric.global_rank)
    change = augment.pipeline(stage.augment, stage.data.size)
    title = f"epoch {state.epoch + 1}/{stage.train.epochs}" + (f" of {stage.name}" if stage.name else "")
    sums = np.zeros(1 + len(stage.losses))
    began = time.monotonic()
    state.wrapped.train()
    for i, batch in enumerate(batches.epoch(state.epoch)):
        rate = schedules.factor(stage.schedule, state.epoch + i / len(batches), stage.train.epochs)
        for group in state.optimiser.param_groups:
            group["lr"] = stage.optimiser.learning_rate * rate
        sums += train_batch(run, batch, change, lessons)
        run.progress.advance(title, i + 1, len(batches))
    state.seconds += time.monotonic() - began
    loss, *parts = (sums / len(batches)).tolist()
    names = [f"loss.{term.kind}.{i}" for i, term in enumerate(stage.losses)]
    epoch = len(state.earlier) + state.epoch + 1
    return {"epoch": float(epoch), "minutes": state.seconds / 60, "loss": loss} | dict(zip(names, parts, strict=True))


def train_batch(run: StageRun, batch: Batch, change: torch.nn.Module, lessons: Lessons) -> list[float]:
    """Update the weights by one batch, and return its loss and the value of each term."""
    state, fabric, training = run.state, run.fabric, run.data.training
    split = split_batch(training.sketch[batch.rows], fabric.world_size)
    rows = batch.rows[split[fabric.global_rank]]
    embeddings = _embed_fixed(run, rows, change) if run.photos else _embed(run, rows, change)
    targets = teaching.make_targets(training, batch, fabric.device, lessons)
    loss, values = state.loss(gather(embeddings, split, fabric), targets)
    if not torch.isfinite(loss):
        raise RecipeError(
            f"The loss is {float(loss.detach())} in epoch {state.epoch + 1}. Lower optimiser.learning_rate."
        )
    state.optimiser.zero_grad()
    fabric.backward(loss)
    state.optimiser.step()
    if state.average:
        state.average.update_parameters(state.network)
    return [float(loss.detach()), *values]


def _embed(run: StageRun, rows: Int64[np.ndarray, " b"], change: torch.nn.Module) -> Float[torch.Tensor, "b d"]:
    """Embed changed training images by the network in training."""
    stage, training, device = run.stage, run.data.training, run.fabric.device
    x = pixels.normalise(change(pixels.to_tensor(training.images[rows], device)), stage.data)
    # A stage without sketches skips the sketch branch: an empty batch would spoil its statistics.
    sketch = torch.from_numpy(training.sketch[rows]).to(device) if stage.data.has_sketches else None
    with pixels.autocast(run.state.precision, device):
        embeddings: torch.Tensor = run.state.wrapped(x, sketch)
    return embeddings


def _embed_fixed(run: StageRun, rows: Int64[np.ndarray, " b"], change: torch.nn.Module) -> Float[torch.Tensor, "b d"]:
    """Embed the sketches among training images, and look the vectors of the photos up."""
    assert run.photos is not None  # noqa: S101 -- the caller checks
    sketch = run.data.training.sketch[rows]
    embeddings = run.photos.training[torch.from_numpy(rows)].to(run.fabric.device)
    if sketch.any():
        embeddings[torch.from_numpy(sketch)] = _embed(run, rows[sketch], change)
    return embeddings


def validate(run: StageRun) -> dict[str, float]:
    """Measure the network on the held-out images."""
    state, held_out = run.state, run.data.validation
    embeddings = _embed_held_out(run)
    # Batch normalisation can keep the loss finite while the weights, and the statistics used outside training, diverge.
    if not np.isfinite(embeddings).all():
        raise RecipeError(
            f"The network gives {embeddings[~np.isfinite(embeddings)][0]} for held-out images after epoch "
            f"{state.epoch + 1}. Lower optimiser.learning_rate."
        )
    return validating.measure(run.stage, run.recipe.seed, state.loss, held_out, embeddings)


def _embed_held_out(run: StageRun) -> Float32[np.ndarray, "n d"]:
    state, held_out = run.state, run.data.validation
    if run.photos is None:
        return validating.embed(state.result, held_out, run.stage, state.precision)
    embeddings = run.photos.validation.copy()
    sketches = held_out.take(held_out.sketch)
    embeddings[held_out.sketch] = validating.embed(state.result, sketches, run.stage, state.precision)
    return embeddings
