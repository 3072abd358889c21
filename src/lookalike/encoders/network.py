"""A network of an encoder, run by ONNX Runtime; as a script, the process that runs the network of a stranger.

A network of texts comes with a tokenizer, which the same process runs.

It imports nothing of lookalike, so that such a process starts in a fraction of a second.
"""

import contextlib
import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
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

ANSWER = struct.Struct("<Q?Q")
"""An answer: the request's number, whether it succeeded, the length of the content: the vectors, or the error in UTF-8."""

_MAX_MESSAGE = 300


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

    def __init__(self, model: str | bytes, contract: Contract, tokenizer: bytes = b"") -> None:
        """Make a network of the path or the content of an ONNX file, and of the content of a ``tokenizer.json``."""
        self._model = model
        self._contract = contract
        self._tokenizer_json = tokenizer
        self._tokenizer: Tokenizer | None = None
        self._sessions: dict[int, InferenceSession] = {}
        self._lock = Lock()

    def run(self, batch: np.ndarray | Sequence[str], threads: int) -> np.ndarray:
        """Embed fitted images, uint8 ``(n, size, size, 3)``, or n texts: float32 ``(n, dimension)``, or packed bits.

        Raises:
            NetworkError: the network or the tokenizer cannot be loaded, fails, or returns something other than the contract says.
        """
        contract, session = self._contract, self._session(threads)
        try:
            result = self._pool(self._run(session, self._prepare(batch, session)))
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

    def _run(self, session: "InferenceSession", inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Run a network; one for a fixed number of images or texts gets as many at a time."""
        count, shape = len(next(iter(inputs.values()))), session.get_inputs()[0].shape
        fixed = shape[0] if shape and isinstance(shape[0], int) else count
        outputs = None if self._contract.output is None else [self._contract.output]
        parts = []
        for start in range(0, count, fixed):
            missing = max(0, start + fixed - count)
            full = {name: _pad(values[start : start + fixed], missing) for name, values in inputs.items()}
            (result,) = session.run(outputs, full)
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
                inputs = self._sessions[threads].get_inputs()
                if isinstance(self._contract.input, ImageInput) and len(inputs) != 1:
                    raise NetworkError(
                        f"takes {len(inputs)} inputs, not one: {one_line(', '.join(i.name for i in inputs))}. Use a network of"
                        " images alone."
                    )
        return self._sessions[threads]


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


def settings_line(contract: Contract, memory: int, *lengths: int) -> bytes:
    """Return the line with which a process begins: the contract, its memory in bytes, the lengths of the files that follow."""
    return json.dumps([asdict(contract), memory, lengths]).encode() + b"\n"


def serve(source: BinaryIO, sink: BinaryIO, limit: Callable[[int], None]) -> None:
    """Set the limit of memory and read a network, then answer requests until the source ends; they run at the same time."""
    tree, memory, lengths = json.loads(source.readline())
    limit(memory)
    about = tree.pop("input")
    contract = Contract(TextInput(**about) if "tokens" in about else ImageInput(**about), **tree)
    model, *tokenizer = [source.read(length) for length in lengths]
    network, lock = Network(model, contract, *tokenizer), Lock()

    def answer(number: int, threads: int, batch: np.ndarray | Sequence[str]) -> None:
        try:
            content, succeeded = network.run(batch, threads).tobytes(), True
        except Exception as e:  # noqa: BLE001 -- each request is answered; a MemoryError is one of these
            content, succeeded = str(e if isinstance(e, NetworkError) else f"fails: {one_line(e)}").encode(), False
        with lock:
            sink.write(ANSWER.pack(number, succeeded, len(content)) + content)
            sink.flush()

    with ThreadPoolExecutor(256) as pool:
        while len(head := source.read(REQUEST.size)) == REQUEST.size:
            number, threads, count, length = REQUEST.unpack(head)
            pool.submit(answer, number, threads, contract.input.unpack(source.read(length), count))


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
