"""A network of an encoder, run by ONNX Runtime; as a script, the process that runs the network of a stranger.

A network of texts comes with a tokenizer, which the same process runs.

It imports nothing of lookalike, so that such a process starts in a fraction of a second.
"""

import contextlib
import io
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

REQUEST = struct.Struct("<QIQQ")
"""A request: its number, the threads to use, the number of images or texts, the length of the content; then the content."""

ANSWER = struct.Struct("<QBQ")
"""An answer: the request's number, its outcome, the length of the content: the vectors, or the error in UTF-8.

A request of no images is answered with the values of the `Device` as JSON.
"""

FAILED, DONE, DONE_ON_GPU = range(3)
"""Outcomes of a request. The second and the third say where the network runs."""

_MAX_MESSAGE = 300

# The GPU providers of ONNX Runtime, best first, with the options that keep float32: vectors of the CPU and of the GPU are compared.
_GPUS = {
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "DmlExecutionProvider": {},
    "CoreMLExecutionProvider": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},
}

_NAMES = {"CUDAExecutionProvider": "CUDA", "DmlExecutionProvider": "DirectML", "CoreMLExecutionProvider": "CoreML"}

# Images embedded on the CPU before a GPU is tried: its libraries take seconds to load, which a single query need not wait for.
_GPU_AFTER = 64

# Images that fit into the memory of a GPU together.
_GPU_BATCH = 16

# The largest difference between a vector of the CPU and of the GPU, relative to its length.
_TOLERANCE = 1e-2


class NetworkError(Exception):
    """A network cannot be loaded or run. The text is one line and continues a sentence that begins with the network."""


@dataclass(frozen=True)
class ImageInput:
    """The preprocessing of fitted images: (value / 255 - mean) / std.

    Attributes:
        size: pixels a side.
        mean: of each channel of values in 0…1, which is subtracted.
        std: of each channel, by which the values are then divided.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def pack(self, batch: np.ndarray) -> memoryview:
        """Return the bytes of images, which `unpack` reads."""
        return np.ascontiguousarray(batch).data.cast("B")

    def unpack(self, content: bytes, count: int) -> np.ndarray:
        """Read images that `pack` wrote."""
        return np.frombuffer(content, np.uint8).reshape(count, self.size, self.size, 3)


@dataclass(frozen=True)
class TextInput:
    """The preprocessing of texts by a tokenizer.

    Attributes:
        tokens: tokens of each text: a longer text is cut, a shorter one padded.
        padding: the number of the token that pads a text.
        ids: the input for the numbers of the tokens, ``(n, tokens)``, in 64 or 32 bits.
        mask: the input that is 1 for a token and 0 for padding; none if the network has no such input.
    """

    tokens: int
    padding: int
    ids: str
    mask: str | None

    def pack(self, batch: Sequence[str]) -> bytes:
        """Return the bytes of texts, which `unpack` reads."""
        return json.dumps(batch).encode()

    def unpack(self, content: bytes, _: int) -> list[str]:
        """Read texts that `pack` wrote."""
        return list(json.loads(content))


@dataclass(frozen=True)
class Contract:
    """What a network takes and returns, by its card.

    Attributes:
        input: of images or of texts.
        dimension: numbers an image or a text.
        bits: whether a positive number is the bit 1, and another one 0.
        output: name of the output to read, if the network has several.
        pool: how the vectors of an image's parts become one: ``first``, ``mean``, or none if there is one vector.
    """

    input: ImageInput | TextInput
    dimension: int
    bits: bool
    output: str | None = None
    pool: str | None = None

    @property
    def width(self) -> int:
        """Values in a vector: floats, or bytes of eight bits."""
        return self.dimension // 8 if self.bits else self.dimension

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Type of the values in a vector."""
        return np.dtype(np.uint8 if self.bits else np.float32)


class Network:
    """A network in this process. It is loaded at first use, and threads may share it."""

    def __init__(self, model: str | bytes, contract: Contract, tokenizer: bytes = b"", *, gpu: bool = True) -> None:
        """Make a network of the path or the content of an ONNX file, and of the content of a ``tokenizer.json``.

        Args:
            model: the path or the content.
            contract: what the network takes and returns.
            tokenizer: the content, for a network of texts.
            gpu: whether it may run on a GPU.
        """
        self._contract = contract
        self._tokenizer_json = tokenizer
        self._tokenizer: Tokenizer | None = None
        self._sessions = Sessions(model, gpu=gpu)
        self._lock = Lock()

    @property
    def device(self) -> "Device":
        """Where it runs."""
        return self._sessions.device

    @property
    def is_on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.device.name != "CPU"

    def run(self, batch: np.ndarray | Sequence[str], threads: int) -> np.ndarray:
        """Embed fitted images, uint8 ``(n, size, size, 3)``, or n texts: float32 ``(n, dimension)``, or packed bits.

        Raises:
            NetworkError: the network or the tokenizer cannot be loaded, fails, or returns something other than the contract says.
        """
        contract, session = self._contract, self._sessions.on_cpu(threads)
        inputs = session.get_inputs()
        if isinstance(contract.input, ImageInput) and len(inputs) != 1:
            raise NetworkError(
                f"takes {len(inputs)} inputs, not one: {one_line(', '.join(i.name for i in inputs))}. Use a network of images"
                " alone."
            )
        try:
            result = self._pool(self._run(self._prepare(batch, session), threads))
            shape = np.shape(result)
            finite = np.isfinite(result).all()
        except NetworkError:
            raise
        except Exception as e:  # ONNX Runtime's own errors have no public base class
            raise NetworkError(f"fails: {one_line(e)}") from e
        if shape != (len(batch), contract.dimension) or not finite:
            each = "a text" if isinstance(contract.input, TextInput) else "an image"
            raise NetworkError(
                f"contradicts its card, which states {contract.dimension} finite numbers {each}: it returned an array of"
                f" shape {shape}, or numbers that are not finite. Export the encoder again."
            )
        values: np.ndarray = np.packbits(result > 0, axis=1) if contract.bits else np.asarray(result, np.float32)
        return values

    def _prepare(self, batch: np.ndarray | Sequence[str], session: "InferenceSession") -> dict[str, np.ndarray]:
        """Return the inputs of the network."""
        if isinstance(self._contract.input, TextInput):
            return self._tokenise(batch, self._contract.input, session)
        (images_in,) = session.get_inputs()
        images = _normalise(np.asarray(batch), self._contract.input)
        return {images_in.name: images.astype(np.float16) if images_in.type == "tensor(float16)" else images}

    def _run(self, inputs: dict[str, np.ndarray], threads: int) -> np.ndarray:
        """Run a network; one for a fixed number of images or texts gets as many at a time."""
        count, shape = len(next(iter(inputs.values()))), self._sessions.on_cpu(threads).get_inputs()[0].shape
        fixed = shape[0] if shape and isinstance(shape[0], int) else count
        outputs = None if self._contract.output is None else [self._contract.output]
        parts = []
        for start in range(0, count, fixed):
            missing = max(0, start + fixed - count)
            full = {name: _pad(values[start : start + fixed], missing) for name, values in inputs.items()}
            (result,) = self._sessions.run(outputs, full, threads)
            parts.append(np.asarray(result)[: fixed - missing])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _pool(self, result: np.ndarray) -> np.ndarray:
        """Make one vector an image of vectors ``(n, parts, d)``, or of maps ``(n, d, height, width)``."""
        if self._contract.pool is None or result.ndim <= 2:  # noqa: PLR2004 -- n, d
            # The means of maps are often of shape (n, d, 1, 1).
            return result.reshape(result.shape[:2]) if result.size == np.prod(result.shape[:2]) else result
        result = result.astype(np.float32)
        if result.ndim == 3:  # noqa: PLR2004 -- n, parts, d
            return result[:, 0] if self._contract.pool == "first" else np.asarray(result.mean(axis=1))
        return np.asarray(result.mean(axis=tuple(range(2, result.ndim))))

    def _tokenise(
        self, texts: Sequence[str] | np.ndarray, about: TextInput, session: "InferenceSession"
    ) -> dict[str, np.ndarray]:
        """Return the inputs of the network for texts."""
        kinds = {given.name: np.int32 if "int32" in given.type else np.int64 for given in session.get_inputs()}
        ids = np.full((len(texts), about.tokens), about.padding, kinds.get(about.ids, np.int64))
        mask = np.zeros((len(texts), about.tokens), kinds.get(about.mask or "", np.int64))
        try:
            tokenizer = self._load_tokenizer(about)
            for row, text in enumerate(texts):
                tokens = tokenizer.encode(text).ids
                ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        # The tokenizer's own errors are of no class, and a fault in its Rust code is not even an Exception.
        except BaseException as e:
            raise NetworkError(f"has a tokenizer.json that fails: {one_line(e)}") from e
        return {about.ids: ids} if about.mask is None else {about.ids: ids, about.mask: mask}

    def _load_tokenizer(self, about: TextInput) -> "Tokenizer":
        with self._lock:
            if self._tokenizer is None:
                from tokenizers import Tokenizer  # noqa: PLC0415 -- an extra

                self._tokenizer = Tokenizer.from_buffer(self._tokenizer_json)
                self._tokenizer.no_padding()
                self._tokenizer.enable_truncation(about.tokens)
        return self._tokenizer


# ---- where a network runs


@dataclass(frozen=True)
class Device:
    """Where a network runs.

    Attributes:
        name: ``CPU``, ``CUDA``, ``DirectML`` or ``CoreML``.
        note: why a GPU is not used, as a sentence; empty if it is used or there is none.
    """

    name: str = "CPU"
    note: str = ""


def choose_gpus(available: Collection[str]) -> tuple[str, ...]:
    """Choose the GPU providers to try, best first, among those that ONNX Runtime was built with."""
    return tuple(name for name in _GPUS if name in available)


def has_gpu() -> bool:
    """Return whether ONNX Runtime was built with a GPU provider."""
    import onnxruntime  # noqa: PLC0415 -- as in `Sessions`

    return bool(choose_gpus(onnxruntime.get_available_providers()))


class Sessions:
    """Sessions of ONNX Runtime with one network: on the CPU first, then on a GPU if there is one and it is faster.

    Each network tries the GPU once, on a batch that the CPU has embedded: the vectors must agree.

    Attributes:
        device: where the network runs.
    """

    def __init__(self, model: str | bytes, *, gpu: bool = True) -> None:
        """Make sessions of the path or the content of an ONNX file.

        Args:
            model: the path or the content.
            gpu: whether a GPU may be used.
        """
        self.device = Device()
        self._model = model
        self._cpu: dict[int, InferenceSession] = {}
        self._gpu: tuple[str, InferenceSession] | None = None
        self._may_try_gpu = gpu
        self._count = 0
        self._lock, self._gpu_lock = Lock(), Lock()

    def on_cpu(self, threads: int) -> "InferenceSession":
        """Return the session on the CPU with a number of threads.

        Raises:
            NetworkError: the network cannot be loaded.
        """
        with self._lock:
            if threads not in self._cpu:
                try:
                    self._cpu[threads] = self._open("CPUExecutionProvider", threads)
                except Exception as e:  # ONNX Runtime's own errors have no public base class
                    raise NetworkError(f"cannot be loaded: {one_line(e)}") from e
        return self._cpu[threads]

    def run(self, names: list[str] | None, inputs: Mapping[str, np.ndarray], threads: int) -> list[np.ndarray]:
        """Run the network and return the named outputs, or all of them; raises the errors of ONNX Runtime."""
        if (gpu := self._gpu) is not None:
            name, session = gpu
            try:
                return self._run_on_gpu(session, names, inputs)
            except Exception as e:  # noqa: BLE001 -- as in `on_cpu`
                self._fall_back(f"{name} failed ({one_line(e)}).")
        session = self.on_cpu(threads)
        begun = time.perf_counter()
        outputs: list[np.ndarray] = session.run(names, inputs)
        if self._is_gpu_due(_length(inputs)):
            self._try_gpus(names, inputs, outputs, (time.perf_counter() - begun) * threads / _cores())
        return outputs

    def _is_gpu_due(self, images: int) -> bool:
        with self._lock:
            self._count += images
            due = self._may_try_gpu and self._count >= _GPU_AFTER
            self._may_try_gpu = self._may_try_gpu and not due
            return due

    def _try_gpus(
        self, names: list[str] | None, inputs: Mapping[str, np.ndarray], outputs: list[np.ndarray], seconds: float
    ) -> None:
        """Use the first GPU provider that gives the outputs of the CPU in less than its time."""
        import onnxruntime  # noqa: PLC0415 -- as in `_open`

        for provider in choose_gpus(onnxruntime.get_available_providers()):
            name = _NAMES[provider]
            try:
                with _quiet(onnxruntime):
                    session = self._open(provider, threads=1)
                if provider not in session.get_providers():
                    self._fall_back(f"{name} could not be loaded: its driver or its libraries are missing.")
                    continue
                session.run(names, inputs)  # the first run chooses algorithms
                begun = time.perf_counter()
                found = session.run(names, inputs)
                taken = time.perf_counter() - begun
            except Exception as e:  # noqa: BLE001 -- as in `on_cpu`
                self._fall_back(f"{name} failed ({one_line(e)}).")
                continue
            if not all(_agree(a, b) for a, b in zip(outputs, found, strict=True)):
                self._fall_back(f"{name} computes other vectors.")
            elif taken >= seconds:
                self._fall_back(f"{name} is not faster.")
            else:
                self._gpu, self.device = (name, session), Device(name)
                return

    def _run_on_gpu(
        self, session: "InferenceSession", names: list[str] | None, inputs: Mapping[str, np.ndarray]
    ) -> list[np.ndarray]:
        try:
            with self._gpu_lock:  # DirectML runs a session in one thread at a time, and a GPU gains nothing by more
                outputs: list[np.ndarray] = session.run(names, inputs)
                return outputs
        except Exception:  # as in `on_cpu`
            length = _length(inputs)
            if length <= _GPU_BATCH:
                raise
        # A large batch may need more memory than the GPU has.
        halves = (slice(length // 2), slice(length // 2, None))
        parts = [
            self._run_on_gpu(session, names, {name: value[half] for name, value in inputs.items()}) for half in halves
        ]
        return [np.concatenate(pair) for pair in zip(*parts, strict=True)]

    def _fall_back(self, reason: str) -> None:
        self._gpu, self.device = None, Device(note=f"{reason} The CPU is used.")

    def _open(self, provider: str, threads: int) -> "InferenceSession":
        # The import takes 0.12 s, which programs without an encoder need not wait for.
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Idle threads would otherwise spin and keep cores from busy ones.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A model is ONNX, as was checked, and never ONNX Runtime's own format.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.log_severity_level = 3
        options.enable_mem_pattern = provider != "DmlExecutionProvider"  # which refuses it
        # The CPU runs what a GPU's provider does not know.
        providers = [(provider, _GPUS[provider])] if provider in _GPUS else []
        return onnxruntime.InferenceSession(self._model, options, providers=[*providers, "CPUExecutionProvider"])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _length(inputs: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(inputs.values())))


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether the rows of two arrays differ by less than `_TOLERANCE` of their lengths."""
    if a.shape != b.shape:
        return False
    a, b = (each.astype(np.float64).reshape(len(each), -1) for each in (a, b))
    difference, length = np.linalg.norm(a - b, axis=1), np.linalg.norm(a, axis=1)
    return bool((difference <= _TOLERANCE * length).all())


@contextlib.contextmanager
def _quiet(onnxruntime: Any) -> Iterator[None]:  # noqa: ANN401 -- a module
    """Load the libraries of CUDA that are installed as packages, and print nothing about missing ones in the block."""
    onnxruntime.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if hasattr(onnxruntime, "preload_dlls"):  # ONNX Runtime 1.21
                onnxruntime.preload_dlls()
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)


def _pad(values: np.ndarray, missing: int) -> np.ndarray:
    """Repeat the last row of an array a number of times."""
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)]) if missing else values


def _normalise(batch: np.ndarray, about: ImageInput) -> np.ndarray:
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (about.mean, about.std))
    # Transposed first: over a last axis of length three, NumPy's arithmetic takes eight times as long.
    scaled: np.ndarray = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) * (np.float32(1 / 255) / std)
    scaled -= mean / std
    return scaled


def one_line(value: object) -> str:
    """Return the text of an error or of a stranger as one line of printable characters, of limited length."""
    text = "".join(c if c.isprintable() else "�" for c in " ".join(str(value).split())) or type(value).__name__
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"


# ---- the process of a stranger's network


def settings_line(contract: Contract, memory: int, *lengths: int, gpu: bool) -> bytes:
    """Return the line with which a process begins.

    Args:
        contract: of the network.
        memory: the limit in bytes.
        lengths: of the files that follow.
        gpu: whether the network may run on a GPU.
    """
    return json.dumps([asdict(contract), memory, lengths, gpu]).encode() + b"\n"


def serve(source: BinaryIO, sink: BinaryIO, limit: Callable[[int], None]) -> None:
    """Set the limit of memory and read a network, then answer requests until the source ends; they run at the same time."""
    tree, memory, lengths, gpu = json.loads(source.readline())
    limit(memory)
    about = tree.pop("input")
    contract = Contract(TextInput(**about) if "tokens" in about else ImageInput(**about), **tree)
    model, *tokenizer = [source.read(length) for length in lengths]
    network, lock = Network(model, contract, *tokenizer, gpu=gpu), Lock()

    def answer(number: int, threads: int, batch: np.ndarray | Sequence[str]) -> None:
        try:
            device = network.device
            words = json.dumps([device.name, device.note]).encode()
            content = network.run(batch, threads).tobytes() if len(batch) else words
            outcome = DONE_ON_GPU if network.is_on_gpu else DONE
        except Exception as e:  # noqa: BLE001 -- each request is answered; a MemoryError is one of these
            content, outcome = str(e if isinstance(e, NetworkError) else f"fails: {one_line(e)}").encode(), FAILED
        with lock:
            sink.write(ANSWER.pack(number, outcome, len(content)) + content)
            sink.flush()

    with ThreadPoolExecutor(256) as pool:
        while len(head := source.read(REQUEST.size)) == REQUEST.size:
            number, threads, count, length = REQUEST.unpack(head)
            content = source.read(length)
            pool.submit(answer, number, threads, contract.input.unpack(content, count) if count else [])


def limit_process(memory: int) -> None:
    """Limit the memory of this process in bytes, and forbid it to write files and core dumps."""
    try:
        import resource  # noqa: PLC0415 -- Windows does not have it
    except ImportError:
        return
    for name, limit in (("RLIMIT_DATA", memory), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            resource.setrlimit(getattr(resource, name), (limit, limit))


def main() -> None:
    """Serve on standard input and output, and end with the process that started this one."""
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer, limit_process)
    # Do not wait for requests that still run.
    os._exit(0)


if __name__ == "__main__":
    main()
