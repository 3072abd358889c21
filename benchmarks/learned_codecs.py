"""Measure codecs that are trained: on labels (CRS, CBS, DSH, DTSH), and as UMAP's parametric form.

    lookalike embed data/fashion-60 --out fashion-60.npz
    lookalike embed data/fashion-300 --out fashion-300.npz
    python benchmarks/learned_codecs.py labels fashion-60.npz fashion-300.npz --labels data/fashion-60.csv data/fashion-300.csv
    python benchmarks/learned_codecs.py failure fashion-60.npz fashion-300.npz --labels data/fashion-60.csv data/fashion-300.csv
    python benchmarks/learned_codecs.py umap fashion-300.npz --labels data/fashion-300.csv

``labels`` fits codecs to the first file, and each item of the second ranks all its others. ``failure`` trains DTSH on embeddings
off centre. ``umap`` fits UMAP and its parametric form to four fifths of a file; the rest are queries. Labels are the columns ``file`` and ``article`` of a CSV file, or the
names of folders.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from lookalike.codecs import Binary, Codec, NoCodec, Pca, Umap
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.learn.codecs import CBS, CRS, DSH, DTSH, ParametricUMAP
from lookalike.learn.losses import DTSHTerm
from lookalike.metric import Metric, VectorSpace

FLOATS = 4, 16, 64
BITS = 128, 512, 2048


@dataclass(frozen=True, eq=False)
class Items:
    """Embeddings, their labels, and their metric."""

    embeddings: np.ndarray
    labels: list[str]
    metric: Metric = Metric.COSINE

    def rows(self, rows: np.ndarray) -> "Items":
        """Select some."""
        return Items(self.embeddings[rows], [self.labels[row] for row in rows], self.metric)

    def take(self, wanted: Callable[[str], bool]) -> "Items":
        """Select those with a wanted label."""
        return self.rows(np.flatnonzero([wanted(label) for label in self.labels]))

    @property
    def space(self) -> VectorSpace:
        """Their space."""
        return VectorSpace(self.metric, self.embeddings.shape[1])


def read(path: Path, labels: Path | None) -> Items:
    """Read what `lookalike embed` wrote; images without a label are left out."""
    with np.load(path) as file:
        paths, embeddings = [Path(p) for p in file["paths"]], file["embeddings"].astype(np.float32)
    found: dict[str, str] = {}
    if labels is not None:
        with labels.open(encoding="utf-8", newline="") as file:
            found = {Path(row["file"]).name: row["article"] for row in csv.DictReader(file)}
    names = [found.get(p.name, "") if labels is not None else p.parent.name for p in paths]
    rows = [row for row, name in enumerate(names) if name]
    return Items(embeddings[rows], [names[row] for row in rows])


def score(codec: Codec, queries: Items, gallery: Items | None) -> tuple[float, float]:
    """Return mAP and MRR of queries in a gallery; without one, each query ranks all others."""
    searched = gallery or queries
    found = retrieval.evaluate(
        LabelledVectors(codec.project(queries.embeddings), queries.labels),
        LabelledVectors(codec.decode(codec.encode(searched.embeddings)), searched.labels),
        codec.space.metric,
        own_rows=None if gallery else np.arange(len(queries.labels)),
    )
    return found.map, found.mrr


def on_labels(space: VectorSpace) -> Iterator[Codec]:
    """Yield the codecs of ``labels``: floats and bits of equal bytes."""
    for floats, bits in zip(FLOATS, BITS, strict=True):
        yield Pca(space, floats)
        yield CRS(space, floats)
        yield Binary(space, bits, "itq" if bits <= space.dimension else "sign")
        yield CBS(space, bits)
        yield DSH(space, bits)
        yield DTSH(space, bits)
        yield DTSH(space, bits, balance=0.5)


OFFSET = 3.0
"""Of the embeddings of ``failure`` from the origin, in each number, as a multiple of their spread."""


@dataclass(frozen=True, eq=False)
class OffCentreDTSH(DTSH):
    """DTSH from a small random layer on embeddings that stay off centre, as features behind a rectifier are.

    Attributes:
        binary: λ.
    """

    rate: ClassVar[float] = 0.2  # so that the small weights move as far as those of another start

    binary: float = 0.01

    def __str__(self) -> str:
        """Name λ and w."""
        return f"dtsh off centre to {self.dimension} bits, λ {self.binary:g}, w {self.balance or self.weight:g}"

    def metric_loss(self, weight: float) -> DTSHTerm:
        """Return the loss with another λ."""
        return DTSHTerm(kind="dtsh", weight=weight, binary=self.binary)

    def centre(self, rows: np.ndarray) -> np.ndarray:
        """Subtract nothing."""
        return np.zeros(rows.shape[1])

    def start(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a random layer whose outputs vary by 0.1."""
        matrix = np.random.default_rng(self.seed).standard_normal((rows.shape[1], self.dimension))
        return matrix * 0.1 / (rows @ matrix).std(axis=0).mean(), np.zeros(self.dimension)


def failing(space: VectorSpace) -> Iterator[Codec]:
    """Yield DTSH from R4's start, by λ and w, and with this project's start."""
    for bits in BITS:
        for binary in (0.01, 100.0):
            for balance in (None, 0.5):
                yield OffCentreDTSH(space, bits, balance=balance, binary=binary)
        yield DTSH(space, bits)


def name_of(codec: Codec) -> str:
    """Name a codec with its balance."""
    balance = getattr(codec, "balance", None)
    return f"{codec}, w {balance:g}" if balance is not None and not isinstance(codec, OffCentreDTSH) else str(codec)


def write(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def measure(codecs: Iterator[Codec], training: Items, queries: Items, gallery: Items | None = None) -> None:
    """Fit codecs, and write a line for each as soon as it is measured; see `score`."""
    write("codec | bytes | mAP | MRR | s to fit")
    for codec in codecs:
        began = time.monotonic()
        fitted = codec.fit(training.embeddings, training.labels)
        seconds = time.monotonic() - began
        found = score(fitted, queries, gallery)
        write(f"{name_of(codec)} | {fitted.code_bytes} | {found[0]:.3f} | {found[1]:.3f} | {seconds:.0f}")


def laid_out(space: VectorSpace) -> Iterator[Codec]:
    """Yield UMAP and its parametric form."""
    yield Umap(space, 16)
    yield ParametricUMAP(space, 16)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a study."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", choices=("labels", "failure", "umap"))
    parser.add_argument("training", type=Path, help="embeddings that codecs are fitted to, of lookalike embed")
    parser.add_argument("test", type=Path, nargs="?", help="embeddings that are searched; by default the first ones")
    parser.add_argument("--labels", type=Path, nargs="+", default=[None], help="their CSV files; by default, folders")
    parser.add_argument(
        "--unseen", type=Path, help="a CSV file: labels of its column label are tested, and not trained"
    )
    given = parser.parse_args(arguments)
    training = read(given.training, given.labels[0])
    test = read(given.test or given.training, given.labels[-1])
    if given.unseen:
        with given.unseen.open(encoding="utf-8", newline="") as file:
            unseen = {row["label"] for row in csv.DictReader(file)}
        training, test = training.take(lambda label: label not in unseen), test.take(unseen.__contains__)
    space = training.space
    if given.study == "umap":
        order = np.random.default_rng(0).permutation(len(test.labels))
        queries, gallery = (test.rows(rows) for rows in np.split(order, [len(order) // 5]))
        write(f"{len(queries.labels)} queries, {len(gallery.labels)} items")
        measure(chain([NoCodec(space)], laid_out(space)), gallery, queries, gallery)
    else:
        write(f"{len(training.labels)} to fit, of {len(set(training.labels))} labels; {len(test.labels)} to search")
        if given.study == "failure":
            offset = OFFSET * float(training.embeddings.std(axis=0).mean())
            training, test = (Items(one.embeddings + offset, one.labels, Metric.EUCLIDEAN) for one in (training, test))
        codecs = on_labels(space) if given.study == "labels" else failing(training.space)
        measure(chain([NoCodec(training.space)], codecs), training, test)


if __name__ == "__main__":
    main()
