"""The route that classifies an image: by the labels of a collection, or by a few examples of each class."""

from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter

from lookalike import compare, images
from lookalike.collection import Collection
from lookalike.compare import Ranking
from lookalike.embedding import Embedder
from lookalike.errors import ImageError, NotFoundError, UsageError
from lookalike.evaluation.labels import LabelledVectors
from lookalike.query import Branch, Query, Vectors
from lookalike.server import bodies
from lookalike.server.problems import BODY_ERRORS, public_message, responses
from lookalike.server.schemas import (
    MAX_EXAMPLES,
    ClassesOut,
    ClassifyBody,
    ClassifyForm,
    Example,
    ExampleOut,
    class_out,
)
from lookalike.server.search import BRANCHES
from lookalike.server.served import NamedCollection, Served, ServedCollections

router = APIRouter(tags=["compare"])


@dataclass(frozen=True)
class _Image:
    """An image of a request; without a branch, the image decides."""

    content: bytes
    branch: Branch | None

    def decide_branch(self, embedder: Embedder) -> Branch:
        return self.branch or embedder.decide_branch(self.content)


_Source = _Image | str
"""An image, or the id of an item."""


@router.post(
    "/api/collections/{c}/classify",  # noqa: FAST003 -- `NamedCollection` reads it
    responses=responses(*BODY_ERRORS, 404, 415, 422, 500, 503),
    openapi_extra=bodies.documented(ClassifyBody, ClassifyForm, *BRANCHES),
)
def classify(collection: NamedCollection, served: Served, body: bodies.ImageAndExamples) -> ClassesOut:
    """Rank classes by their distance from an image: the labels of a collection, or classes of which you send examples."""
    fields, query = _read_query(body)
    if fields.support is None:
        return _classify_by_labels(collection, served, fields, query)
    examples = [_read_example(body, place, example) for place, example in enumerate(fields.support)]
    if unused := body.form.files.keys() - {"image", "sketch"} - {one.image or one.sketch for one in fields.support}:
        raise UsageError(f"No example names the file “{min(unused)}”. Name it in “support”, or leave it out.")
    labels = [example.label for example in fields.support]
    return collection.retrying(lambda: _classify_by_examples(collection, served, fields, query, (labels, examples)))


def _read_query(body: bodies.Body) -> tuple[ClassifyBody | ClassifyForm, _Source]:
    fields: ClassifyBody | ClassifyForm
    if body.json is not None:
        fields = given = bodies.validate_json(ClassifyBody, body.json, 1 + MAX_EXAMPLES)
        encoded = {"image": given.image, "sketch": given.sketch}
        uploaded = {name: images.from_base64(text) for name, text in encoded.items() if text is not None}
    else:
        uploaded = bodies.form_images(body, *BRANCHES)
        fields = bodies.form_fields(body, ClassifyForm, *BRANCHES)
        extra = fields.support is None and not body.form.files.keys() <= uploaded.keys()
        if len(uploaded) + (fields.item is not None) != 1 or extra:
            raise UsageError("The form needs one file, named “image” or “sketch”, or the id of an “item”.")
    if fields.branch is not None and "image" not in uploaded:
        raise bodies.invalid_field("branch", "the branch of an image; leave it out, or send the image as “image”")
    if fields.item is not None:
        if fields.support is None:
            raise bodies.invalid_field(
                "item", "an item is classified by examples only; give “support”, or send its image"
            )
        return fields, fields.item
    ((name, content),) = uploaded.items()
    return fields, _Image(content, "sketch" if name == "sketch" else fields.branch)


def _read_example(body: bodies.Body, place: int, example: Example) -> _Source:
    if example.item is not None:
        return example.item
    branch: Branch | None = example.branch if example.sketch is None else "sketch"
    given = example.image or example.sketch or ""
    if body.json is not None:
        return _Image(images.from_base64(given), branch)
    if given not in body.form.files:
        raise bodies.invalid_field(f"support.{place}", f"the form has no file “{given}”; send it under this name")
    return _Image(body.form.files[given].content, branch)


def _classify_by_labels(
    collection: Collection, served: ServedCollections, fields: ClassifyBody | ClassifyForm, image: _Source
) -> ClassesOut:
    assert isinstance(image, _Image)  # noqa: S101 -- for the type checker; `_read_query` refuses items

    def rank() -> tuple[Ranking, Branch]:
        branch = image.decide_branch(collection.embedder)
        query = Query(images=[image.content], k=fields.k, metric=fields.metric, branch=branch)
        return collection.rank_labels(query, fields.by)[0], branch

    with served.decode(collection, image.content):
        ranking, branch = collection.retrying(rank)
    return _to_answer(fields, ranking, branch)


def _classify_by_examples(
    collection: Collection,
    served: ServedCollections,
    fields: ClassifyBody | ClassifyForm,
    query: _Source,
    support: tuple[list[str], list[_Source]],
) -> ClassesOut:
    labels, sources = support
    embedder = collection.embedder.with_metric(fields.metric)
    vector, branch = _embed(collection, served, query)
    embedded = []
    for place, source in enumerate(sources):
        try:
            embedded.append(_embed(collection, served, source))
        except (ImageError, NotFoundError) as e:
            message = (
                "the collection has no such item" if isinstance(source, str) else public_message(e, served.collections)
            )
            raise bodies.invalid_field(
                f"support.{place}", message or "the image cannot be used; send a JPEG or PNG"
            ) from e
    examples = np.concatenate([part for part, _ in embedded])
    branches = [one for _, one in embedded]
    # A calibration holds for photos only, on both sides.
    of_pairs: Branch = "sketch" if "sketch" in (branch, *branches) else "photo"
    (ranking,) = compare.rank_classes(
        embedder, vector, LabelledVectors(examples, labels), by=fields.by, branch=of_pairs
    )
    ranked = [
        ExampleOut(
            index=one.index,
            label=labels[one.index],
            distance=one.distance,
            similarity=one.similarity,
            branch=branches[one.index],
        )
        for one in compare.rank_examples(embedder, vector, examples)
    ]
    return _to_answer(fields, ranking[: fields.k], branch, ranked)


def _embed(collection: Collection, served: ServedCollections, source: _Source) -> tuple[Vectors, Branch | None]:
    """Return the vector of an image or an item, and the branch of an image."""
    if isinstance(source, str):
        return collection.store.vectors([source]), None
    with served.decode(collection, source.content):  # one at a time, so that many examples take no more memory than one
        branch = source.decide_branch(collection.embedder)
        return collection.embedder.embed([source.content], branch), branch


def _to_answer(
    fields: ClassifyBody | ClassifyForm,
    ranking: Ranking,
    branch: Branch | None,
    examples: list[ExampleOut] | None = None,
) -> ClassesOut:
    return ClassesOut(
        classes=[class_out(ranked) for ranked in ranking],
        examples=examples,
        metric=ranking.metric,
        by=fields.by,
        branch=branch,
    )
