"""Prefilters: compact forms of a gallery that rule out most rows before their vectors are read.

There are three implementations of `lookalike.search.gallery.Prefilter`: `quantised` for single queries, `projected` for
batches and joins, and `pivots` for few, long vectors of low intrinsic dimension.
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
    """Build the prefilters that speed up searches over these vectors.

    Args:
        vectors: float32.
        metric: euclidean or cosine.
        precision: of the quantised prefilter.
        safe: float32 suffices for lower bounds, see `lookalike.search.gallery.is_safe`.
    """
    quantised = quantise(vectors, metric, precision)
    projected = project(vectors, metric) if safe else None
    return tuple(prefilter for prefilter in (quantised, projected) if prefilter is not None)


def save(prefilters: Iterable[Prefilter]) -> tuple[list[dict[str, Any]], dict[str, Shaped[np.ndarray, "..."]]]:
    """Return metadata for JSON, and arrays by name, from which `load` restores the prefilters."""
    metadata: list[dict[str, Any]] = []
    arrays: dict[str, Shaped[np.ndarray, ...]] = {}
    for prefilter in prefilters:
        own_metadata, own_arrays = prefilter.save()
        metadata.append({"kind": prefilter.kind, **own_metadata})
        arrays |= {f"{prefilter.kind}.{name}": array for name, array in own_arrays.items()}
    return metadata, arrays


def load(metadata: Sequence[Mapping[str, Any]], arrays: Arrays, shape: tuple[int, int]) -> tuple[Prefilter, ...]:
    """Restore prefilters of vectors of a shape ``(n, d)``.

    Raises:
        LookupError, TypeError, ValueError: another version saved them, or they are for other vectors.
    """

    def restore(own_metadata: Mapping[str, Any]) -> Prefilter:
        kind = own_metadata["kind"]
        prefix = f"{kind}."
        own_arrays = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        return _KINDS[kind].load(own_metadata, own_arrays, shape)

    return tuple(map(restore, metadata))
