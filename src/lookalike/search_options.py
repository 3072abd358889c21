"""The options of `Collection.search`, and their conversion to a query."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypedDict

from lookalike.embedding import Embedder
from lookalike.errors import UsageError
from lookalike.images import ImageSource
from lookalike.images.sources import name_source
from lookalike.metric import Metric
from lookalike.query import ALL, Branch, Filter, Query, Within, to_branch, to_texts


class SearchOptions(TypedDict, total=False):
    """Options of `Collection.search`.

    Attributes:
        k: number of nearest items; 10 by default.
        within: find all items in this range instead of k: ``0.35``, ``"0.1..0.3"`` or ``"80%"``.
        far: find all items within the distance of this false accept rate, such as ``0.01``.
        sketch: whether the images are sketches. By default each image decides: it is a sketch if it looks like a line drawing
            and the encoder has a sketch branch; `Answer.branch` says so.
        label: search only items with this label, or with one of these labels.
        where: search only items with these attributes, or items that pass this `Filter`.
        metric: by default the collection's metric.
        exact: true always searches exactly; false uses an index if there is one. By default the collection's latency
            budget decides.
        limit: with a range, return at most this many hits.
        expand: search for the midpoint of the query and the mean of this many nearest items, such as 10. This finds more
            items of a class, and one exact item less often; hits have no probability then.
        rescore: whether to rank the items of a compressed collection by their original vectors, which it keeps beside the
            codes. Distances are then those before compression. With ``exact=True`` or a range the answer is, too; otherwise
            the latency budget decides.
    """

    k: int | None
    within: Within | None
    far: float | None
    sketch: bool | None
    label: str | Sequence[str] | None
    where: Filter | Mapping[str, str] | None
    metric: Metric | str | None
    exact: bool | None
    limit: int | None
    expand: int | None
    rescore: bool


def to_query(options: SearchOptions, embedder: Embedder, *, by_text: bool = False) -> Query:
    """Convert search options to a query without images, texts, items or vectors.

    Args:
        options: as a user gives them.
        embedder: converts a similarity or a false accept rate to a distance.
        by_text: the query will have texts.

    Raises:
        UsageError: an option is unknown, contradicts another, or has a wrong value.
    """
    if unknown := sorted(set(options) - SearchOptions.__annotations__.keys()):
        known = ", ".join(SearchOptions.__annotations__)
        raise UsageError(f"search has no option “{unknown[0]}”; it has image, text, item, vector, {known}.")
    sketch, far = options.get("sketch"), options.get("far")
    check_expand(far, options.get("expand"))
    # Only photos have false accept rates.
    decided = by_text or sketch is not None or far is not None
    branch: Branch | Literal["auto"] = (
        to_branch(bool(sketch) if sketch is None else sketch, by_text=by_text) if decided else "auto"
    )
    metric = to_metric(options.get("metric"))
    return Query(
        branch=branch,
        metric=metric,
        k=options.get("k"),
        within=embedder.with_metric(metric).distance_range(
            options.get("within"), far, "photo" if branch == "auto" else branch
        ),
        where=_to_filter(options.get("where"), options.get("label")),
        exact=options.get("exact"),
        limit=options.get("limit"),
        expand=options.get("expand"),
        rescore=options.get("rescore", False),
    )


def check_expand(far: float | None, expand: int | None) -> None:
    """Refuse a false accept rate for an expanded query, whose distances are to a mean of images.

    Raises:
        UsageError: both are given.
    """
    if far is not None and expand is not None:
        raise UsageError(
            "A false accept rate holds for the distance of two images, and an expanded query is a mean of images. Leave out far (--far)"
            " or expand (--expand)."
        )


def check_photos(embedder: Embedder, images: Sequence[ImageSource]) -> None:
    """Refuse sketches among images that are searched for by a false accept rate, which holds for photos.

    Raises:
        UsageError: an image looks like a sketch.
    """
    for image in images:
        if embedder.decide_branch(image) == "sketch":
            raise UsageError(
                f"{name_source(image)} looks like a sketch, and a false accept rate holds for photos. Give a distance (--within), or say"
                " that it is a photo: sketch=False (--photo)."
            )


def to_metric(metric: Metric | str | None) -> Metric | None:
    """Convert the name of a metric to a `Metric`; keep a metric, or none."""
    return None if metric is None else Metric.parse(metric)


def _to_filter(where: Filter | Mapping[str, str] | None, label: str | Sequence[str] | None) -> Filter:
    conditions = where if isinstance(where, Filter) else ALL if where is None else Filter(attributes=where)
    if label is None:
        return conditions
    labels = frozenset(to_texts("A label", label))
    return replace(conditions, labels=labels if conditions.labels is None else conditions.labels & labels)
