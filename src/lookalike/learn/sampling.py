"""Samplers: the batches of a stage. They depend only on seed and epoch, so a resumed run continues the sequence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lookalike.datasets import LabelledImages
from lookalike.errors import DataError, RecipeError
from lookalike.learn import recipe
from lookalike.learn.losses import Comparison, LossTerm
from lookalike.shapes import Int64


@dataclass(frozen=True)
class Batch:
    """Images that are embedded together.

    Attributes:
        rows: positions in the samples.
        tuples: positions in ``rows``: pairs (anchor, other), or triplets (anchor, positive, negative); None if the loss
            forms its own tuples from the batch.
    """

    rows: Int64[np.ndarray, " b"]
    tuples: Int64[np.ndarray, "t w"] | None = None


class Batches(Protocol):
    """The batches of a stage, epoch by epoch."""

    def __len__(self) -> int:
        """Return the number of batches per epoch."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; they are the same in every call."""


def batches(samples: LabelledImages, config: recipe.Sampler, seed: int) -> Batches:
    """Make the batches of a recipe's sampler.

    Raises:
        RecipeError: there are fewer classes than a batch needs.
        DataError: there is only one class, or no class with two images, so no tuple can be drawn.
    """
    match config:
        case recipe.PKSampler():
            return PKBatches(samples, config, seed)
        case recipe.PairSampler():
            same = min(max(round(config.same * config.pairs), 1), config.pairs - 1)
            return PairBatches(samples, same, config.pairs - same, seed)
        case recipe.TripletSampler(positive="item"):
            return ItemTripletBatches(samples, config, seed)
        case recipe.TripletSampler():
            return TripletBatches(samples, config.triplets, seed)


def check_comparisons(drawn: Batches, samples: LabelledImages, term: LossTerm) -> None:
    """Check that a loss has a positive and a negative to compare in a batch of the first epoch.

    Raises:
        RecipeError: it has none, so it would be 0 and train nothing.
    """
    if term.per_class:  # it compares images with directions of classes
        return
    positive = negative = False
    for batch in drawn.epoch(0):
        has_positive, has_negative = _comparisons(batch, samples, term)
        if has_positive and has_negative:
            return
        positive, negative = positive or has_positive, negative or has_negative
    what = (
        "an image with a positive and a negative"
        if positive and negative
        else "a negative"
        if positive
        else "a positive"
    )
    raise RecipeError(
        f"The loss {term.kind} does not find {what} in any batch, so it would train nothing. Raise sampler.classes or"
        " sampler.items, or change the target or across of the loss."
    )


def _comparisons(batch: Batch, samples: LabelledImages, term: LossTerm) -> tuple[bool, bool]:
    """Return whether a batch has a positive, and whether it has a negative, for a loss that compares images."""
    by_item = isinstance(term, Comparison) and term.target == "item"
    groups = (samples.items if by_item else samples.labels)[batch.rows]
    sketch = samples.sketch[batch.rows]
    across = isinstance(term, Comparison) and term.across
    if batch.tuples is not None and isinstance(term, Comparison):
        tuples = batch.tuples
        if across:
            tuples = tuples[sketch[tuples[:, 0]] & ~sketch[tuples[:, 1:]].any(axis=1)]
        same = groups[tuples[:, :1]] == groups[tuples[:, 1:]]
        return bool(same.any()), bool((~same).any())
    if across:
        same = groups[sketch][:, None] == groups[~sketch]
        return bool(same.any()), bool((~same).any())
    different = len(np.unique(groups))
    return different < len(groups), different > 1


class PKBatches:
    """Batches of P classes with K items each (Hermans et al. 2017, "In Defense of the Triplet Loss", section 2).

    Within an epoch each item of a class is drawn once before any is drawn again. A class with fewer than K items repeats
    some of them in a batch. An item with sketches gives its photo and one of its sketches. An epoch has as many item
    draws as there are items. With ``draw: sketches``, sketches take the place of items, each with its photo, and classes without
    sketches are left out: an item with many sketches then counts for as many.
    """

    def __init__(self, samples: LabelledImages, config: recipe.PKSampler, seed: int) -> None:
        """Group the items by class. Raises RecipeError if there are fewer classes than P."""
        drawn = np.flatnonzero(samples.sketch) if config.draw == "sketches" else np.arange(len(samples))
        present = np.unique(samples.labels[drawn])
        if config.classes > len(present):
            raise RecipeError(
                f"sampler.classes needs {config.classes} classes per batch, but the data has {len(present)}. Lower it."
            )
        self._p, self._k, self._seed = config.classes, config.items, seed
        by_class = drawn[np.argsort(samples.labels[drawn], kind="stable")]
        ends = np.searchsorted(samples.labels[by_class], present[1:])
        # What is drawn: numbers of items, or rows of sketches.
        self._by_sketch = config.draw == "sketches"
        values = by_class if self._by_sketch else samples.items[by_class]
        self._items = [np.unique(own) for own in np.split(values, ends)]
        order = np.argsort(samples.items, kind="stable")
        numbers, starts = np.unique(samples.items[order], return_index=True)
        self._rows: dict[int, np.ndarray] = dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))
        self._sketch, self._item_of = samples.sketch, samples.items
        self._count = len(drawn) if self._by_sketch else len(numbers)

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return max(1, self._count // (self._p * self._k))

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; a sketch directly follows its photo."""
        rng = np.random.default_rng((self._seed, number))
        items = [_Cycle(own, rng) for own in self._items]
        classes = _Cycle(np.arange(len(items)), rng)
        for _ in range(len(self)):
            chosen = np.concatenate([items[c].draw(self._k) for c in classes.draw(self._p)])
            rows = np.concatenate([self._draw_rows(i, rng) for i in chosen.tolist()])
            sketch = self._sketch[rows]
            # Batch normalisation needs two images, so a single sketch is left out.
            yield Batch(rows[~sketch] if sketch.sum() == 1 else rows)

    def _draw_rows(self, drawn: int, rng: np.random.Generator) -> np.ndarray:
        if self._by_sketch:
            rows = self._rows[int(self._item_of[drawn])]
            photos = rows[~self._sketch[rows]]
            return np.append(rng.choice(photos, min(1, len(photos))), drawn)
        rows = self._rows[drawn]
        if len(rows) == 1:
            return rows
        sketch = self._sketch[rows]
        return np.concatenate([rng.choice(side, 1) for side in (rows[~sketch], rows[sketch]) if len(side)])


class _Cycle:
    """Draws values in random order, each once before any is drawn again."""

    def __init__(self, values: np.ndarray, rng: np.random.Generator) -> None:
        self._values, self._rng = values, rng
        self._left = rng.permutation(values)

    def draw(self, n: int) -> np.ndarray:
        if len(self._values) == 1:
            return self._values.repeat(n)
        while len(self._left) < n:
            # Values that remain from the last round come last in the next one, so that a draw repeats a value only if it
            # asks for more values than there are.
            order = self._rng.permutation(self._values)
            repeated = np.isin(order, self._left)
            self._left = np.concatenate([self._left, order[~repeated], order[repeated]])
        drawn: np.ndarray = self._left[:n]
        self._left = self._left[n:]
        return drawn


class PairBatches:
    """Batches of random pairs. Pairs are drawn and never listed, because their number grows with the square of the images.

    A positive pair is drawn by a uniform choice of the class, then of the class's pairs; a negative pair by a uniform
    choice of two classes, then of an image of each. If the class has sketches, the anchor is one of them and the other
    image is a photo. An epoch has as many images in pairs as there are items.
    """

    def __init__(self, samples: LabelledImages, same: int, different: int, seed: int) -> None:
        """Set the numbers of pairs of the same class and of different classes per batch. Raises the errors of `batches`."""
        self._pool, self._same, self._different, self._seed = _Pool(samples), same, different, seed

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return max(1, self._pool.items // (2 * (self._same + self._different)))

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, in each the positive pairs first."""
        rng = np.random.default_rng((self._seed, number))
        for _ in range(len(self)):
            anchors, others, _ = self._pool.positives(self._same, rng)
            classes = rng.integers(self._pool.classes, size=self._different)
            left = np.concatenate([anchors, self._pool.anchors(classes, rng)])
            right = np.concatenate([others, self._pool.negatives(classes, rng)])
            yield self._pool.batch(np.stack([left, right], 1), rng)


class TripletBatches:
    """Batches of random triplets: a positive pair, drawn as by `PairBatches`, and an image of another class."""

    def __init__(self, samples: LabelledImages, triplets: int, seed: int) -> None:
        """Set the number of triplets per batch. Raises the errors of `batches`."""
        self._pool, self._triplets, self._seed = _Pool(samples), triplets, seed

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return max(1, self._pool.items // (3 * self._triplets))

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        rng = np.random.default_rng((self._seed, number))
        for _ in range(len(self)):
            anchors, positives, classes = self._pool.positives(self._triplets, rng)
            rows = np.stack([anchors, positives, self._pool.negatives(classes, rng)], 1)
            yield self._pool.batch(rows, rng)


class ItemTripletBatches:
    """Batches of a sketch, the photo that it was drawn from, and another photo (R4, stage 3).

    The negative is another photo of the sketch's class with the probability ``same_class``, and otherwise a photo of another class. A
    class with one photo has only negatives of other classes. Each sketch is drawn once before any is drawn again.
    """

    def __init__(self, samples: LabelledImages, config: recipe.TripletSampler, seed: int) -> None:
        """Pair each sketch with its photo. Raises DataError if no sketch has one, or if there is only one class."""
        photos = np.flatnonzero(~samples.sketch)
        numbers, first = np.unique(samples.items[photos], return_index=True)
        sketches = np.flatnonzero(samples.sketch & np.isin(samples.items, numbers))
        if not len(sketches):
            raise DataError("No sketch belongs to a photo. Name a sketch after its photo: mug-a.jpg, mug-a-1.png.")
        self._sketches = sketches
        self._own = photos[first[np.searchsorted(numbers, samples.items[sketches])]]
        self._pool = _Pool(samples)
        self._labels = np.unique(samples.labels, return_inverse=True)[1]
        self._triplets, self._same_class, self._seed = config.triplets, config.same_class, seed

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return max(1, len(self._sketches) // self._triplets)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        rng = np.random.default_rng((self._seed, number))
        cycle = _Cycle(np.arange(len(self._sketches)), rng)
        for _ in range(len(self)):
            drawn = cycle.draw(min(self._triplets, len(self._sketches)))
            anchors, positives = self._sketches[drawn], self._own[drawn]
            classes = self._labels[anchors]
            same = self._pool.same_class(classes, positives, rng)
            chosen = (same >= 0) & (rng.random(len(drawn)) < self._same_class)
            negatives = np.where(chosen, same, self._pool.negatives(classes, rng))
            yield self._pool.batch(np.stack([anchors, positives, negatives], 1), rng)


class _Pool:
    """Draws anchors, positives and negatives. It holds the rows of each class in one array."""

    def __init__(self, samples: LabelledImages) -> None:
        labels = np.unique(samples.labels)
        if len(labels) < 2:  # noqa: PLR2004 -- a negative pair needs two
            raise DataError("There is only one class; negative pairs need two. Add images of another class.")
        self.classes, self.items = len(labels), len(np.unique(samples.items))
        anchors, others = [], []
        for label in labels:
            rows = np.flatnonzero(samples.labels == label)
            sketch = samples.sketch[rows]
            anchors.append(rows[sketch] if sketch.any() else rows)
            others.append(rows if sketch.all() else rows[~sketch])
        # If a class has only photos, or only sketches, an anchor's own row is among the others.
        self._one_kind = np.asarray([a[0] == o[0] for a, o in zip(anchors, others, strict=True)])
        self._anchors, self._others = _Rows(anchors), _Rows(others)
        self._paired = np.flatnonzero(self._others.counts > self._one_kind)
        if not len(self._paired):
            raise DataError("No class has two images; positive pairs need two. Add images, or use data.classes: image.")
        self._sketch = samples.sketch

    def positives(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw anchors, other images of their class, and the class, (n,) each."""
        classes = rng.choice(self._paired, n)
        anchors = rng.integers(self._anchors.counts[classes])
        others = rng.integers(self._others.counts[classes] - self._one_kind[classes])
        # Draw from one fewer and skip the anchor: a uniform choice of the others.
        others += self._one_kind[classes] & (others >= anchors)
        return self._anchors.at(classes, anchors), self._others.at(classes, others), classes

    def anchors(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw an anchor of each of these classes."""
        return self._anchors.at(classes, rng.integers(self._anchors.counts[classes]))

    def negatives(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw, for each of these classes, an image of another class."""
        others = rng.integers(self.classes - 1, size=len(classes))
        others += others >= classes
        return self._others.at(others, rng.integers(self._others.counts[others]))

    def same_class(self, classes: np.ndarray, photos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw, for each of these photos, another photo of its class; -1 if there is none."""
        counts = self._others.counts[classes]
        drawn = self._others.at(classes, rng.integers(counts))
        while (again := (drawn == photos) & (counts > 1)).any():
            drawn[again] = self._others.at(classes[again], rng.integers(counts[again]))
        return np.where(counts > 1, drawn, -1)

    def batch(self, tuples: Int64[np.ndarray, "t w"], rng: np.random.Generator) -> Batch:
        """Make a batch that has each row once, even if it is in several tuples."""
        rows, places = np.unique(tuples, return_inverse=True)
        for kind in (True, False):
            own = self._sketch[rows] == kind
            if own.sum() == 1:
                # Batch normalisation needs two images of each branch: add one that is in no tuple.
                rest = np.setdiff1d(np.flatnonzero(self._sketch == kind), rows)
                rows = np.append(rows, rng.choice(rest) if len(rest) else rows[own])
        return Batch(rows, places.reshape(tuples.shape))


class _Rows:
    """Lists of rows, concatenated into one array."""

    def __init__(self, lists: list[np.ndarray]) -> None:
        self._rows = np.concatenate(lists)
        self.counts = np.asarray([len(rows) for rows in lists])
        self._starts = np.cumsum(self.counts) - self.counts

    def at(self, which: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return the rows at these places of these lists."""
        rows: np.ndarray = self._rows[self._starts[which] + place]
        return rows
