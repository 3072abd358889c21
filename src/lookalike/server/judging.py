"""Routes that judge: are two pictures the same, and of which class is one."""

from fastapi import APIRouter

from lookalike import images
from lookalike.collection import Collection
from lookalike.errors import MismatchError, UsageError
from lookalike.query import Branch, Vectors
from lookalike.server import bodies
from lookalike.server.problems import responses
from lookalike.server.searching import BRANCHES
from lookalike.server.shapes import (
    ClassesOut,
    ClassQuery,
    ClassQueryForm,
    ItemOf,
    Pair,
    PairForm,
    VerdictOut,
    class_out,
    verdict_out,
)
from lookalike.server.shelf import One, Served, Shelf

router = APIRouter(tags=["judge"])

_SIDES = ("left", "right")


@router.post(
    "/api/verify",
    responses=responses(400, 404, 409, 413, 415, 422, 500, 503),
    openapi_extra=bodies.documented(Pair, PairForm, *_SIDES),
)
def verify(served: Served, body: bodies.ReceivedPair) -> VerdictOut:
    """Whether two pictures are of the same thing."""
    about: PairForm
    left: bytes | ItemOf
    right: bytes | ItemOf
    if body.json is not None:
        about = pair = bodies.checked(Pair, body.json)
        left, right = (images.from_base64(s) if isinstance(s, str) else s for s in (pair.left, pair.right))
    else:
        found = bodies.pictures(body, *_SIDES)
        if len(found) != len(_SIDES) or not body.files.keys() <= found.keys():
            raise UsageError("The form needs two files, under the names “left” and “right”.")
        about = bodies.checked(PairForm, {k: v for k, v in body.fields.items() if k not in _SIDES})
        left, right = found["left"], found["right"]
    collection = served.first() if about.collection is None else served.get(about.collection)
    branch: Branch = "sketch" if about.sketch else "photo"
    verdict = collection.verify(
        _vector(served, collection, left, branch),
        _vector(served, collection, right),
        metric=about.metric,
        within=about.within,
        false_accept_rate=about.far,
        branch=branch,
    )
    return verdict_out(verdict)


def _vector(served: Shelf, collection: Collection, side: bytes | ItemOf, branch: Branch = "photo") -> Vectors:
    if isinstance(side, bytes):
        return collection.embed([side], branch)
    if branch != "photo":
        raise UsageError("An item is a photo; send the sketch itself.")
    other = collection if side.collection is None else served.get(side.collection)
    if other.encoder.fingerprint != collection.encoder.fingerprint:
        raise MismatchError("The two cannot be compared: their vectors were made by different encoders.")
    return other.vectors([side.item])


@router.post(
    "/api/collections/{c}/classify",  # noqa: FAST003 -- `One` takes it
    responses=responses(400, 404, 413, 415, 422, 500, 503),
    openapi_extra=bodies.documented(ClassQuery, ClassQueryForm, "image", "sketch"),
)
def classify(collection: One, body: bodies.Received) -> ClassesOut:
    """The labels of a collection whose items are nearest to a picture."""
    about: ClassQueryForm
    if body.json is not None:
        about = query = bodies.checked(ClassQuery, body.json)
        name, text = ("image", query.image) if query.image is not None else ("sketch", query.sketch or "")
        data = images.from_base64(text)
    else:
        found = bodies.pictures(body, *BRANCHES)
        about = bodies.checked(ClassQueryForm, {k: v for k, v in body.fields.items() if k not in BRANCHES})
        if len(found) != 1 or not body.files.keys() <= found.keys():
            raise UsageError("The form needs one file, under the name “image” or “sketch”.")
        ((name, data),) = found.items()
    branch, metric = BRANCHES[name], about.metric or collection.store.metric
    (ranked,) = collection.classify(
        collection.embed([data], branch), about.k, by=about.by, metric=metric, branch=branch
    )
    return ClassesOut(classes=[class_out(one) for one in ranked], metric=metric, by=about.by)
