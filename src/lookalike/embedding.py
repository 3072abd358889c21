"""Embedding of images as vectors.

An `Embedder` is an encoder and a codec. It divides images into batches for the network, and reports and skips unusable
files among many.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TypeVar

import numpy as np

from lookalike import images
from lookalike.codecs import Codec, NoCodec
from lookalike.codecs.protocol import Embeddings
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration, CalibrationKind
from lookalike.errors import ImageError, LookalikeError, NotFoundError, StorageError, UsageError
from lookalike.images import ImageSource
from lookalike.metric import Metric, VectorSpace
from lookalike.parallel import available_cores, prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.query import Branch, DistanceRange, Vectors, Within
from lookalike.rows import RowFormat, Rows
from lookalike.shapes import Float64, Shaped, UInt8
from lookalike.unicode_forms import find_existing

T = TypeVar("T")

# Fitted images held in memory at a time.
_IN_MEMORY = 64

# Levels by which JPEG and scaling change the pixels of one colour.
_NOISE = 4


def to_batch(image: ImageSource | Sequence[ImageSource]) -> tuple[list[ImageSource], bool]:
    """Convert one image or several to a list, and return whether it was one."""
    if isinstance(image, Sequence) and not isinstance(image, str | bytes | bytearray | memoryview):
        return list(image), False
    return [image], True  # type: ignore[list-item]  # what is not an image is refused when it is opened


@dataclass(frozen=True)
class Embedded:
    """The vectors of image files.

    Attributes:
        paths: the embedded files.
        vectors: ``(len(paths), c)``.
        failures: path and reason of each unusable file.
        blank: whether each embedded image has one colour only.
    """

    paths: tuple[Path, ...]
    vectors: Vectors
    failures: tuple[tuple[Path, str], ...]
    blank: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Embedder:
    """An encoder, the codec of its embeddings and the metric of the vectors; safe to use from several threads.

    A collection keeps the codes of its items. A query is not quantised: its vector is compared with those that the codes
    stand for. `embed` makes queries, and `embed_items` makes what a store keeps of items.

    Attributes:
        encoder: turns images into embeddings.
        codec: turns embeddings into codes, and into vectors of queries.
        metric: compares the vectors.
        originals: the store keeps the embeddings beside the codes.
        codec_fingerprint: that of the codec's files; codecs of one name that are fitted otherwise make other codes.
    """

    encoder: Encoder
    codec: Codec
    metric: Metric
    originals: bool = False
    codec_fingerprint: str = ""

    @classmethod
    def of(cls, encoder: Encoder, metric: Metric | None = None) -> "Embedder":
        """Make an embedder of an encoder without a codec.

        Args:
            encoder: the encoder.
            metric: by default the encoder's metric.

        Raises:
            UsageError: the metric does not compare the encoder's embeddings.
        """
        card = encoder.card
        return cls(encoder, NoCodec(VectorSpace(card.metric, card.dimension)), card.metric).with_metric(metric)

    def with_metric(self, metric: Metric | None) -> "Embedder":
        """Return the embedder with another metric, or unchanged if none is given.

        Raises:
            UsageError: the metric does not compare these vectors.
        """
        if metric is None or metric is self.metric:
            return self
        if metric not in self.space.metrics:
            kind = "bits" if self.metric is Metric.HAMMING else "floats"
            raise UsageError(
                f"The {metric} metric cannot compare the vectors of “{self.name}”, which are {kind}. Choose"
                f" {' or '.join(self.space.metrics)}."
            )
        return replace(self, metric=metric)

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self.encoder.card.name

    @property
    def scope(self) -> str:
        """What the encoder was trained on, in one line: its card's scope, or else its description."""
        card = self.encoder.card
        return card.scope or " ".join(card.description.split()) or "Its card does not say what it was trained on."

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the vectors."""
        return VectorSpace(self.metric, self.codec.space.dimension)

    @property
    def is_compressed(self) -> bool:
        """Whether a store keeps codes, not the vectors themselves."""
        return self.codec.name != NoCodec.name

    @property
    def codec_in_words(self) -> str | None:
        """The codec that distances are of, in words; none if the vectors are not compressed."""
        return str(self.codec) if self.is_compressed else None

    def without_codec(self) -> "Embedder":
        """Return the embedder of the embeddings, in the metric that the codec encodes them for."""
        return Embedder.of(self.encoder, self.codec.embeddings.metric) if self.is_compressed else self

    @property
    def codec_id(self) -> str:
        """The codec's name and the beginning of its fingerprint; calibrations hold for one such codec."""
        return self.codec.name + (f"-{self.codec_fingerprint[:16]}" if self.codec_fingerprint else "")

    @property
    def rows(self) -> RowFormat:
        """What a store keeps of the items."""
        return RowFormat(self.space, self.codec if self.is_compressed else None, self.originals)

    @property
    def fingerprint(self) -> str:
        """The encoder's fingerprint. The vectors of two embedders can be compared only if it is the same."""
        return self.encoder.fingerprint

    def preprocess(self, source: ImageSource, branch: Branch = "photo") -> UInt8[np.ndarray, "s s 3"]:
        """Open an image and fit it to the network's input; a sketch as dark lines on white paper, see `lookalike.images.clean_sketch`.

        Raises:
            ImageError, NotFoundError: the image cannot be used.
            UsageError: the source is not an image.
        """
        network = self.encoder.card.input
        if branch == "sketch":
            source = images.clean_sketch(images.open_image(source, at_least=network.side))
        return images.load(source, network.side, network.fitting)

    def decide_branch(self, source: ImageSource) -> Branch:
        """Return the sketch branch if the encoder has it and the image looks drawn; else, or if it cannot be used, the photo branch."""
        if "sketch" not in self.encoder.card.branches:
            return "photo"
        try:
            return "sketch" if images.looks_drawn(_find_file(source)) else "photo"
        except (ImageError, NotFoundError, StorageError):
            return "photo"

    def embed(self, sources: Sequence[ImageSource], branch: Branch = "photo") -> Vectors:
        """Embed images as queries, in order.

        Args:
            sources: the images; a path may be in another Unicode form than the name of its file.
            branch: of the encoder.

        Raises:
            ImageError, NotFoundError: one of them cannot be used.
            UsageError: the encoder does not have the branch, or a source is not an image.
        """
        return self.embed_queries(sources, branch)[0]

    def embed_queries(self, sources: Sequence[ImageSource], branch: Branch = "photo") -> tuple[Vectors, list[bool]]:
        """Embed images as queries, and return whether each has one colour only; arguments and errors as for `embed`."""
        embeddings, blank = self._embed(sources, branch)
        return self.project(embeddings), blank

    def embed_items(self, sources: Sequence[ImageSource]) -> Rows:
        """Embed images as rows of `lookalike.stores.Store.upsert`, in order; raises as `embed`."""
        return self.rows.encode(self._embed(sources, "photo")[0])

    def _embed(self, sources: Sequence[ImageSource], branch: Branch) -> tuple[Vectors, list[bool]]:
        parts, blank = [self._embed_array(self._no_images, branch)], list[bool]()
        for start in range(0, len(sources), _IN_MEMORY):
            batch = [self.preprocess(_find_file(source), branch) for source in sources[start : start + _IN_MEMORY]]
            parts.append(self._embed_array(np.stack(batch), branch))
            blank += map(_is_blank, batch)
        return np.concatenate(parts), blank

    def project(self, embeddings: Embeddings) -> Vectors:
        """Convert embeddings to vectors of queries; see `lookalike.codecs.Codec.project`.

        Raises:
            UsageError: the embeddings are of another dimension, or not finite.
        """
        return self.codec.project(embeddings) if self.is_compressed else embeddings

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, in order, by the encoder's text branch.

        Raises:
            UsageError: the encoder has no text branch, or a text is empty or too long.
            MissingExtraError: the package ``tokenizers`` is not installed.
            EncoderError: the network or the tokenizer fails.
        """
        batches = [*self._divide(texts, "text")] or [texts]
        threads = available_cores()
        return self.project(np.concatenate([self.encoder.embed_texts(b, threads=threads) for b in batches]))

    def embed_files(self, paths: Sequence[Path], branch: Branch = "photo", progress: Progress = SILENT) -> Embedded:
        """Embed image files as queries, and skip unusable ones.

        Args:
            paths: the files.
            branch: of the encoder.
            progress: receives the stage ``"embedding"``.

        Raises:
            UsageError: the encoder does not have the branch.
            EncoderError: the network fails.
        """

        def read(path: Path) -> UInt8[np.ndarray, "s s 3"] | LookalikeError:
            try:
                return self.preprocess(path, branch)
            except (ImageError, NotFoundError, StorageError) as e:
                return e

        def embed_group(group: Sequence[Path]) -> tuple[Sequence[Path], list[LookalikeError | bool], Vectors]:
            results = [read(path) for path in group]
            fitted = [result for result in results if not isinstance(result, LookalikeError)]
            outcomes = [one if isinstance(one, LookalikeError) else _is_blank(one) for one in results]
            return group, outcomes, self.embed_batch(np.stack(fitted), branch) if fitted else parts[0]

        embedded: list[Path] = []
        blank: list[bool] = []
        failures: list[tuple[Path, str]] = []
        parts = [self.embed_array(self._no_images, branch)]
        with closing(prefetch_map(embed_group, self._divide(paths, branch))) as results:
            for group, outcomes, vectors in results:
                parts.append(vectors)
                for path, outcome in zip(group, outcomes, strict=True):
                    if isinstance(outcome, LookalikeError):
                        failures.append((path, str(outcome)))
                    else:
                        embedded.append(path)
                        blank.append(outcome)
                progress.advance("embedding", len(embedded) + len(failures), len(paths))
        return Embedded(tuple(embedded), np.concatenate(parts), tuple(failures), tuple(blank))

    def embed_array(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo") -> Vectors:
        """Embed images that are fitted to the network's input as queries, on all cores.

        Several images are divided among the cores; a single image uses all of them. ONNX Runtime does not promise
        bit-identical embeddings for every batch size and number of cores. Those of the bundled encoders on x86-64 are.

        Args:
            batch: RGB; s is ``encoder.card.input.side``.
            branch: of the encoder.

        Raises:
            UsageError: the encoder does not have the branch, or the images have another size.
            EncoderError: the network fails.
        """
        return self.project(self._embed_array(batch, branch))

    def _embed_array(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch) -> Vectors:
        if len(batch) <= 1:
            return self.encoder.embed(batch, branch, threads=available_cores())
        size = min(self.encoder.batch_size(branch), -(-len(batch) // available_cores()))
        parts = (batch[start : start + size] for start in range(0, len(batch), size))
        with closing(prefetch_map(lambda part: self.encoder.embed(part, branch), parts)) as embeddings:
            return np.concatenate(list(embeddings))

    def embed_batch(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo") -> Vectors:
        """Embed a small batch as queries in the calling thread, for callers that divide their work among the cores themselves."""
        return self.project(self.encoder.embed(batch, branch))

    def embed_item_batch(self, batch: UInt8[np.ndarray, "n s s 3"]) -> Rows:
        """Embed a small batch as rows of `lookalike.stores.Store.upsert` in the calling thread."""
        return self.rows.encode(self.encoder.embed(batch))

    def _divide(self, sources: Sequence[T], branch: Branch) -> Iterator[Sequence[T]]:
        """Divide files or texts into groups of a batch's size, which may change between them."""
        start = 0
        while start < len(sources):
            size = self.encoder.batch_size(branch)
            yield sources[start : start + size]
            start += size

    @property
    def _no_images(self) -> UInt8[np.ndarray, "0 s s 3"]:
        size = self.encoder.card.input.side
        return np.empty((0, size, size, 3), np.uint8)

    # ---- calibration

    def calibration(self, branch: Branch = "photo", prefer: CalibrationKind = "classes") -> Calibration | None:
        """Return a calibration of the encoder, or none if none applies to these vectors.

        A calibration is fitted on pairs of photos, with one codec and one metric. It does not apply to sketches and texts,
        which lie farther from photos.

        Args:
            branch: of the query.
            prefer: the kind to return if the encoder is calibrated on both; see `Calibration.kind`.
        """
        card = self.encoder.card
        known = [
            calibration
            for calibration in card.calibrations
            if branch == "photo"
            and calibration.codec == self.codec_id
            and (calibration.metric or card.metric) is self.metric
        ]
        return max(known, key=lambda calibration: calibration.kind == prefer, default=None)

    def probabilities(
        self, distances: Shaped[np.ndarray, "*shape"], branch: Branch = "photo"
    ) -> Float64[np.ndarray, "*shape"] | None:
        """Compute P(same | distance) for equal priors, see `Calibration.probability`; none without a calibration."""
        calibration = self.calibration(branch)
        return calibration.probability(distances) if calibration is not None and calibration.knots else None

    def distance_at(
        self, false_accept_rate: float, branch: Branch = "photo", prefer: CalibrationKind = "classes"
    ) -> float:
        """Look up the distance within which this share of the pairs of different things lies.

        ``branch`` and ``prefer`` are as in `calibration`.

        Raises:
            UsageError: the encoder is not calibrated for these vectors, or not for this rate.
        """
        if not isinstance(false_accept_rate, Real):
            raise UsageError(f"A false accept rate is a number, such as 0.01, not {type(false_accept_rate).__name__}.")
        if branch != "photo":
            what = {"sketch": "a sketch", "text": "a text"}[branch]
            raise UsageError(
                f"False accept rates are measured on pairs of photos, and {what} lies farther from photos. Give a distance."
            )
        calibration = self.calibration(branch, prefer)
        if calibration is None:
            raise UsageError(
                f"The encoder “{self.name}” is not calibrated for the {self.metric} metric with the codec “{self.codec.name}”, so the"
                " false accept rate of a distance is unknown. Give a distance.",
                "To calibrate it: lookalike calibrate.",
            )
        for rate, distance in calibration.distance_at_false_accept_rate.items():
            if float(rate) == false_accept_rate:
                return distance
        if not calibration.distance_at_false_accept_rate:
            raise UsageError(
                f"“{self.name}” was calibrated on too few pairs to know a false accept rate. Calibrate it on more images."
            )
        raise UsageError(
            f"“{self.name}” is not calibrated for the false accept rate {false_accept_rate:g}. Give a distance, or one of"
            f" {', '.join(calibration.distance_at_false_accept_rate)}. Small rates need more pairs to calibrate."
        )

    def distance_range(
        self, within: Within | None = None, false_accept_rate: float | None = None, branch: Branch = "photo"
    ) -> DistanceRange | None:
        """Parse a distance range, or look up that of a false accept rate; none if neither is given.

        Raises:
            UsageError: both are given, the range is invalid, or the encoder is not calibrated for the rate.
        """
        if within is not None and false_accept_rate is not None:
            raise UsageError("Give a distance or a false accept rate, not both.")
        if false_accept_rate is not None:
            return DistanceRange(0, self.distance_at(false_accept_rate, branch))
        return None if within is None else DistanceRange.parse(within, self.space)


def _is_blank(fitted: UInt8[np.ndarray, "s s 3"]) -> bool:
    """Return whether an image has one colour only, but for the noise of its compression."""
    return bool((np.ptp(fitted, axis=(0, 1)) <= _NOISE).all())


def _find_file(source: ImageSource) -> ImageSource:
    """Find a file in any Unicode form; an ASCII path stays as it was given, so that messages show it as it was given."""
    if not isinstance(source, str | os.PathLike) or os.fsdecode(source).isascii():
        return source
    return find_existing(Path(os.fsdecode(source)))
