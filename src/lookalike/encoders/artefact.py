"""An encoder artefact in memory, run by ONNX Runtime."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
from jaxtyping import Float32, UInt8

from lookalike.encoders.card import Card
from lookalike.errors import EncoderError, UsageError
from lookalike.query import Branch

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Encoder:
    """Turns pictures into embeddings. Networks are loaded when first used; safe to use from several threads."""

    def __init__(self, folder: Path, card: Card) -> None:
        """Use `open`; this takes a card that has been read and files that are there."""
        self.folder = folder
        self.card = card
        self._sessions: dict[tuple[Branch, int], InferenceSession] = {}
        self._lock = Lock()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the artefact in a folder.

        Raises:
            NotFoundError: no encoder there.
            EncoderError: its card or a network is missing or damaged.
            MismatchError: it is of an unknown format.
        """
        card = Card.read(folder)
        for branch in card.branches:
            if not (folder / f"{branch}.onnx").is_file():
                raise EncoderError(f"The encoder in {folder} is incomplete: {branch}.onnx is missing.")
        return cls(folder, card)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that changes an embedding: networks and input. A new calibration leaves it as it is."""
        digest = hashlib.sha256()
        about = self.card.model_dump(mode="json", include={"input", "dimension", "output", "branches"})
        digest.update(json.dumps(about, sort_keys=True).encode())
        for name in self.files:
            if name.endswith(".onnx"):
                digest.update(hashlib.sha256((self.folder / name).read_bytes()).digest())
        return digest.hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that make the artefact."""
        return ("encoder.json", *(f"{b}.onnx" for b in self.card.branches))

    def embed(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo", *, threads: int = 1) -> np.ndarray:
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

    def _check(self, pictures: np.ndarray, branch: Branch) -> None:
        size = self.card.input.size
        if branch not in self.card.branches:
            raise UsageError(
                f"“{self.card.name}” has no {branch} branch; it takes {' and '.join(self.card.branches)} queries."
            )
        if pictures.ndim != 4 or pictures.shape[1:] != (size, size, 3):  # noqa: PLR2004 -- n, height, width, channels
            raise UsageError(
                f"“{self.card.name}” takes pictures of shape (n, {size}, {size}, 3), not {pictures.shape}."
            )

    def _run(self, pictures: UInt8[np.ndarray, "n s s 3"], branch: Branch, threads: int) -> np.ndarray:
        about, session = self.card, self._session(branch, threads)
        try:
            (result,) = session.run(None, {session.get_inputs()[0].name: self._normalise(pictures)})
        except Exception as e:  # ONNX Runtime raises classes of its own that share no public parent
            raise EncoderError(f"The network {branch}.onnx of “{about.name}” fails: {e}") from e
        if np.shape(result) != (len(pictures), about.dimension) or not np.isfinite(result).all():
            raise EncoderError(
                f"“{about.name}” promises {about.dimension} finite numbers a picture, but {branch}.onnx gave an"
                f" array of shape {np.shape(result)} (or numbers that are not finite)."
            )
        values: np.ndarray = (
            np.packbits(result > 0, axis=1) if about.output == "bits" else np.asarray(result, np.float32)
        )
        return values

    def _normalise(self, pictures: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n 3 s s"]:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.card.input.mean, self.card.input.std))
        # Channels first before anything else: over the last axis, of three, NumPy takes eight times as long.
        scaled: np.ndarray = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)) * (np.float32(1 / 255) / std)
        scaled -= mean / std
        return scaled

    def _session(self, branch: Branch, threads: int) -> "InferenceSession":
        with self._lock:
            if (branch, threads) not in self._sessions:
                # Here, since it is the one slow import of a search; the doors that ask no encoder start without it.
                import onnxruntime  # noqa: PLC0415

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                # Threads that wait for their next part would else keep a core from those who have work.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                options.log_severity_level = 3
                try:
                    self._sessions[branch, threads] = onnxruntime.InferenceSession(
                        self.folder / f"{branch}.onnx", options, providers=["CPUExecutionProvider"]
                    )
                except Exception as e:  # as in `embed`
                    raise EncoderError(f"{self.folder / branch}.onnx cannot be loaded: {e}") from e
        return self._sessions[branch, threads]
