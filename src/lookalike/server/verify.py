"""The route that decides whether two images show the same thing."""

from fastapi import APIRouter

from lookalike import compare, images
from lookalike.collection import Collection
from lookalike.errors import MismatchError, UsageError
from lookalike.query import Branch, Vectors, to_branch
from lookalike.server import bodies
from lookalike.server.problems import BODY_ERRORS, responses
from lookalike.server.schemas import ItemReference, VerdictOut, VerifyBody, VerifyForm, verdict_out
from lookalike.server.served import Served, ServedCollections

router = APIRouter(tags=["compare"])

_SIDES = ("left", "right")


@router.post(
    "/api/verify",
    responses=responses(*BODY_ERRORS, 404, 409, 415, 422, 500, 503),
    openapi_extra=bodies.documented(VerifyBody, VerifyForm, *_SIDES),
)
def verify(served: Served, body: bodies.TwoImages) -> VerdictOut:
    """Decide whether two images show the same thing."""
    fields: VerifyForm
    left: bytes | ItemReference
    right: bytes | ItemReference
    if body.json is not None:
        fields = pair = bodies.validate_json(VerifyBody, body.json)
        left, right = (images.from_base64(s) if isinstance(s, str) else s for s in (pair.left, pair.right))
    else:
        uploaded = bodies.form_images(body, *_SIDES)
        if len(uploaded) != len(_SIDES) or not body.form.files.keys() <= uploaded.keys():
            raise UsageError("The form needs two files, named “left” and “right”.")
        fields = bodies.form_fields(body, VerifyForm, *_SIDES)
        left, right = uploaded["left"], uploaded["right"]
    collection = served.get(fields.collection)
    branch = to_branch(fields.sketch)
    embedder = collection.embedder.with_metric(fields.metric)
    with served.decode(collection, *(side for side in (left, right) if isinstance(side, bytes))):
        vectors = _to_vector(served, collection, left, branch), _to_vector(served, collection, right)
    verdict = compare.verify_vectors(
        embedder,
        *vectors,
        compare.find_threshold(embedder, fields.within, fields.false_accept_rate, branch),
        branch,
    )
    return verdict_out(verdict)


def _to_vector(
    served: ServedCollections, collection: Collection, side: bytes | ItemReference, branch: Branch = "photo"
) -> Vectors:
    if isinstance(side, bytes):
        return collection.embedder.embed([side], branch)
    if branch != "photo":
        raise UsageError("An item is a photo. Send the sketch as an image.")
    other = collection if side.collection is None else served.get(side.collection)
    if other.embedder.fingerprint != collection.embedder.fingerprint:
        raise MismatchError(
            "The images cannot be compared: their collections have different encoders. Choose items of one collection."
        )
    return other.store.vectors([side.item])
