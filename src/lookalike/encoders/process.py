"""A stranger's network, run in a process of its own with limits of memory and time."""

import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock, Thread
from typing import TypeAlias

import numpy as np

from lookalike.encoders import network
from lookalike.encoders.network import ANSWER, DONE_ON_GPU, FAILED, REQUEST, Contract, Device, NetworkError
from lookalike.parallel import available_cores
from lookalike.untrusted import parsing

MAX_BYTES = 1 << 30
"""The limit of a network's file, which is read whole."""

MAX_TOKENIZER_BYTES = 1 << 26
"""The limit of a ``tokenizer.json``. One for 256,000 tokens of all languages has 34 MB."""

FIRST_SECONDS = 90.0
"""The time to load a network, and to embed a first image or text."""

BATCH_SECONDS = 60.0
"""The time for a later batch, and `IMAGE_SECONDS` more for each of its images or texts."""

IMAGE_SECONDS = 30.0

_GIB = 1 << 30

_WHAT_TO_DO = "Use an encoder with a smaller network."


class _TooSlowError(NetworkError):
    pass


class _EndedError(NetworkError):
    pass


def memory_limit(length: int) -> int:
    """Return how many bytes of memory the process of a network may take.

    Args:
        length: bytes of the network's file. Loading makes copies of its weights.
    """
    limit = (2 + available_cores()) * _GIB + 4 * length
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else limit
    return min(limit, max(2 * _GIB, installed * 4 // 5))


Batch: TypeAlias = np.ndarray | Sequence[str]
"""Fitted images, or texts."""

Files: TypeAlias = tuple[tuple[Path, bytes], ...]
"""Path and SHA-256 of an ONNX file, and perhaps of its ``tokenizer.json``."""


class NetworkProcess:
    """A network in a process of its own. It starts at first use, and threads may share it."""

    def __init__(self, files: Files, contract: Contract) -> None:
        """Make a network of its files."""
        self._files = files
        self._contract = contract
        self._lock = Lock()
        self._running: _Running | None = None
        self._too_slow: str | None = None
        self._gpu_failure = ""

    @property
    def device(self) -> Device:
        """Where it runs."""
        with self._lock:
            running = self._running
        if self._gpu_failure or running is None or not running.is_alive:
            return Device(note=self._gpu_failure)
        return running.device()

    @property
    def is_on_gpu(self) -> bool:
        """Whether it runs on a GPU, as of the last answer."""
        return self._running is not None and self._running.is_on_gpu

    def run(self, batch: Batch, threads: int) -> np.ndarray:
        """Embed fitted images or texts, as `Network.run` does.

        Raises:
            NetworkError: as `Network.run`, or the network exceeds a limit.
        """
        with self._lock:
            if self._running is None or not self._running.is_alive:
                first = self._start(batch[:1], threads)
                if len(batch) == 1:
                    return first
            running = self._running
        assert running is not None  # noqa: S101 -- `_start` sets it
        try:
            return running.call(batch, threads, BATCH_SECONDS + IMAGE_SECONDS * len(batch))
        except (_EndedError, _TooSlowError) as e:
            # The first image was embedded on the CPU, so the driver of the GPU may be at fault.
            if not (running.gpu and network.has_gpu()):
                raise
            self._gpu_failure = f"The process that used the GPU {e} The CPU is used."
            return self.run(batch, threads)

    def _start(self, one: Batch, threads: int) -> np.ndarray:
        """Start the process and embed one image or text: a network that exceeds a limit mostly does so with any."""
        if self._too_slow:
            raise NetworkError(self._too_slow)
        running = _Running(
            [self._read(path, digest) for path, digest in self._files], self._contract, gpu=not self._gpu_failure
        )
        try:
            first = running.call(one, threads, FIRST_SECONDS)
        except _TooSlowError as e:
            self._too_slow = str(e)
            raise
        self._running = running
        return first

    @staticmethod
    def _read(path: Path, digest: bytes) -> bytes:
        try:
            content = parsing.read_bytes(path, MAX_BYTES)
        except (OSError, parsing.ParseError) as e:
            raise NetworkError(f"cannot be read: {network.one_line(e)}") from e
        if sha256(content).digest() != digest:
            raise NetworkError("changed after it was opened. Open the encoder again.")
        return content


@lru_cache(maxsize=4)
def shared(files: Files, contract: Contract) -> NetworkProcess:
    """Return a network's process, so that a program which opens an encoder again and again starts it only once."""
    return NetworkProcess(files, contract)


class _Answers:
    """Answers that callers wait for.

    Attributes:
        is_on_gpu: whether the last one was computed on a GPU.
    """

    def __init__(self) -> None:
        self.is_on_gpu = False
        self._lock = Lock()
        self._futures: dict[int, Future[bytes]] = {}
        self._count = 0
        self._end: NetworkError | None = None

    def expect(self) -> tuple[int, "Future[bytes]"]:
        """Return the number of a new request, and its answer to come."""
        future: Future[bytes] = Future()
        with self._lock:
            self._count += 1
            if self._end:
                future.set_exception(self._end)
            else:
                self._futures[self._count] = future
            return self._count, future

    def read(self, process: "subprocess.Popen[bytes]", memory: int) -> None:
        """Read answers until the process ends."""
        assert process.stdin is not None  # noqa: S101 -- a pipe
        assert process.stdout is not None  # noqa: S101 -- a pipe
        while len(head := process.stdout.read(ANSWER.size)) == ANSWER.size:
            number, outcome, length = ANSWER.unpack(head)
            content = process.stdout.read(length)
            with self._lock:
                future = self._futures.pop(number)
            if outcome == FAILED:
                future.set_exception(NetworkError(_explain(content.decode(errors="replace"), memory)))
            else:
                self.is_on_gpu = outcome == DONE_ON_GPU
                future.set_result(content)
        process.kill()
        code = process.wait()
        process.stdout.close()
        with suppress(OSError):  # some bytes could not be sent
            process.stdin.close()
        with self._lock:
            self._end = _EndedError(
                f"ended its process (exit code {code}): it is damaged, or needs more than {memory / _GIB:.0f} GiB of memory."
                f" {_WHAT_TO_DO}"
            )
            for future in self._futures.values():
                future.set_exception(self._end)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _explain(message: str, memory: int) -> str:
    if "allocat" in message or "bad_alloc" in message or "MemoryError" in message:
        return f"needs more than {memory / _GIB:.0f} GiB of memory. {_WHAT_TO_DO}"
    return message


class _Running:
    """A process that runs.

    Attributes:
        gpu: whether it may use a GPU.
    """

    def __init__(self, files: Sequence[bytes], contract: Contract, *, gpu: bool) -> None:
        self.gpu = gpu
        self._contract = contract
        self._owner = os.getpid()
        self._stopped = False
        self._lock = Lock()
        self._answers = _Answers()
        memory = memory_limit(sum(map(len, files)))
        try:
            # In a group of its own, so that Ctrl-C reaches only this process. The other ends with its standard input.
            self._process = subprocess.Popen(  # noqa: S603 -- this interpreter, and a file of this package
                [sys.executable, "-P", network.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # ONNX Runtime looks for weights in other files here. The check refuses them; should it miss any, there
                # are only public files.
                cwd=Path(network.__file__).parent,
                start_new_session=True,
            )
        except OSError as e:
            raise NetworkError(f"cannot be run in a process of its own: {network.one_line(e)}") from e
        weakref.finalize(self, _end, self._process)
        Thread(target=self._answers.read, args=(self._process, memory), daemon=True).start()
        self._send(network.settings_line(contract, memory, *map(len, files), gpu=gpu), *files)

    @property
    def is_alive(self) -> bool:
        """Whether it can answer; the fork of a process cannot use its pipes."""
        return not self._stopped and self._process.poll() is None and self._owner == os.getpid()

    @property
    def is_on_gpu(self) -> bool:
        """Whether the last answer was computed on a GPU."""
        return self._answers.is_on_gpu

    def device(self) -> Device:
        """Ask where it runs."""
        try:
            name, note = parsing.parse_json(self._ask(0, b"", 1, BATCH_SECONDS))
        except (parsing.ParseError, TypeError, ValueError) as e:
            raise NetworkError("returned an answer of a wrong form.") from e
        return Device(network.one_line(name), network.one_line(note) if note else "")

    def call(self, batch: Batch, threads: int, seconds: float) -> np.ndarray:
        """Embed images or texts. If it takes longer than a number of seconds, end the process and raise a NetworkError."""
        packed = self._contract.input.pack(batch)  # type: ignore[arg-type]  # the batch is what the contract takes
        content = self._ask(len(batch), packed, threads, seconds)
        contract = self._contract
        if len(content) != len(batch) * contract.width * contract.dtype.itemsize:
            raise NetworkError("returned an answer of a wrong length.")
        return np.frombuffer(bytearray(content), contract.dtype).reshape(len(batch), contract.width)

    def _ask(self, count: int, packed: bytes | memoryview, threads: int, seconds: float) -> bytes:
        number, future = self._answers.expect()
        self._send(REQUEST.pack(number, threads, count, len(packed)), packed)
        try:
            return future.result(seconds)
        except TimeoutError as e:
            self._stopped = True
            _end(self._process)
            raise _TooSlowError(f"takes longer than {seconds:.0f} s for a batch of {count}. {_WHAT_TO_DO}") from e

    def _send(self, *parts: bytes | memoryview) -> None:
        assert self._process.stdin is not None  # noqa: S101 -- a pipe
        with self._lock:
            try:
                for part in parts:
                    self._process.stdin.write(part)
                self._process.stdin.flush()
            except (OSError, ValueError):  # the process ended; `_Answers.read` reports it
                return
