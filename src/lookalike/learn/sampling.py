"""Which pictures stand in a batch together. Drawn from (seed, epoch) alone, so that a resumed run repeats nothing."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from lookalike.datasets import Samples
from lookalike.errors import RecipeError
from lookalike.learn.recipe import PKSampler


class PKBatches:
    """Batches of P classes with K items each (Hermans et al. 2017, "In Defense of the Triplet Loss", section 2).

    Within an epoch a class's items are dealt like cards: each is seen once before any is seen again.
    An item with sketches comes as its photo and one of its sketches. An epoch is as many batches as it takes to show as
    many items as there are.
    """

    def __init__(self, samples: Samples, config: PKSampler, seed: int) -> None:
        """Raises RecipeError where there are fewer classes than P."""
        if config.classes > len(samples.classes):
            raise RecipeError(
                f"sampler.classes asks for {config.classes} classes a batch, but there are {len(samples.classes)}."
            )
        self._p, self._k, self._seed = config.classes, config.items, seed
        self._items = [np.unique(samples.items[samples.labels == c]) for c in range(len(samples.classes))]
        order = np.argsort(samples.items, kind="stable")
        numbers, starts = np.unique(samples.items[order], return_index=True)
        self._rows: dict[int, np.ndarray] = dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))
        self._sketch = samples.sketch
        self._count = len(numbers)

    def __len__(self) -> int:
        """Batches an epoch."""
        return max(1, self._count // (self._p * self._k))

    def epoch(self, number: int) -> Iterator[Int64[np.ndarray, " b"]]:
        """The rows of each batch of an epoch, sketches right after their photo."""
        rng = np.random.default_rng((self._seed, number))
        decks = [_Deck(items, rng) for items in self._items]
        classes = _Deck(np.arange(len(decks)), rng)
        for _ in range(len(self)):
            items = np.concatenate([decks[c].deal(self._k) for c in classes.deal(self._p)])
            rows = np.concatenate([self._show(i, rng) for i in items.tolist()])
            drawn = self._sketch[rows]
            # Batch normalisation needs two: a sketch that is alone stays away.
            yield rows[~drawn] if drawn.sum() == 1 else rows

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
        while len(self._left) < n:
            # Those on the table first go under the new cards, so that a hand has no card twice where there are enough.
            fresh = self._rng.permutation(self._cards)
            seen = np.isin(fresh, self._left)
            self._left = np.concatenate([self._left, fresh[~seen], fresh[seen]])
        hand: np.ndarray = self._left[:n]
        self._left = self._left[n:]
        return hand
