"""An encoder artefact in memory, run by ONNX Runtime."""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import numpy as np
from jaxtyping import Float32, UInt8

from lookalike.encoders.card import Branch, Card
from lookalike.errors import EncoderError, UsageError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Pictures that go through the network at once: enough to keep both cores busy, few enough to stay in cache.
BATCH = 64


class Encoder:
    """Turns pictures into embeddings. Networks are loaded when first used; safe to use from several threads."""

    def __init__(self, folder: Path, card: Card) -> None:
        """Use `open`; this takes a card that has been read and files that are there."""
        self.folder = folder
        self.card = card
        self._sessions: dict[Branch, InferenceSession] = {}
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

    def embed(self, pictures: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo") -> np.ndarray:
        """Embed pictures that were fitted to the encoder's size.

        Args:
            pictures: RGB, s = ``card.input.size``.
            branch: which way in; sketches go through ``"sketch"``.

        Returns:
            float32 ``(n, dimension)``, or packed bits uint8 ``(n, dimension / 8)``.

        Raises:
            UsageError: the encoder has no such branch, or the pictures have another size.
            EncoderError: the network fails, or yields what its card does not promise.
        """
        size = self.card.input.size
        if pictures.ndim != 4 or pictures.shape[1:] != (size, size, 3):  # noqa: PLR2004 -- n, height, width, channels
            raise UsageError(
                f"“{self.card.name}” takes pictures of shape (n, {size}, {size}, 3), not {pictures.shape}."
            )
        session = self._session(branch)
        columns = self.card.dimension // 8 if self.card.output == "bits" else self.card.dimension
        out = np.empty((len(pictures), columns), np.uint8 if self.card.output == "bits" else np.float32)
        for start in range(0, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            try:
                (result,) = session.run(None, {session.get_inputs()[0].name: self._normalise(batch)})
            except Exception as e:  # ONNX Runtime raises classes of its own that share no public parent
                raise EncoderError(f"The network {branch}.onnx of “{self.card.name}” fails: {e}") from e
            if np.shape(result) != (len(batch), self.card.dimension) or not np.isfinite(result).all():
                raise EncoderError(
                    f"“{self.card.name}” promises {self.card.dimension} finite numbers a picture, but {branch}.onnx gave an"
                    f" array of shape {np.shape(result)} (or numbers that are not finite)."
                )
            out[start : start + BATCH] = np.packbits(result > 0, axis=1) if self.card.output == "bits" else result
        return out

    def _normalise(self, pictures: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n 3 s s"]:
        mean, std = (np.asarray(v, np.float32) for v in (self.card.input.mean, self.card.input.std))
        scaled = pictures * (np.float32(1 / 255) / std) - mean / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def _session(self, branch: Branch) -> "InferenceSession":
        if branch not in self.card.branches:
            raise UsageError(
                f"“{self.card.name}” has no {branch} branch; it takes {' and '.join(self.card.branches)} queries."
            )
        with self._lock:
            if branch not in self._sessions:
                # Here, since it is the one slow import of a search; the doors that ask no encoder start without it.
                import onnxruntime  # noqa: PLC0415

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = os.cpu_count() or 1
                options.log_severity_level = 3
                try:
                    self._sessions[branch] = onnxruntime.InferenceSession(
                        self.folder / f"{branch}.onnx", options, providers=["CPUExecutionProvider"]
                    )
                except Exception as e:  # as in `embed`
                    raise EncoderError(f"{self.folder / branch}.onnx cannot be loaded: {e}") from e
        return self._sessions[branch]
