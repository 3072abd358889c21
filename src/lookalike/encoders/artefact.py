"""Encoder artefacts: a folder in memory, run by ONNX Runtime."""

import hashlib
import json
import os
import shutil
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np

from lookalike.encoders.card import Card
from lookalike.errors import AlreadyExistsError, EncoderError, StorageError, UsageError
from lookalike.query import Branch, Vectors
from lookalike.shapes import Float32, UInt8

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Encoder:
    """Turns images into embeddings. It loads networks when they are first used, and threads may share it.

    Attributes:
        folder: the artefact's folder.
        card: the contents of its ``encoder.json``.
    """

    def __init__(self, folder: Path, card: Card) -> None:
        """Make an encoder of a card that was read and files that exist; use `open` instead."""
        self.folder = folder
        self.card = card
        self._sessions: dict[tuple[Branch, int], InferenceSession] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        """Show the name, the dimension and the branches."""
        card = self.card
        return f"<Encoder {card.name!r}: {card.dimension} dimensions, {' and '.join(card.branches)}>"

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Self:
        """Open the artefact in a folder.

        Raises:
            NotFoundError: the folder holds no encoder.
            EncoderError: its card or a network is missing or damaged.
            MismatchError: this version does not know its format.
        """
        folder = Path(folder)
        card = Card.read(folder)
        for branch in card.branches:
            if not (folder / f"{branch}.onnx").is_file():
                raise EncoderError(f"The encoder in {folder} is incomplete: {branch}.onnx is missing.")
        return cls(folder, card)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that changes an embedding: networks and input. A new calibration does not change it."""
        digest = hashlib.sha256()
        fields = self.card.model_dump(mode="json", include={"input", "dimension", "output", "branches"})
        digest.update(json.dumps(fields, sort_keys=True).encode())
        for name in self.files:
            if name.endswith(".onnx"):
                digest.update(hashlib.sha256((self.folder / name).read_bytes()).digest())
        return digest.hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the artefact's files."""
        return ("encoder.json", *(f"{b}.onnx" for b in self.card.branches))

    def copy(self, to: Path) -> Path:
        """Copy the artefact, with its model card, into a new folder.

        Raises:
            AlreadyExistsError: the folder exists.
            StorageError: the folder cannot be written.
        """
        try:
            to.mkdir(parents=True)
            for name in (*self.files, "README.md"):
                if (self.folder / name).exists():
                    shutil.copyfile(self.folder / name, to / name)
        except FileExistsError as e:
            raise AlreadyExistsError(f"{to} already exists; name a new folder.") from e
        except OSError as e:
            raise StorageError(f"{to} cannot be written: {e.strerror}. Name another folder.") from e
        return to

    def embed(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo", *, threads: int = 1) -> Vectors:
        """Run images that are fitted to the network's input through it, in one batch.

        `lookalike.embedding.Embedder` divides many images into batches and batches among the cores.

        Args:
            batch: RGB; s is ``card.input.size``.
            branch: the network to run.
            threads: how many work on the batch.

        Returns:
            float32 ``(n, dimension)``, or packed bits uint8 ``(n, dimension / 8)``.

        Raises:
            UsageError: the encoder does not have the branch, or the images have another size.
            EncoderError: the network fails, or its output is not what the card promises.
        """
        self._check(batch, branch)
        if len(batch) == 0:
            bits = self.card.output == "bits"
            return np.empty((0, self.card.dimension // (8 if bits else 1)), np.uint8 if bits else np.float32)
        return self._run(batch, branch, threads)

    def _check(self, batch: np.ndarray, branch: Branch) -> None:
        size = self.card.input.size
        if branch not in self.card.branches:
            raise UsageError(
                f"“{self.card.name}” has no {branch} branch; it takes {' and '.join(self.card.branches)} queries."
            )
        if batch.ndim != 4 or batch.shape[1:] != (size, size, 3):  # noqa: PLR2004 -- n, height, width, channels
            raise UsageError(f"“{self.card.name}” takes images of shape (n, {size}, {size}, 3), not {batch.shape}.")

    def _run(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch, threads: int) -> Vectors:
        card, session = self.card, self._session(branch, threads)
        try:
            (result,) = session.run(None, {session.get_inputs()[0].name: self._normalise(batch)})
        except Exception as e:  # ONNX Runtime raises classes of its own that share no public parent
            raise EncoderError(f"The network {branch}.onnx of “{card.name}” fails: {e}") from e
        if np.shape(result) != (len(batch), card.dimension) or not np.isfinite(result).all():
            raise EncoderError(
                f"The card of “{card.name}” promises {card.dimension} finite numbers an image, but {branch}.onnx gave an"
                f" array of shape {np.shape(result)}, or numbers that are not finite. Export the encoder again."
            )
        values: np.ndarray = (
            np.packbits(result > 0, axis=1) if card.output == "bits" else np.asarray(result, np.float32)
        )
        return values

    def _normalise(self, batch: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n 3 s s"]:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.card.input.mean, self.card.input.std))
        # Channels first, before anything else: over the last axis, of three, NumPy takes eight times as long.
        scaled: np.ndarray = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) * (np.float32(1 / 255) / std)
        scaled -= mean / std
        return scaled

    def _session(self, branch: Branch, threads: int) -> "InferenceSession":
        with self._lock:
            if (branch, threads) not in self._sessions:
                # Here, since it is the one slow import of a search; a door that uses no encoder starts without it.
                import onnxruntime  # noqa: PLC0415

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                # Threads that wait for their next part would otherwise keep a core from threads that have work.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                options.log_severity_level = 3
                try:
                    self._sessions[branch, threads] = onnxruntime.InferenceSession(
                        self.folder / f"{branch}.onnx", options, providers=["CPUExecutionProvider"]
                    )
                except Exception as e:  # as in `_run`
                    raise EncoderError(f"{self.folder / branch}.onnx cannot be loaded: {e}") from e
        return self._sessions[branch, threads]
