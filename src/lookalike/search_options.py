"""The options of `Collection.search`, and their conversion to a query."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from lookalike.embedding import Embedder
from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import ALL, Filter, Query, Within, to_branch


class SearchOptions(TypedDict, total=False):
    """Options of `Collection.search`.

    Attributes:
        k: how many nearest items; 10 by default.
        within: find all items in this range instead of k: ``0.35``, ``"0.1..0.3"`` or ``"80%"``.
        far: find all items within the distance of this false accept rate, such as ``0.01``.
        sketch: the images are sketches.
        label: search among items of this label, or of these.
        where: search among items with these attributes, or that pass this `Filter`.
        metric: the collection's own by default.
        exact: true searches exactly, however long it takes; false uses an index if there is one; by default the
            collection's budget decides.
        limit: with a range, return at most this many hits.
    """

    k: int | None
    within: Within | None
    far: float | None
    sketch: bool
    label: str | Sequence[str] | None
    where: Filter | Mapping[str, str] | None
    metric: Metric | str | None
    exact: bool | None
    limit: int | None


def to_query(options: SearchOptions, embedder: Embedder) -> Query:
    """Make a query from options; the caller adds the images, items or vectors to search for.

    Args:
        options: as a user gives them.
        embedder: converts similarities and false accept rates to distances.

    Raises:
        UsageError: an option is unknown, contradicts another, or has a wrong value.
    """
    if unknown := sorted(set(options) - SearchOptions.__annotations__.keys()):
        known = ", ".join(SearchOptions.__annotations__)
        raise UsageError(f"search has no option “{unknown[0]}”; it has image, item, vector, {known}.")
    branch = to_branch(options.get("sketch", False))
    metric = to_metric(options.get("metric"))
    return Query(
        branch=branch,
        metric=metric,
        k=options.get("k"),
        within=embedder.with_metric(metric).distance_range(options.get("within"), options.get("far"), branch),
        where=_to_filter(options.get("where"), options.get("label")),
        exact=options.get("exact"),
        limit=options.get("limit"),
    )


def to_path(path: object) -> Path:
    """Convert to a path; raise a UsageError for any other type."""
    if isinstance(path, str | os.PathLike):
        return Path(path)
    raise UsageError(f"A path is a str or a Path, not {type(path).__name__}.")


def to_metric(metric: Metric | str | None) -> Metric | None:
    """Convert the name of a metric; a metric or None is returned unchanged."""
    return Metric.parse(metric) if isinstance(metric, str) else metric


def _to_filter(where: Filter | Mapping[str, str] | None, label: str | Sequence[str] | None) -> Filter:
    conditions = where if isinstance(where, Filter) else ALL if where is None else Filter(attributes=dict(where))
    if label is None:
        return conditions
    labels = frozenset([label] if isinstance(label, str) else label)
    return replace(conditions, labels=labels if conditions.labels is None else conditions.labels & labels)
