"""Encoder artefacts: folders with ONNX networks, run by ONNX Runtime."""

import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Self, get_args

import numpy as np

from lookalike.encoders import crops, graph, process
from lookalike.encoders.batches import ON_CPU, BatchSize
from lookalike.encoders.card import Card, Output
from lookalike.encoders.network import Contract, Device, ImageInput, Network, NetworkError, TextInput
from lookalike.encoders.paths import own_file, read_file
from lookalike.encoders.process import NetworkProcess
from lookalike.encoders.texts import TOKENIZER
from lookalike.errors import AlreadyExistsError, EncoderError, MissingExtraError, StorageError, UsageError
from lookalike.query import Branch, Vectors, check_text
from lookalike.shapes import UInt8

_BUNDLED = Path(__file__).with_name("bundled")


class Encoder:
    """An encoder, which turns images, and perhaps texts, into embeddings. It loads networks at first use, and threads may share it.

    Attributes:
        folder: the artefact's folder.
        card: the contents of its ``encoder.json``.
    """

    def __init__(self, folder: Path, card: Card) -> None:
        """Make an encoder of a valid card and existing files; use `open` instead."""
        self.folder = folder
        self.card = card
        self._networks: dict[Branch, Network | NetworkProcess] = {}
        self._digests: dict[str, bytes] = {}
        self._batch_sizes: dict[Branch, BatchSize] = {}
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
        encoder = cls(folder, card)
        for name in encoder.files[1:]:
            path = own_file(folder, name)
            if not path.is_file():
                raise EncoderError(f"The encoder in {folder} is incomplete: {name} is missing.")
            if _bundled_network(path) is None:
                encoder._check_record(name)  # so that a network is refused before anything is made of the encoder
        return encoder

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the networks and their input, which determine the embeddings. A new calibration does not change it."""
        digest = hashlib.sha256()
        # Without fields that early cards do not have, so that their fingerprints stay.
        included = {"input", "text", "dimension", "output", "network_output", "branches"}
        fields = self.card.model_dump(mode="json", include=included, exclude_defaults=True)
        digest.update(json.dumps(fields, sort_keys=True).encode())
        for name in self.files[1:]:
            digest.update(self._digest(name))
        return digest.hexdigest()

    @cached_property
    def photo_fingerprint(self) -> str:
        """SHA-256 of the network for photos and its input. Encoders with the same one embed photos alike."""
        digest = hashlib.sha256()
        included = {"input", "dimension", "output", "network_output"}
        fields = self.card.model_dump(mode="json", include=included, exclude_defaults=True)
        digest.update(json.dumps(fields, sort_keys=True).encode())
        digest.update(self._digest("photo.onnx"))
        return digest.hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the artefact's files, its card first."""
        networks = (f"{branch}.onnx" for branch in self.card.branches)
        return ("encoder.json", *networks, *([TOKENIZER] if self.card.text else []))

    def with_crops(self, count: int) -> "Encoder":
        """Return this encoder with the mean of several crops of each image, see `lookalike.encoders.crops.Crops`.

        It has another fingerprint, and no calibration: distances differ. `copy` and collections save it.

        Raises:
            UsageError: the number is not 1, 2, 5 or 10, or the encoder's output is bits.

        Example:
            >>> la.load_encoder("toyshop").with_crops(2).card.input.crops
            2
        """
        if count not in get_args(crops.Crops):
            raise UsageError(f"Crops are {', '.join(map(str, get_args(crops.Crops)))}, not {count!r}.")
        card = self.card
        if count == card.input.crops:
            return self
        if card.output == "bits":
            raise UsageError(f"“{card.name}” makes bits, and the bits of several crops have no mean. Use one crop.")
        given = card.input.model_copy(update={"crops": count})
        return Encoder(self.folder, card.model_copy(update={"input": given, "calibrations": ()}))

    @property
    def is_saved(self) -> bool:
        """Whether the folder's card has the same input."""
        return self.card.input == Card.read(self.folder).input

    def write_files(self, folder: Path) -> None:
        """Write the artefact's files into a folder; raises an OSError."""
        for name in self.files:
            shutil.copyfile(self.folder / name, folder / name)
        if not self.is_saved:
            (folder / "encoder.json").write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def copy(self, to: Path) -> Path:
        """Copy the artefact, with its model card, into a new folder.

        Raises:
            AlreadyExistsError: the folder exists.
            StorageError: the folder cannot be written.
        """
        try:
            to.mkdir(parents=True)
            self.write_files(to)
            if own_file(self.folder, "README.md").is_file():
                shutil.copyfile(self.folder / "README.md", to / "README.md")
        except FileExistsError as e:
            raise AlreadyExistsError(f"{to} already exists. Choose another folder.") from e
        except OSError as e:
            raise StorageError(f"{to} cannot be written: {e.strerror}. Choose another folder.") from e
        return to

    def embed(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo", *, threads: int = 1) -> Vectors:
        """Embed images that are fitted to the network's input, in one batch.

        `lookalike.embedding.Embedder` divides many images into batches, and batches among the cores.

        Args:
            batch: RGB; s is ``card.input.side``.
            branch: the network to run.
            threads: the number of threads to use.

        Returns:
            float32 ``(n, dimension)``, or packed bits uint8 ``(n, dimension / 8)``.

        Raises:
            UsageError: the encoder does not have the branch, or the images have another size.
            EncoderError: the network fails, or its output contradicts the card.
        """
        self._check(batch, branch)
        given = self.card.input
        if given.crops == 1 or len(batch) == 0:
            return self._run(batch, branch, threads)
        cut = crops.cut(batch, given.size, given.crops)
        return crops.mean_direction(self._run(crop, branch, threads) for crop in cut)

    def embed_texts(self, texts: Sequence[str], *, threads: int = 1) -> Vectors:
        """Embed texts through the text branch, in one batch; by its metric they are near the images that they describe.

        Args:
            texts: at most `lookalike.query.MAX_TEXT` characters each.
            threads: the number of threads to use.

        Returns:
            As `embed`.

        Raises:
            UsageError: the encoder has no text branch, or a text is empty or too long.
            MissingExtraError: the package ``tokenizers`` is not installed.
            EncoderError: the network or the tokenizer fails.
        """
        for text in texts:
            check_text(text)
        if self.card.text is None:
            raise UsageError(
                f"The encoder “{self.card.name}” has no text branch, so it cannot search by text. Use one that was trained on"
                " images with captions, such as “clip-vit-b32”.",
                "To change the encoder of a collection: lookalike reindex NAME --encoder clip-vit-b32.",
            )
        if importlib.util.find_spec("tokenizers") is None:
            raise MissingExtraError("text", "Search by text")
        return self._run(texts, "text", threads)

    def _run(self, batch: np.ndarray | Sequence[str], branch: Branch, threads: int) -> Vectors:
        if len(batch) == 0:
            bits = self.card.output == "bits"
            return np.empty((0, self.card.dimension // (8 if bits else 1)), np.uint8 if bits else np.float32)
        network, begun = self._network(branch), time.perf_counter()
        was_on_gpu = network.is_on_gpu
        try:
            vectors = network.run(batch, threads)
        except NetworkError as e:
            raise EncoderError(f"The network {branch}.onnx of “{self.card.name}” {e}") from e
        if was_on_gpu:
            self._measured(branch).record(len(batch), time.perf_counter() - begun)
        return vectors

    def batch_size(self, branch: Branch = "photo") -> int:
        """Return how many images the next batch should have; on a GPU, by the time that earlier ones took."""
        network = self._networks.get(branch)
        return self._measured(branch).size if network is not None and network.is_on_gpu else ON_CPU

    def device(self, branch: Branch = "photo") -> Device:
        """Return where a network runs: on the CPU, or after the first 64 images on a GPU if one is faster.

        Raises:
            EncoderError: the process of the network fails.
        """
        try:
            return self._network(branch).device
        except NetworkError as e:
            raise EncoderError(f"The network {branch}.onnx of “{self.card.name}” {e}") from e

    def _measured(self, branch: Branch) -> BatchSize:
        with self._lock:
            return self._batch_sizes.setdefault(branch, BatchSize())

    def _check(self, batch: np.ndarray, branch: Branch) -> None:
        size = self.card.input.side
        if branch == "text":
            raise UsageError("The text branch embeds texts, not images. Use embed_texts.")
        if branch not in self.card.branches:
            known = " and ".join(f"{name}s" for name in self.card.branches)
            raise UsageError(
                f"The encoder “{self.card.name}” has no {branch} branch. It embeds only {known}. Use one that has it, such as “sketch”.",
                "To change the encoder of a collection: lookalike reindex NAME --encoder sketch.",
            )
        if batch.ndim != 4 or batch.shape[1:] != (size, size, 3):  # noqa: PLR2004 -- n, height, width, channels
            raise UsageError(f"“{self.card.name}” takes images of shape (n, {size}, {size}, 3), not {batch.shape}.")

    def _network(self, branch: Branch) -> Network | NetworkProcess:
        """Return a branch's network: in this process if it is bundled, else in a process of its own."""
        with self._lock:
            if branch not in self._networks:
                names = [f"{branch}.onnx", *([TOKENIZER] if branch == "text" else [])]
                contract = _contract(self.card, branch)
                bundled = _bundled_network(self.folder / names[0]) if branch != "text" else None
                self._networks[branch] = (
                    Network(str(bundled), contract)
                    if bundled
                    else process.shared(tuple((self.folder / name, self._digest(name)) for name in names), contract)
                )
            return self._networks[branch]

    def _check_record(self, name: str) -> None:
        """Check a file, and that it is the one that was made of a public encoder, if the card has a record of it."""
        found = self._digest(name).hex()
        recorded = self.card.origin and self.card.origin.networks.get(name)
        if recorded and recorded != found:
            raise EncoderError(
                f"{self.folder / name} is not the file that was fetched: its SHA-256 is {found}, not {recorded}."
            )

    def _digest(self, name: str) -> bytes:
        """Return the SHA-256 of a file; a network is checked if it is not bundled."""
        if name not in self._digests:
            path = self.folder / name
            content = read_file(path, process.MAX_TOKENIZER_BYTES if name == TOKENIZER else process.MAX_BYTES)
            if name != TOKENIZER and _bundled_network(path) is None:
                try:
                    graph.check(content)
                except graph.GraphError as e:
                    raise EncoderError(f"{path} {e}") from e
            self._digests[name] = hashlib.sha256(content).digest()
        return self._digests[name]


def _contract(card: Card, branch: Branch) -> Contract:
    bits = card.output == "bits"
    if branch == "text" and card.text:
        given = card.text
        return Contract(
            TextInput(given.tokens, given.padding, given.ids, given.mask), card.dimension, bits, given.output
        )
    of, read = card.input, card.network_output or Output()
    return Contract(ImageInput(of.size, of.mean, of.std), card.dimension, bits, read.name, read.pool)


def _bundled_network(path: Path) -> Path | None:
    """Return the bundled network with the same content, which needs no limits.

    Raises:
        EncoderError: the network cannot be read.
    """
    try:
        size = path.stat().st_size
    except OSError as e:
        raise EncoderError(f"{path} cannot be read: {e.strerror}.") from e
    for bundled in _BUNDLED.glob(f"*/{path.name}"):
        if bundled.stat().st_size == size and bundled.read_bytes() == path.read_bytes():
            return bundled
    return None
