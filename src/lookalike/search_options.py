"""The options of `Collection.search`, and the query that they make."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from lookalike.embedding import Embedder
from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import ALL, Branch, Filter, Query, Within


class SearchOptions(TypedDict, total=False):
    """Options of `Collection.search`.

    Attributes:
        k: how many nearest items; 10 by default.
        within: all items in this range in place of k: ``0.35``, ``"0.1..0.3"`` or ``"80%"``.
        far: all items within the distance of this false accept rate, such as ``0.01``.
        sketch: the images are sketches.
        label: search among items of this label, or of these.
        where: search among items with these attributes, or that pass this `Filter`.
        metric: the collection's own by default.
        exact: true searches exactly, whatever it takes; false uses an index if there is one; by default the collection's
            budget decides.
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
    """Make a query, which does not say yet what to search for.

    Args:
        options: as a user gives them.
        embedder: says what a similarity and a false accept rate are as distances.

    Raises:
        UsageError: an option is unknown, contradicts another, or has a wrong value.
    """
    if unknown := sorted(set(options) - SearchOptions.__annotations__.keys()):
        known = ", ".join(SearchOptions.__annotations__)
        raise UsageError(f"search has no option “{unknown[0]}”; it has image, item, vector, {known}.")
    branch: Branch = "sketch" if options.get("sketch") else "photo"
    metric = to_metric(options.get("metric"))
    compared = embedder.compared_by(metric)
    return Query(
        branch=branch,
        metric=metric,
        k=options.get("k"),
        within=compared.distance_range(options.get("within"), options.get("far"), branch),
        where=_to_filter(options.get("where"), options.get("label")),
        exact=options.get("exact"),
        limit=options.get("limit"),
    )


def to_path(path: object) -> Path:
    """Return a path; raise a UsageError for what is not one."""
    if isinstance(path, str | os.PathLike):
        return Path(path)
    raise UsageError(f"A path is a str or a Path, not {type(path).__name__}.")


def to_metric(metric: Metric | str | None) -> Metric | None:
    """Return a metric that may be given by its name."""
    return Metric.parse(metric) if isinstance(metric, str) else metric


def _to_filter(where: Filter | Mapping[str, str] | None, label: str | Sequence[str] | None) -> Filter:
    found = where if isinstance(where, Filter) else ALL if where is None else Filter(attributes=dict(where))
    if label is None:
        return found
    labels = frozenset([label] if isinstance(label, str) else label)
    return replace(found, labels=labels if found.labels is None else found.labels & labels)
