"""Embedding: from images to the vectors that are stored and compared.

An `Embedder` is an encoder and a codec. No other module batches images through a network, and none but this one decides
what a bad image among many means: it is reported and skipped.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lookalike import codecs, images
from lookalike.codecs import Codec, NoCodec
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration
from lookalike.errors import ImageError, LookalikeError, NotFoundError, StorageError, UsageError
from lookalike.images import ImageSource
from lookalike.metric import Metric, VectorSpace
from lookalike.parallel import available_cores, prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.query import Branch, DistanceRange, Vectors, Within
from lookalike.shapes import Float64, Shaped, UInt8

BATCH = 16
"""Images that go through a network at once. More than eight are not cheaper on a core (``benchmarks/indexing.py``), and small
batches divide evenly among many cores."""

# Images held in memory at a time where many are embedded.
_IN_MEMORY = 64


def to_batch(image: ImageSource | Sequence[ImageSource]) -> tuple[list[ImageSource], bool]:
    """Return a list of images, and whether a single image was given in place of a list."""
    if isinstance(image, Sequence) and not isinstance(image, str | bytes):
        return list(image), False
    return [image], True


@dataclass(frozen=True)
class Embedded:
    """The vectors of image files.

    Attributes:
        paths: the files that could be used.
        vectors: ``(len(paths), c)``.
        failures: path and reason of each file that could not be used.
    """

    paths: tuple[Path, ...]
    vectors: Vectors
    failures: tuple[tuple[Path, str], ...]


@dataclass(frozen=True, eq=False)
class Embedder:
    """An encoder, the codec of its embeddings and the metric of the vectors; safe to use from several threads.

    Attributes:
        encoder: makes embeddings of images.
        codec: makes of embeddings what is stored.
        metric: compares the vectors.
    """

    encoder: Encoder
    codec: Codec
    metric: Metric

    @classmethod
    def of(cls, encoder: Encoder, metric: Metric | None = None) -> "Embedder":
        """Use an encoder's embeddings as they are.

        Args:
            encoder: the encoder.
            metric: the encoder's own if none.

        Raises:
            UsageError: the metric does not compare what the encoder puts out.
        """
        card = encoder.card
        own = cls(encoder, NoCodec(VectorSpace(card.metric, card.dimension)), card.metric)
        return own if metric is None else own.compared_by(metric)

    @classmethod
    def load(cls, encoder: Encoder, codec: str, folder: Path, metric: Metric) -> "Embedder":
        """Use an encoder with a codec that was saved in a folder; see `lookalike.codecs.load`."""
        loaded = codecs.load(codec, folder, cls.of(encoder).space)
        return cls(encoder, loaded, loaded.space.metric).compared_by(metric)

    def compared_by(self, metric: Metric | None) -> "Embedder":
        """Return the same embedder with another metric; with its own if none is given.

        Raises:
            UsageError: the metric does not compare these vectors.
        """
        if metric is None or metric is self.metric:
            return self
        if metric not in self.space.metrics:
            kind = "bits" if self.metric is Metric.HAMMING else "floats"
            raise UsageError(
                f"The vectors of “{self.name}” are {kind}, which the {metric} metric does not compare. Choose"
                f" {' or '.join(self.space.metrics)}."
            )
        return replace(self, metric=metric)

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self.encoder.card.name

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the vectors."""
        return VectorSpace(self.metric, self.codec.space.dimension)

    @property
    def fingerprint(self) -> str:
        """The encoder's fingerprint: vectors of two embedders can be compared only if it is the same."""
        return self.encoder.fingerprint

    def preprocess(self, source: ImageSource) -> UInt8[np.ndarray, "s s 3"]:
        """Open an image and fit it to the network's input.

        Raises:
            ImageError, NotFoundError: the image cannot be used.
            UsageError: the source is not an image.
        """
        about = self.encoder.card.input
        return images.load(source, about.size, about.fit)

    def embed(self, sources: Sequence[ImageSource], branch: Branch = "photo") -> Vectors:
        """Embed images, in order.

        Args:
            sources: the images.
            branch: of the encoder.

        Raises:
            ImageError, NotFoundError: one of them cannot be used.
            UsageError: the encoder does not have the branch, or a source is not an image.
        """
        parts = [self.embed_array(self._no_images, branch)]
        for start in range(0, len(sources), _IN_MEMORY):
            batch = [self.preprocess(source) for source in sources[start : start + _IN_MEMORY]]
            parts.append(self.embed_array(np.stack(batch), branch))
        return np.concatenate(parts)

    def embed_files(self, paths: Sequence[Path], branch: Branch = "photo", progress: Progress = SILENT) -> Embedded:
        """Embed image files, and skip those that cannot be used.

        Args:
            paths: the files.
            branch: of the encoder.
            progress: gets the stage ``"embedding"``.

        Raises:
            UsageError: the encoder does not have the branch.
            EncoderError: the network fails.
        """

        def read(path: Path) -> UInt8[np.ndarray, "s s 3"] | LookalikeError:
            try:
                return self.preprocess(path)
            except (ImageError, NotFoundError, StorageError) as e:
                return e

        def work(group: Sequence[Path]) -> tuple[list[LookalikeError | None], Vectors]:
            results = [read(path) for path in group]
            good = [result for result in results if not isinstance(result, LookalikeError)]
            errors = [result if isinstance(result, LookalikeError) else None for result in results]
            return errors, self.embed_batch(np.stack(good), branch) if good else parts[0]

        done: list[Path] = []
        failures: list[tuple[Path, str]] = []
        parts = [self.embed_array(self._no_images, branch)]
        groups = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
        with closing(prefetch_map(work, groups)) as results:
            for group, (errors, vectors) in zip(groups, results, strict=True):
                parts.append(vectors)
                for path, error in zip(group, errors, strict=True):
                    if error is None:
                        done.append(path)
                    else:
                        failures.append((path, str(error)))
                progress.advance("embedding", len(done) + len(failures), len(paths))
        return Embedded(tuple(done), np.concatenate(parts), tuple(failures))

    def embed_array(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo") -> Vectors:
        """Embed images that are fitted to the network's input, on all cores.

        Several images are divided among the cores; a single one gets all of them. ONNX Runtime does not promise that the
        last bit of an embedding is the same in every batch, on any number of cores; on x86-64 the embeddings of the
        bundled encoders are the same, bit for bit.

        Args:
            batch: RGB; s is ``encoder.card.input.size``.
            branch: of the encoder.

        Raises:
            UsageError: the encoder does not have the branch, or the images have another size.
            EncoderError: the network fails.
        """
        if len(batch) <= 1:
            return self.codec.encode(self.encoder.embed(batch, branch, threads=available_cores()))
        size = min(BATCH, -(-len(batch) // available_cores()))
        parts = (batch[start : start + size] for start in range(0, len(batch), size))
        with closing(prefetch_map(lambda part: self.embed_batch(part, branch), parts)) as vectors:
            return np.concatenate(list(vectors))

    def embed_batch(self, batch: UInt8[np.ndarray, "n s s 3"], branch: Branch = "photo") -> Vectors:
        """Embed a small batch in the calling thread, for callers who divide their work among the cores themselves."""
        return self.codec.encode(self.encoder.embed(batch, branch))

    @property
    def _no_images(self) -> UInt8[np.ndarray, "0 s s 3"]:
        size = self.encoder.card.input.size
        return np.empty((0, size, size, 3), np.uint8)

    # ---- what distances mean

    def calibration(self, branch: Branch = "photo") -> Calibration | None:
        """Return what distances mean, if the encoder is calibrated for these vectors.

        A calibration is fitted on pairs of photos, with one codec and one metric. Sketches lie farther from everything, so
        it does not hold for them.
        """
        known = self.encoder.card.calibration
        if known is None or branch != "photo" or known.codec != self.codec.name:
            return None
        return known if (known.metric or self.encoder.card.metric) is self.metric else None

    def probabilities(
        self, distances: Shaped[np.ndarray, "*shape"], branch: Branch = "photo"
    ) -> Float64[np.ndarray, "*shape"] | None:
        """Return P(same | distance) for equal priors, see `Calibration.probability`; none if it is not known."""
        known = self.calibration(branch)
        return known.probability(distances) if known is not None and known.knots else None

    def distance_at(self, false_accept_rate: float, branch: Branch = "photo") -> float:
        """Return the distance within which this share of the pairs of different things lies.

        Raises:
            UsageError: the encoder is not calibrated for these vectors, or not for this rate.
        """
        known = self.calibration(branch)
        if known is None:
            what = "sketches" if branch != "photo" else f"the {self.metric} metric with the codec “{self.codec.name}”"
            raise UsageError(
                f"The encoder “{self.name}” is not calibrated for {what}, so the false accept rate of a distance is"
                " unknown. Give a distance, or run lookalike calibrate."
            )
        for rate, distance in known.distance_at_false_accept_rate.items():
            if float(rate) == false_accept_rate:
                return distance
        if not known.distance_at_false_accept_rate:
            raise UsageError(
                f"“{self.name}” was calibrated on too few pairs to know a false accept rate. Calibrate it on more images."
            )
        raise UsageError(
            f"“{self.name}” is calibrated for the false accept rates {', '.join(known.distance_at_false_accept_rate)}, not for"
            f" {false_accept_rate:g}. Give one of these, or a distance. Small rates need more pairs to calibrate."
        )

    def distance_range(
        self, within: Within | None = None, false_accept_rate: float | None = None, branch: Branch = "photo"
    ) -> DistanceRange | None:
        """Read a range of distances, or find that of a false accept rate; none if neither is given.

        Raises:
            UsageError: both are given, the range is invalid, or the encoder is not calibrated for the rate.
        """
        if within is not None and false_accept_rate is not None:
            raise UsageError("Give a distance or a false accept rate, not both.")
        if false_accept_rate is not None:
            return DistanceRange(0, self.distance_at(false_accept_rate, branch))
        return None if within is None else DistanceRange.parse(within, self.space)
