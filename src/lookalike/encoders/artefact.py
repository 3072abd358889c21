"""Encoder artefacts: folders with ONNX networks, run by ONNX Runtime."""

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
    """An encoder, which turns images into embeddings. It loads networks at first use, and threads may share it.

    Attributes:
        folder: the artefact's folder.
        card: the contents of its ``encoder.json``.
    """

    def __init__(self, folder: Path, card: Card) -> None:
        """Make an encoder of a valid card and existing files; use `open` instead."""
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
        """SHA-256 of the networks and their input, which determine the embeddings. A new calibration does not change it."""
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
            raise AlreadyExistsError(f"{to} already exists. Choose another folder.") from e
        except OSError as e:
            raise StorageError(f"{to} cannot be written: {e.strerror}. Choose another folder.") from e
        return to

    def embed(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo", *, threads: int = 1) -> Vectors:
        """Embed images that are fitted to the network's input, in one batch.

        `lookalike.embedding.Embedder` divides many images into batches, and batches among the cores.

        Args:
            batch: RGB; s is ``card.input.size``.
            branch: the network to run.
            threads: the number of threads to use.

        Returns:
            float32 ``(n, dimension)``, or packed bits uint8 ``(n, dimension / 8)``.

        Raises:
            UsageError: the encoder does not have the branch, or the images have another size.
            EncoderError: the network fails, or its output contradicts the card.
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
                f"The encoder “{self.card.name}” has no {branch} branch. It embeds only {' and '.join(self.card.branches)}s."
            )
        if batch.ndim != 4 or batch.shape[1:] != (size, size, 3):  # noqa: PLR2004 -- n, height, width, channels
            raise UsageError(f"“{self.card.name}” takes images of shape (n, {size}, {size}, 3), not {batch.shape}.")

    def _run(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch, threads: int) -> Vectors:
        card, session = self.card, self._session(branch, threads)
        try:
            (result,) = session.run(None, {session.get_inputs()[0].name: self._normalise(batch)})
        except Exception as e:  # ONNX Runtime's own errors have no public base class
            raise EncoderError(f"The network {branch}.onnx of “{card.name}” fails: {e}") from e
        if np.shape(result) != (len(batch), card.dimension) or not np.isfinite(result).all():
            raise EncoderError(
                f"The card of “{card.name}” states {card.dimension} finite numbers an image, but {branch}.onnx returned an"
                f" array of shape {np.shape(result)}, or numbers that are not finite. Export the encoder again."
            )
        values: np.ndarray = (
            np.packbits(result > 0, axis=1) if card.output == "bits" else np.asarray(result, np.float32)
        )
        return values

    def _normalise(self, batch: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n 3 s s"]:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.card.input.mean, self.card.input.std))
        # Transposed first: over a last axis of length three, NumPy's arithmetic takes eight times as long.
        scaled: np.ndarray = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) * (np.float32(1 / 255) / std)
        scaled -= mean / std
        return scaled

    def _session(self, branch: Branch, threads: int) -> "InferenceSession":
        with self._lock:
            if (branch, threads) not in self._sessions:
                # The import takes 0.12 s, which programs without an encoder need not wait for.
                import onnxruntime  # noqa: PLC0415

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                # Idle threads would otherwise spin and keep cores from busy ones.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                options.log_severity_level = 3
                try:
                    self._sessions[branch, threads] = onnxruntime.InferenceSession(
                        self.folder / f"{branch}.onnx", options, providers=["CPUExecutionProvider"]
                    )
                except Exception as e:  # as in `_run`
                    raise EncoderError(f"{self.folder / branch}.onnx cannot be loaded: {e}") from e
        return self._sessions[branch, threads]
