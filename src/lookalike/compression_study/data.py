"""Labelled embeddings to study, and their folds."""

import hashlib
from dataclasses import dataclass

import numpy as np

from lookalike.errors import UsageError
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric, VectorSpace
from lookalike.shapes import Int64

FOLDS = 3

_SEED = 14


@dataclass(frozen=True, eq=False)
class StudyData:
    """Items to compress, and the queries that search them.

    Attributes:
        name: for the report.
        space: metric and dimension of the embeddings.
        items: their embeddings, float32, and their labels, strings.
        queries: other embeddings that search them, such as sketches; none if each item is a query.
    """

    name: str
    space: VectorSpace
    items: LabelledVectors
    queries: LabelledVectors | None = None

    def __post_init__(self) -> None:
        """Check that folds can be made and measured.

        Raises:
            UsageError: the embeddings are bits, of several dimensions, or no class has two items in each fold.
        """
        if self.space.metric is Metric.HAMMING:
            raise UsageError(
                f"The vectors of “{self.name}” are bits, which no codec makes smaller. Use an encoder of floats."
            )
        for vectors in (self.items, self.queries):
            if vectors is not None and vectors.vectors.shape[1] != self.space.dimension:
                raise UsageError(
                    f"Items have {self.space.dimension} numbers and queries {vectors.vectors.shape[1]}. Embed both with one"
                    " encoder."
                )
        _, counts = np.unique(np.asarray(self.items.labels), return_counts=True)
        if len(counts) < 2 or counts.max() < 2 * FOLDS:  # noqa: PLR2004 -- two classes
            raise UsageError(
                f"A study needs two classes, and a class with {2 * FOLDS} items, two in each of {FOLDS} folds; “{self.name}” has"
                f" {len(counts)} classes of at most {counts.max(initial=0)}. Label more items."
            )

    @property
    def fingerprint(self) -> str:
        """A hash of embeddings, labels and metric."""
        digest = hashlib.sha256(f"{self.space}".encode())
        for vectors in (self.items, self.queries):
            if vectors is not None:
                digest.update(np.ascontiguousarray(vectors.vectors).tobytes())
                digest.update("\0".join(map(str, vectors.labels)).encode())
        return digest.hexdigest()

    def folds(self) -> Int64[np.ndarray, " n"]:
        """Return the fold of each item: 0, 1 or 2, drawn at random with the same number of items of each class in each."""
        order = np.random.default_rng(_SEED).permutation(len(self.items))
        order = order[np.argsort(np.asarray(self.items.labels)[order], kind="stable")]
        folds = np.empty(len(order), np.int64)
        folds[order] = np.arange(len(order)) % FOLDS
        return folds

    def take(self, rows: Int64[np.ndarray, " m"]) -> LabelledVectors:
        """Select items."""
        return LabelledVectors(self.items.vectors[rows], np.asarray(self.items.labels)[rows])
