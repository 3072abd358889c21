"""Data, recipes and runs of strangers: each ends with one line, in bounded time and memory."""

import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lookalike import datasets
from lookalike.datasets import npz_file
from lookalike.datasets.dataset import Dataset
from lookalike.errors import DataError, LookalikeError, MismatchError, RecipeError
from lookalike.evaluation import omniglot
from lookalike.evaluation.omniglot import read_runs
from lookalike.learn import checkpoint, recipe
from lookalike.learn.run_folder import read_log, read_weights


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 20


def check_line(error: LookalikeError) -> None:
    assert len(str(error).splitlines()) <= 2
    assert len(str(error)) < 800


# ---- npz


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write_npz(path: Path, images: bytes, labels: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", labels or header("(4,)") + bytes([0, 0, 1, 1]))
    return path


def open_path(path: Path) -> Dataset:
    return datasets.open_dataset(datasets.infer_source(path))


@pytest.mark.parametrize(
    "images",
    [
        header("(4, 1000000, 1000000, 3)"),
        header("(27000000000000,)") + b"x",
        header("(4, -1, 8, 3)") + bytes(768),
        header("(4, 8, 8, 3)", "'<U0'"),
        header("(" + "9" * 30 + ",)", "'|V0'"),
        header("(" + "9" * 6_000 + ",)"),
        header("(" * 3_000 + ")" * 3_000),
        header("(4, 8, 8, 3)", "'|O'") + b"\x80\x04N.",
        header("(4, 8, 8, 3)", "[('a', '|O')]"),
        header("(4, 8, 8, 3)", "'nonsense'"),
        header("-" * 3_000 + "1"),
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        b"",
    ],
    ids=range(14),
)
def test_arrays_that_claim_what_they_do_not_have_are_damaged(tmp_path: Path, images: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.npz") as caught:
        open_path(write_npz(tmp_path / "x.npz", images))
    check_line(caught.value)


def test_the_labels_are_checked_like_the_images(tmp_path: Path) -> None:
    images = header("(4, 8, 8, 3)") + bytes(768)
    open_path(write_npz(tmp_path / "x.npz", images))
    with pytest.raises(DataError, match="labels"):
        open_path(write_npz(tmp_path / "x.npz", images, header("(4,)", "'<U999999999'")))


def test_an_array_that_grows_beyond_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npz(tmp_path / "x.npz", header("(4, 1000, 1000, 3)") + bytes(12_000_000))
    assert path.stat().st_size < 20_000
    open_path(path)
    monkeypatch.setattr(npz_file, "FREE_BYTES", 1_000)
    with pytest.raises(DataError, match="grow"):
        open_path(path)


def test_a_declared_size_is_not_trusted(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", header("(4, 1000000, 1000000, 3)") + bytes(5_000))
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 46):
        if content[place : place + 4] == b"PK\x01\x02":  # uncompressed size in the central directory
            content[place + 24 : place + 28] = b"\xfe\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz"):
        open_path(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("name", ["x.npz", "x.csv"])
def test_a_pipe_does_not_hang(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="not a file"):
        open_path(tmp_path / name)


# ---- CSV


@pytest.mark.parametrize(
    "text",
    [
        ",".join(f"c{i}" for i in range(200_000)) + "\n" + "a\n" * 1_000,
        "path,label\n" + "x" * 200_000 + ",1\n",
        'path,label\n"' + "x" * 100_000,
        "path,label\n\0\n",
    ],
    ids=["columns", "field", "quote", "nul"],
)
def test_hostile_tables_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.csv") as caught:
        open_path(tmp_path / "x.csv")
    check_line(caught.value)


def test_one_long_label_does_not_widen_the_others(tmp_path: Path) -> None:
    lines = ["path,label", f"0.jpg,{'x' * 100_000}", *(f"{i}.jpg,b" for i in range(1, 50_000))]
    (tmp_path / "x.csv").write_text("\n".join(lines), encoding="utf-8")
    assert open_path(tmp_path / "x.csv").classes == ("b", "x" * 100_000)


# ---- one-shot runs


def write_runs(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


LINE = b"run01/test/a.png run01/training/b.png\n"
RUN = {"run01/class_labels.txt": LINE, "run01/test/a.png": b"a", "run01/training/b.png": b"b"}


def test_names_that_lead_outside_are_never_followed(tmp_path: Path) -> None:
    strange = dict.fromkeys(("../secret", "/etc/x", "//", "a//b", "a/../..", "..", "run01/../../x", "\\x"), b"x")
    (run,) = read_runs(write_runs(tmp_path / "runs.zip", RUN | strange))
    assert (run.test, run.training) == ((b"a",), (b"b",))
    hostile = {"../class_labels.txt": b"../test/a ../training/b", "./class_labels.txt": LINE}
    with pytest.raises(DataError):
        read_runs(write_runs(tmp_path / "runs.zip", hostile))
    outside = RUN | {"run01/class_labels.txt": b"run01/test/../../x run01/training/b.png"}
    with pytest.raises(DataError, match="line 1"):
        read_runs(write_runs(tmp_path / "runs.zip", outside))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    for name, content in RUN.items():
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).write_bytes(content)
    assert len(read_runs(tmp_path / "runs")) == 1
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "runs/run01/test/a.png").unlink()
    (tmp_path / "runs/run01/test/a.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="link"):
        read_runs(tmp_path / "runs")


def test_bombs_of_runs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="too many for a drawing"):
        read_runs(write_runs(tmp_path / "runs.zip", RUN | {"run01/test/a.png": bytes(1 << 21)}))
    with pytest.raises(DataError, match="one-shot runs, more than"):
        read_runs(write_runs(tmp_path / "runs.zip", {f"r{i}/class_labels.txt": b"x" for i in range(1_001)}))
    monkeypatch.setattr(omniglot, "_MAX_TOTAL", 1_000_000)
    many = RUN | {"run01/class_labels.txt": LINE * 1_000, "run01/test/a.png": bytes(100_000)}
    with pytest.raises(DataError, match=r"more than 1,000,000 bytes"):
        read_runs(write_runs(tmp_path / "runs.zip", many))


# ---- recipes


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " * 10_000,
        "name: " + "1" * 6_000,
        "seed: " + "1" * 6_000,
        "a: &a [x, x]\n"
        + "".join(f"b{i}: &b{i} [*{p}, *{p}]\n" for i, p in enumerate(["a", *(f"b{j}" for j in range(40))])),
        "!!python/object/apply:os.system [echo]",
        "name: .inf",
        "\0",
        "x" * 1_000_000,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_hostile_recipes_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"r\.yaml") as caught:
        recipe.read(tmp_path / "r.yaml")
    assert len(str(caught.value)) < 2_000


HONEST = """
name: tiny
data: {sources: [{kind: toyshop, count: 40, seed: 1}], size: 12}
network: {backbone: fast, widths: [8, 8, 8], dimension: 8}
losses: [{kind: cross_entropy}]
sampler: {classes: 4, items: 3}
optimiser: {learning_rate: 0.05}
schedule: {kind: constant}
train: {epochs: 2}
"""


@pytest.mark.parametrize(
    "change",
    [
        "network.widths=[1000000000, 8, 8]",
        "network.dimension=1000000000",
        "network.patch=1000000",
        "data.size=100000",
        "data.sources.0.count=1000000000",
        "data.sources.0.sketches=1000000",
        "data.sources.0.seed=" + "9" * 90,
        "data.std=[1, 1, 1e-300]",
        "data.mean=[0, 0, 1e300]",
        "sampler.items=1000000000",
        "seed=" + "1" * 6_000,
        "network.dimension=" + "[" * 10_000,
    ],
    ids=lambda change: change[:40],
)
def test_a_recipe_cannot_ask_for_endless_memory(tmp_path: Path, change: str) -> None:
    (tmp_path / "r.yaml").write_text(HONEST, encoding="utf-8")
    recipe.read(tmp_path / "r.yaml")
    with pytest.raises(RecipeError) as caught:
        recipe.read(tmp_path / "r.yaml", [change])
    assert len(str(caught.value)) < 1_000


# ---- runs


def damaged(tree: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        save_file({"x": np.zeros(3, np.float32)}, path, metadata={"tree": json.dumps(tree)})

    return write


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"\xff" * 8 + b"{}"),
        lambda path: path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"),
        lambda path: save_file({"x": np.zeros(3)}, path),
        lambda path: save_file({"x": np.zeros(3)}, path, metadata={"tree": "[" * 100_000}),
        lambda path: save_file({"x": np.zeros(3)}, path, metadata={"tree": "1" * 6_000}),
        damaged([]),
        damaged(3),
        damaged({"pairs": 3}),
        damaged({"pairs": [[["x"], 3]]}),
        damaged({"tensor": "y"}),
        damaged({"pairs": [["state", 3]]}),
        damaged({"pairs": [["state", {"pairs": [["best", 3]]}]]}),
        damaged({"pairs": [["weights", {"pairs": [["x", 3]]}]]}),
        damaged({"pairs": [["weights", [1]]]}),
    ],
    ids=range(14),
)
def test_a_checkpoint_of_a_stranger_is_one_line(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "w.safetensors")
    with pytest.raises(MismatchError, match=r"w\.safetensors") as caught:
        read_weights(tmp_path / "w.safetensors")
    check_line(caught.value)


def test_weights_of_a_checkpoint_are_tensors_by_name(tmp_path: Path) -> None:
    damaged({"pairs": [["weights", {"pairs": [["x", {"tensor": "x"}]]}]]})(tmp_path / "w.safetensors")
    assert list(read_weights(tmp_path / "w.safetensors")) == ["x"]
    assert "weights" in checkpoint.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"epoch": ' + "1" * 6_000 + "}", "3", "{", "\0", '{"loss": NaN}'])
def test_a_log_of_a_stranger_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(MismatchError, match=r"metrics\.jsonl") as caught:
        read_log(tmp_path)
    check_line(caught.value)
