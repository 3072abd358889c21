"""A network of an encoder, run by ONNX Runtime; as a script, the process that runs the network of a stranger.

It imports nothing of lookalike, so that such a process starts in a fraction of a second.
"""

import contextlib
import json
import os
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

REQUEST = struct.Struct("<QIQ")
"""A request: its number, the threads to use, the number of images; then the images."""

ANSWER = struct.Struct("<Q?Q")
"""An answer: the request's number, whether it succeeded, the length of the content: the vectors, or the error in UTF-8."""

_MAX_MESSAGE = 300


class NetworkError(Exception):
    """A network cannot be loaded or run. The text is one line and continues a sentence that begins with the network."""


@dataclass(frozen=True)
class Contract:
    """What a network takes and returns, by its card.

    Attributes:
        size: pixels a side.
        mean: of each channel of values in 0…1, which is subtracted.
        std: of each channel, by which the values are then divided.
        dimension: numbers an image.
        bits: whether a positive number is the bit 1, and another one 0.
        output: name of the output to read, if the network has several.
        pool: how the vectors of an image's parts become one: ``first``, ``mean``, or none if there is one vector.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
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

    def __init__(self, model: str | bytes, contract: Contract) -> None:
        """Make a network of the path or the content of an ONNX file."""
        self._model = model
        self._contract = contract
        self._sessions: dict[int, InferenceSession] = {}
        self._lock = Lock()

    def run(self, batch: np.ndarray, threads: int) -> np.ndarray:
        """Embed fitted images: uint8 ``(n, size, size, 3)`` to float32 ``(n, dimension)``, or to packed bits.

        Raises:
            NetworkError: the network cannot be loaded, fails, or returns something other than the contract says.
        """
        contract, session = self._contract, self._session(threads)
        try:
            result = self._pool(self._run(session, self._normalise(batch)))
            shape = np.shape(result)
            finite = np.isfinite(result).all()
        except Exception as e:  # ONNX Runtime's own errors have no public base class
            raise NetworkError(f"fails: {one_line(e)}") from e
        if shape != (len(batch), contract.dimension) or not finite:
            raise NetworkError(
                f"contradicts its card, which states {contract.dimension} finite numbers an image: it returned an array of"
                f" shape {shape}, or numbers that are not finite. Export the encoder again."
            )
        values: np.ndarray = np.packbits(result > 0, axis=1) if contract.bits else np.asarray(result, np.float32)
        return values

    def _run(self, session: "InferenceSession", images: np.ndarray) -> np.ndarray:
        """Run a network on normalised images; one for a fixed number of images gets as many at a time."""
        (images_in,) = session.get_inputs()
        if images_in.type == "tensor(float16)":
            images = images.astype(np.float16)
        fixed = images_in.shape[0] if images_in.shape and isinstance(images_in.shape[0], int) else len(images)
        outputs = None if self._contract.output is None else [self._contract.output]
        parts = []
        for start in range(0, len(images), fixed):
            part = images[start : start + fixed]
            missing = fixed - len(part)
            full = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            (result,) = session.run(outputs, {images_in.name: full})
            parts.append(np.asarray(result)[: len(part)])
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

    def _normalise(self, batch: np.ndarray) -> np.ndarray:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self._contract.mean, self._contract.std))
        # Transposed first: over a last axis of length three, NumPy's arithmetic takes eight times as long.
        scaled: np.ndarray = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) * (np.float32(1 / 255) / std)
        scaled -= mean / std
        return scaled

    def _session(self, threads: int) -> "InferenceSession":
        with self._lock:
            if threads not in self._sessions:
                # The import takes 0.12 s, which programs without an encoder need not wait for.
                import onnxruntime  # noqa: PLC0415

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                # Idle threads would otherwise spin and keep cores from busy ones.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                # A model is ONNX, as was checked, and never ONNX Runtime's own format.
                options.add_session_config_entry("session.load_model_format", "ONNX")
                options.log_severity_level = 3
                try:
                    self._sessions[threads] = onnxruntime.InferenceSession(
                        self._model, options, providers=["CPUExecutionProvider"]
                    )
                except Exception as e:  # as in `run`
                    raise NetworkError(f"cannot be loaded: {one_line(e)}") from e
                if len(inputs := self._sessions[threads].get_inputs()) != 1:
                    raise NetworkError(
                        f"takes {len(inputs)} inputs, not one: {one_line(', '.join(i.name for i in inputs))}. Use a network of"
                        " images alone."
                    )
        return self._sessions[threads]


def one_line(value: object) -> str:
    """Return the text of an error or of a stranger as one line of printable characters, of limited length."""
    text = "".join(c if c.isprintable() else "�" for c in " ".join(str(value).split())) or type(value).__name__
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"


# ---- the process of a stranger's network


def settings_line(contract: Contract, memory: int, length: int) -> bytes:
    """Return the line with which a process begins: the contract, its memory in bytes, the length of the model that follows."""
    return json.dumps([asdict(contract), memory, length]).encode() + b"\n"


def serve(source: BinaryIO, sink: BinaryIO, limit: Callable[[int], None]) -> None:
    """Set the limit of memory and read a network, then answer requests until the source ends; they run at the same time."""
    contract, memory, length = json.loads(source.readline())
    limit(memory)
    network = Network(source.read(length), Contract(**contract))
    side, lock = contract["size"], Lock()

    def answer(number: int, threads: int, batch: np.ndarray) -> None:
        try:
            content, succeeded = network.run(batch, threads).tobytes(), True
        except Exception as e:  # noqa: BLE001 -- each request is answered; a MemoryError is one of these
            content, succeeded = str(e if isinstance(e, NetworkError) else f"fails: {one_line(e)}").encode(), False
        with lock:
            sink.write(ANSWER.pack(number, succeeded, len(content)) + content)
            sink.flush()

    with ThreadPoolExecutor(256) as pool:
        while len(head := source.read(REQUEST.size)) == REQUEST.size:
            number, threads, count = REQUEST.unpack(head)
            content = source.read(count * side * side * 3)
            pool.submit(answer, number, threads, np.frombuffer(content, np.uint8).reshape(count, side, side, 3))


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
