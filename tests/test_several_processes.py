"""Training in two processes: the same figures, one report, and no process left behind.

Each test reads the output to its end, so it waits until the last process has ended.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_run
from lookalike import encoders
from lookalike.learn import stopping
from lookalike.learn.distributed import split_batch
from lookalike.learn.networks import branches_of
from lookalike.learn.run_folder import read_weights
from lookalike.learn.train import resume, train

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

# Seconds. Each process imports torch first, and the machine may be busy.
PATIENCE = 400

# The command, with a function that fails in one process.
BROKEN = """
import os
from lookalike import datasets
from lookalike.cli import main
from lookalike.errors import DataError, StorageError
from lookalike.learn import checkpoint

def broken(*_, **__):
    raise {error}("broken on purpose.")

if int(os.environ.get("LOCAL_RANK", 0)) == {rank}:
    {where} = broken
main()
"""


# The command without the export, which takes longer than the tests' training.
NOT_EXPORTED = """
from lookalike.cli import main
from lookalike.learn import result

result.write = lambda *_: None
main()
"""


def begin(*arguments: object, program: Sequence[str] = ("-m", "lookalike")) -> "subprocess.Popen[str]":
    """Start ``lookalike train ARGUMENTS --devices 2`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *program, "train", *map(str, arguments), "--devices", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Two processes on the CPU; gloo needs only the local network.
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait until all processes of the group have ended; return exit status, output and errors."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def test_two_processes_compute_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_run.write(tmp_path)
    code, out, err = end(begin(path, "--to", tmp_path / "two", "--json"))
    assert code == 0, err
    assert json.loads(out) == {"encoder": str(tmp_path / "two" / "encoder")}  # one document
    assert err.count("36 images to train on") == err.count("epoch 2 ") == 1
    assert "deprecated" not in err
    assert encoders.load(tmp_path / "two" / "encoder").card.name == "tiny"

    tiny_run.skip_export(monkeypatch)
    train(path, tmp_path / "one")
    one, two = tiny_run.lines(tmp_path / "one"), tiny_run.lines(tmp_path / "two")
    assert [line["epoch"] for line in two] == [1, 2]
    for line, other in zip(one, two, strict=True):
        assert other == pytest.approx(line, rel=1e-4)
    left, right = tiny_run.tensors(tmp_path / "one"), tiny_run.tensors(tmp_path / "two")
    assert left.keys() == right.keys()
    assert all(torch.allclose(value, right[name], rtol=1e-3, atol=1e-5) for name, value in left.items())


def test_two_processes_train_stages(tmp_path: Path) -> None:
    """In the first stage one branch has no images, in the second a layer is frozen."""
    program = tmp_path / "program.py"
    program.write_text(NOT_EXPORTED)
    path = tiny_run.write(tmp_path, tiny_run.STAGES)
    code, _, err = end(begin(path, "--to", tmp_path / "run", program=[str(program)]))
    assert code == 0, err
    stages = [line["stage"] for line in tiny_run.lines(tmp_path / "run")]
    assert stages == ["classify"] * 2 + ["triplets"] * 3
    assert branches_of(read_weights(tmp_path / "run")) == ("photo", "sketch")


def test_ctrl_c_ends_both_processes_and_the_run_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe has sketches and batch normalisation, so each process needs two images of each branch."""
    path = tiny_run.write(tmp_path, tiny_run.SKETCHES, train={"epochs": 500, "precision": "32-true"})
    folder = tmp_path / "run"
    process = begin(path, "--to", folder)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "metrics.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    code, out, err = end(process)
    assert code == 130, err
    assert "Traceback" not in err
    assert out == ""
    assert not (folder / "encoder").exists()

    epoch = len(tiny_run.lines(folder))
    assert 1 <= epoch < 500
    tiny_run.skip_export(monkeypatch)
    monkeypatch.setattr(stopping, "is_over", lambda _, history: len(history) == epoch + 1)
    resume(folder)
    assert [line["epoch"] for line in tiny_run.lines(folder)] == list(range(1, epoch + 2))


def test_missing_images_are_reported_once(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path)
    (tmp_path / "images.npz").unlink()
    code, out, err = end(begin(path, "--to", tmp_path / "run"))
    assert (code, out) == (1, ""), err
    assert err.count("Error: ") == err.count("images.npz") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rank", "where", "error", "message"),
    [
        (1, "datasets.split_for_training", "DataError", "Error: Process 1 of 2: broken on purpose."),
        (0, "checkpoint.save", "StorageError", "Error: broken on purpose."),
    ],
    ids=["another process", "the first process alone"],
)
def test_an_error_in_one_process_ends_both_and_is_reported_once(
    tmp_path: Path, rank: int, where: str, error: str, message: str
) -> None:
    program = tmp_path / "broken.py"
    program.write_text(BROKEN.format(rank=rank, where=where, error=error))
    recipe = tiny_run.write(tmp_path)
    code, out, err = end(begin(recipe, "--to", tmp_path / "run", program=[str(program)]))
    assert (code, out) == (1, ""), err
    assert [line for line in err.splitlines() if "broken" in line] == [message]
    assert "Traceback" not in err


# ---- shares of a batch


@pytest.mark.parametrize("photos", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("sketches", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("processes", [2, 3])
def test_all_processes_get_the_same_number_of_photos_and_sketches(photos: int, sketches: int, processes: int) -> None:
    if photos + sketches == 0:
        return
    sketch = np.random.default_rng(0).permutation(np.arange(photos + sketches) < sketches)
    split = split_batch(sketch, processes)
    assert split.shape[0] == processes
    assert set(split.ravel().tolist()) == set(range(len(sketch)))
    for kind, count in ((False, photos), (True, sketches)):
        each = (sketch[split] == kind).sum(axis=1)
        assert (each == (max(2, -(-count // processes)) if count else 0)).all()


def test_one_process_gets_the_batch_in_its_order() -> None:
    sketch = np.asarray([True, False, True, False])
    assert split_batch(sketch, 1).tolist() == [[0, 1, 2, 3]]
