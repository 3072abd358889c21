"""The pace of training, measured before the first epoch: the faster precision, and the minutes that a stage will take."""

import copy
import time

import torch

from lookalike.learn import augment, pixels
from lookalike.learn.distributed import on_first
from lookalike.learn.recipe import Precision
from lookalike.learn.sampling import Batch
from lookalike.learn.stage_run import StageRun
from lookalike.tables import plural

# Images of a timed step: enough for the speed of a whole batch, and few enough for a large network on a CPU.
_IMAGES = 16

# A CPU without instructions for bfloat16 computes in it several times slower; with a small gain, float32 is the safer choice.
_MIN_GAIN = 1.1

_REPEATS = 2


def measure(run: StageRun) -> None:
    """Choose the precision, if the recipe leaves it open, and say how long the stage will take.

    A resumed stage keeps the precision in which it began, and a later stage that of the first one.
    """
    state, config = run.state, run.stage.train
    chosen = state.precision if config.precision == "auto" else config.precision
    choices: tuple[Precision, ...] = (chosen,) if chosen else ("bf16-mixed", "32-true")
    seconds = on_first(run.fabric, lambda: {choice: time_step(run, choice) for choice in choices})
    if chosen is None:
        faster = seconds["bf16-mixed"] * _MIN_GAIN <= seconds["32-true"]
        chosen = "bf16-mixed" if faster else "32-true"
        ratio = seconds["32-true"] / seconds["bf16-mixed"]
        run.progress.note(f"precision {chosen}: bf16-mixed is {ratio:.1f} times as fast as 32-true here")
    state.precision = chosen
    images = sum(_embedded(run, batch) for batch in run.data.batches.epoch(0))
    epochs = config.epochs - state.epoch
    minutes = seconds[chosen] / _IMAGES * images / run.fabric.world_size * epochs / 60
    most = "at most " if config.early_stopping else "about "
    run.progress.note(f"{most}{describe(minutes)} for {plural(epochs, 'epoch')} of {plural(images, 'image')}")


def _embedded(run: StageRun, batch: Batch) -> int:
    """Count the images of a batch that the network embeds: only sketches beside a fixed photo branch."""
    return int(run.data.training.sketch[batch.rows].sum()) if run.photos else len(batch.rows)


def time_step(run: StageRun, precision: Precision) -> float:
    """Time a step forward and back with 16 images, in seconds; weights and random numbers of the run stay as they are."""
    training, device = run.data.training, run.fabric.device
    first = next(iter(run.data.batches.epoch(0)))
    rows = first.rows[:_IMAGES].repeat(-(-_IMAGES // min(_IMAGES, len(first.rows))))[:_IMAGES]
    change = augment.pipeline(run.stage.augment, run.stage.data.size)
    sketch = torch.from_numpy(training.sketch[rows]).to(device) if run.stage.data.has_sketches else None
    network = copy.deepcopy(run.state.network).train()
    best = float("inf")
    with torch.random.fork_rng():
        for _ in range(1 + _REPEATS):  # the first step allocates
            began = time.perf_counter()
            x = pixels.normalise(change(pixels.to_tensor(training.images[rows], device)), run.stage.data)
            with pixels.autocast(precision, device):
                embeddings = network(x, sketch)
            embeddings.float().square().sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - began)
    return best


def describe(minutes: float) -> str:
    """Say a time in words that are as exact as an estimate."""
    if round(minutes) <= 1:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"  # noqa: PLR2004 -- three digits
