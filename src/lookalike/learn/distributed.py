"""Training in several processes, on the GPUs of one host or of several.

Each process reads all the data and embeds its share of every batch; the losses see the whole batch, because embeddings are
gathered with their gradients. Only the statistics of batch normalisation are those of each process's share. The first
process alone validates, writes and reports; it also reports errors of the others.
"""

import atexit
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from lookalike.errors import DataError, LookalikeError
from lookalike.shapes import Bool, Float, Int64

T = TypeVar("T")


@dataclass(frozen=True)
class Devices:
    """The processes that train together.

    Attributes:
        devices: GPUs on each host, or processes on a host without GPUs. All but the first process are this program, started
            again.
        nodes: hosts. Each must start the same command, with the variables of torchrun or Fabric in its environment.
    """

    devices: int = 1
    nodes: int = 1


ONE_DEVICE = Devices()


def is_first() -> bool:
    """Check whether this process is the first of those that train together: the one that writes and reports."""
    return getattr(rank_zero_only, "rank", 0) == 0


def connect(devices: Devices) -> Fabric:
    """Start the other processes, and connect this one with them."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs each process that it starts
    several = devices.devices * devices.nodes > 1
    fabric = Fabric(
        accelerator="auto",
        devices=devices.devices,
        num_nodes=devices.nodes,
        strategy="ddp" if several else "auto",
    )
    fabric.launch()
    if several:
        # Threads of gloo may hold tensors of finished transfers; freeing one while Python ends aborts the process.
        atexit.register(_disconnect)
    return fabric


def _disconnect() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def first_reports() -> Iterator[None]:
    """Report an error of lookalike in the first process only; the others end silently."""
    try:
        yield
    except (LookalikeError, KeyboardInterrupt):
        if is_first():
            raise
        # Connected processes end with status 0, because Fabric kills the first process when another one fails, perhaps
        # before the report. Before they are connected, status 1 keeps the first process from waiting forever.
        sys.exit(0 if torch.distributed.is_initialized() else 1)


@contextmanager
def fail_together(fabric: Fabric) -> Iterator[None]:
    """Raise an error of one process in all of them, so that none waits for a process that has ended.

    One process may fail alone, because hosts have disks of their own.
    """
    own: LookalikeError | None = None
    try:
        yield
    except LookalikeError as e:
        own = e
    messages = [fabric.broadcast(str(own or ""), src=process) for process in range(fabric.world_size)]
    if own:
        raise own
    for process, message in enumerate(messages):
        if message:
            raise DataError(f"Process {process} of {fabric.world_size}: {message}")


def on_first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Call a function in the first process and return its result in all; if it fails, all processes end."""
    result: list[T] = []
    try:
        if is_first():
            result.append(work())
    finally:
        result = fabric.broadcast(result)
    if not result:
        sys.exit(0)  # as in `first_reports`
    return result[0]


def split_batch(sketch: Bool[np.ndarray, " b"], processes: int) -> Int64[np.ndarray, "p m"]:
    """Choose the positions of a batch that each process embeds.

    All have the same number of photos and of sketches, and at least two, which batch normalisation needs; some positions
    are repeated where the numbers do not divide evenly.

    Args:
        sketch: whether each image of the batch is a sketch.
        processes: p.
    """
    if processes == 1:
        return np.arange(len(sketch))[None]
    kinds = [rows for kind in (False, True) if len(rows := np.flatnonzero(sketch == kind))]
    return np.concatenate([np.resize(rows, (processes, max(2, -(-len(rows) // processes)))) for rows in kinds], axis=1)


def gather(embeddings: Float[Tensor, "m d"], split: Int64[np.ndarray, "p m"], fabric: Fabric) -> Float[Tensor, "b d"]:
    """Gather the embeddings of all processes in the batch's order; gradients flow back to the process of each embedding.

    Each process computes the loss of the whole batch. Gathering sums their gradients and the strategy then averages over
    processes, so the result is the gradient of one loss.
    """
    if fabric.world_size == 1:
        return embeddings
    with warnings.catch_warnings():
        # Fabric gathers by a function that torch deprecates.
        warnings.filterwarnings("ignore", ".*all_gather is deprecated", FutureWarning)
        gathered = fabric.all_gather(embeddings, sync_grads=True)
    assert isinstance(gathered, Tensor)  # noqa: S101 -- it returns what it is given
    _, first = np.unique(split, return_index=True)
    return gathered.flatten(0, 1)[torch.from_numpy(first).to(gathered.device)]
