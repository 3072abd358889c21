"""Prefilters: compact forms of a gallery that rule out most rows before their vectors are read.

Three implementations of `lookalike.search.gallery.Prefilter`: `quantised` for one query, `projected` for batches and
joins, `pivots` for few, long vectors of low intrinsic dimension. This module builds, saves and restores them for callers
that know none of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lookalike.metric import Metric
from lookalike.search.gallery import Arrays, Prefilter
from lookalike.search.prefilters.pivots import PivotTable
from lookalike.search.prefilters.projected import Projected, project
from lookalike.search.prefilters.quantised import Precision, Quantised, quantise
from lookalike.shapes import Float32, Shaped

_KINDS: dict[str, type[Prefilter]] = {kind.kind: kind for kind in (Quantised, Projected, PivotTable)}


def build(
    vectors: Float32[np.ndarray, "n d"], metric: Metric, precision: Precision, *, safe: bool
) -> tuple[Prefilter, ...]:
    """Build the prefilters that pay for these vectors.

    Args:
        vectors: float32.
        metric: euclidean or cosine.
        precision: of the quantised one.
        safe: no squared norm may overflow float32, see `Gallery.dtype`.
    """
    quantised = quantise(vectors, metric, precision)
    projected = project(vectors, metric) if safe else None
    return tuple(prefilter for prefilter in (quantised, projected) if prefilter is not None)


def save(prefilters: Iterable[Prefilter]) -> tuple[list[dict[str, Any]], dict[str, Shaped[np.ndarray, "..."]]]:
    """Return what `load` needs: facts that JSON can hold, and arrays by name."""
    facts: list[dict[str, Any]] = []
    arrays: dict[str, Shaped[np.ndarray, ...]] = {}
    for prefilter in prefilters:
        about, parts = prefilter.save()
        facts.append({"kind": prefilter.kind, **about})
        arrays |= {f"{prefilter.kind}.{name}": array for name, array in parts.items()}
    return facts, arrays


def load(facts: Sequence[Mapping[str, Any]], arrays: Arrays, shape: tuple[int, int]) -> tuple[Prefilter, ...]:
    """Restore prefilters of vectors of a shape.

    Raises:
        LookupError, TypeError, ValueError: they were not saved by this version, or are for other vectors.
    """
    return tuple(
        _KINDS[about["kind"]].load(
            about,
            {
                name.removeprefix(f"{about['kind']}."): array
                for name, array in arrays.items()
                if name.startswith(f"{about['kind']}.")
            },
            shape,
        )
        for about in facts
    )
