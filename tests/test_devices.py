"""Where a network runs: the choice of a GPU's provider, its fall-back, and the size of batches."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi import onnxruntime_inference_collection

from image_files import write
from lookalike import encoders
from lookalike.cli import output
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder, network, process
from lookalike.encoders.batches import BatchSize
from lookalike.encoders.network import ANSWER, DONE, REQUEST, Contract, Device, ImageInput, Network, choose_gpus
from lookalike.encoders.process import NetworkProcess
from lookalike.query import Branch

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (80, SIZE, SIZE, 3), np.uint8)

ALL = ("CUDAExecutionProvider", "DmlExecutionProvider", "CoreMLExecutionProvider")

# A provider that every build of ONNX Runtime has, and that runs no operator itself: the CPU does.
AZURE = "AzureExecutionProvider"


def contract_of(folder: Path) -> Contract:
    card = Encoder.open(folder).card
    about = ImageInput(card.input.size, card.input.mean, card.input.std)
    return Contract(about, card.dimension, bits=False)


@pytest.fixture
def pocket_network(pocket: Path) -> Network:
    return Network(str(pocket / "photo.onnx"), contract_of(pocket))


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a provider that is here stand for a GPU that is faster than the CPU."""
    monkeypatch.setattr(network, "_GPUS", {AZURE: {}})
    monkeypatch.setattr(network, "_NAMES", {AZURE: "Azure"})
    monkeypatch.setattr(network, "_cores", lambda: 1e-9)


class Session:
    """A session that calls a function before each run."""

    def __init__(self, session: Any, before: Callable[[int], float]) -> None:  # noqa: ANN401 -- ONNX Runtime has no types
        self.session, self.before, self.lengths = session, before, list[int]()

    def get_providers(self) -> list[str]:
        return [AZURE]

    def run(self, names: list[str] | None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        (images,) = inputs.values()
        self.lengths.append(len(images))
        added = self.before(len(images))
        return [each + np.float32(added) for each in self.session.run(names, inputs)]


def use_session(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], float]) -> list[Session]:
    """Open such sessions in place of those of the GPU, and return them."""
    opened, real = list[Session](), network.Sessions._open

    def open_session(self: network.Sessions, provider: str, threads: int) -> Any:  # noqa: ANN401 -- likewise
        session = real(self, "CPUExecutionProvider", threads)
        if provider == AZURE:
            opened.append(session := Session(session, before))
        return session

    monkeypatch.setattr(network.Sessions, "_open", open_session)
    return opened


# ---- the choice


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        ((AZURE, "CPUExecutionProvider"), ()),
        (("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"), ("CUDAExecutionProvider",)),
        (("DmlExecutionProvider", "CPUExecutionProvider"), ("DmlExecutionProvider",)),
        (("CoreMLExecutionProvider", AZURE, "CPUExecutionProvider"), ("CoreMLExecutionProvider",)),
        ((), ()),
    ],
)
def test_the_gpu_of_each_wheel_is_chosen(available: tuple[str, ...], chosen: tuple[str, ...]) -> None:
    assert choose_gpus(available) == chosen


@given(st.lists(st.sampled_from([*ALL, AZURE, "CPUExecutionProvider", "TensorrtExecutionProvider"]), unique=True))
def test_known_gpus_are_chosen_in_order_of_preference(available: list[str]) -> None:
    assert choose_gpus(available) == tuple(name for name in ALL if name in available)


def test_the_cpu_alone_says_nothing(pocket_network: Network) -> None:
    for _ in range(3):
        pocket_network.run(IMAGES, 1)
    assert pocket_network.device == Device()


def test_a_gpu_is_used_after_the_first_images(pocket_network: Network, azure: None) -> None:
    before = pocket_network.run(IMAGES[:60], 1)
    assert pocket_network.device == Device()
    pocket_network.run(IMAGES[60:], 1)
    assert pocket_network.device == Device("Azure")
    assert pocket_network.is_on_gpu
    assert np.allclose(pocket_network.run(IMAGES[:60], 1), before, atol=1e-6)


def test_a_network_may_be_kept_on_the_cpu(pocket: Path, azure: None) -> None:
    kept = Network(str(pocket / "photo.onnx"), contract_of(pocket), gpu=False)
    kept.run(IMAGES, 1)
    assert kept.device == Device()


# ---- the fall-back


@pytest.fixture
def claims_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ONNX Runtime say that it has GPU providers, which it then does not load: as a wheel does without its libraries."""
    names = [*ALL, "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    real = onnxruntime_inference_collection.C

    class Claiming:
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- likewise
            return (lambda: names) if name == "get_available_providers" else getattr(real, name)

    monkeypatch.setattr(onnxruntime_inference_collection, "C", Claiming())


@pytest.mark.usefixtures("claims_gpus")
def test_a_gpu_that_cannot_be_loaded_is_named_and_the_cpu_used(
    pocket_network: Network, capfd: pytest.CaptureFixture[str]
) -> None:
    before = pocket_network.run(IMAGES, 1)
    assert pocket_network.device == Device(
        note="CoreML could not be loaded: its driver or its libraries are missing. The CPU is used."
    )
    assert np.array_equal(pocket_network.run(IMAGES, 1), before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("azure")
@pytest.mark.parametrize(
    ("before", "words"), [(lambda _: 1 / 0, "Azure failed (division by zero)"), (lambda _: 0.1, "other vectors")]
)
def test_a_gpu_that_fails_or_disagrees_is_not_used(
    pocket_network: Network, monkeypatch: pytest.MonkeyPatch, before: Callable[[int], float], words: str
) -> None:
    use_session(monkeypatch, before)
    first = pocket_network.run(IMAGES, 1)
    assert pocket_network.device.name == "CPU"
    assert words in pocket_network.device.note
    assert np.array_equal(pocket_network.run(IMAGES, 1), first)


@pytest.mark.usefixtures("azure")
def test_a_slow_gpu_is_not_used(pocket_network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_cores", lambda: 1e9)
    pocket_network.run(IMAGES, 1)
    assert pocket_network.device == Device(note="Azure is not faster. The CPU is used.")


@pytest.mark.usefixtures("azure")
def test_a_batch_that_is_too_large_for_the_gpu_is_divided(
    pocket_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 100

    def refuse(length: int) -> float:
        return 1 / 0 if length > limit else 0.0

    opened = use_session(monkeypatch, refuse)
    before = pocket_network.run(IMAGES, 1)
    limit = 30
    assert np.array_equal(pocket_network.run(IMAGES, 1), before)
    assert opened[0].lengths[2:] == [80, 40, 20, 20, 40, 20, 20]
    assert pocket_network.is_on_gpu
    limit = 0
    assert np.array_equal(pocket_network.run(IMAGES, 1), before)
    assert pocket_network.device.note == "Azure failed (division by zero). The CPU is used."


# ---- in a process of its own


def test_the_process_says_where_it_runs(pocket: Path) -> None:
    content = (pocket / "photo.onnx").read_bytes()
    start = network.settings_line(contract_of(pocket), -1, len(content), gpu=True) + content
    sink = io.BytesIO()
    network.serve(io.BytesIO(start + REQUEST.pack(1, 1, 0, 0)), sink, limit=lambda _: None)
    assert ANSWER.unpack(sink.getvalue()[: ANSWER.size])[1] == DONE
    assert json.loads(sink.getvalue()[ANSWER.size :]) == ["CPU", ""]


def test_a_process_that_ends_while_it_may_use_a_gpu_is_started_again_without(
    pocket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Encoder.open(pocket)._network("photo")
    assert isinstance(own, NetworkProcess)
    own.run(IMAGES[:1], 1)
    running = own._running
    assert running is not None
    assert (own.device, own.is_on_gpu) == (Device(), False)

    def call(*_: object) -> np.ndarray:
        assert own._running is not None
        process._end(own._running._process)
        raise process._EndedError("ended its process.")

    monkeypatch.setattr(running, "call", call)
    with pytest.raises(network.NetworkError, match="ended"):
        own.run(IMAGES, 1)
    own.run(IMAGES[:1], 1)
    monkeypatch.setattr(network, "has_gpu", lambda: True)
    running = own._running
    assert running is not None
    monkeypatch.setattr(running, "call", call)
    assert own.run(IMAGES, 1).shape == (80, 48)
    assert own._running is not None
    assert not own._running.gpu
    assert own.device == Device(note="The process that used the GPU ended its process. The CPU is used.")


def test_a_word_about_the_gpu_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_device(Device())
    assert capsys.readouterr().err == ""
    output.print_device(Device("CUDA"))
    output.print_device(Device(note="CUDA is not faster. The CPU is used."))
    assert capsys.readouterr().err == "Embedded on the GPU, by CUDA.\nCUDA is not faster. The CPU is used.\n"


# ---- the size of batches


def measured(seconds: Mapping[int, float]) -> BatchSize:
    """Give the seconds that an image takes by the size of the batch to a new choice, until it has chosen."""
    chosen = BatchSize()
    for _ in range(30):
        size = chosen.size
        chosen.record(size, seconds[size] * size)
    return chosen


@pytest.mark.parametrize(
    ("seconds", "size"),
    [({16: 1.0, 32: 0.9, 64: 0.8}, 64), ({16: 1.0, 32: 0.8, 64: 0.9}, 32), ({16: 1.0, 32: 0.98, 64: 2.0}, 16)],
)
def test_the_fastest_batch_size_is_chosen_unless_it_gains_nothing(seconds: dict[int, float], size: int) -> None:
    assert measured(seconds).size == size


@given(st.fixed_dictionaries({size: st.floats(1e-4, 10) for size in (16, 32, 64)}))
def test_the_chosen_size_is_nearly_the_fastest(seconds: dict[int, float]) -> None:
    assert seconds[measured(seconds).size] <= min(seconds.values()) / 0.97 + 1e-9


def test_batches_on_a_cpu_have_one_size(pocket: Path) -> None:
    encoder = Encoder.open(pocket)
    for _ in range(10):
        assert encoder.batch_size() == 16
        encoder.embed(IMAGES)


@pytest.mark.parametrize("size", [1, 4, 32, 64])
def test_the_batch_size_does_not_change_vectors(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{i:03}.png": i for i in range(70)})
    paths, embedder = sorted(tmp_path.iterdir()), Embedder.of(encoders.load("copies"))
    expected = embedder.embed_files(paths).vectors
    monkeypatch.setattr(Encoder, "batch_size", lambda *_: size)
    assert np.allclose(embedder.embed_files(paths).vectors, expected, atol=1e-6)


@pytest.mark.usefixtures("azure")
def test_batches_on_a_gpu_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {f"{i}.png": i for i in range(4)})
    sizes, embed = list[int](), Encoder.embed

    def record(self: Encoder, batch: np.ndarray, branch: Branch = "photo", *, threads: int = 1) -> np.ndarray:
        sizes.append(len(batch))
        return embed(self, batch, branch, threads=threads)

    monkeypatch.setattr(Encoder, "embed", record)
    embedder = Embedder.of(encoders.load("copies"))
    for _ in range(6):
        vectors = embedder.embed_files(sorted(tmp_path.iterdir()) * 50).vectors
    assert embedder.encoder.device() == Device("Azure")
    assert {16, 32, 64} <= {*sizes}
    assert np.allclose(vectors.reshape(50, 4, -1), vectors[:4], atol=1e-6)
