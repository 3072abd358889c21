"""Which pictures stand in a batch together. Drawn from (seed, epoch) alone, so that a resumed run repeats nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Int64

from lookalike.datasets import LabelledImages
from lookalike.errors import DataError, RecipeError
from lookalike.learn import recipe


@dataclass(frozen=True)
class Batch:
    """Pictures that are embedded together.

    ``rows`` are positions in the samples. ``tuples`` are positions in ``rows``: pairs (anchor, other), or triplets
    (anchor, positive, negative); none where the loss shall find its own in the batch.
    """

    rows: Int64[np.ndarray, " b"]
    tuples: Int64[np.ndarray, "t w"] | None = None


class Batches(Protocol):
    """The batches of a run, epoch by epoch."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, the same ones whenever it is asked for."""


def batches(samples: LabelledImages, config: recipe.Sampler, seed: int) -> Batches:
    """The batches that a recipe's sampler makes of samples.

    Raises:
        RecipeError: there are fewer classes than a batch shall have.
        DataError: there is one class only, or no class with two pictures, so that no tuple can be drawn.
    """
    match config:
        case recipe.PKSampler():
            return PKBatches(samples, config, seed)
        case recipe.PairSampler():
            same = min(max(round(config.same * config.pairs), 1), config.pairs - 1)
            return PairBatches(samples, same, config.pairs - same, seed)
        case recipe.TripletSampler():
            return TripletBatches(samples, config.triplets, seed)


class PKBatches:
    """Batches of P classes with K items each (Hermans et al. 2017, "In Defense of the Triplet Loss", section 2).

    Within an epoch a class's items are dealt like cards: each is seen once before any is seen again. A class with fewer
    than K shows some several times, as one of a single picture does its views.
    An item with sketches comes as its photo and one of its sketches. An epoch is as many batches as it takes to show as
    many items as there are.
    """

    def __init__(self, samples: LabelledImages, config: recipe.PKSampler, seed: int) -> None:
        """Raises RecipeError where there are fewer classes than P."""
        present = np.unique(samples.labels)
        if config.classes > len(present):
            raise RecipeError(
                f"sampler.classes asks for {config.classes} classes a batch, but there are {len(present)}."
            )
        self._p, self._k, self._seed = config.classes, config.items, seed
        by_class = np.argsort(samples.labels, kind="stable")
        ends = np.searchsorted(samples.labels[by_class], present[1:])
        self._items = [np.unique(items) for items in np.split(samples.items[by_class], ends)]
        order = np.argsort(samples.items, kind="stable")
        numbers, starts = np.unique(samples.items[order], return_index=True)
        self._rows: dict[int, np.ndarray] = dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))
        self._sketch = samples.sketch
        self._count = len(numbers)

    def __len__(self) -> int:
        """Batches an epoch."""
        return max(1, self._count // (self._p * self._k))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, sketches right after their photo."""
        rng = np.random.default_rng((self._seed, number))
        decks = [_Deck(items, rng) for items in self._items]
        classes = _Deck(np.arange(len(decks)), rng)
        for _ in range(len(self)):
            items = np.concatenate([decks[c].deal(self._k) for c in classes.deal(self._p)])
            rows = np.concatenate([self._show(i, rng) for i in items.tolist()])
            drawn = self._sketch[rows]
            # Batch normalisation needs two: a sketch that is alone stays away.
            yield Batch(rows[~drawn] if drawn.sum() == 1 else rows)

    def _show(self, item: int, rng: np.random.Generator) -> np.ndarray:
        rows = self._rows[item]
        if len(rows) == 1:
            return rows
        drawn = self._sketch[rows]
        return np.concatenate([rng.choice(side, 1) for side in (rows[~drawn], rows[drawn]) if len(side)])


class _Deck:
    """Cards dealt without putting back, shuffled anew when they run out."""

    def __init__(self, cards: np.ndarray, rng: np.random.Generator) -> None:
        self._cards, self._rng = cards, rng
        self._left = rng.permutation(cards)

    def deal(self, n: int) -> np.ndarray:
        if len(self._cards) == 1:
            return self._cards.repeat(n)
        while len(self._left) < n:
            # Those on the table first go under the new cards, so that a hand has no card twice where there are enough.
            fresh = self._rng.permutation(self._cards)
            seen = np.isin(fresh, self._left)
            self._left = np.concatenate([self._left, fresh[~seen], fresh[seen]])
        hand: np.ndarray = self._left[:n]
        self._left = self._left[n:]
        return hand


class PairBatches:
    """Batches of pairs that are drawn, never listed: they grow with the square of the pictures, memory does not.

    A positive is drawn by class, each as likely, then uniformly of the class's pairs; a negative by two classes, then a
    picture of each. Where the class has sketches the anchor is one of them, and the other is a photo. An epoch is as
    many batches as it takes to show as many items as there are.
    """

    def __init__(self, samples: LabelledImages, same: int, different: int, seed: int) -> None:
        """Of so many pairs of the same class and of different classes a batch. Raises DataError as `batches` says."""
        self._pool, self._same, self._different, self._seed = _Pool(samples), same, different, seed

    def __len__(self) -> int:
        """Batches an epoch."""
        return max(1, self._pool.items // (2 * (self._same + self._different)))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, in each the positive pairs first."""
        rng = np.random.default_rng((self._seed, number))
        for _ in range(len(self)):
            anchors, others, _ = self._pool.positives(self._same, rng)
            classes = rng.integers(self._pool.classes, size=self._different)
            left = np.concatenate([anchors, self._pool.anchors(classes, rng)])
            right = np.concatenate([others, self._pool.negatives(classes, rng)])
            yield self._pool.batch(np.stack([left, right], 1), rng)


class TripletBatches:
    """Batches of triplets, drawn as `PairBatches` draws: a positive pair, and a picture of another class."""

    def __init__(self, samples: LabelledImages, triplets: int, seed: int) -> None:
        """Of so many triplets a batch. Raises DataError as `batches` says."""
        self._pool, self._triplets, self._seed = _Pool(samples), triplets, seed

    def __len__(self) -> int:
        """Batches an epoch."""
        return max(1, self._pool.items // (3 * self._triplets))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        rng = np.random.default_rng((self._seed, number))
        for _ in range(len(self)):
            anchors, positives, classes = self._pool.positives(self._triplets, rng)
            rows = np.stack([anchors, positives, self._pool.negatives(classes, rng)], 1)
            yield self._pool.batch(rows, rng)


class _Pool:
    """What tuples are drawn from: for each class the rows of its anchors and of the others, end to end in an array."""

    def __init__(self, samples: LabelledImages) -> None:
        labels = np.unique(samples.labels)
        if len(labels) < 2:  # noqa: PLR2004 -- nothing differs from a single class
            raise DataError("There is one class only; a negative takes another one.")
        self.classes, self.items = len(labels), len(np.unique(samples.items))
        anchors, others = [], []
        for label in labels:
            rows = np.flatnonzero(samples.labels == label)
            drawn = samples.sketch[rows]
            anchors.append(rows[drawn] if drawn.any() else rows)
            others.append(rows if drawn.all() else rows[~drawn])
        # Where a class has photos alone, or sketches alone, an anchor's own row is among the others.
        self._one_kind = np.asarray([a[0] == o[0] for a, o in zip(anchors, others, strict=True)])
        self._anchors, self._others = _Rows(anchors), _Rows(others)
        self._paired = np.flatnonzero(self._others.counts > self._one_kind)
        if not len(self._paired):
            raise DataError("No class has two pictures; a positive pair takes two.")
        self._sketch = samples.sketch

    def positives(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Anchors, other pictures of their class, and the class, (n,) each."""
        classes = rng.choice(self._paired, n)
        anchors = rng.integers(self._anchors.counts[classes])
        others = rng.integers(self._others.counts[classes] - self._one_kind[classes])
        # Drawn of one fewer and moved up from the anchor on: any but the anchor, each as likely.
        others += self._one_kind[classes] & (others >= anchors)
        return self._anchors.at(classes, anchors), self._others.at(classes, others), classes

    def anchors(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An anchor of each of these classes."""
        return self._anchors.at(classes, rng.integers(self._anchors.counts[classes]))

    def negatives(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each of these classes a picture of another one."""
        others = rng.integers(self.classes - 1, size=len(classes))
        others += others >= classes
        return self._others.at(others, rng.integers(self._others.counts[others]))

    def batch(self, tuples: Int64[np.ndarray, "t w"], rng: np.random.Generator) -> Batch:
        """A batch in which each row stands once, however many tuples it is in."""
        rows, places = np.unique(tuples, return_inverse=True)
        for kind in (True, False):
            mine = self._sketch[rows] == kind
            if mine.sum() == 1:
                # Batch normalisation needs two: one that is alone gets company that is in no tuple.
                rest = np.setdiff1d(np.flatnonzero(self._sketch == kind), rows)
                rows = np.append(rows, rng.choice(rest) if len(rest) else rows[mine])
        return Batch(rows, places.reshape(tuples.shape))


class _Rows:
    """Lists of rows end to end."""

    def __init__(self, lists: list[np.ndarray]) -> None:
        self._rows = np.concatenate(lists)
        self.counts = np.asarray([len(rows) for rows in lists])
        self._starts = np.cumsum(self.counts) - self.counts

    def at(self, which: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The rows at these places of these lists."""
        rows: np.ndarray = self._rows[self._starts[which] + place]
        return rows
